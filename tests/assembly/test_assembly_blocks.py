"""Blocks that are refused, and what a refusal tells."""

from __future__ import annotations

import numpy as np
import pytest

from usidstream.errors import BlockError
from usidstreamd.assembly import (
    MAX_RANGES,
    AlreadyCovered,
    Assembly,
    Block,
    BufferPool,
    MemoryScratch,
    Rect,
    TileGrid,
)

GRID = TileGrid(20, 12, chunk_rows=5, chunk_cols=4, tile_cols=12)


def assembly_of(
    grid: TileGrid = GRID, dtype: str = "int16", budget_bytes: int = 1 << 20
) -> Assembly:
    dtype = np.dtype("int16")
    scratch = MemoryScratch(grid.tile_elements * dtype.itemsize)
    return Assembly("Height", grid, dtype, BufferPool(1 << 20), scratch)


def place(assembly: Assembly, block: Block, again: bool = False) -> list:
    placement = assembly.begin(block, again)
    completed = placement.step()
    assert placement.done
    return completed


def ones(rows: int, cols: int) -> np.ndarray:
    return np.ones((rows, cols), "int16")


def numbers(*rows: int) -> np.ndarray:
    return np.array(rows, np.uint64)


@pytest.mark.parametrize(
    ("block", "code", "named"),
    [
        (Block(0, 0, 0, 12, b""), "bad_shape", "0 rows x 12 columns"),
        (Block(0, 1, 0, -1, b""), "bad_shape", "1 rows x -1 columns"),
        (Block(0, 1, 0, 12, b"\0" * 23), "bad_shape", "23 bytes"),
        (Block(0, 1, 0, 12, b""), "bad_shape", "0 bytes"),
        (Block(-1, 1, 0, 12, ones(1, 12)), "out_of_bounds", "rows -1 to 0 of 20"),
        (Block(19, 2, 0, 12, ones(2, 12)), "out_of_bounds", "rows 19 to 21 of 20"),
        (Block(2**64 - 1, 1, 0, 12, ones(1, 12)), "out_of_bounds", "of 20"),
        (Block(0, 1, 8, 5, ones(1, 5)), "out_of_bounds", "columns 8 to 13 of 12"),
        (Block(0, 1, -1, 2, ones(1, 2)), "out_of_bounds", "columns -1 to 1 of 12"),
        (Block(0, 2, 0, 12, ones(2, 12), numbers(3, 20)), "out_of_bounds", "row 20 of 20"),
        (Block(0, 1, 0, 12, ones(1, 12), numbers(2**63)), "out_of_bounds", "row 92233"),
        (Block(0, 2, 0, 12, ones(2, 12), numbers(3)), "bad_shape", "1 row numbers for 2"),
        (Block(0, 3, 0, 12, ones(3, 12), numbers(7, 3, 7)), "bad_shape", "row 7 occurs twice"),
        (Block(0, 2, 0, 12, ones(2, 12), numbers(4, 4)), "bad_shape", "row 4 occurs twice"),
    ],
)  # fmt: skip
def test_a_block_that_does_not_fit_is_refused_and_leaves_nothing(
    block: Block, code: str, named: str
) -> None:
    assembly = assembly_of()
    with pytest.raises(BlockError, match=named) as refused:
        assembly.begin(block, False)
    assert isinstance(refused.value, ValueError)
    assert refused.value.code == code
    assert refused.value.details["main"] == "Height"
    assert refused.value.details["rows"] == block.rows
    assert assembly.covered_elements == 0
    assert place(assembly, Block(0, 20, 0, 12, ones(20, 12)))


def test_a_refusal_names_what_is_covered_and_nothing_else() -> None:
    assembly = assembly_of()
    place(assembly, Block(3, 4, 0, 12, ones(4, 12)))
    place(assembly, Block(9, 1, 2, 3, ones(1, 3)))
    with pytest.raises(AlreadyCovered, match="'Height'") as refused:
        assembly.begin(Block(4, 8, 1, 3, ones(8, 3)), False)
    assert refused.value.code == "already_covered"
    assert not refused.value.retryable
    assert refused.value.ranges == [Rect(4, 5, 1, 4), Rect(5, 7, 1, 4), Rect(9, 10, 2, 4)]
    assert refused.value.details["ranges"] == [list(rect) for rect in refused.value.ranges]
    assert assembly.covered_elements == 4 * 12 + 3


def test_a_refusal_names_a_complete_tile() -> None:
    assembly = assembly_of()
    (tile,) = place(assembly, Block(5, 5, 0, 12, ones(5, 12)))
    with pytest.raises(AlreadyCovered) as refused:
        assembly.begin(Block(0, 2, 3, 1, ones(2, 1), numbers(0, 7)), False)
    assert refused.value.ranges == [Rect(7, 8, 3, 4)]
    np.testing.assert_array_equal(tile.array, ones(5, 12))
    assembly.release(tile)


