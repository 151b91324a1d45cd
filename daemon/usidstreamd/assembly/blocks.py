"""A block as it arrives, checked and cut in parts: at most one part for each tile that it touches.

This module knows a main's grid and a block's address; it never knows what is held already.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from usidstream.errors import BlockError

from .coverage import Lines, consecutive_runs, pack, span
from .grid import Rect, TileGrid

Elements = npt.NDArray[Any]


class Block(NamedTuple):
    """Elements of one main.

    Parameters
    ----------
    row, rows
        Rows row..row+rows. With ``row_numbers``, ``rows`` is their number and ``row`` is unused.
    col, cols
        Columns col..col+cols.
    data
        rows x cols elements in C order, of the main's dtype: an array or any contiguous buffer.
    row_numbers
        The rows of scattered data, uint64 and distinct, in any order; None for consecutive rows.
    """

    row: int
    rows: int
    col: int
    cols: int
    data: Elements | memoryview | bytes
    row_numbers: npt.NDArray[np.uint64] | None = None


class Part(NamedTuple):
    """What a block has for one tile, in that tile's lines and cells."""

    tile_index: int
    lines: Lines
    cells: Lines
    pattern: int
    source: Elements


class AlreadyCovered(BlockError):  # noqa: N818  # the name of the condition in the protocol
    """A block touches elements that are held and is no resend; nothing of it was taken.

    ``ranges`` names them, at most `MAX_RANGES`, as `Rect`.
    """

    def __init__(self, main: str, block: Block, ranges: list[Rect]) -> None:
        first = ranges[0]
        super().__init__(
            f"main '{main}': rows {first.row} to {first.row_end}, columns {first.col} to "
            f"{first.col_end} of this block were stored before.",
            code="already_covered",
            details=_address(main, block) | {"ranges": [list(rect) for rect in ranges]},
        )
        self.ranges = ranges


