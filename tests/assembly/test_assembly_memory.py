"""Buffers, parking and scratch: memory stays within its budget and nothing is lost on the way."""

from __future__ import annotations

import numpy as np
import pytest

from usidstreamd.assembly import Assembly, Block, BufferPool, MemoryScratch, Tile, TileGrid

GRID = TileGrid(64, 8, chunk_rows=16, chunk_cols=4, tile_cols=8)
TILE_NBYTES = 16 * 8 * 4
DTYPE = np.dtype("<u4")


class CountingScratch(MemoryScratch):
    """Knows every access: (kind, slot, offset, bytes)."""

    def __init__(self) -> None:
        super().__init__(TILE_NBYTES)
        self.accesses: list[tuple[str, int, int, int]] = []

    def write(self, slot: int, offset: int, data: np.ndarray) -> None:
        self.accesses.append(("write", slot, offset, data.nbytes))
        super().write(slot, offset, data)

    def read_into(self, slot: int, offset: int, buffer: np.ndarray) -> None:
        self.accesses.append(("read", slot, offset, buffer.nbytes))
        super().read_into(slot, offset, buffer)


def assembly_of(
    pool: BufferPool, scratch: MemoryScratch | None = None, grid: TileGrid = GRID
) -> Assembly:
    return Assembly("Raw_Data", grid, DTYPE, pool, scratch or CountingScratch())


def rows_of(row: int, rows: int, col: int = 0, cols: int = 8) -> Block:
    """Return a block whose elements name their own place."""
    return Block(row, rows, col, cols, expected(row, rows)[:, col : col + cols].copy())


def expected(row: int, rows: int) -> np.ndarray:
    return np.arange(1 + 8 * row, 1 + 8 * (row + rows), dtype=DTYPE).reshape(rows, 8)


def place(assembly: Assembly, block: Block) -> list[Tile]:
    placement = assembly.begin(block, False)
    completed = placement.step()
    assert placement.done
    return completed


def parked_tiles(assembly: Assembly) -> list[int]:
    return [tile.index for tile in assembly.incomplete_tiles() if tile.parked]


def test_the_least_recently_used_tile_of_all_assemblies_is_parked() -> None:
    pool = BufferPool(3 * TILE_NBYTES)
    first, second = assembly_of(pool), assembly_of(pool)
    place(first, rows_of(0, 1))
    place(second, rows_of(0, 1))
    place(first, rows_of(16, 1))
    place(first, rows_of(1, 1))
    place(second, rows_of(48, 1))
    assert parked_tiles(first) == []
    assert parked_tiles(second) == [0]
    place(second, rows_of(16, 1))
    assert parked_tiles(first) == [1]


def test_a_parked_tile_takes_rows_in_place() -> None:
    scratch = CountingScratch()
    assembly = assembly_of(BufferPool(TILE_NBYTES), scratch)
    place(assembly, rows_of(0, 2))
    place(assembly, rows_of(16, 1))
    assert scratch.accesses == [("write", 0, 0, 2 * 32)]
    del scratch.accesses[:]
    place(assembly, rows_of(9, 3))
    place(assembly, rows_of(5, 2, col=2, cols=3))
    assert scratch.accesses == [
        ("write", 0, 9 * 32, 3 * 32),
        ("write", 0, 5 * 32 + 8, 12),
        ("write", 0, 6 * 32 + 8, 12),
    ]


def test_scattered_rows_of_a_parked_tile_are_a_write_for_each_run() -> None:
    scratch = CountingScratch()
    assembly = assembly_of(BufferPool(TILE_NBYTES), scratch)
    place(assembly, rows_of(0, 1))
    place(assembly, rows_of(16, 1))
    del scratch.accesses[:]
    rows = np.array([12, 3, 4, 5], np.uint64)
    data = np.concatenate([expected(12, 1), expected(3, 3)])
    place(assembly, Block(0, 4, 0, 8, data, rows))
    assert scratch.accesses == [("write", 0, 3 * 32, 96), ("write", 0, 12 * 32, 32)]


def test_many_narrow_pieces_rewrite_their_lines_at_once() -> None:
    grid = TileGrid(1024, 8, chunk_rows=256, chunk_cols=8, tile_cols=8)
    scratch = CountingScratch()
    scratch.slot_nbytes = 256 * 32
    assembly = assembly_of(BufferPool(256 * 32), scratch, grid)
    for row in (0, 256):
        place(assembly, rows_of(row, 1))
    del scratch.accesses[:]
    place(assembly, rows_of(10, 200, col=1, cols=1))
    assert scratch.accesses == [("read", 0, 320, 6400), ("write", 0, 320, 6400)]


def test_a_parked_tile_is_read_back_once_when_it_completes() -> None:
    scratch = CountingScratch()
    assembly = assembly_of(BufferPool(TILE_NBYTES), scratch)
    place(assembly, rows_of(0, 8))
    place(assembly, rows_of(20, 1))
    place(assembly, rows_of(8, 7))
    del scratch.accesses[:]
    (tile,) = place(assembly, rows_of(15, 1))
    assert scratch.accesses == [("write", 1, 4 * 32, 32), ("read", 0, 0, TILE_NBYTES)]
    assert list(scratch.slots) == [1]
    np.testing.assert_array_equal(tile.array, expected(0, 16))


