"""One scan's data between the socket and its file: placed, encoded, stored, committed.

Runs in the socket thread and never waits: blocks are copied into tiles here, tiles go to the codec
pool and from there to the storage thread, and every outcome comes back through the mailbox to
`ScanPipeline.handle`. It knows what is under way for each tile, and so which writes a commit has
to wait for; it never knows sockets, messages' replies or the states of a scan.

Two rules keep the file right:

* A tile has at most one write under way. One that completes while a snapshot of it is being
  written is held back until the snapshot is in the file: old bytes never follow new ones.
* A commit covers the coverage as it stood when it began, and goes to the storage thread only when
  every tile that held any of it has been written.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from usidstream import wire
from usidstream.errors import UsidstreamError
from usidstream.layout import ScanLayout, check_attrs

from . import storage
from .assembly import Assembly, Block, Placement, Tile
from .codecs import Codec
from .session import events
from .storage import CoverageUpdate, StorageThread

MAX_SNAPSHOTS_COUNT = 4
"""Snapshots of incomplete tiles under way at once, each a copy of at most a tile."""

Post: TypeAlias = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class EncodeFailed:
    """A tile could not be encoded or handed to the storage thread."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Restored:
    """The coverage of a resumed scan is loaded."""

    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class MainParts:
    """A main's assembly, codec and HDF5 chunk shape."""

    assembly: Assembly
    codec: Codec
    chunks: tuple[int, int]


@dataclass(slots=True)
class _TileWrite:
    main: str
    tile: Tile
    is_complete: bool


@dataclass(slots=True)
class _CommitRun:
    marker: int
    updates: dict[str, CoverageUpdate]
    attrs: dict[str, Any]
    positions: int
    coverage: events.Coverage | None
    todo: deque[tuple[str, Tile]]
    waiting: set[int]
    snapshots: set[int] = field(default_factory=set)
    is_submitted: bool = False


