"""Coverage from the ledger, against one that is painted element by element."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from support.storing import layout_of, main_of
from usidstreamd.storage import MainPlan
from usidstreamd.storage.chunktable import ChunkAddress, ChunkTable, pack_addresses, unpack_entries
from usidstreamd.storage.held import held_coverage


@st.composite
def scans(draw):
    shape = draw(st.tuples(st.integers(1, 20), st.integers(1, 12)))
    chunk = draw(st.tuples(st.integers(1, shape[0]), st.integers(1, shape[1])))
    corners = [(r, c) for r in range(0, shape[0], chunk[0]) for c in range(0, shape[1], chunk[1])]
    written = draw(st.dictionaries(st.sampled_from(corners), st.booleans()))
    rects = st.tuples(*(st.integers(0, n) for n in (shape[0], shape[0], shape[1], shape[1])))
    held = [r for r in draw(st.lists(rects, max_size=3)) if r[0] < r[1] and r[2] < r[3]]
    return shape, chunk, written, np.array(held, np.int64).reshape(-1, 4)


@given(scans())
def test_coverage_is_what_the_chunks_hold(scan):
    shape, chunk, written, partial = scan
    painted = np.zeros(shape, bool)
    for row, row_end, col, col_end in partial:
        painted[row:row_end, col:col_end] = True
    expected = np.zeros(shape, bool)
    for (row, col), is_complete in written.items():
        window = np.s_[row : row + chunk[0], col : col + chunk[1]]
        expected[window] = True if is_complete else painted[window]
    layout = layout_of(main_of("other"), main_of("m", n=shape[1]), n_positions=shape[0])
    plans = {"m": MainPlan(chunk, {}), "other": MainPlan((1, 1), {})}
    told = [ChunkAddress(1, *at, 0, 1, 0, done) for at, done in written.items()]
    table = ChunkTable([unpack_entries(pack_addresses(told))])
    coverage = held_coverage(layout, plans, table, {"m": partial})
    assert not coverage["other"].states.any()
    found = coverage["m"]
    states = np.where(expected.all(axis=1), 1, 2 * expected.any(axis=1))
    np.testing.assert_array_equal(found.states, states)
    times = np.zeros(shape, int)
    for row, row_end, col, col_end in found.partial:
        times[row:row_end, col:col_end] += 1
    np.testing.assert_array_equal(times, expected & (states == 2)[:, None])
