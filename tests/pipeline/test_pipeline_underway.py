"""What is on its way into the file bounds what is placed: memory stays flat, acks stay quick."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from usidstream import Dimension, MainLayout, ScanLayout, wire
from usidstreamd.assembly import Assembly, BufferPool, MemoryScratch, assembly, make_grid
from usidstreamd.codecs import choose
from usidstreamd.pipeline import MainParts, ScanPipeline, scan_pipeline
from usidstreamd.session import events
from usidstreamd.storage import ChunkAddress, TileWritten

LAYOUT = ScanLayout(
    positions=[Dimension("X", "um", 4), Dimension("Y", "um", 4)],
    mains=[MainLayout("Height", "Height", "nm", "int16", chunks=(4, 1))],
)


class Later:
    """Stands for storage, journal and codec threads: keeps what it is given until it is told."""

    def __init__(self) -> None:
        self.kept: deque[Any] = deque()

    def submit(self, *call: Any) -> None:
        self.kept.append(call if len(call) > 1 else call[0])

    def run_all(self) -> None:
        while self.kept:
            function, *args = self.kept.popleft()
            function(*args)


class Line:
    """A pipeline whose threads are this test."""

    def __init__(self, underway_bytes: int = 1 << 20) -> None:
        main = LAYOUT.mains[0]
        grid = make_grid(main, LAYOUT.n_positions, None)
        assembly = Assembly(
            "Height",
            grid,
            main.np_dtype,
            BufferPool(1 << 20),
            MemoryScratch(grid.tile_elements * 2),
        )
        parts = MainParts(assembly, choose("none", None, main.np_dtype), (4, 1))
        self.store, self.journal, self.encoders = Later(), Later(), Later()
        posted: Callable[[Any], None] = [].append
        self.pipeline = ScanPipeline(
            LAYOUT,
            {"Height": parts},
            store=self.store,  # type: ignore[arg-type]
            journal=self.journal,  # type: ignore[arg-type]
            encoders=self.encoders,  # type: ignore[arg-type]
            post=posted,
            flush_interval_s=5.0,
            segment_bytes=1 << 20,
            underway_bytes=underway_bytes,
        )

    def place(self, seq: int, row: int, rows: int = 4) -> None:
        data = np.arange(rows, dtype="<i2").tobytes()
        crc = wire.block_crc(row, rows, 0, 1, [data])
        address = {"row": row, "rows": rows, "col": 0, "cols": 1}
        block = wire.Block(
            scan="0" * 32, main="Height", seq=seq, crc=crc, frames=(data,), **address
        )
        self.pipeline.place(b"peer", block)

    def settled(self) -> list[int]:
        return [e.seq for e in self.pipeline.advance() if isinstance(e, events.Settled)]

    def write_one(self) -> None:
        self.encoders.run_all()
        command = self.store.kept.popleft()
        chunks = [
            ChunkAddress(0, row, col, 1000 + row, len(payload), 7, True)
            for row, col, payload in command.chunks
        ]
        self.pipeline.handle(TileWritten(chunks=chunks, token=command.token))


@pytest.fixture
def line() -> Line:
    return Line()


def test_blocks_wait_while_more_than_the_limit_is_on_its_way() -> None:
    line = Line(underway_bytes=8)
    for seq in range(1, 5):
        line.place(seq, row=4 * (seq - 1))
    assert line.settled() == [1, 2], "one more than the limit is on its way"
    assert line.settled() == []
    line.write_one()
    assert line.settled() == [3]
    line.write_one()
    line.write_one()
    assert line.settled() == [4]


def test_no_more_tiles_are_on_their_way_than_the_disk_may_have_waiting(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_pipeline, "MAX_UNDERWAY_COUNT", 2)
    for seq in range(1, 5):
        line.place(seq, row=4 * (seq - 1))
    assert line.settled() == [1, 2]
    line.write_one()
    assert line.settled() == [3]


def test_a_block_of_many_tiles_is_placed_as_the_disk_takes_them(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_pipeline, "MAX_UNDERWAY_COUNT", 2)
    monkeypatch.setattr(assembly, "MAX_STEP_TILES_COUNT", 1)
    line.place(1, row=0, rows=16)
    for _ in range(2):
        assert line.settled() == [], "two of its four tiles are on their way"
        line.write_one()
    assert line.settled() == [1]


def test_a_tile_larger_than_the_limit_passes_when_it_is_alone() -> None:
    line = Line(underway_bytes=0)
    for seq in (1, 2):
        line.place(seq, row=4 * (seq - 1))
    assert line.settled() == [1]
    line.write_one()
    assert line.settled() == [2]
