"""What the server calls: it looks at the scans, and tells whoever should know.

Each finding goes three ways: into the warnings that telemetry, status and metrics read, into the
log, and to the operator's command. Runs in the socket thread; only what `IoWatch` finds is told on
its thread. It decides nothing about a scan's life.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from usidstream.errors import UsidstreamError
from usidstream.ranges import ranges_in_words

from ..conditions import Warnings
from ..logs import get_logger
from ..session import Session, State
from ..storage import Activity, FinishedResult, RecoveryReport
from .arrivals import Arrivals, Resumed, Stalled, StallRule
from .happenings import Happening
from .hook import Hook
from .iowatch import IoWatch
from .operations import Hanging, Returned

log = get_logger()

LOOK_INTERVAL_S = 0.05
MAX_LOGGED_RANGES_COUNT = 100
"""Of one main, in one line; the command, the client and the file are told all of them."""
MAX_REMEMBERED_ENDS_COUNT = 16
MAX_REMEMBERED_RANGES_COUNT = 100
"""Of one scan's end, so that a status with all of them stays a small message."""
LOOP = ("", "loop")
_GROWING = (State.ACQUIRING, State.FINISHING)


class Supervised(Protocol):
    """What is looked at: a scan of the daemon."""

    scan_id: str
    session: Session
    result: FinishedResult | None
    recovery: RecoveryReport | None


class Options(Protocol):
    """The configuration's options that are kept to."""

    @property
    def io_stall_s(self) -> float:
        """How long an operation on the disk may take."""

    @property
    def stall_floor_s(self) -> float:
        """How long nothing may come, at least."""

    @property
    def stall_factor(self) -> float:
        """In multiples of the instrument's own pace."""

    @property
    def on_event(self) -> Sequence[str]:
        """The operator's command."""

    @property
    def on_event_timeout_s(self) -> float:
        """How long it may take."""


