import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usidstreamd.verify import coverage


def table(*ranges):
    return np.array(ranges, np.int64).reshape(-1, 4)


@pytest.mark.parametrize(
    "ranges",
    [
        table(),
        table([0, 3, 0, 4]),
        table([0, 3, 0, 2], [0, 3, 5, 6], [3, 4, 1, 2], [7, 10, 0, 7]),
    ],
)
def test_ranges_in_order_are_sound(ranges):
    assert list(coverage.range_faults(ranges, 10, 8)) == []


@pytest.mark.parametrize(
    ("ranges", "fault"),
    [
        (table([3, 3, 0, 1]), "empty or outside"),
        (table([0, 1, 4, 4]), "empty or outside"),
        (table([-1, 1, 0, 1]), "empty or outside"),
        (table([0, 11, 0, 1]), "empty or outside"),
        (table([0, 1, 0, 9]), "empty or outside"),
        (table([0, 3, 0, 4], [0, 3, 3, 5]), "clash"),
        (table([0, 3, 0, 2], [0, 3, 2, 3]), "clash"),  # two that are one
        (table([0, 3, 0, 4], [2, 4, 0, 1]), "clash"),
        (table([5, 6, 0, 4], [0, 1, 0, 4]), "clash"),
        (table([0, 3, 0, 8]), "wholly"),
    ],
)
def test_ranges_that_cannot_be(ranges, fault):
    assert any(fault in found for found in coverage.range_faults(ranges, 10, 8))


@given(st.lists(st.lists(st.integers(0, 2), max_size=6), max_size=4))
def test_states_agree_with_the_ranges_made_from_them(blocks):
    states = [state for block in blocks for state in block]
    ranges = table(*([i, i + 1, 0, 1] for i, state in enumerate(states) if state == 2))
    arrays = [np.array(block, np.uint8) for block in blocks]
    assert list(coverage.state_faults(arrays, ranges)) == []
    for number in range(len(ranges)):
        assert list(coverage.state_faults(arrays, np.delete(ranges, number, axis=0)))


def test_states_that_are_none():
    (fault,) = coverage.state_faults([np.array([0, 1]), np.array([1, 7])], table())
    assert "position 3 has state 7" in fault


def test_a_complete_position_in_a_range():
    (fault,) = coverage.state_faults([np.array([0, 1, 2])], table([1, 3, 0, 1]))
    assert "position 1 is in a range (state 1)" in fault


@given(st.data())
def test_exactly_the_covered_chunks_must_be_there(data):
    n_rows, n_cols = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 9))
    rows, cols = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    states = np.array(data.draw(st.lists(st.integers(0, 1), min_size=n_rows, max_size=n_rows)))
    held = np.zeros((n_rows, n_cols), bool)
    held[states == 1] = True
    ranges = []
    for row in np.flatnonzero(data.draw(st.lists(st.booleans(), min_size=n_rows, max_size=n_rows))):
        col = data.draw(st.integers(0, n_cols - 1))
        ranges.append([row, row + 1, col, n_cols])
        held[row, col:] = True
    stored = np.array(
        [[data.draw(st.booleans()) for _ in range(0, n_cols, cols)] for _ in range(0, n_rows, rows)]
    )
    expected = {
        (row, col)
        for row in range(0, n_rows, rows)
        for col in range(0, n_cols, cols)
        if held[row : row + rows, col : col + cols].any() and not stored[row // rows, col // cols]
    }
    blocks = [states[:5], states[5:]]
    assert set(coverage.missing_chunks(stored, (rows, cols), blocks, table(*ranges))) == expected
