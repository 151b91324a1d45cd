"""The order of things for one scan: what is placed, what is durable, what is seen, what is final.

Four runs, each begun by the session or the clock, each ended by another thread's word:

* *placing*: a block is copied into tiles; what becomes complete goes to the file at once.
* *commit*: every block placed so far becomes durable. Tiles on their way are waited for, so that
  their addresses reach the ledger; blocks with an incomplete tile are journalled as they came.
  Tiles whose writes hang, as all do while any file of the process does, are journalled instead.
  While row segments hold more that nobody needs than what is needed, incomplete tiles are written
  again into the latest segment, a few a commit, so that the first ones go.
* *checkpoint*: the file tells its readers what it holds, and row segments that nobody needs go.
* *ending*: incomplete tiles are written as they stand, the end is recorded, the file is closed.
  An interruption is an end, too, but the journal stays and is closed after the file.

It never knows sockets, what a message is answered with, or the states of a scan.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from usidstream import wire
from usidstream.errors import UsidstreamError
from usidstream.layout import ScanLayout

from .. import storage
from ..assembly import COMPLETE, Placement, Rect, Tile
from ..session import events
from ..storage import CoverageUpdate, JournalBlock
from ..storage.ledger_records import Finalise as Decision
from .attributes import read_attrs
from .committing import Committing, Overtaken
from .ending import Ending, Run
from .flow import Flow
from .positions import CompletePositions
from .rows import block_as_taken, block_to_place
from .tiles import EncodeFailed, EncoderLetGo, MainParts, Post, TileWriter

UNDERWAY_BYTES_PER_ENCODER = 4 << 20
"""Complete tiles on their way into the file, for each thread that encodes: one in its hands, one
that waits. With more of them nothing is placed, for a longer queue makes nothing quicker: what is
new waits longer to become durable, and takes memory."""
MAX_UNDERWAY_COUNT = 1024
"""Tiles on their way into the file, however small, about: each is a command that waits."""

_FINISHED = ("complete", "incomplete")

Item: TypeAlias = wire.Block | wire.Annotate


@dataclass(frozen=True, slots=True)
class Restored:
    """The coverage of a resumed scan is loaded."""

    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """The coverage of chunks is loaded; journalled blocks are to be placed again."""

    replay: Iterable[tuple[int, JournalBlock]]


@dataclass(frozen=True, slots=True)
class Measures:
    """How far a scan has come.

    Parameters
    ----------
    positions
        Complete in every main, as placed by now.
    gaps
        By main, how many positions before its last complete one are not complete.
    received_bytes
        Raw, of all mains.
    """

    positions: int
    gaps: Mapping[str, int]
    received_bytes: int


@dataclass(frozen=True, slots=True)
class _Placing:
    """A block that is being placed."""

    peer: bytes
    block: wire.Block
    taken: JournalBlock
    placement: Placement


class ScanPipeline:
    """The data path of one scan.

    Parameters
    ----------
    layout
        What the scan is.
    mains
        The parts of each main, by its name, in the layout's order.
    store
        The thread that owns the file.
    journal
        The thread that owns the journal.
    encoders
        Where tiles are encoded.
    post
        Takes what other threads have to say to `handle`.
    flush_interval_s
        Time between checkpoints.
    segment_bytes
        About the size of a row segment.
    underway_bytes
        With more than this on its way into the file nothing is placed.

    Attributes
    ----------
    scratch_shortage
        Why nothing is placed, where parked tiles lack room on the disk.
    on_placed
        Told of each block that was placed, and whether all of it was new; None while nobody looks.
    """

    def __init__(
        self,
        layout: ScanLayout,
        mains: Mapping[str, MainParts],
        *,
        store: storage.StorageThread,
        journal: storage.JournalThread,
        encoders: Executor,
        post: Post,
        flush_interval_s: float,
        segment_bytes: int,
        underway_bytes: int,
    ) -> None:
        self.layout = layout
        self.mains = mains
        self._names = list(mains)
        self._numbers = {name: number for number, name in enumerate(mains)}
        self._store = store
        self._journal = journal
        self._encoders = encoders
        self._post = post
        self._flush_interval_s = flush_interval_s
        self._underway_bytes = underway_bytes
        self._writer = TileWriter(mains, store, encoders, post)
        self._annotations: dict[str, Any] = {}
        self._learnt: dict[str, Any] = {}
        self._queue: deque[tuple[bytes, Item]] = deque()
        self._current: _Placing | None = None
        self._replay: Iterator[tuple[int, JournalBlock]] | None = None
        self._replaying: tuple[int, JournalBlock, Placement] | None = None
        self._commits = Committing(self._writer, journal, self._numbers, segment_bytes)
        self._ending: Ending | None = None
        self._is_checkpointing = False
        self._is_closing = False
        self._checkpoint_due_s: float | None = None
        self._unseen: dict[str, bool] = dict.fromkeys(mains, False)
        self._complete = CompletePositions(layout.n_positions, mains)
        self.scratch_shortage: UsidstreamError | None = None
        self.on_placed: Callable[[JournalBlock, bool], None] | None = None

    @property
    def backlog_bytes(self) -> int:
        """Bytes of blocks that the next commit may have to journal."""
        return self._commits.backlog_bytes

    @property
    def written_bytes(self) -> int:
        """Bytes of all chunks that were written, as they lie in the file."""
        return self._writer.written_bytes

    # -- placing

    def place(self, peer: bytes, item: Item) -> None:
        """Queue a block or annotation; `advance` places it as soon as there is memory."""
        self._queue.append((peer, item))

    def advance(self) -> list[events.Event]:
        """Place what is queued, in order, as far as there are buffers."""
        if not self._queue and self._current is None and self._replay is None:
            self.scratch_shortage = None
            return []
        settled: list[events.Event] = []
        try:
            while (event := self._advance_one()) is not None:
                settled.append(event)
            self.scratch_shortage = None
        except UsidstreamError as error:
            if error.code == "no_space":  # placing is repeated by the next call
                self.scratch_shortage = error
                return settled
            # The scratch failed, for a refused block never gets here: the scan cannot go on.
            self._queue.clear()
            self._current = self._replay = None
            settled.append(events.StoreFailed(error=error))
        return settled

    def _advance_one(self) -> events.Event | None:
        while self._replay is not None:
            if not self._replay_one(self._replay):
                return None
        if self._current is None:
            refused_or_noted = self._take_next()
            if self._current is None:
                return refused_or_noted
        placing = self._current
        if not self._step(placing.block.main, placing.placement):
            return None
        self._current = None
        block = placing.taken
        self._commits.add(block, placing.placement)
        if self.on_placed is not None:
            self.on_placed(block, placing.placement.newly_covered == block.rows * block.cols)
        return _settled(placing.peer, placing.block)

    def _take_next(self) -> events.Event | None:
        """Begin with the next in the queue; return what settles at once."""
        if not self._queue:
            return None
        peer, item = self._queue[0]
        if isinstance(item, wire.Block) and self._is_busy():
            return None
        self._queue.popleft()
        if isinstance(item, wire.Annotate):
            return self._annotate(peer, item)
        try:
            taken = block_as_taken(self._numbers[item.main], item)
            self._current = _Placing(peer, item, taken, self._begin(taken, item.again))
        except UsidstreamError as error:
            return _settled(peer, item, error)
        return None

    def _is_busy(self) -> bool:
        """Whether blocks must wait: memory goes to what a commit or the file has not taken yet."""
        writer = self._writer
        is_full = writer.nbytes > self._underway_bytes or writer.count >= MAX_UNDERWAY_COUNT
        return is_full or self._commits.is_behind

    def _replay_one(self, replay: Iterator[tuple[int, JournalBlock]]) -> bool:
        """Place a journalled block again; return whether to go on."""
        if self._replaying is None:
            segment, block = next(replay, (0, None))
            if block is None:
                self._replay = None
                self._post(Restored())
                return False
            self._replaying = (segment, block, self._begin(block, again=True))
        segment, block, placement = self._replaying
        if not self._step(self._names[block.main], placement):
            return False
        self._replaying = None
        self._commits.add_replayed(segment, block, placement)
        return True

    def _step(self, main: str, placement: Placement) -> bool:
        """Go on with a placement as far as there is room; return whether it is done."""
        while self._writer.count < MAX_UNDERWAY_COUNT:
            completed = placement.step()
            for tile in completed:
                self._writer.write(main, tile, tile.array, is_complete=True)
            if placement.done or not completed:
                break
        return placement.done

    def _begin(self, block: JournalBlock, again: bool) -> Placement:
        assembly = self.mains[self._names[block.main]].assembly
        return assembly.begin(block_to_place(block), again=again)

    def _annotate(self, peer: bytes, note: wire.Annotate) -> events.Settled:
        try:
            attrs = read_attrs(note)
        except UsidstreamError as error:
            return events.Settled(peer=peer, seq=note.seq, nbytes=0, error=error)
        self._annotations |= attrs
        self._learnt |= attrs
        return events.Settled(peer=peer, seq=note.seq, nbytes=0)

    # -- commits

    def begin_commit(self, marker: int, *, coverage: bool) -> None:
        """Start to make durable what has been placed."""
        for name in self.mains:
            self._count_positions(name)
        attrs, self._annotations = self._annotations, {}
        done = events.Committed(
            marker=marker,
            positions=self._complete.count,
            coverage=self.coverage() if coverage else None,
        )
        self._commits.begin(done, attrs)

    def hurry(self, now: float) -> None:
        """Let a commit wait no longer for tiles whose writes hang."""
        self._commits.hurry(now)

    def _on_overtaken_ledgered(self, tiles: list[Tile]) -> None:
        self._commits.on_ledgered(tiles)
        if self._ending is None and not self._is_closing:
            self._commits.drop_segments()

    def _count_positions(self, main: str) -> None:
        """Keep the number of positions complete in every main."""
        assembly = self.mains[main].assembly
        runs, window = assembly.changes.take()
        for run in runs:  # before the window, which may have some of them in it
            self._complete.note_run(main, *run)
        if window is not None:
            states = assembly.positions_state(*window)
            self._complete.note(main, slice(*window), states == COMPLETE)
        self._unseen[main] |= bool(runs) or window is not None

    # -- checkpoints

    def change_flush_interval(self, flush_interval_s: float) -> None:
        """Count another time between checkpoints, from the next tick on."""
        self._flush_interval_s = flush_interval_s
        self._checkpoint_due_s = None

    def tick(self, now: float) -> None:
        """Begin a checkpoint when it is due."""
        if self._checkpoint_due_s is None:
            self._checkpoint_due_s = now + self._flush_interval_s
        busy = self._is_checkpointing or self._ending is not None
        if now < self._checkpoint_due_s or busy or not any(self._unseen.values()):
            return
        self._checkpoint_due_s = None
        self._begin_checkpoint()

    def _begin_checkpoint(self) -> None:
        self._is_checkpointing = True
        updates = {name: self._stored(name) for name, unseen in self._unseen.items() if unseen}
        self._unseen = dict.fromkeys(self.mains, False)
        flush = storage.Commit(updates=updates, token=Run.CHECKPOINT)
        self._writer.after_all(lambda: self._store.submit(flush))

    def suspend(self) -> None:
        """Show readers all there is, then close the file; the journal keeps the rest."""
        self._begin_checkpoint()
        self._writer.after_all(self._close_file)

    def _close_file(self) -> None:
        self._is_closing = True
        self._commits.ledger_overtaken()
        self._store.submit(storage.Close())

    def _stored(self, main: str) -> CoverageUpdate:
        """Return what the file holds of a main once all writes under way are done."""
        assembly = self.mains[main].assembly
        states, partial = assembly.stored_coverage()
        return CoverageUpdate(lo=0, states=states, partial=partial)

    def _on_flushed(self) -> None:
        self._is_checkpointing = False
        self._commits.ledger_overtaken()
        if self._ending is None:  # else the journal closes, and all of it goes
            self._commits.drop_segments()

    # -- the end

    def finalise(self, ending: events.Ending, attrs: Mapping[str, Any]) -> None:
        """End the scan, after its last commit."""
        status = "aborted" if ending is events.Ending.ABORT else self._finished_status()
        self._end(self._decision(status, attrs))

    def interrupt(self) -> None:
        """End the scan as far as it came; it can still be resumed."""
        self._end(self._decision(storage.STATUS_INTERRUPTED, {}))

    def note_contact(self) -> None:
        """Note that a client took part until now."""
        self._journal.submit(storage.JournalContact())

    def _decision(self, status: str, attrs: Mapping[str, Any]) -> Decision:
        ended = datetime.now(UTC).astimezone().isoformat()
        return Decision(status=status, ended=ended, attrs=self._learnt | dict(attrs))

    def _finished_status(self) -> str:
        whole = all(
            parts.assembly.covered_elements == parts.assembly.total_elements
            for parts in self.mains.values()
        )
        return "complete" if whole else "incomplete"

    def _end(self, decision: Decision) -> None:
        attrs, self._annotations = self._annotations, {}
        self._ending = Ending(
            decision,
            attrs,
            self.mains,
            writer=self._writer,
            journal=self._journal,
            store=self._store,
        )
        self._ending.write_tiles()

    def _on_end_recorded(self, ending: Ending) -> None:
        if ending.is_interruption:
            self._commits.drop_segments()
            ending.end_file()
        else:
            ending.close_journal()

    # -- going on after a restart

    def restore(self, ready: storage.Ready) -> None:
        """Take over what the file and the journal hold; `Restored` ends it."""
        self._learnt |= ready.annotations
        self._encoders.submit(self._load, ready)

    def _load(self, ready: storage.Ready) -> None:
        """Load the coverage of chunks. Runs in a codec thread, before anything is placed."""
        try:
            for name, held in ready.coverage.items():
                self._load_main(name, held)
            self._post(Loaded(ready.replay.numbered()))
        except BaseException as error:  # noqa: BLE001 - the socket thread ends the scan with it
            self._post(Restored(error))

    def _load_main(self, name: str, held: storage.Coverage) -> None:
        def fetch(rect: Rect) -> npt.NDArray[Any]:
            rows, cols = rect.row_end - rect.row, rect.col_end - rect.col
            return self._store.fetch(name, rect.row, rows, rect.col, cols)

        self.mains[name].assembly.load_coverage(held.states, held.partial, fetch)
        self._complete.note(name, slice(0, len(held.states)), held.states == COMPLETE)

    def go_on_ending(self, decision: Decision) -> None:
        """End a scan whose end an earlier daemon had decided."""
        if decision.status in _FINISHED:  # the disk may have lost rows since, or had them back
            decision = replace(decision, status=self._finished_status())
        self._end(decision)

    # -- what others have to say

    def coverage(self) -> events.Coverage:
        """Return what each main holds."""
        return {
            name: events.MainCoverage(
                complete=np.array(parts.assembly.complete_ranges(), np.int64).reshape(-1, 2),
                partial=np.asarray(parts.assembly.partial_ranges(), np.int64).reshape(-1, 4),
            )
            for name, parts in self.mains.items()
        }

    def count_positions(self) -> int:
        """Return the number of positions complete in every main, as placed by now."""
        for name in self.mains:
            self._count_positions(name)
        return self._complete.count

    def measure(self) -> Measures:
        """Tell how far the scan has come."""
        return Measures(
            positions=self.count_positions(),
            gaps={name: gap for name, gap in self._complete.gaps.items() if gap},
            received_bytes=self._held_bytes(),
        )

    def flow(self) -> Flow:
        """Tell what has come through, from any thread: every number is a plain one."""
        writer = self._writer
        return Flow(
            positions=self._complete.count,
            held_bytes=self._held_bytes(),
            written_bytes=writer.written_bytes,
            encoded_bytes=writer.encoded_bytes,
            encode_s=writer.encode_s,
            underway_bytes=writer.nbytes,
            backlog_bytes=self.backlog_bytes,
        )

    def _held_bytes(self) -> int:
        mains = [parts.assembly for parts in self.mains.values()]
        return sum(main.covered_elements * main.dtype.itemsize for main in mains)

    def handle(self, outcome: Any) -> list[events.Event]:
        """Take what another thread had to say; return what the session should know."""
        told: list[events.Event] = []
        match outcome:
            case storage.TileWritten(token=token, chunks=chunks):
                self._writer.on_written(token, chunks)
            case storage.Journalled(token=Run.ENDING):
                pass  # the decision is on its way behind it
            case storage.Journalled(token=Overtaken(tiles=tiles)):
                self._on_overtaken_ledgered(tiles)
            case storage.Journalled(segment=segment):
                told = self._commits.on_journalled(segment)
            case storage.FinaliseRecorded() if self._ending is not None:
                self._on_end_recorded(self._ending)
            case storage.JournalClosed() if self._ending is not None:
                self._ending.end_file()
            case storage.Committed(token=Run.CHECKPOINT):
                self._on_flushed()
            case Loaded(replay=replay):
                self._replay = iter(replay)
            case EncodeFailed(error=error):
                told = [events.StoreFailed(error=as_failure(error))]
            case EncoderLetGo(token=token):
                self._writer.on_let_go(token)
        return told

    def close(self) -> None:
        """Give all memory back; nothing more is placed.

        What codec threads read at this moment comes back by `handle`.
        """
        self._queue.clear()
        self._current = self._replaying = self._replay = None
        self._writer.close()
        for parts in self.mains.values():
            parts.assembly.close()


def _settled(
    peer: bytes, block: wire.Block, error: UsidstreamError | None = None
) -> events.Settled:
    nbytes = sum(len(frame) for frame in block.frames)
    return events.Settled(peer=peer, seq=block.seq, nbytes=nbytes, error=error)


def as_failure(error: BaseException) -> UsidstreamError:
    """Return what ends a scan: the error itself, or a fault of this program in its terms."""
    if isinstance(error, UsidstreamError):
        return error
    return UsidstreamError(f"{type(error).__name__}: {error}", code="storage_failed")
