"""The scans that the daemon holds: opened, found again after a restart, let go of when over.

A scan is open here, or waits on the disk until a client opens it again, or is finished and only its
result is known. Each change from one to another happens in this module, and whoever keeps
something for each scan (telemetry, metrics, supervision, warnings, limits) hears of it from here.
It knows neither sockets nor messages: what is to be sent is returned.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from usidstream.errors import UsidstreamError
from usidstream.layout import ScanLayout

from .. import storage
from ..conditions import Warnings
from ..config import Config
from ..disk import Disk
from ..holdings import Holdings
from ..logs import get_logger
from ..metrics import Books
from ..scan import Scan, Sends, Shop
from ..session import State, events
from ..supervision import Supervisor
from ..telemetry import Telemetry
from ..waiting import WaitingScans
from .shop import adjusted

log = get_logger()

JOURNAL_TIMEOUT_S = 1.0
"""What a stop waits for the journals of ended scans to go, which the next start removes as well."""


@dataclass(frozen=True, slots=True)
class Watchers:
    """Who keeps something for each open scan, and hears when it comes and goes."""

    holdings: Holdings
    telemetry: Telemetry
    books: Books
    supervisor: Supervisor
    warnings: Warnings


class Scans:
    """The scans of one daemon.

    Parameters
    ----------
    opened
        Where the open ones stand, by id: empty at first, changed here only.
    waiting
        Those on the disk; changed here only.
    shop
        What they share.
    disk
        Where they are written.
    watchers
        Who hears of them.
    max_scans
        How many may be open.

    Attributes
    ----------
    max_scans
        May change at any time.
    """

    def __init__(
        self,
        opened: dict[str, Scan],
        waiting: WaitingScans,
        *,
        shop: Shop,
        disk: Disk,
        watchers: Watchers,
        max_scans: int,
    ) -> None:
        self.max_scans = max_scans
        self._opened = opened
        self._waiting = waiting
        self._shop = shop
        self._disk = disk
        self._watchers = watchers
        self._retired: list[Scan] = []
        self._is_stopping = False

    def adjust(self, config: Config) -> None:
        """Keep other limits, intervals and time-outs from now on."""
        self.max_scans = config.max_scans
        self._waiting.timeout_s = config.resume_timeout_s
        self._shop = adjusted(self._shop, config)
        for scan in self._opened.values():
            scan.adjust(self._shop)

    # -- which there are

    @property
    def opened(self) -> Mapping[str, Scan]:
        """The open scans, by id."""
        return self._opened

    @property
    def promised_bytes(self) -> int:
        """What may still be written without asking."""
        promised = sum(scan.promised_bytes for scan in self._opened.values())
        return self._shop.pool.in_use_bytes + promised

    def require(self, scan_id: str) -> Scan:
        """Return an open scan.

        Raises
        ------
        UsidstreamError
            It is not open: ``not_joined`` if it waits, ``scan_finished`` or ``unknown_scan``.
        """
        scan = self._opened.get(scan_id)
        if scan is not None:
            return scan
        if scan_id in self._waiting:
            raise self._waiting.refusal(scan_id)
        if self._shop.finished.get(scan_id) is not None:
            raise UsidstreamError(f"scan {scan_id} is finished", code="scan_finished")
        raise UsidstreamError(f"scan {scan_id} is not known here", code="unknown_scan")

    def result(self, scan_id: str) -> storage.FinishedResult | None:
        """Return how a scan has ended; None if it is open, or not known as finished."""
        if scan_id in self._opened or not scan_id:
            return None
        return self._shop.finished.get(scan_id)

    # -- opening

    def check_takes_scans(self) -> None:
        """Refuse one scan more than there may be.

        Raises
        ------
        UsidstreamError
            ``shutting_down`` or ``too_many_scans``.
        """
        if self._is_stopping:
            raise UsidstreamError("the daemon is stopping", code="shutting_down")
        if len(self._opened) >= self.max_scans:
            raise UsidstreamError(
                f"{len(self._opened)} scans are open, max_scans is {self.max_scans}",
                code="too_many_scans",
            )

    def create(
        self, scan_id: str, layout: ScanLayout, file: str, shuffle: Mapping[str, bool]
    ) -> Scan:
        """Open a new scan, for which `check_takes_scans` found room.

        Parameters
        ----------
        scan_id, layout
            What is asked for.
        file
            What its file is to be called; made safe here.
        shuffle
            As in `Scan.create`.

        Raises
        ------
        UsidstreamError
            The name is none, or the disk is short.
        """
        name = storage.safe_name(file)
        if self._disk.shortage is not None:
            raise self._disk.shortage
        scan = self._add(scan_id, layout)
        scan.create(name, datetime.now().astimezone(), shuffle)
        log.info(
            "scan_opened",
            scan=scan_id,
            name_asked=name,
            positions=layout.n_positions,
            mains=[main.name for main in layout.mains],
        )
        return scan

    def resume_if_waiting(self, scan_id: str) -> None:
        """Open a scan that waits on the disk, if it does.

        Raises
        ------
        UsidstreamError
            ``recovering`` while its former threads have not ended; else as `check_takes_scans`.
        """
        if scan_id in self._waiting:
            self._resume(scan_id)

    def open_overdue(self, now: float) -> None:
        """Open the scans whose clients have stayed away for too long: they then end themselves."""
        for scan_id in self._waiting.overdue(now):
            try:
                self._resume(scan_id)
            except UsidstreamError as error:  # no room for it now; it stays overdue
                log.debug("scan_not_resumed", scan=scan_id, code=error.code, problem=error.message)

    def _resume(self, scan_id: str) -> None:
        self.check_takes_scans()
        retired = [old for old in self._retired if old.scan_id == scan_id]
        if not all(old.join(0.0) for old in retired):
            raise UsidstreamError(f"scan {scan_id} is still being closed", code="recovering")
        waiting = self._waiting.take(scan_id)
        log.info("scan_resumed", scan=scan_id, file=str(waiting.record.path))
        scan = self._add(scan_id, waiting.record.layout, waiting.last_contact_s)
        scan.resume(waiting.record)

    def _add(self, scan_id: str, layout: ScanLayout, last_contact_s: float | None = None) -> Scan:
        scan = self._opened[scan_id] = Scan(scan_id, layout, self._shop, last_contact_s)
        self._watchers.books.add(scan)
        self._watchers.warnings.end("scan_failed", scan_id)
        self._watchers.telemetry.forget_end(scan_id)
        scan.note_shortage("disk", self._disk.shortage)  # nobody takes part yet who had to be told
        return scan

    # -- what an earlier daemon left

    def take_left(self, found: storage.OpenRecord | storage.StorageError, now: float) -> None:
        """Take what was found of a scan in the data directory.

        What cannot be read is told in the log: that of one scan is no reason to serve none.
        """
        try:
            if not isinstance(found, storage.StorageError):
                self._take_record(found, now)
                return
        except storage.StorageError as error:
            found = error
        log.error("journal_unreadable", code=found.code, problem=str(found))

    def _take_record(self, found: storage.OpenRecord, now: float) -> None:
        if self._shop.finished.get(found.scan_id) is not None:
            storage.let_journal_go(found)  # its result was remembered, then we died
        else:
            self._waiting.add_found(found, now)

    def resume_left(self) -> None:
        """Open those that were not interrupted, as many as may be open."""
        for scan_id in self._waiting.resumable()[: self.max_scans]:
            self._resume(scan_id)

    # -- what concerns all

    def receive(self, event: events.Event, now: float) -> Sends:
        """Tell every open scan; return what is to be sent."""
        return [send for scan in self._opened.values() for send in scan.receive(event, now)]

    def note_shortage(self, shortage: UsidstreamError | None) -> Sends:
        """Hold all credit while the disk is short, None when it is no more."""
        scans = self._opened.values()
        return [send for scan in scans for send in scan.note_shortage("disk", shortage)]

    # -- the end

    def suspend(self, now: float) -> Sends:
        """Close every scan so that it can be resumed, and open no more."""
        self._is_stopping = True
        return self.receive(events.SuspendRequested(), now)

    def retire_if_over(self, scan: Scan, now: float) -> None:
        """Let go of a scan that is over; a failed one is kept for its error, if it was open."""
        session = scan.session
        if not session.is_over or scan.scan_id not in self._opened:
            return
        del self._opened[scan.scan_id]
        self._tell_over(scan)
        scan.close()
        self._retired = [old for old in self._retired if not old.join(0.0)] + [scan]
        scan.tell_end()
        if scan.record is None:  # it never was
            return
        if session.state is State.FAILED:
            self._watchers.warnings.begin("scan_failed", str(session.failure), scan.scan_id)
        if session.state is not State.ENDED:
            is_interrupted = session.state is State.INTERRUPTED
            self._waiting.add(
                scan.record, session.last_contact_s, now, is_interrupted=is_interrupted
            )

    def _tell_over(self, scan: Scan) -> None:
        watchers = self._watchers
        watchers.holdings.note_over(scan.scan_id)
        watchers.telemetry.let_go(scan)
        watchers.books.let_go(scan)
        watchers.supervisor.note_over(scan)
        watchers.warnings.forget_scan(scan.scan_id)

    def close(self, deadline_s: float) -> bool:
        """End all threads; return whether any hangs that a scan needs.

        Parameters
        ----------
        deadline_s
            How long they are waited for, on the monotonic clock.
        """
        scans = [*self._opened.values(), *self._retired]
        for scan in scans:
            scan.close()
        ended = [scan for scan in scans if scan.session.state is State.ENDED]
        hanging = list(_still_running([scan for scan in scans if scan not in ended], deadline_s))
        for scan in hanging:
            log.error("scan_hangs", scan=scan.scan_id)
        for scan in _still_running(ended, min(deadline_s, time.monotonic() + JOURNAL_TIMEOUT_S)):
            problem = "removing it takes longer than a stop waits for"
            log.warning("journal_left", scan=scan.scan_id, file=scan.session.file, problem=problem)
        # A codec thread may wait for a file that hangs; else it ends with what it is at.
        self._shop.encoders.shutdown(wait=not hanging, cancel_futures=True)
        return bool(hanging)


def _still_running(scans: Iterable[Scan], deadline_s: float) -> Iterable[Scan]:
    for scan in scans:
        if not scan.join(max(0.0, deadline_s - time.monotonic())):
            yield scan
