"""What the server calls: it looks at the daemon and its scans for whoever listens.

Runs in the socket thread and must never hold it up: while nobody listens, a turn costs a test; else
facts are looked at a few times a second and posted to the publisher's thread, which does the rest.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from usidstream import wire

from ..conditions import Condition, Warnings
from ..logs import get_logger
from ..ports import wanted_port
from ..rates import Durations, Rate
from ..scan import Scan
from . import sockets
from .publisher import Publisher, Renew, Tell, TellLayout, Unwatch, Watch
from .standing import Standing, closed, opened
from .tap import Tap

log = get_logger()

CLOSE_TIMEOUT_S = 5.0
TURN_INTERVAL_S = 0.05
"""However often the loop turns, what is listened to is seen to no oftener."""
PORT_OFFSET = 1
MAX_REMEMBERED_ENDS_COUNT = 16
DISK_RATE_WINDOW_S = 60.0
LOOK_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Daemon:
    """What is looked at.

    Parameters
    ----------
    scans
        The open scans, by id.
    describe
        Returns the daemon's standing as status tells it.
    count_waiting
        Returns the number of scans that wait on the disk, by state.
    warnings
        Those in force.
    commit_times
        How long commits took.
    """

    scans: Mapping[str, Scan]
    describe: Callable[[], dict[str, Any]]
    count_waiting: Callable[[], Mapping[str, int]]
    warnings: Warnings
    commit_times: Durations


class Telemetry:
    """The telemetry of a daemon: binds on construction, and starts its thread.

    Parameters
    ----------
    option
        The configuration's ``telemetry``.
    bind, endpoint
        Where data comes in: as the operator said, and as it is.
    daemon
        What is looked at.
    make
        Makes sockets that listen.

    Attributes
    ----------
    port
        Where it listens, None if it is off.
    """

    def __init__(
        self,
        option: int | str,
        bind: str,
        endpoint: str,
        daemon: Daemon,
        make: sockets.SocketMaker,
    ) -> None:
        now = time.monotonic()
        self._daemon = daemon
        self._started_s = now
        self._standings: dict[str, Standing] = {}
        self._retired_bytes = 0
        self._write_rate = Rate(DISK_RATE_WINDOW_S, now)
        self._look_due_s = now + LOOK_INTERVAL_S
        self._turn_due_s = now
        self._heartbeat_due_s = 0.0
        self._progress_due_s: dict[str, float] = {}
        self._progress_told: dict[str, wire.Progress] = {}
        self._known: set[str] = set()
        self._ends: OrderedDict[str, wire.ScanClosed] = OrderedDict()
        self._warned: dict[tuple[str, str], Condition] = {}
        self._warnings_version = 0
        self._crowded: frozenset[str] = frozenset()
        self._taps: dict[str, Tap] = {}
        self._publisher: Publisher | None = None
        self.port: int | None = None
        wanted = wanted_port(option, bind, PORT_OFFSET)
        if wanted is not None:
            self._listen(endpoint.rpartition(":")[0], wanted, make)

    def _listen(self, host: str, port: int, make: sockets.SocketMaker) -> None:
        socket = sockets.make_socket(make)
        try:
            self.port = sockets.bind(socket, host, port, self._daemon.warnings)
        except BaseException:
            socket.close(linger=0)
            raise
        self._publisher = Publisher(socket, make)

    def renew_connections(self) -> None:
        """Cut all viewers off; those who are let in come again by themselves."""
        if self._publisher is not None:
            self._publisher.post(Renew())

    def close(self) -> None:
        """Tell what is left to tell, and end the thread."""
        if self._publisher is not None:
            self._publisher.close(CLOSE_TIMEOUT_S)

    # -- asked by status

    def describe(self) -> dict[str, Any]:
        """Tell how quickly files grow and how long commits take, as plain values."""
        times = self._daemon.commit_times
        return {
            "uptime_s": time.monotonic() - self._started_s,
            "write_bytes_per_s": self._write_rate.per_s,
            "sync_p50_s": times.percentile(50),
            "sync_p99_s": times.percentile(99),
        }

    def describe_scan(self, scan: Scan, now: float) -> dict[str, Any]:
        """Tell a scan's numbers as plain values."""
        standing = self._standing(scan)
        standing.see(now)
        return standing.numbers(now)

    # -- the clock

    def tick(self, now: float) -> None:
        """Look at what is due and listened to."""
        if now >= self._look_due_s:
            self._look_due_s = now + LOOK_INTERVAL_S
            self._write_rate.see(now, self._written_bytes())
        if now < self._turn_due_s:
            return
        self._turn_due_s = now + TURN_INTERVAL_S
        publisher = self._publisher
        if publisher is None or not publisher.is_heard:
            self._rest()
            return
        asked = _drained(publisher.asked)
        self._tell_warnings(publisher)
        # A viewer that meets another instance forgets what it knows: the rest must come after.
        if now >= self._heartbeat_due_s or _is_asked(wire.DAEMON_TOPIC, asked):
            self._beat(publisher, now)
        self._answer(publisher, asked, now)
        for scan in self._daemon.scans.values():
            self._tell_scan(publisher, scan, now)

    def _rest(self) -> None:
        """Do nothing for nobody."""
        for scan_id in list(self._taps):
            self._close_tap(scan_id, self._daemon.scans.get(scan_id))
        self._note_crowds(frozenset())
        scans = self._daemon.scans.items()  # that they were opened will be no news to anybody
        self._known.update(scan_id for scan_id, scan in scans if scan.opening is not None)

    def _written_bytes(self) -> int:
        return self._retired_bytes + sum(s.written_bytes for s in self._daemon.scans.values())

    def _standing(self, scan: Scan) -> Standing:
        standing = self._standings.get(scan.scan_id)
        if standing is None:
            standing = self._standings[scan.scan_id] = Standing(scan)
        return standing

    def _answer(self, publisher: Publisher, prefixes: set[str], now: float) -> None:
        """Tell new subscribers what they would have to wait for; each topic once."""
        scans = self._daemon.scans
        for scan_id in [s for s in scans if _is_asked(wire.scan_topic(s), prefixes)]:
            self._progress_due_s[scan_id] = now
            self._progress_told.pop(scan_id, None)
        for scan_id in [s for s in scans if _is_asked(wire.layout_topic(s), prefixes)]:
            self._tell_layout(publisher, scans[scan_id])
        for scan_id, end in self._ends.items():
            if _is_asked(wire.scan_topic(scan_id), prefixes):
                publisher.post(Tell(wire.scan_topic(scan_id), end))

    def _tell_layout(self, publisher: Publisher, scan: Scan) -> None:
        session = scan.session
        publisher.post(TellLayout(scan.scan_id, session.file, session.layout))

    # -- the daemon

    def _beat(self, publisher: Publisher, now: float) -> None:
        self._heartbeat_due_s = now + wire.HEARTBEAT_INTERVAL_S
        if not publisher.subscriptions.wants(wire.DAEMON_TOPIC):
            return
        scans = {scan_id: s.session.state.value for scan_id, s in self._daemon.scans.items()}
        told = self._daemon.describe()
        message = wire.Heartbeat(
            time_s=time.time(),
            scans=scans,
            states=dict(Counter(scans.values()) + Counter(self._daemon.count_waiting())),
            **{key: told[key] for key in _TOLD_ALIKE},
        )
        publisher.post(Tell(wire.DAEMON_TOPIC, message))

    def _tell_warnings(self, publisher: Publisher) -> None:
        """Tell which conditions have begun or ended since the last call."""
        warnings = self._daemon.warnings
        self._note_crowds(publisher.subscriptions.crowded & self._daemon.scans.keys())
        if warnings.version == self._warnings_version:
            return
        self._warnings_version = warnings.version
        current = {(held.code, held.scan): held for held in warnings.current()}
        for key, condition in current.items():
            if key not in self._warned:
                _tell_condition(publisher, condition, over=False)
        for key, condition in self._warned.items():
            if key not in current:
                _tell_condition(publisher, condition, over=True)
        self._warned = current

    def _note_crowds(self, crowded: frozenset[str]) -> None:
        text = f"more than {wire.MAX_REDUCTIONS_COUNT} reductions of a main are watched"
        for scan_id in crowded - self._crowded:
            self._daemon.warnings.begin("previews_crowded", text, scan_id)
            log.warning("previews_crowded", scan=scan_id, problem=text)
        for scan_id in self._crowded - crowded:
            self._daemon.warnings.end("previews_crowded", scan_id)
            log.info("previews_served", scan=scan_id)
        self._crowded = crowded

    # -- scans

    def _tell_scan(self, publisher: Publisher, scan: Scan, now: float) -> None:
        self._tell_opening(publisher, scan)
        self._tap(publisher, scan)
        is_due = now >= self._progress_due_s.get(scan.scan_id, 0.0)
        if is_due and publisher.subscriptions.wants(wire.scan_topic(scan.scan_id)):
            self._progress_due_s[scan.scan_id] = now + wire.PROGRESS_INTERVAL_S
            self._tell_progress(publisher, scan, now)

    def _tell_opening(self, publisher: Publisher, scan: Scan) -> None:
        """Tell that a scan is open, once."""
        scan_id, subscriptions = scan.scan_id, publisher.subscriptions
        if scan.opening is None or scan_id in self._known:
            return
        self._known.add(scan_id)
        if subscriptions.wants(wire.scan_topic(scan_id)):
            message = opened(scan, scan.session.layout, resumed=scan.is_resumed)
            publisher.post(Tell(wire.scan_topic(scan_id), message))
        if subscriptions.wants(wire.layout_topic(scan_id)):
            self._tell_layout(publisher, scan)

    def _tell_progress(self, publisher: Publisher, scan: Scan, now: float) -> None:
        standing = self._standing(scan)
        standing.see(now)
        message = standing.progress(now)
        told = replace(message, time_s=0.0)
        if told != self._progress_told.get(scan.scan_id):
            self._progress_told[scan.scan_id] = told
            publisher.post(Tell(wire.scan_topic(scan.scan_id), message))

    def _tap(self, publisher: Publisher, scan: Scan) -> None:
        """Keep a scan's blocks for the previews that are wanted, and no others."""
        mains = frozenset(publisher.subscriptions.mains_of(scan.scan_id))
        tap = self._taps.get(scan.scan_id)
        if tap is None and mains:
            tap = Tap()
            if not scan.tap(tap.offer):  # its file is not open yet
                return
            self._taps[scan.scan_id] = tap
            publisher.post(Watch(scan.scan_id, scan.session.layout, tap))
        if tap is not None:
            tap.watch(mains)
            if not mains:
                self._close_tap(scan.scan_id, scan)

    def _close_tap(self, scan_id: str, scan: Scan | None) -> None:
        if self._taps.pop(scan_id, None) is None:
            return
        if scan is not None:
            scan.tap(None)
        if self._publisher is not None:
            self._publisher.post(Unwatch(scan_id))

    def let_go(self, scan: Scan) -> None:
        """Tell of a scan that is over, before it is closed, and forget it."""
        scan_id = scan.scan_id
        self._close_tap(scan_id, scan)
        self._retired_bytes += scan.written_bytes
        if self._publisher is not None and self._publisher.is_heard:
            self._tell_opening(self._publisher, scan)  # it may have been open for a moment only
        self._known.discard(scan_id)
        for book in (self._standings, self._progress_due_s, self._progress_told):
            book.pop(scan_id, None)
        end = self._ends[scan_id] = closed(scan)
        self._ends.move_to_end(scan_id)
        if len(self._ends) > MAX_REMEMBERED_ENDS_COUNT:
            self._ends.popitem(last=False)
        publisher = self._publisher
        if publisher is not None and publisher.subscriptions.wants(wire.scan_topic(scan_id)):
            publisher.post(Tell(wire.scan_topic(scan_id), end))

    def forget_end(self, scan_id: str) -> None:
        """Tell no more of how a scan ended that is open again."""
        self._ends.pop(scan_id, None)


