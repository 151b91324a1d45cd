"""How the rows of an ancillary dataset run through its dimensions, inferred from the indices alone.

Files store their dimensions slowest first today and fastest first before; only the indices tell. On
a grid the first change of each column gives its stride, so a few rows tell everything and samples
confirm it; anything else is counted through, piece by piece, in linear time: a grid whose rows
stand in another order, as of a serpentine scan, is a grid all the same. Pure numpy: how rows are
read is the caller's matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
ReadRows = Callable[[int, int], Array]

PIECE_ROWS = 256 * 1024
# Up to this many rows everything is looked at; above, samples of SAMPLE_ROWS.
FULL_CHECK_ROWS = 1024 * 1024
SAMPLE_ROWS = 8 * 1024
SAMPLES = 16


@dataclass(frozen=True)
class Arrangement:
    """The sizes and the order of dimensions.

    Attributes
    ----------
    length : int
        The number of rows.
    sizes : list of int
        For each stored column, the number of different indices.
    fast_to_slow : list of int
        Column numbers from the fastest varying to the slowest.
    unit_indices : list of ndarray
        For each stored column, its different indices in the order of the grid's steps; empty if
        the rows make no grid.
    gap : str
        Why the rows make no complete grid; empty if they do.
    sampled : bool
        Whether only samples were compared with the grid.
    rows : ndarray, optional
        For each cell of the grid, the row that holds it; None where rows are in the grid's order.
    """

    length: int
    sizes: list[int]
    fast_to_slow: list[int]
    unit_indices: list[Array]
    gap: str = ""
    sampled: bool = False
    rows: Array | None = None

    @property
    def is_grid(self) -> bool:
        """Whether the rows fill a grid, each cell once."""
        return not self.gap

    @property
    def strides(self) -> list[int]:
        """For each stored column, the number of rows for which its index stays the same."""
        strides, stride = [0] * len(self.sizes), 1
        for column in self.fast_to_slow:
            strides[column] = stride
            stride *= self.sizes[column]
        return strides

    def agrees(self, read: ReadRows, start: int, stop: int) -> bool:
        """Tell whether the rows from ``start`` to ``stop`` are those of the grid."""
        rows, numbers = read(start, stop), np.arange(start, stop)
        columns = zip(self.strides, self.sizes, self.unit_indices, strict=True)
        return all(
            np.array_equal(rows[:, column], unit[numbers // stride % size])
            for column, (stride, size, unit) in enumerate(columns)
        )


def infer_arrangement(read: ReadRows, length: int, n_columns: int) -> Arrangement:
    """Find sizes and order of the dimensions of an ancillary dataset.

    Parameters
    ----------
    read : callable
        ``read(start, stop)`` returns the indices of these rows, (stop - start, n_columns).
    length : int
        The number of rows, at least 1.
    n_columns : int
        The number of dimensions.
    """
    changes = _first_changes(read, length, n_columns)
    guess = _guess_grid(read, length, n_columns, changes)
    if guess is not None and _confirmed(guess, read):
        return replace(guess, sampled=length > FULL_CHECK_ROWS)
    if _counts_rows(read, length, changes, n_columns):
        order = list(reversed(range(n_columns)))
        return Arrangement(length, [length] * n_columns, order, [], "every row stands by itself")
    return _count_through(read, length, n_columns)


def fully_confirmed(arrangement: Arrangement, read: ReadRows) -> bool:
    """Compare every row with the grid that samples have suggested."""
    return all(arrangement.agrees(read, start, stop) for start, stop in pieces(arrangement.length))


def pieces(length: int) -> Iterator[tuple[int, int]]:
    """Yield the bounds of pieces of PIECE_ROWS rows."""
    for start in range(0, length, PIECE_ROWS):
        yield start, min(start + PIECE_ROWS, length)


def _first_changes(read: ReadRows, length: int, n_columns: int) -> dict[int, int]:
    """Return for each column the first row that differs from row 0.

    The slowest dimension of a grid ends at another index than it began with: once it has moved,
    a column that has not never will.
    """
    first = read(0, 1)
    waiting = set(np.flatnonzero(read(length - 1, length)[0] != first[0]).tolist())
    changes: dict[int, int] = {}
    start, rows = 0, 1024
    while start < length and waiting - changes.keys():
        moved = read(start, min(start + rows, length)) != first
        for column in range(n_columns):
            if column not in changes and moved[:, column].any():
                changes[column] = start + int(moved[:, column].argmax())
        start, rows = start + rows, min(2 * rows, PIECE_ROWS)
    return changes


def _guess_grid(
    read: ReadRows, length: int, n_columns: int, changes: dict[int, int]
) -> Arrangement | None:
    """Read sizes off the first change of every column; None if no grid begins that way."""
    if not changes and length > 1:
        return None
    moving = sorted(changes, key=lambda column: changes[column])
    sizes, stride = [1] * n_columns, 1
    ends = [changes[column] for column in moving[1:]] + [length]
    for column, end in zip(moving, ends, strict=False):
        if changes[column] != stride:
            return None
        sizes[column] = -(-end // stride)
        stride *= sizes[column]
    # equally slow columns stand as numpy's reversed sort leaves them, as in pyUSID
    order = moving + [column for column in reversed(range(n_columns)) if column not in changes]
    first = read(0, 1)[0]
    units = [np.arange(size) + start for size, start in zip(sizes, first, strict=True)]
    return Arrangement(length, sizes, order, units, _gap(sizes, length))


def _gap(sizes: list[int], length: int) -> str:
    full = math.prod(sizes)
    return "" if full == length else f"{length} rows do not make {' x '.join(map(str, sizes))}"


def _confirmed(guess: Arrangement, read: ReadRows) -> bool:
    if guess.length <= FULL_CHECK_ROWS:
        return fully_confirmed(guess, read)
    starts = np.linspace(0, guess.length - SAMPLE_ROWS, SAMPLES).astype(int)
    return all(guess.agrees(read, start, start + SAMPLE_ROWS) for start in starts.tolist())


def _counts_rows(read: ReadRows, length: int, changes: dict[int, int], n_columns: int) -> bool:
    """Tell whether the index of every dimension is the row number, as in a table of positions."""
    if list(changes.values()) != [1] * n_columns:
        return False
    return all(
        (read(start, stop) == np.arange(start, stop)[:, None]).all()
        for start, stop in pieces(length)
    )


def _count_through(read: ReadRows, length: int, n_columns: int) -> Arrangement:
    """Count different indices and changes of every column, as for rows in any order."""
    seen: list[list[Array]] = [[] for _ in range(n_columns)]
    changes = np.zeros(n_columns, dtype=np.int64)
    previous = read(length - 1, length)
    for start, stop in pieces(length):
        rows = read(start, stop)
        changes += np.count_nonzero(np.diff(np.concatenate([previous, rows]), axis=0), axis=0)
        previous = rows[-1:]
        for column, found in enumerate(seen):
            found.append(np.unique(rows[:, column]))
    sizes = [len(np.unique(np.concatenate(found))) for found in seen]
    order = np.argsort(changes, kind="stable")[::-1].tolist()
    if _gap(sizes, length):
        return Arrangement(length, sizes, order, [], _gap(sizes, length))
    grid = Arrangement(length, sizes, order, [])
    in_order = replace(grid, unit_indices=_appearances(grid, read))
    if fully_confirmed(in_order, read):
        return in_order
    units = [np.unique(np.concatenate(found)) for found in seen]
    return _scattered(replace(grid, unit_indices=units), read)


def _scattered(grid: Arrangement, read: ReadRows) -> Arrangement:
    """Find the row of every cell of a grid, as in serpentine scans and random orders."""
    nowhere = grid.length
    rows = np.full(grid.length, nowhere, dtype=np.min_scalar_type(nowhere))
    for start, stop in pieces(grid.length):
        cells = np.zeros(stop - start, dtype=np.int64)
        columns = zip(read(start, stop).T, grid.unit_indices, grid.strides, strict=True)
        for column, unit, stride in columns:
            cells += np.searchsorted(unit, column) * stride
        rows[cells] = np.arange(start, stop)
    if (rows == nowhere).any():
        gap = "some positions occur several times and others never"
        return replace(grid, unit_indices=[], gap=gap)
    return replace(grid, rows=rows)


def _appearances(grid: Arrangement, read: ReadRows) -> list[Array]:
    """Return the indices that each column has where a grid would begin a new step of it."""
    units: list[list[Array]] = [[] for _ in grid.sizes]
    for start, stop in pieces(grid.length):
        rows = read(start, stop)
        for column, (stride, size) in enumerate(zip(grid.strides, grid.sizes, strict=True)):
            steps = np.arange(-(-start // stride) * stride, min(stop, stride * size), stride)
            units[column].append(rows[steps - start, column])
    return [np.concatenate(found) for found in units]
