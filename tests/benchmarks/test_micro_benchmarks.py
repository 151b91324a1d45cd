"""The parts of a chunk's way, each by itself.

The tests run each once, to see that it works; ``pytest tests/benchmarks --benchmark-enable`` times
them. Every benchmark also looks at its result, so that nothing is timed that does not work.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.journalled import JournalledScan
from support.storing import layout_of, main_of, plans_for
from usidstream import wire
from usidstream.delivery import REFUSED, Lane, MainShape
from usidstream.feeds import PRESETS, preset
from usidstreamd import codecs
from usidstreamd.assembly import Assembly, Block, BufferPool, MemoryScratch, make_grid
from usidstreamd.storage import JournalBlock
from usidstreamd.storage.chunktable import ChunkAddress

SCAN = "0123456789abcdef" * 2
ROWS, COLS = 256, 256
SPECTRA = np.random.default_rng(0).standard_normal((ROWS, COLS), dtype=np.float32)
POOL_BYTES = 64 << 20
MIB = 1 << 20


def block_message() -> wire.Block:
    frames = [SPECTRA.tobytes()]
    crc = wire.block_crc(0, ROWS, 0, COLS, frames)
    return wire.Block(
        scan=SCAN,
        main="Raw_Data",
        seq=1,
        row=0,
        rows=ROWS,
        col=0,
        cols=COLS,
        crc=crc,
        frames=frames,
    )


# ---------------------------------------------------------------- wire


def test_wire_encode_block(benchmark: Any) -> None:
    frames = benchmark(wire.encode, block_message())
    assert len(frames) == 2


def test_wire_decode_block(benchmark: Any) -> None:
    message = benchmark(wire.decode_client, wire.encode(block_message()))
    assert message.rows == ROWS


def test_wire_encode_ack(benchmark: Any) -> None:
    ack = wire.Ack(scan=SCAN, received=9, durable=8, credit=1 << 30, positions=2000)
    (header,) = benchmark(wire.encode, ack)
    assert wire.decode_daemon([header]) == ack


def test_wire_crc_of_256_kib(benchmark: Any) -> None:
    frames = [SPECTRA.tobytes()]
    assert benchmark(wire.block_crc, 0, ROWS, 0, COLS, frames) > 0


# ---------------------------------------------------------------- a pixel into its block


@pytest.mark.parametrize("cols", [1, COLS])
def test_lane_takes_a_pixel(benchmark: Any, cols: int) -> None:
    lane = Lane([MainShape("Raw_Data", 1 << 40, cols, np.dtype("<f4"))])
    spectrum: Any = SPECTRA[0] if cols > 1 else 1.5
    rows = itertools.count()

    def put() -> None:
        row = next(rows)
        if lane.put(row, spectrum) == REFUSED:
            lane.take()
            lane.begin(row, 1 << 40)
            lane.place(row, {"Raw_Data": spectrum})

    benchmark(put)
    assert lane.used > 0


# ---------------------------------------------------------------- assembly


@pytest.mark.parametrize("order", ["rows", "columns"])
def test_assembly_places_a_band(benchmark: Any, order: str) -> None:
    """One tile of 1 MiB in blocks of 64 KiB, by rows or by columns."""
    main = main_of(n=COLS, order=order, chunks=(1024, 64))
    grid = make_grid(main, 1024, None)
    table = np.tile(SPECTRA, (4, 1))
    if order == "rows":
        parts = [Block(row, 64, 0, COLS, table[row : row + 64]) for row in range(0, 1024, 64)]
    else:
        columns = [np.ascontiguousarray(table[:, col : col + 16]) for col in range(0, COLS, 16)]
        parts = [Block(0, 1024, 16 * k, 16, column) for k, column in enumerate(columns)]
    pool = BufferPool(POOL_BYTES)

    def fresh() -> tuple[tuple[Assembly], dict[str, Any]]:
        scratch = MemoryScratch(grid.tile_elements * 4)
        return (Assembly("Raw_Data", grid, main.np_dtype, pool, scratch),), {}

    def place(assembly: Assembly) -> Assembly:
        for part in parts:
            placement = assembly.begin(part, again=False)
            for tile in placement.step():
                assembly.release(tile)
        return assembly

    assembly = benchmark.pedantic(place, setup=fresh, rounds=50)
    assert assembly.covered_elements == 1024 * COLS
    assembly.close()


# ---------------------------------------------------------------- codecs


@cache
def one_chunk(name: str) -> tuple[Any, np.ndarray]:
    """Return a preset's first main and about 1 MiB of its rows."""
    feed = preset(name)
    main = feed.layout.mains[0]
    rows = min(feed.layout.n_positions, max(1, MIB // main.row_nbytes))
    return main, feed.values(main.name, np.arange(rows))


@pytest.mark.parametrize("compression", ["gzip", "bitshuffle-lz4", "none"])
@pytest.mark.parametrize("name", PRESETS)
def test_codec_encodes(benchmark: Any, name: str, compression: str) -> None:
    if compression == "bitshuffle-lz4":
        pytest.importorskip("hdf5plugin", reason="bitshuffle-lz4 needs hdf5plugin")
    main, chunk = one_chunk(name)
    codec = codecs.choose(compression, None, main.np_dtype)
    encoded = benchmark(codec.encode, chunk, chunk.shape)
    np.testing.assert_array_equal(codec.decode(encoded, chunk.shape), chunk)
    benchmark.extra_info["MB"] = chunk.nbytes / 1e6
    benchmark.extra_info["ratio"] = chunk.nbytes / len(encoded)


# ---------------------------------------------------------------- journal


@pytest.fixture
def scan(tmp_path: Path) -> Iterator[JournalledScan]:
    layout = layout_of(main_of(n=COLS), n_positions=4096)
    scan = JournalledScan(tmp_path, layout, plans_for(layout))
    scan.open()
    yield scan
    scan.h5_file.close()
    scan.journal.close(is_clean=True)


def test_journal_commits_rows(benchmark: Any, scan: JournalledScan) -> None:
    """256 KiB of rows, synced."""
    block = JournalBlock(0, 0, ROWS, 0, COLS, SPECTRA.tobytes())
    assert benchmark.pedantic(scan.journal.commit, ([], [block], {}), rounds=30) is not None


def test_journal_commits_chunk_addresses(benchmark: Any, scan: JournalledScan) -> None:
    """The addresses of 4 chunks, the file and the ledger synced."""
    rows = itertools.count(0, 16)

    def commit() -> int | None:
        row = next(rows)
        chunks = [ChunkAddress(0, row, col, 4096, 100, 7) for col in (0, 4, 8, 12)]
        return scan.journal.commit(chunks, [], {})

    assert benchmark.pedantic(commit, rounds=30) is None