def test_a_refusal_is_no_longer_than_it_may_be() -> None:
    grid = TileGrid(4 * MAX_RANGES, 2, chunk_rows=8, chunk_cols=2, tile_cols=2)
    assembly = assembly_of(grid)
    n_rows = 2 * MAX_RANGES
    rows = np.arange(0, 2 * n_rows, 2, np.uint64)
    place(assembly, Block(0, n_rows, 0, 2, ones(n_rows, 2), rows))
    with pytest.raises(AlreadyCovered) as refused:
        assembly.begin(Block(0, 2 * n_rows, 0, 2, ones(2 * n_rows, 2)), False)
    assert refused.value.ranges == [Rect(2 * k, 2 * k + 1, 0, 2) for k in range(MAX_RANGES)]


def test_one_element_too_many_refuses_the_whole_block() -> None:
    assembly = assembly_of()
    place(assembly, Block(19, 1, 11, 1, ones(1, 1)))
    with pytest.raises(AlreadyCovered):
        assembly.begin(Block(0, 20, 0, 12, 7 * ones(20, 12)), False)
    assert assembly.covered_elements == 1
    assert [tile.rect for tile in assembly.incomplete_tiles()] == [Rect(15, 20, 0, 12)]


def test_again_fills_only_what_is_missing() -> None:
    assembly = assembly_of()
    place(assembly, Block(1, 2, 3, 4, 5 * ones(2, 4)))
    placement = assembly.begin(Block(0, 5, 0, 12, 9 * ones(5, 12)), True)
    (tile,) = placement.step()
    assert placement.newly_covered == 5 * 12 - 2 * 4
    expected = 9 * ones(5, 12)
    expected[1:3, 3:7] = 5
    np.testing.assert_array_equal(tile.array, expected)
    assembly.release(tile)
    placement = assembly.begin(Block(0, 5, 0, 12, 1 * ones(5, 12)), True)
    assert placement.step() == []
    assert placement.done
    assert placement.newly_covered == 0


def test_a_second_block_waits_for_the_first() -> None:
    assembly = assembly_of()
    placement = assembly.begin(Block(0, 1, 0, 12, ones(1, 12)), False)
    with pytest.raises(RuntimeError, match="not placed yet"):
        assembly.begin(Block(1, 1, 0, 12, ones(1, 12)), False)
    placement.step()
    place(assembly, Block(1, 1, 0, 12, ones(1, 12)))


def test_addresses_may_be_numpy_integers() -> None:
    """An address computed with numpy must not overflow in the wide patterns of columns."""
    grid = TileGrid(4, 200, chunk_rows=2, chunk_cols=200, tile_cols=200)
    assembly = assembly_of(grid)
    address = np.int64(1), np.int64(2), np.int64(90), np.int64(3)
    place(assembly, Block(*address, ones(2, 3)))
    assert assembly.partial_ranges().tolist() == [[1, 3, 90, 93]]


@pytest.mark.parametrize("as_payload", [bytes, bytearray, memoryview, np.array])
def test_a_payload_is_any_contiguous_buffer(as_payload: type) -> None:
    elements = np.arange(24, dtype="int16").reshape(2, 12)
    assembly = assembly_of(TileGrid(2, 12, 2, 12, 12))
    payload = as_payload(elements if as_payload is np.array else elements.tobytes())
    (tile,) = place(assembly, Block(0, 2, 0, 12, payload))
    np.testing.assert_array_equal(tile.array, elements)


def test_ranges_join_where_the_search_for_them_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usidstreamd.assembly.summary.SLAB_POSITIONS", 4)
    assembly = assembly_of()
    place(assembly, Block(2, 11, 0, 12, ones(11, 12)))
    assert assembly.complete_ranges() == [(2, 13)]
    assert assembly.missing_ranges() == [(0, 2), (13, 20)]


def test_coverage_that_does_not_fit_is_not_loaded() -> None:
    none = np.zeros((0, 4), np.int64)
    for states, ranges, named in (
        (np.zeros(19, np.uint8), none, "states of shape"),
        (np.zeros(20, np.uint8), np.zeros((1, 3), np.int64), "ranges of shape"),
        (np.full(20, 2, np.uint8), np.array([[0, 21, 0, 1]]), "do not lie in"),
        (np.full(20, 2, np.uint8), np.array([[3, 3, 0, 1]]), "do not lie in"),
        (np.full(20, 2, np.uint8), np.array([[0, 2, 0, 3], [1, 3, 2, 4]]), "twice over"),
    ):
        with pytest.raises(ValueError, match=named):
            assembly_of().load_coverage(states, ranges, lambda _: pytest.fail("fetched"))
