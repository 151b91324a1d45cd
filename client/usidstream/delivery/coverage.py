"""What a daemon holds of a main, element by element, as its coverage message tells.

Knows ranges of positions and rectangles; must never guess: an element counts as covered only where
the daemon said so, since what is covered is not sent again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


class Coverage:
    """The covered elements of one main.

    Parameters
    ----------
    complete
        Half-open ranges (start, stop) of positions that hold every element; sorted and disjoint.
    partial
        Half-open rectangles (row, row end, column, column end).
    """

    def __init__(
        self, complete: Sequence[Sequence[int]] = (), partial: Sequence[Sequence[int]] = ()
    ) -> None:
        spans = sorted((int(start), int(stop)) for start, stop in complete)
        self._starts = [start for start, _ in spans]
        self._stops = [stop for _, stop in spans]
        by_column = sorted(tuple(map(int, rectangle)) for rectangle in partial)
        by_column.sort(key=lambda rectangle: rectangle[2])
        self._partial: npt.NDArray[Any] = np.array(by_column, dtype=np.int64).reshape(-1, 4)

    @classmethod
    def all_but(cls, missing: Sequence[Sequence[int]], n_positions: int) -> Coverage:
        """Make the coverage of a finished main from the ranges that it lacks."""
        edges = [0]
        for start, stop in sorted((int(start), int(stop)) for start, stop in missing):
            edges += [start, stop]
        edges.append(n_positions)
        pairs = zip(edges[::2], edges[1::2], strict=True)
        return cls([(start, stop) for start, stop in pairs if start < stop])

    def __bool__(self) -> bool:
        return bool(self._starts) or len(self._partial) > 0

    @property
    def complete(self) -> list[tuple[int, int]]:
        """The half-open ranges of complete positions."""
        return list(zip(self._starts, self._stops, strict=True))

    def holds_row(self, row: int) -> bool:
        """Tell whether every element of a position is covered, by the complete ranges."""
        index = bisect_right(self._starts, row) - 1
        return index >= 0 and row < self._stops[index]

    def next_held_row(self, row: int, end: int) -> int:
        """Return the first complete position from ``row`` on, or ``end`` where there is none."""
        if self.holds_row(row):
            return row
        index = bisect_right(self._starts, row)
        return min(self._starts[index], end) if index < len(self._starts) else end

    def holds_span(self, row: int, rows: int, col: int, cols: int) -> bool:
        """Tell whether every element of a rectangle is covered."""
        index = bisect_right(self._starts, row) - 1
        if index >= 0 and row + rows <= self._stops[index]:
            return True
        numbers = np.arange(row, row + rows, dtype=np.int64)
        return bool(self.holds(numbers, col, cols).all())

    def holds(self, rows: Rows, col: int, cols: int) -> npt.NDArray[np.bool_]:
        """Tell for each row whether its columns ``col .. col+cols`` are covered."""
        held = self._complete(rows)
        if len(self._partial):
            held |= self._reach(rows, col) >= col + cols
        return held

    def _complete(self, rows: Rows) -> npt.NDArray[np.bool_]:
        if not self._starts:
            return np.zeros(rows.shape, dtype=np.bool_)
        index = np.searchsorted(self._starts, rows, side="right") - 1
        stops = np.asarray(self._stops, dtype=np.int64)[index]
        return np.asarray((index >= 0) & (rows < stops))

    def _reach(self, rows: Rows, col: int) -> Rows:
        """Return for each row the column up to which it is covered from ``col`` on without a gap.

        Exact however rectangles overlap, because they come in the order of their first column.
        """
        reach = np.full(rows.shape, col, dtype=np.int64)
        table = self._partial
        near = table[(table[:, 0] <= rows.max()) & (table[:, 1] > rows.min())]
        for row, row_end, start, stop in near.tolist():
            joined = (rows >= row) & (rows < row_end) & (reach >= start)
            np.maximum(reach, stop, out=reach, where=joined)
        return reach
