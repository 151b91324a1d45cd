"""One tile that is not released yet: its elements in a buffer, or parked in the scratch.

A tile knows its own lines and cells, its buffer and its parking place. It does not know blocks,
other tiles, or what becomes of it once it is complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .blocks import Block, Elements, Part, moved_as, uncut
from .coverage import Lines, TileCoverage, consecutive_runs, span, unpack
from .grid import TileGrid
from .parking import ParkedLines, Slots
from .pool import Buffer, BufferPool
from .scratch import Scratch

MAX_PARK_WRITES = 64
"""More runs of held lines than this are parked in one write, with what lies between them."""
MIN_RUN_LINES = 8
"""Runs of held lines shorter than this on average are told as scattered lines."""


class TileContext:
    """What the tiles of one assembly share.

    Parameters
    ----------
    grid, dtype, pool, scratch
        As the assembly was given them.
    """

    def __init__(
        self, grid: TileGrid, dtype: np.dtype[Any], pool: BufferPool, scratch: Scratch
    ) -> None:
        self.grid = grid
        self.dtype = dtype
        self.element = moved_as(dtype)
        self.tile_nbytes = grid.tile_elements * dtype.itemsize
        self.pool = pool
        self.scratch = scratch
        self.slots = Slots()


class Tile:
    """A tile of a main.

    Attributes
    ----------
    index : int
        Its number in the grid.
    rect : Rect
        Where it lies in the main.
    coverage : TileCoverage
        What it holds.
    """

    __slots__ = ("_buffer", "_context", "_lines", "_parked", "coverage", "index", "rect")

    def __init__(self, index: int, coverage: TileCoverage, context: TileContext) -> None:
        self.index = index
        self.rect = context.grid.rect(index)
        self.coverage = coverage
        self._context = context
        self._buffer: Buffer | None = None
        self._lines: Elements | None = None
        self._parked: ParkedLines | None = None

    def __repr__(self) -> str:
        state = "complete" if self.complete else "parked" if self.parked else "open"
        return f"<Tile {self.index} {tuple(self.rect)} {state}>"

    @property
    def complete(self) -> bool:
        """Whether every element is held."""
        return self.coverage.complete

    @property
    def parked(self) -> bool:
        """Whether the elements are in the scratch, not in memory."""
        return self._parked is not None

    @property
    def array(self) -> Elements:
        """The tile's elements (rows, columns), a view of its buffer.

        Raises
        ------
        ValueError
            The tile has no buffer: it is parked, or it was released.
        """
        if self._lines is None:
            raise ValueError(f"{self!r} has no buffer.")
        return self._oriented(self._lines).view(self._context.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of all its elements, held or not."""
        return self.coverage.n_lines * self.coverage.n_cells * self._context.dtype.itemsize

    def chunks(self, elements: Elements) -> Iterator[tuple[tuple[int, int], Elements]]:
        """Cut ``array`` or a snapshot of this tile in HDF5 chunks; see `TileGrid.chunks`."""
        return self._context.grid.chunks(self.rect, elements)

    def place(self, part: Part) -> bool:
        """Take the elements of a part, none of which is held.

        Returns
        -------
        bool
            False, with nothing taken, if this needs a buffer and there is none.
        """
        lines = self._lines
        if lines is None:
            if self._parked is not None and not self._completed_by(part):
                self._parked.place(part)
                return True
            lines = self._open()
            if lines is None:
                return False
        lines[part.lines, part.cells] = part.source
        self._context.pool.use(self)
        return True

    def snapshot(self) -> Elements:
        """Return a copy (rows, columns) of what is held, 0 elsewhere.

        The tile goes on as before: open or parked.
        """
        lines = self._held_lines()
        if lines is self._lines:
            lines = lines.copy()
        self._clear_rest(lines)
        return self._oriented(lines).view(self._context.dtype)

    def blocks(self) -> Iterator[Block]:
        """Yield what is held as blocks, which are copies; the tile goes on as before."""
        lines = self._held_lines()
        labels, runs = self.coverage.labelled_lines()
        for label, cells in runs.items():
            for numbers in _told_as(np.flatnonzero(labels == label)) if cells else ():
                for start, stop in cells:
                    held = np.array(lines[numbers, start:stop])
                    part = Part(self.index, numbers, slice(start, stop), span(start, stop), held)
                    yield from self.blocks_of(part)

    def blocks_of(self, part: Part) -> Iterator[Block]:
        """Yield a part of this tile as blocks; see `uncut`."""
        return uncut(self._context.grid, part)

    def park(self) -> None:
        """Write what is held to the scratch and give the buffer back."""
        if self._lines is None:
            raise ValueError(f"{self!r} has no buffer to park.")
        parked = self._new_parked()
        try:
            for start, stop in self._runs_to_park():
                parked.write(start, self._lines[start:stop])
        except BaseException:
            parked.free()
            raise
        self._parked = parked
        self.drop_buffer()

    def load(self, elements: Elements) -> None:
        """Park elements (rows, columns) read from elsewhere; the coverage says what they hold."""
        self._parked = self._new_parked()
        lines = np.ascontiguousarray(self._oriented(elements))
        self._parked.write(0, lines.view(self._context.element))

    def close(self) -> None:
        """Give buffer and slot back; what they held is forgotten."""
        if self._lines is not None:
            self.drop_buffer()
        if self._parked is not None:
            self._parked.free()
            self._parked = None

    def drop_buffer(self) -> None:
        """Give the buffer back to the pool."""
        if self._buffer is None:
            raise ValueError(f"{self!r} was released before.")
        self._context.pool.forget(self)
        self._context.pool.give(self._buffer)
        self._buffer = self._lines = None

    def _open(self) -> Elements | None:
        """Get a buffer, with what was parked; None, and all as before, if there is none."""
        context, coverage = self._context, self.coverage
        buffer = context.pool.take(context.tile_nbytes)
        if buffer is None:
            return None
        n_lines, n_cells = coverage.n_lines, coverage.n_cells
        used = buffer[: n_lines * n_cells * context.element.itemsize]
        lines = used.view(context.element).reshape(n_lines, n_cells)
        if self._parked is not None:
            try:
                self._parked.read_into(lines)
            except BaseException:
                context.pool.give(buffer)
                raise
            self._parked.free()
            self._parked = None
        self._buffer, self._lines = buffer, lines
        return lines

    def _completed_by(self, part: Part) -> bool:
        coverage = self.coverage
        return coverage.held + part.source.size == coverage.n_lines * coverage.n_cells

    def _new_parked(self) -> ParkedLines:
        context = self._context
        return ParkedLines(context.scratch, context.slots, self.coverage.n_cells, context.element)

    def _held_lines(self) -> Elements:
        """Return all lines, with anything where nothing is held: the buffer, or a parked copy."""
        if self._parked is not None:
            lines = np.empty((self.coverage.n_lines, self.coverage.n_cells), self._context.element)
            self._parked.read_into(lines)
            return lines
        if self._lines is None:
            raise ValueError(f"{self!r} was released before.")
        return self._lines

    def _clear_rest(self, lines: Elements) -> None:
        """Put 0 wherever nothing is held: a buffer comes with what others left in it."""
        coverage = self.coverage
        zero = np.zeros((), lines.dtype)
        for numbers, free in coverage.free_parts(slice(0, coverage.n_lines), coverage.full):
            if free == coverage.full:
                lines[numbers] = zero
            else:
                lines[np.ix_(numbers, np.flatnonzero(unpack(free, coverage.n_cells)))] = zero

    def _runs_to_park(self) -> list[tuple[int, int]]:
        held = np.flatnonzero(self.coverage.held_lines())
        bounds = consecutive_runs(held)
        if len(bounds) > MAX_PARK_WRITES:
            bounds = [(0, len(held))]
        return [(int(held[start]), int(held[stop - 1]) + 1) for start, stop in bounds]

    def _oriented(self, elements: Elements) -> Elements:
        """Turn (lines, cells) into (rows, columns), or back."""
        return elements.T if self._context.grid.by_columns else elements


def _told_as(numbers: npt.NDArray[np.intp]) -> list[Lines]:
    """Return rising line numbers as few slices, or as they are."""
    runs = consecutive_runs(numbers)
    if len(runs) * MIN_RUN_LINES > len(numbers) and len(runs) > 1:
        return [numbers]
    return [slice(int(numbers[a]), int(numbers[b - 1]) + 1) for a, b in runs]
