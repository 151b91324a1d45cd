"""What a main holds, told position by position, from what its tiles hold.

Nothing is kept for a position: the tiles' coverage is the only truth, and states and ranges are
made from it when they are asked for. Pure functions of a grid, the flags of complete tiles
(n_tile_rows, n_tile_cols), and the coverage of incomplete ones by tile index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .coverage import Bools, TileCoverage, span, true_runs
from .grid import Rect, TileGrid

Runs = list[tuple[int, int]]
CellsPattern = Callable[[int], int]

MISSING, COMPLETE, PARTIAL = 0, 1, 2
"""States of a position, as ``completed_positions`` stores them."""
SLAB_POSITIONS = 1 << 20
"""Ranges of positions are looked for in as many at a time, so that memory stays small."""


def new_coverage(grid: TileGrid, index: int, cells_pattern: CellsPattern) -> TileCoverage:
    """Return the coverage of a tile that holds nothing."""
    rect = grid.rect(index)
    n_lines, n_cells = rect.row_end - rect.row, rect.col_end - rect.col
    if grid.by_columns:
        n_lines, n_cells = n_cells, n_lines
    return TileCoverage(n_lines, n_cells, cells_pattern(n_cells))


def as_rect(grid: TileGrid, index: int, held: tuple[int, int, int, int]) -> Rect:
    """Turn a tile's (line, line end, cell, cell end) into elements of the main."""
    rect = grid.rect(index)
    line, line_end, cell, cell_end = held
    if grid.by_columns:
        line, line_end, cell, cell_end = cell, cell_end, line, line_end
    return Rect(rect.row + line, rect.row + line_end, rect.col + cell, rect.col + cell_end)


def positions_state(
    grid: TileGrid, complete: Bools, coverages: Mapping[int, TileCoverage], lo: int, hi: int
) -> npt.NDArray[np.uint8]:
    """Return the states of positions lo..hi as uint8."""
    if not 0 <= lo <= hi <= grid.n_rows:
        raise ValueError(f"positions {lo} to {hi} of {grid.n_rows}.")
    first, last = lo // grid.tile_rows, -(-hi // grid.tile_rows)
    n_complete = np.count_nonzero(complete[first:last], axis=1)
    bands = np.where(n_complete == grid.n_tile_cols, COMPLETE, np.where(n_complete, PARTIAL, 0))
    states = np.repeat(bands.astype(np.uint8), grid.tile_rows)
    top = first * grid.tile_rows
    for i, band in _by_band(grid, coverages).items():
        if first <= i < last:
            start = i * grid.tile_rows - top
            rows = _band_states(grid, int(n_complete[i - first]), list(band.values()))
            states[start : start + len(rows)] = rows
    return states[lo - top : hi - top]


def position_ranges(
    grid: TileGrid,
    complete_tiles: Bools,
    coverages: Mapping[int, TileCoverage],
    complete: bool,
) -> Runs:
    """Return the half-open ranges of positions that are complete, or of those that are not."""
    ranges: Runs = []
    for lo in range(0, grid.n_rows, SLAB_POSITIONS):
        hi = min(lo + SLAB_POSITIONS, grid.n_rows)
        states = positions_state(grid, complete_tiles, coverages, lo, hi)
        found = true_runs((states == COMPLETE) == complete, lo)
        if ranges and found and ranges[-1][1] == found[0][0]:
            found[0] = ranges.pop()[0], found[0][1]
        ranges += found
    return ranges


def partial_ranges(
    grid: TileGrid, complete: Bools, coverages: Mapping[int, TileCoverage]
) -> npt.NDArray[np.int64]:
    """Return what partial positions hold: int64 (k, 4) of row, row end, column, column end."""
    merged: list[tuple[int, int, Runs]] = []
    by_band = _by_band(grid, coverages)
    n_complete = np.count_nonzero(complete, axis=1)
    mixed = np.flatnonzero((n_complete > 0) & (n_complete < grid.n_tile_cols)).tolist()
    for i in sorted(by_band.keys() | set(mixed)):
        for row, row_end, runs in _band_segments(grid, i, complete[i], by_band.get(i, {})):
            if merged and merged[-1][1:] == (row, runs):
                merged[-1] = merged[-1][0], row_end, runs
            else:
                merged.append((row, row_end, runs))
    ranges = [(row, row_end, *run) for row, row_end, runs in merged for run in runs]
    return np.array(ranges, np.int64).reshape(-1, 4)


def restore(
    grid: TileGrid,
    cells_pattern: CellsPattern,
    states: npt.NDArray[np.uint8],
    ranges: npt.NDArray[np.int64],
) -> tuple[Bools, dict[int, TileCoverage]]:
    """Return the complete tiles and the coverage of the others that hold anything.

    The inverse of `positions_state` over all positions and `partial_ranges`.
    """
    states, ranges = np.asarray(states), np.asarray(ranges, np.int64)
    _check_stored(grid, states, ranges)
    tops = np.arange(0, grid.n_rows, grid.tile_rows)
    all_complete = np.logical_and.reduceat(states == COMPLETE, tops)
    any_held = np.logical_or.reduceat(states != MISSING, tops)
    complete = np.repeat(all_complete[:, None], grid.n_tile_cols, axis=1)
    coverages: dict[int, TileCoverage] = {}
    for i in np.flatnonzero(any_held & ~all_complete).tolist():
        held = _held_rects(grid, i, states, ranges)
        for j in range(grid.n_tile_cols):
            index = i * grid.n_tile_cols + j
            coverage = _restored(grid, index, cells_pattern, held)
            if coverage.complete:
                complete[i, j] = True
            elif coverage.held:
                coverages[index] = coverage
    return complete.reshape(-1), coverages


