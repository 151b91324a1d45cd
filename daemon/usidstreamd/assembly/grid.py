"""How a main is cut: HDF5 chunks, and the tiles of whole chunks that are buffered as one.

Everything is said twice over, once for data that comes row by row and once for data that comes
column by column, so the cutting is done in *lines* and *cells*. A line is what arrives in one go: a
row (``order="rows"``) or a column (``order="columns"``); a cell is one element of a line. A tile
takes whole lines wherever the band of chunks across the main stays small. This module is plain
arithmetic; it knows neither data nor what has arrived.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from usidstream.layout import MainLayout

Order = Literal["rows", "columns"]

BAND_TARGET_BYTES = 2 << 20
"""A band of chunks across the main, unless a rule below asks for less or more."""
MAX_CHUNK_BYTES = 1 << 20
"""Lines that are longer than a band are cut in chunks of at most this."""
MAX_BAND_BYTES = 8 << 20
"""A reader's default chunk cache: a band within it is read and buffered as a whole."""
MIN_CHUNK_BYTES = 16 << 10
"""Below this a chunk costs more in bookkeeping than in bytes."""
MAX_FILL_S = 10.0
"""A slow scan's chunk is full, and so visible in the file, after at most this."""
LINE_SPLITS = 8
"""Chunks side by side in a band: a map reads an eighth of the file, a spectrum eight chunks. Each
chunk has its price: the band is so large that eight of them are as large as a reader likes."""
MIN_BAND_LINES = 8
"""Long lines make a band of as many, where it is no more than `MAX_BAND_BYTES`: a chunk of one or
two lines compresses worse, and there are many of them."""
MIN_SPLIT_CELLS = 8
"""A chunk narrower than this gains a map nothing."""
MIN_BANDS = 16
"""A small main is cut in as many bands (of `MIN_CHUNK_BYTES` at least): it grows in view."""


class Rect(NamedTuple):
    """Elements of a main, half-open; the columns of ``partial_ranges``."""

    row: int
    row_end: int
    col: int
    col_end: int