_TOLD_ALIKE = (
    "daemon",
    "instance",
    "uptime_s",
    "endpoint",
    "data_dir",
    "ports",
    "clients",
    "memory_in_use_bytes",
    "memory_budget_bytes",
    "disk_free_bytes",
    "disk_needed_bytes",
    "disk_left_s",
    "write_bytes_per_s",
    "sync_p50_s",
    "sync_p99_s",
    "warnings",
)
"""What the heartbeat and status call by the same names."""


def _drained(asked: queue.SimpleQueue[str]) -> set[str]:
    prefixes: set[str] = set()
    with contextlib.suppress(queue.Empty):
        while True:
            prefixes.add(asked.get_nowait())
    return prefixes


def _is_asked(topic: str, prefixes: set[str]) -> bool:
    return any(topic.startswith(prefix) for prefix in prefixes)


def _tell_condition(publisher: Publisher, condition: Condition, *, over: bool) -> None:
    topic = wire.scan_topic(condition.scan) if condition.scan else wire.DAEMON_TOPIC
    if publisher.subscriptions.wants(topic):
        message = wire.WarningTold(
            code=condition.code,
            text=condition.text,
            scan=condition.scan,
            since_s=condition.since_s,
            time_s=time.time(),
            over=over,
        )
        publisher.post(Tell(topic, message))
