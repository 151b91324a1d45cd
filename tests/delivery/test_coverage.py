"""Coverage against a bitmap, whatever ranges and rectangles it is made of."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from usidstream.delivery import Coverage

N, M = 12, 6


def spans(size: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(0, size - 1), st.integers(1, size)).filter(lambda s: s[0] < s[1])


def disjoint(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    chosen: list[tuple[int, int]] = []
    for start, stop in ranges:
        if all(stop <= a or start >= b for a, b in chosen):
            chosen.append((start, stop))
    return chosen


COMPLETE = st.lists(spans(N), max_size=4).map(disjoint)
PARTIAL = st.lists(st.tuples(spans(N), spans(M)), max_size=5)


def bitmap(complete: Any, partial: Any) -> np.ndarray[Any, Any]:
    held = np.zeros((N, M), dtype=bool)
    for start, stop in complete:
        held[start:stop] = True
    for (row, row_end), (col, col_end) in partial:
        held[row:row_end, col:col_end] = True
    return held


@given(COMPLETE, PARTIAL, spans(N), spans(M))
def test_a_rectangle_is_held_if_every_element_is(
    complete: Any, partial: Any, rows: Any, cols: Any
) -> None:
    coverage = Coverage(complete, [(*r, *c) for r, c in partial])
    held = bitmap(complete, partial)[slice(*rows), slice(*cols)]
    assert coverage.holds_span(rows[0], rows[1] - rows[0], cols[0], cols[1] - cols[0]) == held.all()


@given(COMPLETE, PARTIAL, st.permutations(range(N)), st.integers(1, N), spans(M))
def test_scattered_rows_are_judged_one_by_one(
    complete: Any, partial: Any, order: Any, count: int, cols: Any
) -> None:
    coverage = Coverage(complete, [(*r, *c) for r, c in partial])
    rows = np.array(order[:count])
    held = bitmap(complete, partial)[rows][:, slice(*cols)].all(axis=1)
    np.testing.assert_array_equal(coverage.holds(rows, cols[0], cols[1] - cols[0]), held)


@given(COMPLETE, st.integers(0, N - 1))
def test_the_next_complete_row_ends_a_run(complete: Any, row: int) -> None:
    coverage = Coverage(complete)
    held = bitmap(complete, []).all(axis=1)
    following = [r for r in range(row, N) if held[r]]
    assert coverage.next_held_row(row, N) == (following[0] if following else N)


@given(COMPLETE)
def test_what_a_finished_scan_does_not_lack_it_holds(missing: Any) -> None:
    coverage = Coverage.all_but(missing, N)
    lacking = bitmap(missing, []).all(axis=1)
    np.testing.assert_array_equal(coverage.holds(np.arange(N), 0, M), ~lacking)


def test_gaps_between_overlapping_rectangles_are_seen() -> None:
    coverage = Coverage([], [(0, 1, 0, 2), (0, 1, 1, 3), (0, 1, 4, 6)])
    assert coverage.holds_span(0, 1, 0, 3)
    assert not coverage.holds_span(0, 1, 0, 6), "column 3 is missing"