def _by_band(
    grid: TileGrid, coverages: Mapping[int, TileCoverage]
) -> dict[int, dict[int, TileCoverage]]:
    bands: dict[int, dict[int, TileCoverage]] = {}
    for index, coverage in coverages.items():
        i, j = divmod(index, grid.n_tile_cols)
        bands.setdefault(i, {})[j] = coverage
    return bands


def _band_states(
    grid: TileGrid, n_complete: int, open_tiles: list[TileCoverage]
) -> npt.NDArray[np.uint8]:
    """Return the states of the rows of a band in which tiles are open."""
    some: Any = n_complete > 0
    whole: Any = n_complete + len(open_tiles) == grid.n_tile_cols
    for tile in open_tiles:
        rows = tile.cell_states() if grid.by_columns else tile.line_states()
        some |= rows != MISSING
        whole &= rows == COMPLETE
    states: npt.NDArray[np.uint8] = np.where(whole, COMPLETE, PARTIAL * some).astype(np.uint8)
    return states


def _band_segments(
    grid: TileGrid, i: int, complete: Bools, open_tiles: Mapping[int, TileCoverage]
) -> Iterator[tuple[int, int, Runs]]:
    """Yield (row, row end, column runs) of a band's partial rows, rows of equal runs together."""
    top = i * grid.tile_rows
    n_rows = min(grid.tile_rows, grid.n_rows - top)
    whole = np.flatnonzero(complete).tolist()
    partial = np.full(n_rows, bool(whole))
    if open_tiles:
        partial = _band_states(grid, len(whole), list(open_tiles.values())) == PARTIAL
    if not partial.any():
        return
    left = {j: j * grid.tile_cols for j in (*whole, *open_tiles)}
    held_by_all = [(left[j], min(left[j] + grid.tile_cols, grid.n_cols)) for j in whole]
    held_rows = {j: _HeldRows(grid, tile) for j, tile in open_tiles.items()}
    changes = np.diff(partial)
    for rows in held_rows.values():
        changes |= rows.changes
    bounds = np.array([0, *(np.flatnonzero(changes) + 1).tolist(), n_rows])
    for k in np.flatnonzero(partial[bounds[:-1]]).tolist():
        start, stop = int(bounds[k]), int(bounds[k + 1])
        held = list(held_by_all)
        for j, rows in held_rows.items():
            held += [(left[j] + col, left[j] + col_end) for col, col_end in rows.runs(start)]
        yield top + start, top + stop, _joined(held)


class _HeldRows:
    """Which columns of an open tile each row holds.

    Attributes
    ----------
    changes
        Boolean array (rows - 1): whether a row may hold other columns than the row before it.
    """

    def __init__(self, grid: TileGrid, tile: TileCoverage) -> None:
        if grid.by_columns:
            mask = tile.mask()
            self.changes: Bools = (mask[:, 1:] != mask[:, :-1]).any(axis=0)
            self.runs: Callable[[int], Runs] = lambda row: true_runs(mask[:, row])
        else:
            labels, runs = tile.labelled_lines()
            self.changes = labels[1:] != labels[:-1]
            self.runs = lambda row: runs[int(labels[row])]


def _joined(runs: Runs) -> Runs:
    joined: Runs = []
    for start, stop in sorted(runs):
        if joined and joined[-1][1] == start:
            joined[-1] = joined[-1][0], stop
        else:
            joined.append((start, stop))
    return joined


def _check_stored(
    grid: TileGrid, states: npt.NDArray[np.uint8], ranges: npt.NDArray[np.int64]
) -> None:
    if states.shape != (grid.n_rows,):
        raise ValueError(f"states of shape {states.shape} for {grid.n_rows} positions.")
    if ranges.ndim != 2 or ranges.shape[1] != 4:
        raise ValueError(f"partial ranges of shape {ranges.shape}, not (k, 4).")
    limits = np.array([grid.n_rows, grid.n_rows, grid.n_cols, grid.n_cols])
    outside = (ranges < 0) | (ranges > limits)
    if outside.any() or (ranges[:, ::2] >= ranges[:, 1::2]).any():
        raise ValueError(f"partial ranges do not lie in a main of {limits[::2].tolist()}.")


def _held_rects(
    grid: TileGrid, i: int, states: npt.NDArray[np.uint8], ranges: npt.NDArray[np.int64]
) -> list[Rect]:
    """Return what a band holds, as rectangles clipped to its rows."""
    top = i * grid.tile_rows
    bottom = min(top + grid.tile_rows, grid.n_rows)
    held = [
        Rect(start, stop, 0, grid.n_cols)
        for start, stop in true_runs(states[top:bottom] == COMPLETE, top)
    ]
    for row, row_end, col, col_end in ranges[
        (ranges[:, 0] < bottom) & (ranges[:, 1] > top)
    ].tolist():
        held.append(Rect(max(row, top), min(row_end, bottom), col, col_end))
    return held


def _restored(
    grid: TileGrid, index: int, cells_pattern: CellsPattern, held: list[Rect]
) -> TileCoverage:
    rect = grid.rect(index)
    coverage = new_coverage(grid, index, cells_pattern)
    for row, row_end, col, col_end in held:
        cols = slice(max(col, rect.col) - rect.col, min(col_end, rect.col_end) - rect.col)
        if cols.start >= cols.stop:
            continue
        rows = slice(row - rect.row, row_end - rect.row)
        lines, cells = (cols, rows) if grid.by_columns else (rows, cols)
        n_cells = cells.stop - cells.start
        pattern = coverage.full if n_cells == coverage.n_cells else span(cells.start, cells.stop)
        if coverage.touches(lines, pattern):
            raise ValueError(f"rows {row} to {row_end} are held twice over.")
        coverage.add(lines, pattern, (lines.stop - lines.start) * n_cells)
    return coverage
