"""What is on its way into the file bounds what is placed: memory stays flat, acks stay quick."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import numpy as np
import pytest

from usidstream import Dimension, MainLayout, ScanLayout, wire
from usidstreamd.assembly import Assembly, BufferPool, MemoryScratch, assembly, make_grid
from usidstreamd.codecs import choose
from usidstreamd.pipeline import MainParts, ScanPipeline, scan_pipeline
from usidstreamd.pipeline.tiles import EncoderLetGo
from usidstreamd.session import events
from usidstreamd.storage import ChunkAddress, TileWritten

LAYOUT = ScanLayout(
    positions=[Dimension("X", "um", 4), Dimension("Y", "um", 4)],
    mains=[MainLayout("Height", "Height", "nm", "int16", chunks=(4, 1))],
)

WAIT_S = 60.0


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

    def __init__(self, underway_bytes: int = 1 << 20, pool: BufferPool | None = None) -> None:
        main = LAYOUT.mains[0]
        grid = make_grid(main, LAYOUT.n_positions, None)
        assembly = Assembly(
            "Height",
            grid,
            main.np_dtype,
            pool or BufferPool(1 << 20),
            MemoryScratch(grid.tile_elements * 2),
        )
        parts = MainParts(assembly, choose("none", None, main.np_dtype), (4, 1))
        self.store, self.journal, self.encoders = Later(), Later(), Later()
        self.posted: list[Any] = []
        self.pipeline = ScanPipeline(
            LAYOUT,
            {"Height": parts},
            store=self.store,  # type: ignore[arg-type]
            journal=self.journal,  # type: ignore[arg-type]
            encoders=self.encoders,  # type: ignore[arg-type]
            post=self.posted.append,
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


def test_memory_that_a_failed_scan_left_with_a_codec_thread_goes_to_the_next_scan_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = BufferPool(8)  # a single tile
    failed, following = Line(pool=pool), Line(pool=pool)
    has_begun, may_go_on = threading.Event(), threading.Event()

    def encode(chunk: Any, *_: Any) -> bytes:
        has_begun.set()
        assert may_go_on.wait(WAIT_S)
        return bytes(chunk)

    monkeypatch.setattr(failed.pipeline.mains["Height"].codec, "encode", encode)
    failed.place(1, row=0)
    assert failed.settled() == [1]
    thread = threading.Thread(target=failed.encoders.run_all)
    thread.start()
    assert has_begun.wait(WAIT_S)
    failed.pipeline.close()
    following.place(1, row=0)
    assert following.settled() == []
    may_go_on.set()
    thread.join(WAIT_S)
    assert [type(told) for told in failed.posted] == [EncoderLetGo]
    assert failed.pipeline.handle(failed.posted[0]) == []
    assert following.settled() == [1]
    following.pipeline.close()
    assert pool.in_use_bytes == 0
