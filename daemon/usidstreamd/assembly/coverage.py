"""Exactly which elements of a tile are held: element by element, yet small and quick.

A tile has lines of cells. Which cells of a line are held is a *pattern*: an integer whose bit c
stands for cell c, so that a union, an overlap and a count are one operation each. The lines of a
tile share few patterns at any time, for data comes in whole lines, in segments of lines or across
all lines; so each line keeps only the number of its pattern. While whole lines come in sequence,
up or down, even that is not needed: two bounds say it all.

This module knows no data, no main and no file: only lines, cells and what is held.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Ids = npt.NDArray[Any]
Lines = slice | npt.NDArray[np.intp]
"""Lines of a tile: a slice with start and stop, or an array of distinct numbers."""

EMPTY_ID = 0
FULL_ID = 1
_COMPACT_FROM = 32
"""Patterns that no line has any more are dropped when the table has grown to this, or doubled."""


def pack(cells: Bools) -> int:
    """Return the pattern of a boolean array of cells."""
    return int.from_bytes(np.packbits(cells, bitorder="little").tobytes(), "little")


def unpack(pattern: int, n_cells: int) -> Bools:
    """Return a pattern as a boolean array of ``n_cells``."""
    packed = np.frombuffer(pattern.to_bytes((n_cells + 7) // 8, "little"), np.uint8)
    return np.unpackbits(packed, count=n_cells, bitorder="little").view(np.bool_)


def span(start: int, stop: int) -> int:
    """Return the pattern of cells start to stop."""
    return ((1 << (stop - start)) - 1) << start


def true_runs(flags: Bools, first: int = 0) -> list[tuple[int, int]]:
    """Return the half-open runs of True, counting from ``first``."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False)) + first
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def consecutive_runs(numbers: npt.NDArray[np.intp]) -> list[tuple[int, int]]:
    """Return the half-open positions in an array between which its numbers count up by one."""
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    bounds = [0, *breaks.tolist(), len(numbers)]
    return list(pairwise(bounds))