class ScanPipeline:
    """The data path of one scan.

    Parameters
    ----------
    layout
        What the scan is.
    mains
        The parts of each main, by its name.
    store
        The thread that owns the file.
    encoders
        Where tiles are encoded.
    post
        Takes what other threads have to say to `handle`.
    """

    def __init__(
        self,
        layout: ScanLayout,
        mains: Mapping[str, MainParts],
        store: StorageThread,
        encoders: Executor,
        post: Post,
    ) -> None:
        self.layout = layout
        self.mains = mains
        self._store = store
        self._encoders = encoders
        self._post = post
        self._annotations: dict[str, Any] = {}
        self._queue: deque[tuple[bytes, wire.Block | wire.Annotate]] = deque()
        self._current: tuple[bytes, wire.Block, Placement] | None = None
        self._tokens = itertools.count(1)
        self._writes: dict[int, _TileWrite] = {}
        self._busy: dict[Tile, int] = {}
        self._held: set[Tile] = set()
        self._commit: _CommitRun | None = None
        self._complete_in = np.zeros(layout.n_positions, np.uint8)
        self._positions = 0
        self._states = {name: np.zeros(layout.n_positions, np.bool_) for name in mains}

    # -- blocks

    def place(self, peer: bytes, item: wire.Block | wire.Annotate) -> None:
        """Queue a block or annotation; `advance` places it as soon as there is memory."""
        self._queue.append((peer, item))

    def advance(self) -> list[events.Event]:
        """Place what is queued, in order, as far as there are buffers."""
        settled: list[events.Event] = []
        while self._current or self._queue:
            try:
                event = self._advance_one()
            except UsidstreamError as error:
                # The scratch failed, for a refused block never gets here: the scan cannot go on.
                self._queue.clear()
                self._current = None
                return [*settled, events.StoreFailed(error=error)]
            if event is None:
                break
            settled.append(event)
        return settled

    def _advance_one(self) -> events.Event | None:
        if self._current is None:
            peer, item = self._queue.popleft()
            if isinstance(item, wire.Annotate):
                return self._annotate(peer, item)
            try:
                placement = self._begin(item)
            except UsidstreamError as error:
                return _settled(peer, item, error)
            self._current = (peer, item, placement)
        peer, block, placement = self._current
        for tile in placement.step():
            self._completed(block.main, tile)
        if not placement.done:
            return None
        self._current = None
        return _settled(peer, block)

    def _annotate(self, peer: bytes, note: wire.Annotate) -> events.Settled:
        try:
            self._annotations |= read_attrs(note)
        except UsidstreamError as error:
            return events.Settled(peer=peer, seq=note.seq, nbytes=0, error=error)
        return events.Settled(peer=peer, seq=note.seq, nbytes=0)

    def _begin(self, block: wire.Block) -> Placement:
        numbers = None
        if len(block.frames) == 2:
            numbers = np.frombuffer(block.frames[0], dtype="<u8")
        address = (block.row, block.rows, block.col, block.cols)
        taken = Block(*address, memoryview(block.frames[-1]), numbers)
        return self.mains[block.main].assembly.begin(taken, again=block.again)

    # -- tiles

    def _completed(self, main: str, tile: Tile) -> None:
        if tile in self._busy:
            self._held.add(tile)
        else:
            self._write(main, tile, tile.array, is_complete=True)

    def _write(self, main: str, tile: Tile, data: npt.NDArray[Any], *, is_complete: bool) -> int:
        token = next(self._tokens)
        self._writes[token] = _TileWrite(main, tile, is_complete)
        self._busy[tile] = token
        if self._commit is not None and not self._commit.is_submitted:
            self._commit.waiting.add(token)
        self._encoders.submit(self._encode_and_store, token, main, tile, data)
        return token

    def _encode_and_store(self, token: int, main: str, tile: Tile, data: npt.NDArray[Any]) -> None:
        """Encode a tile's chunks and hand them over. Runs in a codec thread."""
        parts = self.mains[main]
        try:
            chunks = [
                (row, col, parts.codec.encode(chunk, parts.chunks, col))
                for (row, col), chunk in tile.chunks(data)
            ]
            self._store.submit(storage.WriteTile(main=main, chunks=chunks, token=token))
        except BaseException as error:  # noqa: BLE001 - the socket thread ends the scan with it
            self._post(EncodeFailed(error))

    def _on_written(self, token: int) -> None:
        write = self._writes.pop(token)
        del self._busy[write.tile]
        if write.is_complete:
            self.mains[write.main].assembly.release(write.tile)
        elif write.tile in self._held:
            self._held.remove(write.tile)
            self._write(write.main, write.tile, write.tile.array, is_complete=True)
        if self._commit is not None:
            self._commit.waiting.discard(token)
            self._commit.snapshots.discard(token)
            self._feed_commit(self._commit)

    # -- commits

    def begin_commit(self, marker: int, *, coverage: bool) -> None:
        """Start to make durable what has been placed."""
        attrs, self._annotations = self._annotations, {}
        updates = {name: self._take_update(name) for name in self.mains}
        dirty = [
            (name, tile)
            for name, parts in self.mains.items()
            for tile in parts.assembly.dirty_tiles()
        ]
        self._commit = _CommitRun(
            marker=marker,
            updates={name: update for name, update in updates.items() if update is not None},
            attrs=attrs,
            positions=self._positions,
            coverage=self.coverage() if coverage else None,
            todo=deque(dirty),
            waiting=set(self._writes),
        )
        self._feed_commit(self._commit)

    def _feed_commit(self, run: _CommitRun) -> None:
        for _ in range(len(run.todo)):
            if len(run.snapshots) >= MAX_SNAPSHOTS_COUNT:
                return
            main, tile = run.todo.popleft()
            if tile.complete:
                continue  # it was handed out whole meanwhile, and that write is waited for
            if tile in self._busy:
                run.todo.append((main, tile))
                continue
            token = self._write(main, tile, tile.snapshot(), is_complete=False)
            run.snapshots.add(token)
        if not run.todo and not run.waiting and not run.is_submitted:
            run.is_submitted = True
            self._store.submit(
                storage.Commit(updates=run.updates, attrs=run.attrs, token=run.marker)
            )

    def _take_update(self, main: str) -> CoverageUpdate | None:
        assembly = self.mains[main].assembly
        rows = assembly.take_dirty_rows()
        if rows is None:
            return None
        lo, hi = rows
        states = assembly.positions_state(lo, hi)
        self._count_positions(main, lo, states)
        return CoverageUpdate(lo=lo, states=states, partial=assembly.partial_ranges())

    def _count_positions(self, main: str, lo: int, states: npt.NDArray[np.uint8]) -> None:
        """Keep the number of positions complete in every main."""
        window = slice(lo, lo + len(states))
        complete = states == 1
        gained = complete & ~self._states[main][window]
        self._states[main][window] = complete
        self._complete_in[window] += gained
        self._positions += int(
            np.count_nonzero(gained & (self._complete_in[window] == len(self.mains)))
        )

    # -- the whole scan

    def coverage(self) -> events.Coverage:
        """Return what each main holds."""
        return {
            name: events.MainCoverage(
                complete=np.array(parts.assembly.complete_ranges(), np.int64).reshape(-1, 2),
                partial=np.asarray(parts.assembly.partial_ranges(), np.int64).reshape(-1, 4),
            )
            for name, parts in self.mains.items()
        }

    def restore(self, held: Mapping[str, storage.Coverage]) -> None:
        """Load the coverage of a resumed scan, in a codec thread; `Restored` is posted."""
        self._encoders.submit(self._restore, held)

    def _restore(self, held: Mapping[str, storage.Coverage]) -> None:
        try:
            for name, coverage in held.items():
                self._restore_main(name, coverage)
            self._post(Restored())
        except BaseException as error:  # noqa: BLE001 - the socket thread ends the scan with it
            self._post(Restored(error))

    def _restore_main(self, name: str, held: storage.Coverage) -> None:
        def fetch(rect: Any) -> npt.NDArray[Any]:
            rows, cols = rect.row_end - rect.row, rect.col_end - rect.col
            return self._store.fetch(name, rect.row, rows, rect.col, cols)

        assembly = self.mains[name].assembly
        assembly.load_coverage(held.states, held.partial, fetch)
        assembly.take_dirty_rows()
        self._count_positions(name, 0, np.asarray(held.states, np.uint8))

    @property
    def positions(self) -> int:
        """Positions complete in every main, as of the last commit."""
        return self._positions

    def finalise(self, ending: events.Ending, attrs: Mapping[str, Any]) -> None:
        """End the scan, after its last commit."""
        if ending is events.Ending.ABORT:
            status = "aborted"
        else:
            whole = all(
                parts.assembly.covered_elements == parts.assembly.total_elements
                for parts in self.mains.values()
            )
            status = "complete" if whole else "incomplete"
        self._store.submit(storage.Finalise(status=status, attrs=attrs))

    def close(self) -> None:
        """Give all memory back; nothing more is placed."""
        self._queue.clear()
        self._current = None
        for parts in self.mains.values():
            parts.assembly.close()

    def handle(self, outcome: Any) -> list[events.Event]:
        """Take what another thread had to say; return what the session should know."""
        match outcome:
            case storage.TileWritten(token=token):
                self._on_written(token)
            case storage.Committed(token=token):
                run, self._commit = self._commit, None
                if run is not None:
                    return [
                        events.Committed(
                            marker=token, positions=run.positions, coverage=run.coverage
                        )
                    ]
            case EncodeFailed(error=error):
                return [events.StoreFailed(error=as_failure(error))]
        return []


def read_attrs(message: wire.Annotate | wire.Finish) -> dict[str, Any]:
    """Return a message's attributes, checked.

    Raises
    ------
    LayoutError
        ``bad_attribute``: a name is the daemon's own, or a value cannot be stored.
    """
    attrs = check_attrs(wire.unpack_layout(message.attrs, message.frames))
    storage.refuse_reserved(attrs)
    return dict(attrs)


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
