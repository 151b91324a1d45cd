"""Blocks: cut to size, thinned out, and never with another element than they had."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usidstream import wire
from usidstream.delivery import Coverage, Payload, as_bytes, scattered

N, M = 40, 5


def place(blocks: list[Payload]) -> np.ndarray[Any, Any]:
    """Write blocks in an array as a daemon would; each element at most once."""
    main = np.zeros((N, M), dtype="<u2")
    for block in blocks:
        data = np.frombuffer(block.data, dtype="<u2").reshape(block.rows, block.cols)
        area = np.ix_(block.row_numbers(), np.arange(block.col, block.col + block.cols))
        assert not main[area].any()
        main[area] = data
    return main


def make(rows: Any, col: int = 0, cols: int = M, *, single: bool = False) -> Payload:
    data = np.arange(1, len(rows) * cols + 1, dtype="<u2").reshape(len(rows), cols)
    return scattered("Raw", rows, col, cols, data, single=single)


ROWS = st.lists(st.integers(0, N - 1), min_size=1, max_size=20, unique=True)


@given(ROWS, st.integers(2, 200))
def test_pieces_hold_what_the_block_held_and_fit(rows: list[int], limit: int) -> None:
    block = make(rows)
    pieces = list(block.split(limit))
    np.testing.assert_array_equal(place(pieces), place([block]))
    smallest = 2  # one element: less cannot be sent
    assert all(piece.nbytes <= max(limit, smallest) for piece in pieces)


@given(ROWS, st.data())
def test_rows_can_be_taken_out(rows: list[int], data: st.DataObject) -> None:
    block = make(rows, single=True)
    gone = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    rest = block.without(gone)
    if gone.all():
        assert rest is None
        return
    assert rest is not None
    assert rest.single
    expected = place([block])
    expected[np.array(rows)[gone]] = 0
    np.testing.assert_array_equal(place([rest]), expected)


def test_rows_that_follow_one_another_need_no_numbers() -> None:
    assert make([3, 4, 5]).numbers is None
    assert make([3, 4, 5]).row == 3
    assert make([3, 5, 4]).numbers is not None
    assert make([5, 4, 3]).row == 0
    assert make([7]).numbers is None


@pytest.mark.parametrize("rows", [[3, 4], [9, 2]])
def test_the_checksum_covers_address_and_frames(rows: list[int]) -> None:
    block = make(rows)
    address = (block.row, block.rows, block.col, block.cols)
    assert block.crc == wire.block_crc(*address, block.frames)
    assert block.nbytes == sum(memoryview(frame).nbytes for frame in block.frames)


def test_a_piece_of_a_scattered_row_names_its_row() -> None:
    pieces = list(make([9, 2]).split(6))
    assert [(p.row, p.rows, p.col, p.cols) for p in pieces] == [
        (9, 1, 0, 3), (9, 1, 3, 2), (2, 1, 0, 3), (2, 1, 3, 2),
    ]  # fmt: skip


def test_a_block_knows_whether_it_is_held() -> None:
    coverage = Coverage([(0, 4)], [(6, 7, 1, 3)])
    assert make([1, 3, 0]).held_by(coverage)
    assert not make([1, 4]).held_by(coverage)
    assert make([6], col=1, cols=2).held_by(coverage)
    assert not make([6], col=0, cols=2).held_by(coverage)


def test_addresses_read_well() -> None:
    assert make([4]).describe() == "main 'Raw', row 4, columns 0 to 4"
    assert make([4, 5]).describe() == "main 'Raw', rows 4 to 5, columns 0 to 4"
    assert make([8, 1]).describe() == "main 'Raw', rows 8, 1, columns 0 to 4"
    assert make([8, 1]).address() == {"main": "Raw", "row": 8, "rows": 2, "col": 0, "cols": 5}


def test_bytes_are_a_view() -> None:
    array = np.zeros((2, 3), dtype="<f4")
    view = as_bytes(array)
    array[1, 2] = 1.0
    assert view.nbytes == 24
    assert bytes(view[20:]) == array[1, 2].tobytes()
