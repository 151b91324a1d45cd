"""Reads h5USID's tables of indices and values back into dimensions, whatever their age and order.

Today's files store the slowest dimension first, files before 2018 the fastest, and both may list
positions in the order in which they were measured. So nothing is taken from the order of columns:
the indices themselves tell which dimension changes fastest and where each row belongs. Tables are
read in blocks; a scan's table never stands in memory as a whole, unless it is no grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...layout import Dimension, PositionTable

BLOCK_ROWS = 2**17


class Lines(NamedTuple):
    """Some lines of a table of axes: indices and values, shape (lines, dimensions) each."""

    indices: npt.NDArray[np.int64]
    values: npt.NDArray[Any]


@dataclass(frozen=True)
class AxisTable:
    """The indices and values of every position, or of every spectroscopic step.

    Parameters
    ----------
    count
        Lines of the table.
    labels, units
        One for each dimension.
    read
        Returns the lines start..stop.
    """

    count: int
    labels: Sequence[str]
    units: Sequence[str]
    read: Callable[[int, int], Lines]

    def blocks(self) -> Iterator[tuple[int, Lines]]:
        """Yield all lines, in blocks with their first line's number."""
        for start in range(0, self.count, BLOCK_ROWS):
            yield start, self.read(start, min(start + BLOCK_ROWS, self.count))


@dataclass(frozen=True)
class Grid:
    """A table that is a whole grid.

    Parameters
    ----------
    dimensions
        Fastest first.
    is_in_order
        Whether line k of the table is position k of the grid.
    number
        Turns indices, shape (lines, dimensions of the table), into positions of the grid.
    """

    dimensions: list[Dimension]
    is_in_order: bool
    number: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]]


def find_grid(table: AxisTable) -> Grid | None:
    """Return the grid that a table spans, or None: points missing, twice, or off the grid.

    A table whose values do not follow from their indices, as after a correction for drift, is no
    grid either.
    """
    found = _survey(table)
    if found is None:
        return None
    levels, fastest_first = found
    codes = _Codes(levels, fastest_first)
    units: list[npt.NDArray[Any]] = []
    seen = [np.zeros(len(level), bool) for level in levels]
    visited = np.zeros(table.count, bool)
    is_in_order = True
    for start, lines in table.blocks():
        numbers = codes.number(lines.indices)
        visited[numbers] = True
        is_in_order &= np.array_equal(numbers, np.arange(start, start + len(numbers)))
        if not units:
            units = [np.zeros(len(level), lines.values.dtype) for level in levels]
        if not _agree(units, seen, codes.of(lines.indices), lines.values):
            return None
    if not visited.all():
        return None
    dimensions = [Dimension(table.labels[d], table.units[d], units[d]) for d in fastest_first]
    return Grid(dimensions, is_in_order, codes.number)


def read_table(table: AxisTable) -> PositionTable:
    """Return all values of a table that is no grid, columns as they are stored."""
    values = np.concatenate([lines.values for _, lines in table.blocks()])
    return PositionTable(list(table.labels), list(table.units), values)


def _survey(table: AxisTable) -> tuple[list[npt.NDArray[np.int64]], list[int]] | None:
    """Return each dimension's distinct indices, and the dimensions fastest first.

    None as soon as they are too many for a grid of the table's size.
    """
    n_dims = len(table.labels)
    levels = [np.empty(0, np.int64)] * n_dims
    changes = np.zeros(n_dims, np.int64)
    last = None
    for _, lines in table.blocks():
        indices = lines.indices if last is None else np.vstack([last, lines.indices])
        changes += np.count_nonzero(np.diff(indices, axis=0), axis=0)
        levels = [np.union1d(level, indices[:, d]) for d, level in enumerate(levels)]
        if math.prod(len(level) for level in levels) > table.count:
            return None
        last = lines.indices[-1:]
    if math.prod(len(level) for level in levels) != table.count:
        return None
    # A grid's dimensions differ by a factor of two or more in how often they change. Where they do
    # not, as in random order, columns tell: today's files have the slowest first.
    fastest_first = sorted(range(n_dims), key=lambda d: (-round(math.log2(changes[d] + 1)), -d))
    return levels, fastest_first


class _Codes:
    """Turns indices into steps of each dimension, and into positions of the grid."""

    def __init__(self, levels: list[npt.NDArray[np.int64]], fastest_first: list[int]) -> None:
        self._levels = levels
        self._strides = [0] * len(levels)
        stride = 1
        for d in fastest_first:
            self._strides[d] = stride
            stride *= len(levels[d])

    def of(self, indices: npt.NDArray[np.int64]) -> list[npt.NDArray[np.intp]]:
        return [np.searchsorted(level, indices[:, d]) for d, level in enumerate(self._levels)]

    def number(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        numbers = np.zeros(len(indices), np.int64)
        for stride, steps in zip(self._strides, self.of(indices), strict=True):
            numbers += stride * steps
        return numbers


def _agree(
    units: list[npt.NDArray[Any]],
    seen: list[npt.NDArray[np.bool_]],
    steps: list[npt.NDArray[np.intp]],
    values: npt.NDArray[Any],
) -> bool:
    """Fill in the values of steps met for the first time; tell whether all equal their step's."""
    for d, step in enumerate(steps):
        is_new = ~seen[d][step]
        units[d][step[is_new]] = values[is_new, d]
        seen[d][step] = True
        if not np.array_equal(units[d][step], values[:, d]):
            return False
    return True