def test_slots_are_numbered_from_the_lowest() -> None:
    scratch = CountingScratch()
    grid = TileGrid(96, 8, chunk_rows=16, chunk_cols=8, tile_cols=8)
    assembly = assembly_of(BufferPool(TILE_NBYTES), scratch, grid)
    for row in (0, 16, 32, 48):
        place(assembly, rows_of(row, 1))
    assert sorted(scratch.slots) == [0, 1, 2]
    (tile,) = place(assembly, rows_of(17, 15))
    assembly.release(tile)
    assert sorted(scratch.slots) == [0, 2, 3]
    (tile,) = place(assembly, rows_of(1, 15))
    assembly.release(tile)
    assert sorted(scratch.slots) == [2, 3]
    for row in (64, 80):
        place(assembly, rows_of(row, 1))
    assert sorted(scratch.slots) == [0, 2, 3]


def test_only_what_is_held_is_parked() -> None:
    scratch = CountingScratch()
    assembly = assembly_of(BufferPool(TILE_NBYTES), scratch)
    place(assembly, Block(0, 3, 0, 8, expected(0, 3), np.array([2, 3, 11], np.uint64)))
    place(assembly, rows_of(16, 1))
    assert scratch.accesses == [("write", 0, 64, 64), ("write", 0, 352, 32)]


def test_a_block_is_taken_as_far_as_there_are_buffers() -> None:
    pool = BufferPool(2 * TILE_NBYTES)
    assembly = assembly_of(pool)
    placement = assembly.begin(rows_of(0, 64), False)
    completed = placement.step()
    assert [tile.index for tile in completed] == [0, 1]
    assert not placement.done
    assert placement.step() == []
    assert placement.newly_covered == assembly.covered_elements == 2 * 128
    assert assembly.complete_ranges() == [(0, 32)]
    assembly.release(completed[1])
    assert [tile.index for tile in placement.step()] == [2]
    assembly.release(completed[0])
    assert [tile.index for tile in placement.step()] == [3]
    assert placement.done
    assert assembly.missing_ranges() == []


def test_a_parked_tile_that_completes_waits_for_a_buffer() -> None:
    pool = BufferPool(TILE_NBYTES)
    assembly = assembly_of(pool)
    place(assembly, rows_of(0, 15))
    (tile,) = place(assembly, rows_of(16, 16))
    placement = assembly.begin(rows_of(15, 1), False)
    assert placement.step() == []
    assert not placement.done
    assert assembly.positions_state(15, 16).tolist() == [0]
    assembly.release(tile)
    (tile,) = placement.step()
    np.testing.assert_array_equal(tile.array, expected(0, 16))