class TileCoverage:
    """What a tile of (n_lines, n_cells) elements holds.

    Parameters
    ----------
    n_lines, n_cells
        The tile's shape.
    full
        The pattern ``span(0, n_cells)``; given so that tiles share one.
    """

    __slots__ = (
        "_compact_at", "_ids", "_patterns", "full", "held", "high", "low", "n_cells",
        "n_lines",
    )  # fmt: skip

    def __init__(self, n_lines: int, n_cells: int, full: int) -> None:
        self.n_lines = n_lines
        self.n_cells = n_cells
        self.full = full
        self.held = 0
        self.low = 0
        self.high = 0
        self._ids: Ids | None = None  # None while whole lines low..high are all that is held

    @property
    def complete(self) -> bool:
        """Whether every element is held."""
        return self.held == self.n_lines * self.n_cells

    def touches(self, lines: Lines, pattern: int) -> bool:
        """Return whether any of the elements is held."""
        if self._ids is None:
            if isinstance(lines, slice):
                return bool(lines.start < self.high and lines.stop > self.low)
            return bool(((lines >= self.low) & (lines < self.high)).any())
        ids = self._ids[lines]
        if pattern == self.full:
            return bool(ids.any())
        return any(self._patterns[i] & pattern for i in _distinct(ids))

    def add(self, lines: Lines, pattern: int, count: int) -> None:
        """Note that elements, none of which was held, are held from now on.

        Parameters
        ----------
        lines, pattern
            Which lines, and which of their cells.
        count
            How many elements these are.
        """
        self.held += count
        if pattern == self.full and self._ids is None and isinstance(lines, slice):
            if self.low == self.high:
                self.low, self.high = lines.start, lines.stop
                return
            if lines.start == self.high:
                self.high = lines.stop
                return
            if lines.stop == self.low:
                self.low = lines.start
                return
        self._add_patterns(self._spread(), lines, pattern)

    def fill(self) -> None:
        """Note that every element is held."""
        self._ids = None
        self.low, self.high = 0, self.n_lines
        self.held = self.n_lines * self.n_cells

    def _add_patterns(self, table: Ids, lines: Lines, pattern: int) -> None:
        if pattern == self.full:
            table[lines] = FULL_ID
            return
        ids = table[lines].astype(np.uint32)
        merged = ids.copy()
        for i in _distinct(ids):
            merged[ids == i] = self._id_of(self._patterns[i] | pattern)
        if len(self._patterns) > np.iinfo(table.dtype).max:
            self._ids = table = table.astype(np.uint32)
        table[lines] = merged
        if len(self._patterns) >= self._compact_at:
            self._compact(table)

    def free_parts(self, lines: Lines, pattern: int) -> Iterator[tuple[npt.NDArray[np.intp], int]]:
        """Yield what is not held, as positions within ``lines`` and the pattern of their cells."""
        ids = self._line_ids()[lines]
        for i in _distinct(ids):
            free = pattern & ~self._pattern(i)
            if free:
                yield np.flatnonzero(ids == i), free

    def held_rects(self, lines: Lines, pattern: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield what is held among the elements, as (line, line end, cell, cell end).

        Lines next to each other with the same pattern make one rectangle for each run of cells.
        """
        numbers = np.arange(lines.start, lines.stop) if isinstance(lines, slice) else np.sort(lines)
        ids = self._line_ids()[numbers].astype(np.int64)
        # A gap in the numbers and a change of the pattern both end a run.
        steps = (np.diff(numbers) != 1) | (np.diff(ids) != 0)
        bounds = [0, *(np.flatnonzero(steps) + 1).tolist(), len(numbers)]
        for start, stop in pairwise(bounds):
            held = self._pattern(int(ids[start]))
            if held & pattern:
                for cell, cell_end in true_runs(unpack(held & pattern, self.n_cells)):
                    yield int(numbers[start]), int(numbers[stop - 1]) + 1, cell, cell_end

    def line_states(self) -> npt.NDArray[np.uint8]:
        """Return a uint8 for each line: 0 nothing held, 1 all held, 2 some."""
        states = self._line_ids().astype(np.uint32)
        np.minimum(states, 2, out=states)
        return states.astype(np.uint8)

    def cell_states(self) -> npt.NDArray[np.uint8]:
        """Return a uint8 for each cell: 0 held in no line, 1 in all, 2 in some."""
        some, every = 0, self.full
        for i in _distinct(self._line_ids()):
            some |= self._pattern(i)
            every &= self._pattern(i)
        states = unpack(some, self.n_cells).view(np.uint8) * np.uint8(2)
        states -= unpack(every, self.n_cells)
        return states

    def labelled_lines(self) -> tuple[Ids, dict[int, list[tuple[int, int]]]]:
        """Return a label for each line, and the runs of cells that a label stands for."""
        ids = self._line_ids()
        runs = {i: true_runs(unpack(self._pattern(i), self.n_cells)) for i in _distinct(ids)}
        return ids, runs

    def mask(self) -> Bools:
        """Return a boolean array (n_lines, n_cells) of what is held."""
        ids = self._line_ids()
        mask = np.zeros((self.n_lines, self.n_cells), np.bool_)
        for i in _distinct(ids):
            mask[ids == i] = unpack(self._pattern(i), self.n_cells)
        return mask

    def held_lines(self) -> Bools:
        """Return a boolean array of the lines of which anything is held."""
        held: Bools = self._line_ids() != EMPTY_ID
        return held

    def _line_ids(self) -> Ids:
        if self._ids is not None:
            return self._ids
        ids = np.zeros(self.n_lines, np.uint8)
        ids[self.low : self.high] = FULL_ID
        return ids

    def _spread(self) -> Ids:
        """Give every line a pattern's number, once bounds cannot say it any more."""
        if self._ids is None:
            self._ids = self._line_ids()
            self._patterns = [0, self.full]
            self._compact_at = _COMPACT_FROM
        return self._ids

    def _pattern(self, i: int) -> int:
        if i <= FULL_ID:
            return self.full if i else 0
        return self._patterns[i]

    def _id_of(self, pattern: int) -> int:
        # Patterns of long lines differ in length most often: looking is quicker than hashing.
        try:
            return self._patterns.index(pattern)
        except ValueError:
            self._patterns.append(pattern)
            return len(self._patterns) - 1

    def _compact(self, table: Ids) -> None:
        """Drop the patterns that no line has; each column of a column-wise scan leaves one."""
        used = np.union1d(np.array([EMPTY_ID, FULL_ID]), table)
        self._compact_at = max(_COMPACT_FROM, 2 * len(used))
        dtype = np.uint8 if len(used) < 256 else np.uint32
        self._ids = np.searchsorted(used, table).astype(dtype)
        self._patterns = [self._patterns[i] for i in used.tolist()]


def _distinct(ids: Ids) -> list[int]:
    """Return the different numbers in an array; most often there is one."""
    if not len(ids):
        return []
    first = ids[0]
    if len(ids) == 1 or (ids == first).all():
        return [int(first)]
    distinct: list[int] = np.unique(ids).tolist()
    return distinct