@dataclass(frozen=True)
class TileGrid:
    """The tiles of a main of (n_rows, n_cols) elements.

    Tile ``index`` counts the tiles of the first rows from left to right, then the next rows.

    Parameters
    ----------
    n_rows, n_cols
        Shape of the main.
    chunk_rows, chunk_cols
        Shape of an HDF5 chunk, not larger than the main.
    tile_cols
        Columns of a tile, a multiple of ``chunk_cols`` (or all columns).
    tile_rows
        Rows of a tile, a multiple of ``chunk_rows`` (or all rows); those of one chunk by default.
    order
        Whether lines are rows or columns.

    Raises
    ------
    ValueError
        A tile is not made of whole chunks.
    """

    n_rows: int
    n_cols: int
    chunk_rows: int
    chunk_cols: int
    tile_cols: int
    tile_rows: int = 0
    order: Order = "rows"
    n_tile_rows: int = field(init=False)
    n_tile_cols: int = field(init=False)

    def __post_init__(self) -> None:
        if not self.tile_rows:
            object.__setattr__(self, "tile_rows", self.chunk_rows)
        _check_axis("rows", self.n_rows, self.chunk_rows, self.tile_rows)
        _check_axis("columns", self.n_cols, self.chunk_cols, self.tile_cols)
        object.__setattr__(self, "n_tile_rows", -(-self.n_rows // self.tile_rows))
        object.__setattr__(self, "n_tile_cols", -(-self.n_cols // self.tile_cols))

    @property
    def by_columns(self) -> bool:
        """Whether a line is a column."""
        return self.order == "columns"

    @property
    def n_tiles(self) -> int:
        """Number of tiles of the main."""
        return self.n_tile_rows * self.n_tile_cols

    @property
    def tile_elements(self) -> int:
        """Elements of a tile that no edge clips."""
        return self.tile_rows * self.tile_cols

    def rect(self, index: int) -> Rect:
        """Return the elements of a tile, clipped to the main."""
        i, j = divmod(index, self.n_tile_cols)
        row, col = i * self.tile_rows, j * self.tile_cols
        return Rect(
            row,
            min(row + self.tile_rows, self.n_rows),
            col,
            min(col + self.tile_cols, self.n_cols),
        )

    def chunks(
        self, rect: Rect, elements: npt.NDArray[np.generic]
    ) -> Iterator[tuple[tuple[int, int], npt.NDArray[np.generic]]]:
        """Cut a tile's elements in HDF5 chunks.

        Parameters
        ----------
        rect
            Where the tile lies, as `rect` gives it.
        elements
            Array (rows, columns) of that shape.

        Yields
        ------
        offset : tuple of int
            First row and column of the chunk in the main.
        view : numpy.ndarray
            Its elements, a view; smaller than a chunk at the edges of the main.
        """
        for row in range(rect.row, rect.row_end, self.chunk_rows):
            band = elements[row - rect.row : row - rect.row + self.chunk_rows]
            for col in range(rect.col, rect.col_end, self.chunk_cols):
                yield (row, col), band[:, col - rect.col : col - rect.col + self.chunk_cols]


def _check_axis(axis: str, length: int, chunk: int, tile: int) -> None:
    if not 1 <= chunk <= length:
        raise ValueError(f"a chunk of {chunk} {axis} does not fit a main of {length} {axis}.")
    if not chunk <= tile <= length or (tile % chunk and tile != length):
        raise ValueError(f"a tile of {tile} {axis} is not made of chunks of {chunk} {axis}.")


def choose_chunks(
    main: MainLayout, n_positions: int, pixel_time_s: float | None
) -> tuple[int, int]:
    """Return the chunk shape (rows, columns) of a main.

    The layout's own ``chunks`` win, clipped to the main. Otherwise a band of whole lines of about
    `BAND_TARGET_BYTES`, but no more lines than fill in `MAX_FILL_S` nor fewer bands than
    `MIN_BANDS`, as long as a chunk keeps `MIN_CHUNK_BYTES`; cut across the line in `LINE_SPLITS`
    so that a map (``dset[:, j]``) and a spectrum (``dset[i]``) are both read at a fair price.

    Parameters
    ----------
    main
        The main; its dtype, number of spectroscopic steps, ``order`` and ``chunks`` are used.
    n_positions
        Number of rows.
    pixel_time_s
        Time for one position (a whole row), in seconds, if known.
    """
    shape = (n_positions, main.n_spectroscopic)
    if main.chunks is not None:
        return min(main.chunks[0], shape[0]), min(main.chunks[1], shape[1])
    n_lines, n_cells = shape[::-1] if main.order == "columns" else shape
    line_time_s = n_positions * pixel_time_s / n_lines if pixel_time_s else 0.0
    lines = _band_lines(n_lines, n_cells, main.np_dtype.itemsize, line_time_s)
    cells = _chunk_cells(lines, n_cells, main.np_dtype.itemsize)
    return (cells, lines) if main.order == "columns" else (lines, cells)


def _band_lines(n_lines: int, n_cells: int, itemsize: int, line_time_s: float) -> int:
    """Return the lines of a band, at least one."""
    line_nbytes = n_cells * itemsize
    # A narrow line is not split: its band is one chunk, and no larger than one.
    target = min(BAND_TARGET_BYTES, MAX_CHUNK_BYTES * max(1, n_cells // MIN_SPLIT_CELLS))
    lines = 1 << (max(1, target // line_nbytes).bit_length() - 1)
    lines = max(lines, min(MIN_BAND_LINES, MAX_BAND_BYTES // line_nbytes))
    lines = min(lines, -(-n_lines // MIN_BANDS))
    if line_time_s > 0:
        lines = min(lines, max(1, math.floor(MAX_FILL_S / line_time_s)))
    return min(max(lines, -(-MIN_CHUNK_BYTES // line_nbytes)), n_lines)


def _chunk_cells(lines: int, n_cells: int, itemsize: int) -> int:
    """Return how many cells of each line of a band make a chunk."""
    band_nbytes = lines * n_cells * itemsize
    splits = min(LINE_SPLITS, n_cells // MIN_SPLIT_CELLS, band_nbytes // MIN_CHUNK_BYTES)
    splits = max(splits, -(-band_nbytes // MAX_CHUNK_BYTES), 1)
    return -(-n_cells // min(splits, n_cells))


def make_grid(main: MainLayout, n_positions: int, pixel_time_s: float | None) -> TileGrid:
    """Return the tiles of a main: as much of a band of chunks as `MAX_BAND_BYTES` holds."""
    n_rows, n_cols = n_positions, main.n_spectroscopic
    rows, cols = choose_chunks(main, n_positions, pixel_time_s)
    chunks_abreast = max(1, MAX_BAND_BYTES // (rows * cols * main.np_dtype.itemsize))
    if main.order == "columns":
        tile_rows = min(n_rows, rows * chunks_abreast)
        return TileGrid(n_rows, n_cols, rows, cols, cols, tile_rows, "columns")
    return TileGrid(n_rows, n_cols, rows, cols, min(n_cols, cols * chunks_abreast))
