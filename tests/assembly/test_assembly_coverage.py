"""What a tile's coverage costs, and the corners that random blocks seldom meet."""

from __future__ import annotations

import numpy as np
import pytest

from usidstreamd.assembly.coverage import TileCoverage, pack, span, unpack


def table_size(coverage: TileCoverage) -> int:
    """Return how many patterns it keeps: what its memory grows with."""
    return len(coverage._patterns)


def new_coverage(n_lines: int, n_cells: int) -> TileCoverage:
    return TileCoverage(n_lines, n_cells, span(0, n_cells))


def test_patterns_and_booleans_are_the_same() -> None:
    rng = np.random.default_rng(1)
    for n_cells in (1, 7, 8, 9, 1000):
        cells = rng.random(n_cells) < 0.5
        np.testing.assert_array_equal(unpack(pack(cells), n_cells), cells)
    assert span(3, 5) == 0b11000


def test_a_column_wise_scan_keeps_few_patterns() -> None:
    coverage = new_coverage(64, 5000)
    for cell in np.random.default_rng(2).permutation(5000).tolist():
        assert not coverage.touches(slice(0, 64), span(cell, cell + 1))
        coverage.add(slice(0, 64), span(cell, cell + 1), 64)
        assert table_size(coverage) <= 32
    assert coverage.complete


def test_lines_in_segments_keep_few_patterns() -> None:
    coverage = new_coverage(500, 40)
    for line in np.random.default_rng(3).permutation(500).tolist():
        for cell in (30, 0, 20, 10):
            coverage.add(slice(line, line + 1), span(cell, cell + 10), 10)
            assert table_size(coverage) <= 32
    assert coverage.complete


@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_more_patterns_than_a_byte_can_number(n_steps: int) -> None:
    """The more steps a line takes, the more patterns are dropped on the way to the 256th."""
    n_lines, n_cells = 500, 24
    coverage = new_coverage(n_lines, n_cells)
    mask = np.random.default_rng(4).random((n_lines, n_cells)) < 0.5
    for line in range(n_lines):
        for cells in np.array_split(np.arange(n_cells), n_steps):
            step = np.zeros(n_cells, np.bool_)
            step[cells] = mask[line, cells]
            coverage.add(slice(line, line + 1), pack(step), int(np.count_nonzero(step)))
        np.testing.assert_array_equal(coverage.mask()[: line + 1], mask[: line + 1])
    assert table_size(coverage) > 256
    for line in range(n_lines):
        rest = pack(~mask[line])
        assert not coverage.touches(slice(line, line + 1), rest)
        coverage.add(slice(line, line + 1), rest, int(np.count_nonzero(~mask[line])))
    assert coverage.complete


def test_whole_lines_in_sequence_need_no_table() -> None:
    for sequence in (range(0, 100, 10), range(90, -10, -10)):
        coverage = new_coverage(100, 3)
        for line in sequence:
            assert not coverage.touches(slice(line, line + 10), coverage.full)
            coverage.add(slice(line, line + 10), coverage.full, 30)
            assert coverage.touches(slice(line, line + 1), 1)
        assert not hasattr(coverage, "_patterns")
        assert coverage.complete
