"""Sizes and order of dimensions from indices alone, against counting everything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.usid_files import grid_indices
from usidstreamd.h5usid import arrangement as arrangements
from usidstreamd.h5usid.arrangement import fully_confirmed, infer_arrangement


def reader(rows):
    return lambda start, stop: rows[start:stop]


def infer(rows):
    return infer_arrangement(reader(rows), len(rows), rows.shape[1])


def counted(rows):
    """Count different indices, and changes from row to row, as pyUSID does."""
    sizes = [len(np.unique(column)) for column in rows.T]
    changes = [np.count_nonzero(column != np.roll(column, 1)) for column in rows.T]
    return sizes, changes


@st.composite
def tables_of_indices(draw):
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    order = draw(st.permutations(range(len(sizes))))
    rows = grid_indices(*sizes)[:, order]
    kind = draw(st.sampled_from(["grid", "offset", "gaps", "backwards", "cut", "shuffled"]))
    if kind == "offset":
        rows = rows + draw(st.integers(1, 9))
    elif kind == "gaps":
        rows = rows * 3 + 1
    elif kind == "backwards":
        rows = rows.max(axis=0) - rows
    elif kind == "cut":
        rows = rows[: draw(st.integers(1, len(rows)))]
    elif kind == "shuffled":
        rows = rows[np.random.default_rng(draw(st.integers(0, 99))).permutation(len(rows))]
    return kind, rows


@given(tables_of_indices())
def test_sizes_and_order_are_those_of_a_full_count(case):
    kind, rows = case
    found = infer(rows)
    sizes, changes = counted(rows)
    assert found.sizes == sizes
    assert sorted(found.fast_to_slow) == list(range(len(sizes)))
    if kind in ("grid", "offset", "gaps", "backwards"):
        assert found.is_grid
        ordered = [changes[column] for column in found.fast_to_slow]
        assert ordered == sorted(ordered, reverse=True)
    assert found.is_grid == (len(np.unique(rows, axis=0)) == len(rows) == np.prod(sizes))
    if found.is_grid:
        cells = np.arange(len(rows))
        ordered = rows if found.rows is None else rows[found.rows]
        for column, unit in enumerate(found.unit_indices):
            steps = cells // found.strides[column] % found.sizes[column]
            assert (unit[steps] == ordered[:, column]).all()


def test_a_table_of_positions_is_no_grid():
    found = infer(np.tile(np.arange(1000)[:, None], (1, 3)))
    assert (found.sizes, found.is_grid, found.unit_indices) == ([1000] * 3, False, [])


def test_a_single_dimension_is_a_grid_and_no_table():
    assert infer(np.arange(7)[:, None]).is_grid


def test_a_serpentine_order_is_a_grid_too():
    rows = grid_indices(4, 3)
    rows[4:8, 0] = rows[4:8, 0][::-1]
    found = infer(rows)
    assert found.is_grid
    assert found.rows.tolist() == [0, 1, 2, 3, 7, 6, 5, 4, 8, 9, 10, 11]


def test_a_grid_with_a_position_twice_is_none():
    rows = grid_indices(4, 3)
    rows[4] = rows[5]
    found = infer(rows)
    assert "others never" in found.gap
    assert (found.unit_indices, found.rows) == ([], None)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i8", "f4", "f8"])
def test_indices_may_be_of_any_type(dtype):
    assert infer(grid_indices(4, 3).astype(dtype)).sizes == [4, 3]


def test_large_grids_are_sampled_and_confirmed_later(monkeypatch):
    rows = grid_indices(50, 40)
    monkeypatch.setattr(arrangements, "FULL_CHECK_ROWS", 100)
    monkeypatch.setattr(arrangements, "SAMPLE_ROWS", 10)
    monkeypatch.setattr(arrangements, "SAMPLES", 4)
    found = infer(rows)
    assert (found.sizes, found.sampled) == ([50, 40], True)
    assert fully_confirmed(found, reader(rows))
    rows[1234] = 0
    assert infer(rows).sizes == [50, 40]
    assert not fully_confirmed(found, reader(rows))


def test_few_rows_of_a_large_grid_are_read():
    sizes = (5000, 4000)
    read_rows = 0

    def read(start, stop):
        nonlocal read_rows
        read_rows += stop - start
        return np.stack(np.unravel_index(np.arange(start, stop), sizes, order="F"), axis=1)

    found = infer_arrangement(read, 20_000_000, 2)
    assert (found.sizes, found.fast_to_slow) == ([5000, 4000], [0, 1])
    assert read_rows < 200_000