class Slicer:
    """Cuts the blocks of one main.

    Parameters
    ----------
    main_name
        Named by errors.
    grid
        The main's tiles.
    dtype
        The main's dtype.
    """

    def __init__(self, main_name: str, grid: TileGrid, dtype: np.dtype[Any]) -> None:
        self._main_name = main_name
        self._grid = grid
        self._element = moved_as(dtype)
        self._line_length = grid.tile_rows if grid.by_columns else grid.tile_cols
        self._full = span(0, self._line_length)

    def cells_pattern(self, n_cells: int) -> int:
        """Return the pattern of a whole line of a tile; one object for all tiles that are alike."""
        return self._full if n_cells == self._line_length else span(0, n_cells)

    def cut(self, block: Block) -> list[Part]:
        """Check a block against the main's shape and cut it.

        Raises
        ------
        BlockError
            ``bad_shape``: the payload's length differs, a number of rows or columns is not
            positive, or a row number occurs twice; ``out_of_bounds``: it reaches outside the main.
        """
        elements = self._elements(block)
        if block.row_numbers is None:
            return self._cut_rows(block, elements)
        return self._cut_scattered(block, elements)

    def _elements(self, block: Block) -> Elements:
        row, rows, col, cols, data, row_numbers = block
        grid = self._grid
        if rows < 1 or cols < 1:
            raise self._refuse("bad_shape", f"{rows} rows x {cols} columns are no block", block)
        if col < 0 or col + cols > grid.n_cols:
            what = f"columns {col} to {col + cols} of {grid.n_cols}"
            raise self._refuse("out_of_bounds", what, block)
        if row_numbers is None and (row < 0 or row + rows > grid.n_rows):
            what = f"rows {row} to {row + rows} of {grid.n_rows}"
            raise self._refuse("out_of_bounds", what, block)
        payload = memoryview(data)  # type: ignore[arg-type]  # an array is a buffer
        expected = rows * cols * self._element.itemsize
        if payload.nbytes != expected:
            what = f"{payload.nbytes} bytes for {rows} rows x {cols} columns of {expected} bytes"
            raise self._refuse("bad_shape", what, block)
        return np.frombuffer(payload, self._element).reshape(rows, cols)

    def _cut_rows(self, block: Block, elements: Elements) -> list[Part]:
        tile_rows = self._grid.tile_rows
        row, row_end = int(block.row), int(block.row) + int(block.rows)
        first, last = row // tile_rows, (row_end - 1) // tile_rows
        if first == last:
            top = first * tile_rows
            return self._cut_cols(block, first, slice(row - top, row_end - top), elements)
        parts: list[Part] = []
        for i in range(first, last + 1):
            top = i * tile_rows
            start, stop = max(row, top), min(row_end, top + tile_rows)
            band = elements[start - row : stop - row]
            parts += self._cut_cols(block, i, slice(start - top, stop - top), band)
        return parts

    def _cut_scattered(self, block: Block, elements: Elements) -> list[Part]:
        numbers = np.asarray(block.row_numbers)
        self._check_row_numbers(block, numbers)
        numbers = numbers.astype(np.intp)
        if not (numbers[1:] > numbers[:-1]).all():
            order = np.argsort(numbers, kind="stable")
            numbers, elements = numbers[order], elements[order]
            twice = np.flatnonzero(numbers[1:] == numbers[:-1])
            if len(twice):
                raise self._refuse("bad_shape", f"row {numbers[twice[0]]} occurs twice", block)
        bands = numbers // self._grid.tile_rows
        bounds = [0, *(np.flatnonzero(np.diff(bands)) + 1).tolist(), len(numbers)]
        parts: list[Part] = []
        for start, stop in pairwise(bounds):
            i = int(bands[start])
            rows = numbers[start:stop] - i * self._grid.tile_rows
            parts += self._cut_cols(block, i, as_slice(rows), elements[start:stop])
        return parts

    def _cut_cols(self, block: Block, i: int, rows: Lines, elements: Elements) -> list[Part]:
        """Cut the rows of a band at the tiles' columns."""
        tile_cols = self._grid.tile_cols
        col, col_end = int(block.col), int(block.col) + int(block.cols)
        first, last = col // tile_cols, (col_end - 1) // tile_cols
        if first == last:
            left = first * tile_cols
            return [self._part(i, first, rows, slice(col - left, col_end - left), elements)]
        parts: list[Part] = []
        for j in range(first, last + 1):
            left = j * tile_cols
            start, stop = max(col, left), min(col_end, left + tile_cols)
            piece = elements[:, start - col : stop - col]
            parts.append(self._part(i, j, rows, slice(start - left, stop - left), piece))
        return parts

    def _part(self, i: int, j: int, rows: Lines, cols: slice, elements: Elements) -> Part:
        grid = self._grid
        index = i * grid.n_tile_cols + j
        if grid.by_columns:
            n_cells = min(grid.tile_rows, grid.n_rows - i * grid.tile_rows)
            return Part(index, cols, rows, self._pattern(rows, n_cells), elements.T)
        n_cells = min(grid.tile_cols, grid.n_cols - j * grid.tile_cols)
        return Part(index, rows, cols, self._pattern(cols, n_cells), elements)

    def _pattern(self, cells: Lines, n_cells: int) -> int:
        if isinstance(cells, slice):
            if cells.stop - cells.start == n_cells:
                return self.cells_pattern(n_cells)
            return span(cells.start, cells.stop)
        flags = np.zeros(n_cells, np.bool_)
        flags[cells] = True
        return pack(flags)

    def _check_row_numbers(self, block: Block, numbers: npt.NDArray[np.uint64]) -> None:
        if numbers.shape != (block.rows,):
            raise self._refuse("bad_shape", f"{numbers.size} row numbers for {block.rows}", block)
        outside = np.flatnonzero((numbers < 0) | (numbers >= self._grid.n_rows))
        if len(outside):
            raise self._refuse(
                "out_of_bounds", f"row {numbers[outside[0]]} of {self._grid.n_rows}", block
            )

    def _refuse(self, code: str, what: str, block: Block) -> BlockError:
        name = self._main_name
        return BlockError(f"main '{name}': {what}.", code=code, details=_address(name, block))


def uncut(grid: TileGrid, part: Part) -> Iterator[Block]:
    """Yield a part as blocks, the inverse of `Slicer.cut`: one for each run of columns.

    Their data is the part's own where that is contiguous, else a copy.
    """
    i, j = divmod(part.tile_index, grid.n_tile_cols)
    top, left = i * grid.tile_rows, j * grid.tile_cols
    rows, cols, elements = part.lines, part.cells, part.source
    if grid.by_columns:
        rows, cols, elements = cols, rows, elements.T
    for start, stop in _column_runs(cols):
        first = left + (cols.start if isinstance(cols, slice) else int(cols[start]))
        data = np.ascontiguousarray(elements[:, start:stop])
        if isinstance(rows, slice):
            yield Block(top + rows.start, len(data), first, stop - start, data)
        else:
            yield Block(0, len(data), first, stop - start, data, (rows + top).astype(np.uint64))


def _column_runs(cols: Lines) -> list[tuple[int, int]]:
    if isinstance(cols, slice):
        return [(0, cols.stop - cols.start)]
    return consecutive_runs(cols)


def moved_as(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype that elements have on their way: compounds move whole, not by field."""
    return np.dtype((np.void, dtype.itemsize)) if dtype.names else dtype


def _address(main: str, block: Block) -> dict[str, Any]:
    return {
        "main": main,
        "row": block.row,
        "rows": block.rows,
        "col": block.col,
        "cols": block.cols,
    }


def as_slice(numbers: npt.NDArray[np.intp]) -> Lines:
    """Return rising numbers as a slice where they have no gap."""
    first, last = int(numbers[0]), int(numbers[-1])
    return slice(first, last + 1) if last - first == len(numbers) - 1 else numbers
