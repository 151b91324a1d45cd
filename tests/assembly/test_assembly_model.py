"""Any sequence of blocks against the plainest model there is: an array and a boolean mask."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from usidstreamd.assembly import (
    AlreadyCovered,
    Assembly,
    Block,
    BufferPool,
    MemoryScratch,
    Rect,
    Tile,
    TileGrid,
)

DTYPES = ("<u1", "<i2", "<f4", "<c16", [("height", "<f4"), ("counts", "<u2")])


@st.composite
def grids(draw: st.DrawFn) -> TileGrid:
    n_rows, n_cols = draw(st.integers(1, 40)), draw(st.integers(1, 20))
    chunk_rows, chunk_cols = draw(st.integers(1, n_rows)), draw(st.integers(1, n_cols))
    abreast = draw(st.integers(1, 4))
    if draw(st.booleans()):
        tile_rows = min(n_rows, chunk_rows * abreast)
        return TileGrid(n_rows, n_cols, chunk_rows, chunk_cols, chunk_cols, tile_rows, "columns")
    return TileGrid(n_rows, n_cols, chunk_rows, chunk_cols, min(n_cols, chunk_cols * abreast))


def random_elements(
    rng: np.random.Generator, shape: tuple[int, int], dtype: np.dtype
) -> np.ndarray:
    raw = rng.integers(1, 256, (math.prod(shape), dtype.itemsize), np.uint8)
    return raw.view(dtype).reshape(shape)


def as_bytes(elements: np.ndarray) -> np.ndarray:
    """Compare bit by bit: random floats may be NaN."""
    return np.ascontiguousarray(elements).view(np.uint8)


class AssemblyAgainstArray(RuleBasedStateMachine):
    """`file` holds complete tiles and snapshots; `data` and `mask` are what was ever accepted."""

    @initialize(
        grid=grids(),
        dtype=st.sampled_from(DTYPES),
        tiles_in_memory=st.integers(0, 4),
        seed=st.integers(0, 2**32 - 1),
    )
    def open(self, grid: TileGrid, dtype: object, tiles_in_memory: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.grid = grid
        self.dtype = np.dtype(dtype)
        self.tile_nbytes = grid.tile_elements * self.dtype.itemsize
        self.pool = BufferPool(tiles_in_memory * self.tile_nbytes)
        self.data = np.zeros((grid.n_rows, grid.n_cols), self.dtype)
        self.mask = np.zeros((grid.n_rows, grid.n_cols), np.bool_)
        self.file = np.zeros_like(self.data)
        self.kept: list[Tile] = []
        self.assembly = self.new_assembly()

    def new_assembly(self) -> Assembly:
        self.scratch = MemoryScratch(self.tile_nbytes)
        return Assembly("Raw_Data", self.grid, self.dtype, self.pool, self.scratch)

    # the blocks

    @rule(data=st.data(), again=st.booleans())
    def rectangle(self, data: st.DataObject, again: bool) -> None:
        row = data.draw(st.integers(0, self.grid.n_rows - 1))
        rows = data.draw(st.integers(1, self.grid.n_rows - row))
        self.send(np.arange(row, row + rows), *self.draw_columns(data), again, scattered=False)

    @rule(data=st.data(), again=st.booleans())
    def whole_rows(self, data: st.DataObject, again: bool) -> None:
        row = data.draw(st.integers(0, self.grid.n_rows - 1))
        rows = data.draw(st.integers(1, self.grid.n_rows - row))
        numbers = np.arange(row, row + rows)
        self.send(numbers, 0, self.grid.n_cols, again, scattered=False)

    @rule(data=st.data(), again=st.booleans())
    def whole_columns(self, data: st.DataObject, again: bool) -> None:
        numbers = np.arange(self.grid.n_rows)
        self.send(numbers, *self.draw_columns(data), again, scattered=False)

    @rule(data=st.data(), again=st.booleans())
    def scattered_rows(self, data: st.DataObject, again: bool) -> None:
        numbers = data.draw(
            st.lists(st.integers(0, self.grid.n_rows - 1), min_size=1, max_size=12, unique=True)
        )
        self.send(np.array(numbers), *self.draw_columns(data), again, scattered=True)

    @rule(data=st.data())
    def a_missing_line(self, data: st.DataObject) -> None:
        """Without this, blocks that may not overlap soon find no room."""
        missing = np.flatnonzero(~self.mask.any(axis=1))
        if len(missing):
            numbers = np.array([missing[data.draw(st.integers(0, len(missing) - 1))]])
            self.send(numbers, 0, self.grid.n_cols, again=False, scattered=False)

    def draw_columns(self, data: st.DataObject) -> tuple[int, int]:
        col = data.draw(st.integers(0, self.grid.n_cols - 1))
        return col, data.draw(st.integers(1, self.grid.n_cols - col))

    def send(
        self, numbers: np.ndarray, col: int, cols: int, again: bool, *, scattered: bool
    ) -> None:
        elements = random_elements(self.rng, (len(numbers), cols), self.dtype)
        block = Block(
            0 if scattered else int(numbers[0]),
            len(numbers),
            col,
            cols,
            memoryview(elements.tobytes()),
            numbers.astype(np.uint64) if scattered else None,
        )
        where = np.ix_(numbers, np.arange(col, col + cols))
        held = self.mask[where]
        if held.any() and not again:
            self.expect_refusal(block, where, held)
            return
        placement = self.assembly.begin(block, again)
        self.carry_through(placement)
        assert placement.newly_covered == np.count_nonzero(~held)
        accepted = self.data[where]
        accepted[~held] = elements[~held]
        self.data[where] = accepted
        self.mask[where] = True

    def expect_refusal(self, block: Block, where: tuple[np.ndarray, ...], held: np.ndarray) -> None:
        with pytest.raises(AlreadyCovered) as refused:
            self.assembly.begin(block, False)
        named = np.zeros_like(self.mask)
        for rect in refused.value.ranges:
            assert not named[rect.row : rect.row_end, rect.col : rect.col_end].any()
            named[rect.row : rect.row_end, rect.col : rect.col_end] = True
        expected = np.zeros_like(self.mask)
        expected[where] = held
        if len(refused.value.ranges) < 64:
            np.testing.assert_array_equal(named, expected)
        else:
            assert not (named & ~expected).any()

    def carry_through(self, placement: object) -> None:
        for _ in range(10_000):
            self.kept += placement.step()
            if placement.done:
                return
            assert self.kept, "no buffer, although none is on its way to a file"
            self.store(self.kept.pop(0))
        raise AssertionError("the placement never ends")

    def store(self, tile: Tile) -> None:
        assert tile.complete
        self.write(tile, tile.array)
        self.assembly.release(tile)

    def write(self, tile: Tile, elements: np.ndarray) -> None:
        for (row, col), chunk in tile.chunks(elements):
            assert row % self.grid.chunk_rows == col % self.grid.chunk_cols == 0
            assert chunk.shape == (
                min(self.grid.chunk_rows, self.grid.n_rows - row),
                min(self.grid.chunk_cols, self.grid.n_cols - col),
            )
            self.file[row : row + chunk.shape[0], col : col + chunk.shape[1]] = chunk

    # what the pipeline does between blocks

    @rule()
    def store_complete_tiles(self) -> None:
        while self.kept:
            self.store(self.kept.pop())

    @rule()
    def flush(self) -> None:
        for tile in self.assembly.incomplete_tiles():
            assert not tile.complete
            self.write(tile, tile.snapshot())
        for tile in self.kept:
            self.write(tile, tile.array)
        np.testing.assert_array_equal(as_bytes(self.file), as_bytes(self.data))

    @rule(data=st.data())
    def scratch_fails(self, data: st.DataObject) -> None:
        """A disk error passes through, and the same step goes on when it is over."""
        missing = np.flatnonzero(~self.mask.any(axis=1))
        if not len(missing):
            return
        number = missing[data.draw(st.integers(0, len(missing) - 1))]
        elements = random_elements(self.rng, (1, self.grid.n_cols), self.dtype)
        placement = self.assembly.begin(Block(int(number), 1, 0, self.grid.n_cols, elements), False)
        write = self.scratch.write
        self.scratch.write = _no_space
        try:
            self.kept += placement.step()
        except OSError:
            pass
        finally:
            self.scratch.write = write
        self.carry_through(placement)
        self.data[number], self.mask[number] = elements[0], True

    @precondition(lambda self: not self.kept)
    @rule()
    def restart(self) -> None:
        """A new daemon has the file, the states and the partial ranges, and nothing else."""
        self.flush()
        states = self.assembly.positions_state(0, self.grid.n_rows)
        ranges = self.assembly.partial_ranges()
        self.assembly.close()
        assert not self.scratch.slots
        assert self.pool.in_use_bytes == 0
        self.assembly = self.new_assembly()
        self.assembly.load_coverage(states, ranges, self.fetch)
        assert self.assembly.changes.take() == ([], None)

    def fetch(self, rect: Rect) -> np.ndarray:
        assert not self.mask[rect.row : rect.row_end, rect.col : rect.col_end].all()
        assert self.mask[rect.row : rect.row_end, rect.col : rect.col_end].any()
        return self.file[rect.row : rect.row_end, rect.col : rect.col_end]

    # what must hold at any time

    @invariant()
    def coverage_is_exact(self) -> None:
        assembly, mask = self.assembly, self.mask
        assert assembly.total_elements == mask.size
        assert assembly.covered_elements == np.count_nonzero(mask)
        complete, some = mask.all(axis=1), mask.any(axis=1)
        states = np.where(complete, 1, np.where(some, 2, 0))
        np.testing.assert_array_equal(assembly.positions_state(0, self.grid.n_rows), states)
        lo = int(self.rng.integers(0, self.grid.n_rows + 1))
        hi = int(self.rng.integers(lo, self.grid.n_rows + 1))
        np.testing.assert_array_equal(assembly.positions_state(lo, hi), states[lo:hi])
        for ranges, expected in (
            (assembly.complete_ranges(), complete),
            (assembly.missing_ranges(), ~complete),
        ):
            assert ranges == runs_of(expected)

    @invariant()
    def partial_ranges_are_exact(self) -> None:
        ranges = self.assembly.partial_ranges()
        assert ranges.dtype == np.int64
        assert ranges.shape == (len(ranges), 4)
        told = np.zeros_like(self.mask)
        for row, row_end, col, col_end in ranges.tolist():
            assert not told[row:row_end, col:col_end].any()
            told[row:row_end, col:col_end] = True
        partial = self.mask.any(axis=1) & ~self.mask.all(axis=1)
        np.testing.assert_array_equal(told, self.mask & partial[:, None])
        assert len(ranges) == count_merged(self.mask, partial)

    @invariant()
    def changed_rows_are_told(self) -> None:
        states = self.assembly.positions_state(0, self.grid.n_rows)
        runs, window = self.assembly.changes.take()
        before = getattr(self, "states_told", np.zeros(self.grid.n_rows))
        told = np.zeros(self.grid.n_rows, np.bool_)
        for row, row_end in runs:
            assert not told[row:row_end].any()
            told[row:row_end] = True
        assert (before[told] == 0).all()
        assert (states[told] == 1).all()
        if window is not None:
            assert 0 <= window[0] < window[1] <= self.grid.n_rows
            told[slice(*window)] = True
        assert told[states != before].all()
        self.states_told = states

    @invariant()
    def memory_is_bounded(self) -> None:
        assert self.pool.in_use_bytes <= max(self.pool.budget_bytes, self.tile_nbytes)
        assert all(tile.array.shape for tile in self.kept)


def _no_space(slot: int, offset: int, data: object) -> None:
    raise OSError(28, "No space left on device")


def runs_of(flags: np.ndarray) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for number in np.flatnonzero(flags).tolist():
        if runs and runs[-1][1] == number:
            runs[-1] = runs[-1][0], number + 1
        else:
            runs.append((number, number + 1))
    return runs


def count_merged(mask: np.ndarray, partial: np.ndarray) -> int:
    """Count the rectangles when rows next to each other with the same columns stand together."""
    count = 0
    for row in np.flatnonzero(partial).tolist():
        if row and partial[row - 1] and (mask[row] == mask[row - 1]).all():
            continue
        count += len(runs_of(mask[row]))
    return count


TestAssemblyAgainstArray = AssemblyAgainstArray.TestCase
TestAssemblyAgainstArray.settings = settings(stateful_step_count=30)
