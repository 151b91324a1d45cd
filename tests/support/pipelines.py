"""A scan's pipeline over a real journal, with the threads' work done at once, in this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from support.journalled import JournalledScan
from support.storing import layout_of, main_of
from usidstream import wire
from usidstreamd import codecs, storage
from usidstreamd.assembly import Assembly, BufferPool, TileGrid
from usidstreamd.pipeline import MainParts, Restored, ScanPipeline
from usidstreamd.session import events
from usidstreamd.storage.held import held_coverage
from usidstreamd.storage.ledger import replay
from usidstreamd.storage.scan_journal import ScanJournal
from usidstreamd.storage.segments import RowReplay

MAIN = "Raw_Data"


class Inline:
    """Journal, store and codec threads that answer at once; chunks are only compared."""

    def __init__(self, journal: ScanJournal, data: npt.NDArray[Any], outcomes: deque[Any]) -> None:
        self.journal, self.data, self.outcomes = journal, data, outcomes
        self.journalled_bytes = 0

    def submit(self, command: Any, *args: Any) -> None:
        match command:
            case storage.JournalCommit():
                self.journalled_bytes += sum(block.nbytes for block in command.blocks)
                segment = self.journal.commit(command.chunks, command.blocks, command.attrs)
                self.outcomes.append(storage.Journalled(segment=segment, token=command.token))
            case storage.JournalCheckpoint():
                self.journal.checkpoint(command.first_segment)
            case storage.WriteTile():
                addresses = [self._write(*chunk) for chunk in command.chunks]
                self.outcomes.append(storage.TileWritten(chunks=addresses, token=command.token))
            case storage.Commit():
                self.outcomes.append(storage.Committed(token=command.token))
            case _:
                command(*args)

    def _write(self, row: int, col: int, payload: Any) -> storage.ChunkAddress:
        assert bytes(payload) == self.data[row:].tobytes()[: len(payload)]
        return storage.ChunkAddress(0, row, col, 4096 + row, len(payload), 7)


class Bench:
    """A scan of one float32 main in chunks of whole rows, begun or gone on with."""

    def __init__(
        self,
        data_dir: Path,
        data: npt.NDArray[np.float32],
        *,
        chunk_rows: int,
        segment_bytes: int,
        budget_bytes: int = 1 << 30,
    ) -> None:
        n_rows, n_cols = data.shape
        main = main_of(n=n_cols, compression="none")
        self.data, self.layout = data, layout_of(main, n_positions=n_rows)
        self.plans = {MAIN: storage.MainPlan((chunk_rows, n_cols), {})}
        self.directory = data_dir / "scan.h5.journal"
        is_new = not self.directory.exists()
        if is_new:
            JournalledScan(data_dir, self.layout, self.plans)
        self.journal = ScanJournal(self.directory, data_dir / "scan.h5", 0, segment_bytes)
        self.outcomes: deque[Any] = deque()
        self.threads: Any = Inline(self.journal, data, self.outcomes)
        grid = TileGrid(n_rows, n_cols, chunk_rows, n_cols, n_cols)
        self.scratch = storage.FileScratch(self.directory / "scratch-0", grid.tile_elements * 4)
        assembly = Assembly(MAIN, grid, data.dtype, BufferPool(budget_bytes), self.scratch)
        self.assembly = assembly
        codec = codecs.choose("none", None, data.dtype)
        self.pipeline = ScanPipeline(
            self.layout,
            {MAIN: MainParts(assembly, codec, (chunk_rows, n_cols))},
            store=self.threads,
            journal=self.threads,
            encoders=self.threads,
            post=self.outcomes.append,
            flush_interval_s=1e9,
            segment_bytes=segment_bytes,
            underway_bytes=1 << 20,
        )
        self.n_blocks = 0
        if not is_new:
            self._restore()

    def write(self, rows: npt.NDArray[np.intp], *, again: bool = False) -> None:
        """Place scattered rows."""
        self.n_blocks += 1
        address = {"row": 0, "rows": len(rows), "col": 0, "cols": self.data.shape[1], "crc": 0}
        block = wire.Block(
            scan="", main=MAIN, seq=self.n_blocks, again=again, **address,
            frames=(rows.astype("<u8").tobytes(), self.data[rows].tobytes()),
        )  # fmt: skip
        self.pipeline.place(b"", block)
        for told in self._pump():
            assert isinstance(told, events.Settled)
            assert told.error is None

    def commit(self) -> None:
        """Make durable what was placed."""
        self.pipeline.begin_commit(self.n_blocks, coverage=False)
        (told,) = self._pump()
        assert isinstance(told, events.Committed)

    def checkpoint(self) -> None:
        self.pipeline.tick(0.0)
        self.pipeline.tick(2e9)
        self._pump()

    def close(self) -> None:
        self.pipeline.close()
        self.scratch.close()
        self.journal.close(is_clean=False)

    @property
    def segments_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.directory.glob("rows-*"))

    @property
    def open_bytes(self) -> int:
        """Raw bytes of the tiles that are not complete."""
        return sum(tile.nbytes for tile in self.assembly.incomplete_tiles())

    @property
    def parked_bytes(self) -> int:
        """Size of the scratch file."""
        return self.scratch.path.stat().st_size if self.scratch.path.exists() else 0

    def _pump(self) -> list[events.Event]:
        told = self.pipeline.advance()
        while self.outcomes:
            outcome = self.outcomes.popleft()
            if not isinstance(outcome, Restored):
                told += self.pipeline.handle(outcome)
            told += self.pipeline.advance()
        return told

    def _restore(self) -> None:
        state = self.journal.state
        record = storage.OpenRecord.read(self.directory)
        ready = storage.Ready(
            record=record,
            coverage=held_coverage(self.layout, self.plans, state.chunks, state.partial),
            annotations={},
            replay=RowReplay(self.directory, state.first_segment),
            decision=None,
            journal=self.journal,
            resumed=True,
            recoveries=0,
            recovery=None,
            token=None,
        )
        self.pipeline.restore(ready)
        assert self._pump() == []
        assert ready.replay.faults == []


def durable_rows(directory: Path, data: npt.NDArray[Any], chunk_rows: int) -> npt.NDArray[np.bool_]:
    """Return which rows ledger and segments hold, each with its value, as the disk has them."""
    state = replay(directory / "ledger")
    held = np.zeros(len(data), np.bool_)
    for chunk in state.chunks:
        held[chunk.row : chunk.row + chunk_rows] = True
    rows = RowReplay(directory, state.first_segment)
    for numbers, values in _replayed_rows(rows, data):
        np.testing.assert_array_equal(values, data[numbers])
        held[numbers] = True
    assert rows.faults == []
    return held


def _replayed_rows(
    replayed: RowReplay, data: npt.NDArray[Any]
) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[Any]]]:
    for block in replayed:
        numbers = np.arange(block.row, block.row + block.rows)
        if block.numbers is not None:
            numbers = np.frombuffer(block.numbers, "<u8").astype(np.intp)
        assert (block.col, block.cols) == (0, data.shape[1])
        yield numbers, np.frombuffer(block.data, data.dtype).reshape(block.rows, block.cols)
