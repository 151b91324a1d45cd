"""One scan in the daemon: session, pipeline and the thread that owns its file, tied together.

What the session wants done is carried out here, and what comes of it is told to the session. Runs
in the socket thread. It knows which messages are to be sent, never how: every call returns them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from structlog.contextvars import bound_contextvars

from usidstream.errors import UsidstreamError
from usidstream.layout import MainLayout, ScanLayout

from . import codecs, storage
from .assembly import Assembly, BufferPool, make_grid
from .conditions import Warnings
from .logs import get_logger
from .pipeline import Flow, MainParts, Measures, Restored, ScanPipeline, as_failure
from .rates import Durations
from .session import Session, SessionLimits, State, events
from .statusline import RECOVERING, ScanStanding
from .supervision.iowatch import IoWatch

log = get_logger()

Sends = list[events.Send]

_GROWING = (State.ACQUIRING, State.FINISHING)
_CLOSING = (State.CLOSING, State.INTERRUPTING)


@dataclass(frozen=True, slots=True)
class Shop:
    """What all scans of a daemon share.

    Parameters
    ----------
    data_dir
        Where files are made.
    finished
        The results of finished scans.
    pool
        The memory for open tiles.
    encoders
        The codec threads.
    limits
        Credit and intervals of each session.
    flush_interval_s
        Time between checkpoints, when readers are shown what has come.
    segment_bytes
        About the size of a row segment.
    underway_bytes
        What each scan may have on its way into its file.
    post
        Takes ``(scan, outcome)`` from any thread; they come back to `Scan.on_outcome`.
    warnings
        What needs an operator.
    commit_times
        How long commits took.
    note_sync
        Told of each sync of a running scan, from any thread.
    io_watch
        Who watches that the disk answers.
    """

    data_dir: Path
    finished: storage.FinishedScans
    pool: BufferPool
    encoders: Executor
    limits: SessionLimits
    flush_interval_s: float
    segment_bytes: int
    underway_bytes: int
    post: Callable[[tuple[Scan, Any]], None]
    warnings: Warnings
    commit_times: Durations
    note_sync: storage.SyncObserver
    io_watch: IoWatch


class Scan:
    """A scan from its opening to its end.

    Parameters
    ----------
    scan_id, layout
        What a client asked for, or what the open record holds.
    shop
        What it shares with other scans.
    last_contact_s
        When a client took part in it before, on the monotonic clock; None for a new one.

    Attributes
    ----------
    recoveries
        How often its file was repaired or made anew.
    recovery
        What had to be put right when it was opened here, None where nothing had.
    opened_s, opening
        When its file was open, on the monotonic clock, and what it held then; None before.
    result
        How it ended, once it has.
    """

    def __init__(
        self, scan_id: str, layout: ScanLayout, shop: Shop, last_contact_s: float | None = None
    ) -> None:
        self.scan_id = scan_id
        self.session = Session(scan_id, layout, shop.limits, last_contact_s)
        self._shop = shop
        self._layout = layout
        with self._context():
            name = f"storage-{scan_id[:8]}"
            self._store = storage.StorageThread(self._post, shop.finished, name)
        shop.io_watch.add((scan_id, "file"), self._store.activity)
        self._journal: storage.JournalThread | None = None
        self._pipeline: ScanPipeline | None = None
        self._scratch_shortage: UsidstreamError | None = None
        self._scratches: list[storage.FileScratch] = []
        self._ready: storage.Ready | None = None
        self.record: storage.OpenRecord | None = None
        self.recoveries = 0
        self.recovery: storage.RecoveryReport | None = None
        self.opened_s = 0.0
        self.opening: Measures | None = None
        self.result: storage.FinishedResult | None = None

    def create(self, file: str, created: datetime, shuffle: Mapping[str, bool]) -> None:
        """Make the file and its journal directory; the opener is answered when they are safe.

        Parameters
        ----------
        file, created
            What its name is made of.
        shuffle
            By main: whether the opener found its data better byte-shuffled.
        """
        plans = {main.name: self._plan(main, shuffle.get(main.name)) for main in self._layout.mains}
        self._store.submit(
            storage.Create(
                data_dir=self._shop.data_dir,
                file=file,
                layout=self._layout,
                plans=plans,
                scan_id=self.scan_id,
                created=created,
                segment_bytes=self._shop.segment_bytes,
            )
        )

    def resume(self, record: storage.OpenRecord) -> None:
        """Go on with a scan that an earlier daemon left."""
        self.record = record
        self._store.submit(storage.Resume(record=record, segment_bytes=self._shop.segment_bytes))

    def receive(self, event: events.Event, now: float) -> Sends:
        """Tell the session; return what is to be sent."""
        return self._carry_out(self.session.receive(event, now))

    def on_outcome(self, outcome: Any, now: float) -> Sends:
        """Take what the storage or a codec thread had to say."""
        sends: Sends = []
        if isinstance(outcome, storage.SpaceShort | storage.SpaceBack):
            return self._on_space(outcome)
        if isinstance(outcome, storage.Journalled) and outcome.seconds:
            self._shop.commit_times.note(outcome.seconds)
        for event in self._translate(outcome):
            if not self.session.is_over or isinstance(event, events.StoreClosed):
                sends += self.receive(event, now)
        return sends

    def turn(self, now: float) -> Sends:
        """Place what waits, do what the clock asks for, and tell peers what they do not know."""
        sends: Sends = []
        if self._pipeline is not None:
            sends += self._advance(self._pipeline, now)
            if self.session.state in _GROWING:
                self._pipeline.tick(now)
            if not self.session.is_stuck:
                self._pipeline.hurry(now)
        sends += self._carry_out(self.session.tick(now))
        return sends + self._carry_out(self.session.take_acks(now))

    def _advance(self, pipeline: ScanPipeline, now: float) -> Sends:
        """Place waiting blocks as far as there is memory."""
        sends: Sends = []
        for event in pipeline.advance():
            if not self.session.is_over:
                sends += self.receive(event, now)
        if pipeline.scratch_shortage is not self._scratch_shortage:
            self._scratch_shortage = pipeline.scratch_shortage
            sends += self._note("scratch", self._scratch_shortage)
        return sends

    def _on_space(self, outcome: storage.SpaceShort | storage.SpaceBack) -> Sends:
        error = outcome.error if isinstance(outcome, storage.SpaceShort) else None
        return self._note(outcome.source, error)

    def _note(self, source: str, error: UsidstreamError | None) -> Sends:
        """Pass a shortage of this scan's own on, and tell the operator of the first and last."""
        was_stuck = self.session.is_stuck
        sends = self.note_shortage(source, error)
        if error is not None and self.session.is_stuck and not was_stuck:
            log.warning(
                "scan_waits_for_room", scan=self.scan_id, code=error.code, problem=error.message
            )
        elif was_stuck and not self.session.is_stuck:
            log.info("scan_has_room", scan=self.scan_id)
        if self.session.is_stuck != was_stuck:
            text = str(error) if self.session.is_stuck else None
            self._shop.warnings.note("scan_waits_for_room", text, self.scan_id)
        return sends

    def note_shortage(self, source: str, error: UsidstreamError | None) -> Sends:
        """Hold credit while something lacks room on the disk; return what is to be sent."""
        return self._carry_out(self.session.note_shortage(source, error))

    def adjust(self, shop: Shop) -> None:
        """Keep other intervals and time-outs from now on."""
        self._shop = shop
        self.session.adjust(shop.limits)
        if self._pipeline is not None:
            self._pipeline.change_flush_interval(shop.flush_interval_s)

    def standing(self) -> ScanStanding:
        """Tell the scan's state, and how far its recovery is."""
        if self.session.state is not State.OPENING or self.record is None:
            return ScanStanding(self.session.state.value)
        return ScanStanding(RECOVERING, *self._store.recovery)

    @property
    def promised_bytes(self) -> int:
        """What may still be written for this scan without asking, besides what tiles hold.

        What peers may send can take room twice: in the row journal and in the file.
        """
        backlog = 0 if self._pipeline is None else self._pipeline.backlog_bytes
        return 2 * self.session.promised_nbytes + backlog

    @property
    def is_resumed(self) -> bool:
        """Whether it existed before it was opened here."""
        return self._ready is not None and self._ready.resumed

    @property
    def written_bytes(self) -> int:
        """By how much its file has grown by chunks since it was opened here."""
        return 0 if self._pipeline is None else self._pipeline.written_bytes

    def measure(self) -> Measures | None:
        """Tell how far it has come, None before its file is open."""
        return None if self.opening is None or self._pipeline is None else self._pipeline.measure()

    def flow(self) -> Flow:
        """Tell what has come through, from any thread."""
        return Flow() if self._pipeline is None else self._pipeline.flow()

    def tap(self, on_placed: Callable[[storage.JournalBlock, bool], None] | None) -> bool:
        """Let every block be seen once it is placed; return False if there are none yet."""
        if self._pipeline is not None:
            self._pipeline.on_placed = on_placed
        return self._pipeline is not None

    def close(self) -> None:
        """Give back the memory and end the threads, once the session is over."""
        self._store.submit(storage.Close())
        if self._journal is not None:
            self._journal.submit(storage.JournalClose(is_clean=False))
        if self._pipeline is not None:
            self._pipeline.close()
        for scratch in self._scratches:
            scratch.close()

    def tell_end(self) -> None:
        """Let the operator know how the scan is over."""
        session, result = self.session, self.result
        facts = {"scan": self.scan_id, "file": session.file, "durable": session.positions}
        match session.state:
            case State.ENDED if result is not None:
                missing = {name: len(ranges) for name, ranges in result.missing.items()}
                facts |= {"missing_ranges": missing} if missing else {}
                log.info("scan_ended", **facts, status=result.status)
            case State.SUSPENDED:
                log.info("scan_suspended", **facts)
            case State.INTERRUPTED:
                log.warning("scan_interrupted", **facts)
            case State.FAILED:
                failure = session.failure or as_failure(RuntimeError("for no reason given"))
                log.error("scan_failed", **facts, code=failure.code, problem=str(failure))

    def join(self, timeout_s: float) -> bool:
        """Wait for the threads' end; return whether it came."""
        deadline = time.monotonic() + timeout_s
        if not self._store.join(timeout_s):
            return False
        return self._journal is None or self._journal.join(max(0.0, deadline - time.monotonic()))

    # -- what the session wants

    def _carry_out(self, actions: list[events.Action]) -> Sends:
        sends: Sends = []
        for action in actions:
            if isinstance(action, events.Send):
                sends.append(action)
            else:
                self._carry_out_data(action)
        return sends

    def _carry_out_data(self, action: events.Action) -> None:
        if self._pipeline is None:
            raise RuntimeError(f"scan {self.scan_id}: {action} before its file is open")
        match action:
            case events.Place(peer=peer, item=item):
                self._pipeline.place(peer, item)
            case events.BeginCommit(marker=marker, coverage=coverage):
                self._pipeline.begin_commit(marker, coverage=coverage)
            case events.Finalise(ending=ending, attrs=attrs):
                self._pipeline.finalise(ending, attrs)
            case events.CloseStore():
                self._pipeline.suspend()
            case events.Interrupt():
                self._pipeline.interrupt()
            case events.NoteContact():
                self._pipeline.note_contact()

    # -- what came of it

    @contextmanager
    def _context(self) -> Iterator[None]:
        """Let threads that are started here know what they work for, and who counts."""
        with bound_contextvars(scan=self.scan_id), storage.syncs_told_to(self._shop.note_sync):
            yield

    def _post(self, outcome: Any) -> None:
        self._shop.post((self, outcome))

    def _translate(self, outcome: Any) -> list[events.Event]:
        told: list[events.Event] = []
        match outcome:
            case storage.Ready():
                told = self._on_ready(outcome)
            case Restored(error=BaseException() as error):
                told = [events.StoreFailed(error=as_failure(error))]
            case Restored():
                told = self._on_restored()
            case storage.Finalised() if self.session.state is State.INTERRUPTING:
                self._close_journal(is_done=True)
            case storage.Finalised(result=result):
                self.result = result
                told = [_finalised(result)]
            case storage.Closed():
                self._close_journal(is_done=False)
            case storage.JournalClosed() if self.session.state in _CLOSING:
                told = [events.StoreClosed()]
            case storage.StorageFailed(error=error):
                told = [events.StoreFailed(error=error)]
            case _ if self._pipeline is not None:
                told = self._pipeline.handle(outcome)
        return told

    def _close_journal(self, *, is_done: bool) -> None:
        if self._journal is not None:
            self._journal.submit(storage.JournalClose(is_clean=True, is_done=is_done))

    def _on_ready(self, ready: storage.Ready) -> list[events.Event]:
        self._ready, self.record, self.recoveries = ready, ready.record, ready.recoveries
        self.recovery = ready.recovery
        mains = {
            main.name: self._parts(index, main, ready.record)
            for index, main in enumerate(self._layout.mains)
        }
        name = f"journal-{self.scan_id[:8]}"
        with self._context():
            self._journal = storage.JournalThread(ready.journal, self._post, name)
        self._shop.io_watch.add((self.scan_id, "journal"), self._journal.activity)
        self._pipeline = ScanPipeline(
            self._layout,
            mains,
            store=self._store,
            journal=self._journal,
            encoders=self._shop.encoders,
            post=self._post,
            flush_interval_s=self._shop.flush_interval_s,
            segment_bytes=self._shop.segment_bytes,
            underway_bytes=self._shop.underway_bytes,
        )
        if not ready.resumed:
            return [self._store_ready()]
        self._pipeline.restore(ready)
        return []

    def _on_restored(self) -> list[events.Event]:
        """Go on with a scan of an earlier daemon, or end it if that had decided so."""
        if self._ready is None or self._pipeline is None or self._ready.decision is None:
            return [self._store_ready()]
        self._pipeline.go_on_ending(self._ready.decision)
        return []

    def _store_ready(self) -> events.Event:
        if self._ready is None or self._pipeline is None:
            raise RuntimeError(f"scan {self.scan_id}: ready before its file is open")
        self.opened_s, self.opening = time.monotonic(), self._pipeline.measure()
        return events.StoreReady(
            file=str(self._ready.record.path),
            positions=self.opening.positions,
            coverage=self._pipeline.coverage(),
            resumed=self._ready.resumed,
        )

    # -- the parts of a main

    def _plan(self, main: MainLayout, found_better: bool | None) -> storage.MainPlan:
        grid = make_grid(main, self._layout.n_positions, self._layout.pixel_time_s)
        shuffle = found_better if main.shuffle is None else main.shuffle
        codec = codecs.choose(main.compression, shuffle, main.np_dtype)
        return storage.MainPlan(
            chunks=(grid.chunk_rows, grid.chunk_cols), filters=codec.hdf5_filters
        )

    def _parts(self, index: int, main: MainLayout, record: storage.OpenRecord) -> MainParts:
        """Build a main's parts as its file was made, whatever today's rules would choose."""
        plan = record.plans[main.name]
        planned = replace(main, chunks=plan.chunks)
        grid = make_grid(planned, self._layout.n_positions, self._layout.pixel_time_s)
        scratch = storage.FileScratch(
            record.journal / f"{storage.SCRATCH_NAME}-{index}",
            grid.tile_elements * main.np_dtype.itemsize,
        )
        self._scratches.append(scratch)
        shuffle = bool(plan.filters.get("shuffle", False))
        return MainParts(
            assembly=Assembly(main.name, grid, main.np_dtype, self._shop.pool, scratch),
            codec=codecs.choose(main.compression, shuffle, main.np_dtype),
            chunks=plan.chunks,
        )


def _finalised(result: storage.FinishedResult) -> events.Event:
    missing = missing_tables(result)
    return events.Finalised(file=result.file, status=result.status, missing=missing)


def missing_tables(result: storage.FinishedResult) -> Mapping[str, events.RangeTable]:
    """Return a result's missing positions as tables (k, 2), by main."""
    return {
        name: np.array(ranges, np.int64).reshape(-1, 2) for name, ranges in result.missing.items()
    }
