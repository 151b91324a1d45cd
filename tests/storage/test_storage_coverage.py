import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from usidstreamd.storage import coverage


@given(st.lists(st.lists(st.integers(0, 2), max_size=12), max_size=5))
def test_incomplete_ranges_hold_exactly_the_positions_that_are_not_complete(blocks):
    ranges = coverage.incomplete_ranges(np.array(block, np.uint8) for block in blocks)
    states = [state for block in blocks for state in block]
    listed = [position for start, stop in ranges for position in range(start, stop)]
    assert listed == [position for position, state in enumerate(states) if state != 1]
    # as few ranges as there are runs
    assert all(one[1] < other[0] for one, other in itertools.pairwise(ranges))


def test_ranges_without_rows_are_dropped():
    table = np.array([[0, 2, 0, 4], [0, 0, 0, 0], [5, 6, 1, 3]], np.int64)
    assert coverage.used_ranges(table).tolist() == [[0, 2, 0, 4], [5, 6, 1, 3]]
    assert coverage.used_ranges(np.empty((0, 4))).shape == (0, 4)
