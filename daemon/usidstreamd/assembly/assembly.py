"""What one main has received: blocks go in, complete tiles come out.

The assembly knows which tiles are open, parked or complete. It decides before anything is written
whether a block may be taken, and then takes it in parts as far as there are buffers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from . import summary
from .blocks import AlreadyCovered, Block, Elements, Part, Slicer, as_slice
from .changes import Changes
from .coverage import TileCoverage, consecutive_runs, unpack
from .grid import Rect, TileGrid
from .pool import BufferPool
from .scratch import Scratch
from .tiles import Tile, TileContext

MAX_RANGES = 64
"""Covered rectangles that a refusal names at most."""
MAX_STEP_TILES_COUNT = 256
"""Tiles that one step completes at most: a block may hold thousands of tiny ones."""


class Placement:
    """A block on its way into tiles.

    Attributes
    ----------
    done
        Whether the whole block was taken.
    newly_covered
        Elements taken so far.
    taken
        The parts taken so far, each with its tile.
    """

    __slots__ = (
        "_again", "_assembly", "_completed", "_parts", "_rows", "done", "newly_covered", "taken",
    )  # fmt: skip

    def __init__(
        self,
        assembly: Assembly,
        parts: list[Part],
        again: bool,
        rows: tuple[int, int] | None = None,
    ) -> None:
        self._assembly = assembly
        self._parts = deque(parts)
        self._again = again
        self._rows = rows
        self._completed: list[Tile] = []
        self.done = False
        self.newly_covered = 0
        self.taken: list[tuple[Tile, Part]] = []

    def step(self) -> list[Tile]:
        """Take as much of the block as there are buffers for, and a step has tiles.

        Returns
        -------
        list of Tile
            The tiles that became complete, each with its buffer until `Assembly.release`. If there
            are none and ``done`` is False, a buffer must come back to the pool first.

        Raises
        ------
        Exception
            What the scratch raised that could not be written or read. Nothing is lost: the step
            can be repeated.
        """
        parts, changes = self._parts, self._assembly.changes
        changed_before = changes.window
        rows, self._rows = self._rows, None  # those that take several steps are looked at later
        while parts and len(self._completed) < MAX_STEP_TILES_COUNT:
            part = parts[0]
            if self._again and self._assembly.touches(part):
                parts.popleft()
                parts.extendleft(self._assembly.missing_parts(part))
                continue
            tile = self._assembly.place(part)
            if tile is None:
                break
            parts.popleft()
            self.newly_covered += part.source.size
            self.taken.append((tile, part))
            if tile.complete:
                self._completed.append(tile)
        self.done = not parts
        if self.done and rows is not None:
            changes.note_whole(rows, changed_before)
        completed, self._completed = self._completed, []
        return completed


class Assembly:
    """The tiles of one main and exactly what they hold. Used from one thread.

    Parameters
    ----------
    main_name
        The main, as errors name it.
    grid
        Its tiles.
    dtype
        Its dtype.
    pool
        Where buffers come from; shared with other assemblies.
    scratch
        Where tiles are parked; this assembly's own.

    Attributes
    ----------
    changes
        Which rows have changed since they were taken last.
    """

    def __init__(
        self,
        main_name: str,
        grid: TileGrid,
        dtype: np.dtype[Any],
        pool: BufferPool,
        scratch: Scratch,
    ) -> None:
        self.main_name = main_name
        self.grid = grid
        self.dtype = np.dtype(dtype)
        self.covered_elements = 0
        self._pool = pool
        self._context = TileContext(grid, self.dtype, pool, scratch)
        self._slicer = Slicer(main_name, grid, self.dtype)
        self._tiles: dict[int, Tile] = {}
        self._complete = bytearray(grid.n_tiles)
        self._placement: Placement | None = None
        self.changes = Changes(grid.n_rows)

    @property
    def total_elements(self) -> int:
        """Elements of the main."""
        return self.grid.n_rows * self.grid.n_cols

    def begin(self, block: Block, again: bool) -> Placement:
        """Check a block and cut it; `Placement.step` takes it.

        Parameters
        ----------
        block
            The block; its data must not change until the placement is done.
        again
            The block may have been sent before: what is held already is left as it is.

        Raises
        ------
        BlockError
            The block does not fit the main; see `Slicer.cut`. Nothing was taken.
        AlreadyCovered
            The block touches elements that are held, and ``again`` is False. Nothing was taken.
        RuntimeError
            The last placement is not done.
        """
        if self._placement is not None and not self._placement.done:
            raise RuntimeError(f"main '{self.main_name}': the last block is not placed yet.")
        parts = self._slicer.cut(block)
        if not again:
            for part in parts:
                if self.touches(part):
                    raise AlreadyCovered(self.main_name, block, self._covered_ranges(parts))
        is_whole = block.row_numbers is None and block.cols == self.grid.n_cols and not again
        rows = (block.row, block.row + block.rows) if is_whole else None
        self._placement = Placement(self, parts, again, rows)
        return self._placement

    def touches(self, part: Part) -> bool:
        """Return whether any element of a part is held."""
        if self._complete[part.tile_index]:
            return True
        tile = self._tiles.get(part.tile_index)
        return tile is not None and tile.coverage.touches(part.lines, part.pattern)

    def place(self, part: Part) -> Tile | None:
        """Take a part of which nothing is held.

        Returns
        -------
        Tile or None
            Its tile, complete or not; None, with nothing taken, if there is no buffer for it.
        """
        tile = self._tiles.get(part.tile_index) or self._new_tile(part.tile_index)
        if not tile.place(part):
            return None
        tile.coverage.add(part.lines, part.pattern, part.source.size)
        self.covered_elements += part.source.size
        if tile.complete:
            self._tiles.pop(part.tile_index, None)
            self._complete[part.tile_index] = 1
            self._pool.forget(tile)
        else:
            self._tiles[part.tile_index] = tile
        self.changes.note(tile.rect.row, tile.rect.row_end)
        return tile

    def missing_parts(self, part: Part) -> Iterator[Part]:
        """Yield what is not held of a part that is held in places."""
        tile = self._tiles.get(part.tile_index)
        if tile is None:
            return
        lines, cells = _numbers(part.lines), _numbers(part.cells)
        for positions, free in tile.coverage.free_parts(part.lines, part.pattern):
            chosen = np.flatnonzero(unpack(free, tile.coverage.n_cells))
            at = np.searchsorted(cells, chosen)
            # Lines are always a slice here, so that numpy takes any cells as they are.
            for start, stop in consecutive_runs(lines[positions]):
                run = positions[start:stop]
                source = part.source[run[0] : run[-1] + 1][:, at]
                found = slice(int(lines[run[0]]), int(lines[run[-1]]) + 1)
                yield Part(part.tile_index, found, as_slice(chosen), free, source)

    def release(self, tile: Tile) -> None:
        """Give a complete tile's buffer back, once nobody reads it any more."""
        tile.drop_buffer()

    def close(self) -> None:
        """Give all buffers and slots back, except those of complete tiles; forget the rest."""
        for tile in self._tiles.values():
            tile.close()
        self._tiles.clear()

    def incomplete_tiles(self) -> list[Tile]:
        """Return the tiles that hold something, but not all."""
        return list(self._tiles.values())

    def stored_coverage(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Return `positions_state` of all positions, and `partial_ranges`, of complete tiles only.

        It is what the file holds once every complete tile has been written.
        """
        complete = self._complete_tiles()
        states = summary.positions_state(self.grid, complete, {}, 0, self.grid.n_rows)
        return states, summary.partial_ranges(self.grid, complete, {})

    def positions_state(self, lo: int, hi: int) -> npt.NDArray[np.uint8]:
        """Return a uint8 for each position lo..hi: 0 missing, 1 complete, 2 partial."""
        return summary.positions_state(self.grid, self._complete_tiles(), self._coverages(), lo, hi)

    def partial_ranges(self) -> npt.NDArray[np.int64]:
        """Return what the partial positions hold, as rows of an int64 array (k, 4).

        Each is row, row end, column, column end, in the order of rows; rows next to each other that
        hold the same columns stand together.
        """
        return summary.partial_ranges(self.grid, self._complete_tiles(), self._coverages())

    def complete_ranges(self) -> list[tuple[int, int]]:
        """Return the half-open ranges of complete positions."""
        return self._ranges(complete=True)

    def missing_ranges(self) -> list[tuple[int, int]]:
        """Return the half-open ranges of positions that are not complete."""
        return self._ranges(complete=False)

    def load_coverage(
        self,
        positions_state: npt.NDArray[np.uint8],
        partial_ranges: npt.NDArray[np.int64],
        fetch: Callable[[Rect], Elements],
    ) -> None:
        """Go on where a file stands; only before the first block.

        Parameters
        ----------
        positions_state
            As `positions_state` returned it for all N positions.
        partial_ranges
            As `partial_ranges` returned it; exact for each position in state 2.
        fetch
            Returns the file's elements (rows, columns) of a tile. Called for each tile that is held
            in part, which is parked, so that a later block goes the same way as ever.
        """
        if self.covered_elements:
            raise RuntimeError(f"main '{self.main_name}': coverage is loaded before any block.")
        complete, coverages = summary.restore(
            self.grid, self._slicer.cells_pattern, positions_state, partial_ranges
        )
        for index, coverage in coverages.items():
            tile = self._new_tile(index, coverage)
            tile.load(fetch(tile.rect))
            self._tiles[index] = tile
            self.covered_elements += coverage.held
        for index in np.flatnonzero(complete).tolist():
            rect = self.grid.rect(index)
            self._complete[index] = 1
            self.covered_elements += (rect.row_end - rect.row) * (rect.col_end - rect.col)

    def _new_tile(self, index: int, coverage: TileCoverage | None = None) -> Tile:
        if coverage is None:
            coverage = summary.new_coverage(self.grid, index, self._slicer.cells_pattern)
        return Tile(index, coverage, self._context)

    def _complete_tiles(self) -> npt.NDArray[np.bool_]:
        flags = np.frombuffer(self._complete, np.bool_)
        return flags.reshape(self.grid.n_tile_rows, self.grid.n_tile_cols)

    def _coverages(self) -> dict[int, TileCoverage]:
        return {index: tile.coverage for index, tile in self._tiles.items()}

    def _ranges(self, *, complete: bool) -> list[tuple[int, int]]:
        return summary.position_ranges(
            self.grid, self._complete_tiles(), self._coverages(), complete
        )

    def _covered_ranges(self, parts: list[Part]) -> list[Rect]:
        ranges: list[Rect] = []
        for part in parts:
            held = self._coverage(part.tile_index).held_rects(part.lines, part.pattern)
            ranges.extend(
                summary.as_rect(self.grid, part.tile_index, rect)
                for rect in islice(held, MAX_RANGES - len(ranges))
            )
        return ranges

    def _coverage(self, index: int) -> TileCoverage:
        tile = self._tiles.get(index)
        if tile is not None:
            return tile.coverage
        coverage = summary.new_coverage(self.grid, index, self._slicer.cells_pattern)
        if self._complete[index]:
            coverage.fill()
        return coverage


def _numbers(lines: slice | npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    return np.arange(lines.start, lines.stop) if isinstance(lines, slice) else lines