class Supervisor:
    """Looks at scans and disks.

    Parameters
    ----------
    options
        As configured.
    warnings
        What needs an operator.

    Attributes
    ----------
    io_watch
        Where threads that use the disk are made known.
    loop
        What the server's own loop is at.
    """

    def __init__(self, options: Options, warnings: Warnings) -> None:
        self._warnings = warnings
        self._rule = StallRule(options.stall_floor_s, options.stall_factor)
        self._hook = Hook(options.on_event, options.on_event_timeout_s)
        self._seen: dict[str, Arrivals] = {}
        self._ends: deque[dict[str, Any]] = deque(maxlen=MAX_REMEMBERED_ENDS_COUNT)
        self._look_due_s = float("-inf")
        self.loop = Activity()
        self.io_watch = IoWatch(options.io_stall_s, self._tell_operation)
        self.io_watch.add(LOOP, self.loop)

    def adjust(self, options: Options) -> None:
        """Keep other options from now on."""
        self._rule = StallRule(options.stall_floor_s, options.stall_factor)
        self._hook.command = list(options.on_event)
        self._hook.timeout_s = options.on_event_timeout_s
        self.io_watch.limit_s = options.io_stall_s

    def start(self) -> None:
        """Begin to watch the threads that use the disk."""
        self.io_watch.start()

    def close(self) -> None:
        """Watch no more; let the command hear of what has happened, as far as there is time."""
        self.io_watch.close()
        self._hook.close()

    # -- the clock

    def look(self, now: float, scans: Iterable[Supervised]) -> None:
        """Look at what comes for each scan, if it is time to."""
        if now < self._look_due_s:
            return
        self._look_due_s = now + LOOK_INTERVAL_S
        for scan in scans:
            if scan.session.state in _GROWING:
                self._look_at(scan, now)

    def _look_at(self, scan: Supervised, now: float) -> None:
        session = scan.session
        arrivals = self._seen.get(scan.scan_id)
        if arrivals is None:
            pixel_time_s = session.layout.pixel_time_s
            self._seen[scan.scan_id] = Arrivals(pixel_time_s, now, session.blocks_arrived)
            self._note_recovery(scan)
            return
        match arrivals.see(now, session.blocks_arrived, self._rule, may_send=session.may_send):
            case Stalled(silent_s=silent_s, limit_s=limit_s):
                self._on_stalled(scan, silent_s, limit_s)
            case Resumed(silent_s=silent_s):
                self._on_resumed(scan, silent_s)

    def _on_stalled(self, scan: Supervised, silent_s: float, limit_s: float) -> None:
        session = scan.session
        n_clients = len(session.peers)
        who = "" if n_clients else ", and no client takes part"
        text = f"nothing has come for {silent_s:.0f} s{who}; its pace allows {limit_s:.0f} s"
        self._warnings.begin("instrument_stalled", text, scan.scan_id)
        log.warning(
            "instrument_stalled", scan=scan.scan_id, silent_s=round(silent_s, 1), clients=n_clients
        )
        self._run_for("stalled", scan, text, silent_s=silent_s, limit_s=limit_s, clients=n_clients)

    def _on_resumed(self, scan: Supervised, silent_s: float) -> None:
        self._warnings.end("instrument_stalled", scan.scan_id)
        log.info("instrument_resumed", scan=scan.scan_id, silent_s=round(silent_s, 1))
        self._run_for("resumed", scan, f"data after {silent_s:.0f} s", silent_s=silent_s)

    def _note_recovery(self, scan: Supervised) -> None:
        report = scan.recovery
        if report is None:
            return
        text = f"recovered, {report.how}: {report.reason}"
        self._run_for("recovered", scan, text, how=report.how, uncertain=list(report.uncertain))

    # -- told by the server

    def note_over(self, scan: Supervised) -> None:
        """Take a scan that is over."""
        self._seen.pop(scan.scan_id, None)
        session, result = scan.session, scan.result
        match session.state:
            case State.ENDED if result is not None:
                self._on_ended(scan, result)
            case State.FAILED:
                self._run_for("failed", scan, str(session.failure))
            case State.INTERRUPTED:
                text = f"{session.positions} of {session.layout.n_positions} positions are there"
                self._run_for("interrupted", scan, text, positions=session.positions)

    def _on_ended(self, scan: Supervised, result: FinishedResult) -> None:
        missing = missing_in_words(result.missing)
        if missing:
            log.warning("rows_missing", scan=scan.scan_id, missing=missing)
        text = f"{result.status}: {result.file}" + (f"; {missing}" if missing else "")
        ranges = {main: [list(r) for r in found] for main, found in result.missing.items()}
        self._ends.appendleft(
            {
                "scan": scan.scan_id,
                "name": scan.session.layout.name,
                "file": result.file,
                "status": result.status,
                "missing": dict(_first(ranges, MAX_REMEMBERED_RANGES_COUNT)),
                "missing_ranges": sum(map(len, ranges.values())),
            }
        )
        self._run_for("finished", scan, text, status=result.status, missing=ranges)

    def ended(self) -> list[dict[str, Any]]:
        """Tell how the latest scans have ended, the last one first, as plain values."""
        return list(self._ends)

    def note_space(self, shortage: UsidstreamError | None) -> None:
        """Take that the disk is short of room, or short no more."""
        if shortage is not None:
            self._hook.post(Happening("disk_short", shortage.message))
        else:
            self._hook.post(Happening("disk_back", "there is room again"))

    # -- told by the thread that watches the disk

    def _tell_operation(self, told: Hanging | Returned, hanging: list[str]) -> None:
        scan = told.key[0]
        code = "io_stalled" if scan else "loop_stalled"
        facts: dict[str, Any] = {"operation": told.operation, "seconds": round(told.seconds, 1)}
        if isinstance(told, Hanging):
            text = f"{told.operation} has not returned for {told.seconds:.0f} s"
            self._warnings.begin(code, text, scan)
            if scan:
                log.error("io_stalled", scan=scan, **facts)
            else:
                log.error("loop_stalled", **facts)
            self._hook.post(Happening("io_stalled", text, scan, details=facts))
        else:
            if not hanging:
                self._warnings.end(code, scan)
            text = f"{told.operation} has returned after {told.seconds:.0f} s"
            log.warning("io_back", scan=scan or None, **facts)
            self._hook.post(Happening("io_back", text, scan, details=facts))

    def _run_for(self, event: str, scan: Supervised, text: str, **details: Any) -> None:
        session = scan.session
        name = session.layout.name
        self._hook.post(Happening(event, text, scan.scan_id, name, session.file, details))


def _first(
    ranges: Mapping[str, list[list[int]]], most: int
) -> Iterator[tuple[str, list[list[int]]]]:
    """Yield the first ranges of all mains together."""
    for main, found in ranges.items():
        if most > 0:
            yield main, found[:most]
        most -= len(found)


def missing_in_words(missing: Mapping[str, Sequence[tuple[int, int]]]) -> str:
    """Say which positions of which mains are not complete."""
    return "; ".join(
        f"{main} lacks {ranges_in_words(list(ranges), MAX_LOGGED_RANGES_COUNT)}"
        for main, ranges in missing.items()
    )