def test_a_tile_larger_than_the_budget_is_granted_alone() -> None:
    pool = BufferPool(TILE_NBYTES // 2)
    assembly = assembly_of(pool)
    for row in range(0, 64, 16):
        place(assembly, rows_of(row, 15))
        assert pool.in_use_bytes == TILE_NBYTES
    (tile,) = place(assembly, rows_of(15, 1))
    placement = assembly.begin(rows_of(31, 1), False)
    assert placement.step() == []
    assert not placement.done
    assembly.release(tile)
    assert len(placement.step()) == 1


def test_buffers_are_used_again_and_other_sizes_give_way() -> None:
    pool = BufferPool(100)
    first = pool.take(60)
    pool.give(first)
    assert pool.take(60) is first
    assert pool.take(41) is None
    small = pool.take(40)
    assert small is not None
    pool.give(first)
    pool.give(small)
    large = pool.take(100)
    assert large is not None
    assert pool.in_use_bytes == 100
    pool.give(large)
    again = pool.take(60)
    assert again is not None
    assert again is not first


def test_a_buffer_over_the_budget_is_not_kept() -> None:
    pool = BufferPool(50)
    over = pool.take(80)
    assert over is not None
    pool.give(over)
    assert pool.take(80) is not over


def test_a_snapshot_of_an_open_and_of_a_parked_tile() -> None:
    assembly = assembly_of(BufferPool(TILE_NBYTES))
    garbage = rows_of(0, 16)
    (tile,) = place(assembly, garbage)
    assembly.release(tile)
    place(assembly, rows_of(20, 2))
    place(assembly, rows_of(25, 1, col=3, cols=2))
    half = np.zeros((16, 8), DTYPE)
    half[4:6] = expected(20, 2)
    half[9, 3:5] = expected(25, 1)[0, 3:5]
    (tile,) = assembly.incomplete_tiles()
    copy = tile.snapshot()
    place(assembly, rows_of(30, 1))
    np.testing.assert_array_equal(copy, half)
    half[14] = expected(30, 1)
    place(assembly, rows_of(40, 1))
    assert tile.parked
    np.testing.assert_array_equal(tile.snapshot(), half)
    place(assembly, rows_of(16, 4))
    half[:4] = expected(16, 4)
    copy = tile.snapshot()
    np.testing.assert_array_equal(copy, half)
    place(assembly, rows_of(22, 3))
    np.testing.assert_array_equal(copy, half)


def test_a_full_disk_loses_nothing() -> None:
    scratch = CountingScratch()
    assembly = assembly_of(BufferPool(TILE_NBYTES), scratch)
    place(assembly, rows_of(0, 8))
    write = scratch.write

    def no_space(slot: int, offset: int, data: np.ndarray) -> None:
        raise OSError(28, "No space left on device")

    scratch.write = no_space
    placement = assembly.begin(rows_of(16, 1), False)
    for _ in range(3):
        with pytest.raises(OSError, match="No space"):
            placement.step()
    assert assembly.covered_elements == 64
    assert parked_tiles(assembly) == []
    scratch.write = write
    assert placement.step() == []
    assert placement.done
    assert list(scratch.slots) == [0]
    (tile,) = place(assembly, rows_of(8, 8))
    np.testing.assert_array_equal(tile.array, expected(0, 16))


def test_a_full_disk_of_one_scan_does_not_stop_another() -> None:
    pool = BufferPool(2 * TILE_NBYTES)
    first, second = assembly_of(pool, broken := CountingScratch()), assembly_of(pool)
    place(first, rows_of(0, 1))
    place(second, rows_of(0, 1))

    def no_space(slot: int, offset: int, data: np.ndarray) -> None:
        raise OSError(28, "No space left on device")

    broken.write = no_space
    place(second, rows_of(16, 1))
    assert parked_tiles(first) == []
    assert parked_tiles(second) == [0]


def test_a_scratch_that_cannot_be_read_keeps_the_tile_parked() -> None:
    scratch, pool = CountingScratch(), BufferPool(TILE_NBYTES)
    assembly = assembly_of(pool, scratch)
    place(assembly, rows_of(0, 15))
    place(assembly, rows_of(16, 1))
    read_into = scratch.read_into

    def broken(slot: int, offset: int, buffer: np.ndarray) -> None:
        raise OSError(5, "Input/output error")

    scratch.read_into = broken
    placement = assembly.begin(rows_of(15, 1), False)
    with pytest.raises(OSError, match="Input/output"):
        placement.step()
    assert pool.in_use_bytes == 0
    scratch.read_into = read_into
    (tile,) = placement.step()
    np.testing.assert_array_equal(tile.array, expected(0, 16))


def test_tiles_completed_before_an_error_are_handed_out_after_it() -> None:
    scratch = CountingScratch()
    pool = BufferPool(2 * TILE_NBYTES)
    assembly = assembly_of(pool, scratch)
    place(assembly, rows_of(48, 1))

    def no_space(slot: int, offset: int, data: np.ndarray) -> None:
        raise OSError(28, "No space left on device")

    write, scratch.write = scratch.write, no_space
    placement = assembly.begin(rows_of(0, 32), False)
    with pytest.raises(OSError, match="No space"):
        placement.step()
    scratch.write = write
    assert [tile.index for tile in placement.step()] == [0, 1]


def test_closing_gives_everything_back_but_complete_tiles() -> None:
    scratch, pool = CountingScratch(), BufferPool(2 * TILE_NBYTES)
    assembly, other = assembly_of(pool, scratch), assembly_of(pool)
    (tile,) = place(assembly, rows_of(0, 16))
    for row in (16, 32, 48):
        place(assembly, rows_of(row, 1))
    assembly.close()
    assert not scratch.slots
    assert pool.in_use_bytes == TILE_NBYTES
    np.testing.assert_array_equal(tile.array, expected(0, 16))
    assembly.release(tile)
    assert pool.in_use_bytes == 0
    with pytest.raises(ValueError, match="released"):
        assembly.release(tile)
    place(other, rows_of(0, 1))
    place(other, rows_of(16, 1))


@pytest.mark.parametrize("order", ["rows", "columns"])
def test_a_scan_in_random_order_larger_than_memory(order: str) -> None:
    n_rows, n_cols = 4096, 32
    tile = {"tile_cols": 32} if order == "rows" else {"tile_cols": 2, "tile_rows": 4096}
    grid = TileGrid(n_rows, n_cols, chunk_rows=128, chunk_cols=2, order=order, **tile)
    rng = np.random.default_rng(7)
    data = rng.integers(1, 2**32, (n_rows, n_cols), DTYPE)
    tile_nbytes = grid.tile_elements * 4
    pool = BufferPool(3 * tile_nbytes)
    assembly = Assembly("Raw_Data", grid, DTYPE, pool, MemoryScratch(tile_nbytes))
    file = np.zeros_like(data)
    for numbers in np.array_split(rng.permutation(n_rows), 300):
        block = Block(0, len(numbers), 0, n_cols, data[numbers], numbers.astype(np.uint64))
        placement = assembly.begin(block, False)
        while not placement.done:
            for tile in placement.step():
                rect = tile.rect
                file[rect.row : rect.row_end, rect.col : rect.col_end] = tile.array
                assembly.release(tile)
            assert pool.in_use_bytes <= pool.budget_bytes
    np.testing.assert_array_equal(file, data)
    assert assembly.complete_ranges() == [(0, n_rows)]
