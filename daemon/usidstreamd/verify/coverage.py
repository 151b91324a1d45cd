"""Whether the coverage of a main can be true: states and ranges agree with each other.

Pure numpy, on blocks of states and the table of ranges. Each function yields what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..storage.coverage import COMPLETE, PARTIAL, States

Table = npt.NDArray[np.int64]


def range_faults(ranges: Table, n_positions: int, n_columns: int) -> Iterator[str]:
    """Yield what is wrong with a table of partial ranges (k, 4) by itself.

    It is in the order of rows, then columns; ranges that share rows have the same first and last
    row, do not overlap, and leave a gap, for a position without one is complete.
    """
    row, row_end, col, col_end = ranges.T
    outside = (row < 0) | (row_end > n_positions) | (col < 0) | (col_end > n_columns)
    empty = (row >= row_end) | (col >= col_end)
    for number in np.flatnonzero(outside | empty):
        yield f"range {ranges[number].tolist()} is empty or outside the main"
    if (outside | empty).any():
        return
    same_rows = (row[1:] == row[:-1]) & (row_end[1:] == row_end[:-1])
    follows = np.where(same_rows, col[1:] > col_end[:-1], row[1:] >= row_end[:-1])
    for number in np.flatnonzero(~follows):
        yield f"ranges {ranges[number].tolist()} and {ranges[number + 1].tolist()} clash"
    if len(ranges):
        starts = np.concatenate([[0], np.flatnonzero(~same_rows) + 1])
        widths = np.add.reduceat(col_end - col, starts)
        for number in starts[widths >= n_columns]:
            yield f"range {ranges[number].tolist()} covers its positions wholly"


def state_faults(blocks: Iterable[States], ranges: Table) -> Iterator[str]:
    """Yield where the states of positions, in consecutive blocks, and the ranges disagree."""
    offset = 0
    for states in blocks:
        unknown = states > PARTIAL
        if unknown.any():
            first = offset + int(np.argmax(unknown))
            yield f"position {first} has state {states[first - offset]}"
        differ = (states == PARTIAL) != in_ranges(ranges, offset, offset + len(states))
        if differ.any():
            at = int(np.argmax(differ))
            said = "partial but has no range" if states[at] == PARTIAL else "in a range"
            yield (
                f"position {offset + at} is {said} (state {states[at]}), as are "
                f"{int(differ.sum()) - 1} more near it"
            )
        offset += len(states)


def in_ranges(ranges: Table, start: int, stop: int) -> npt.NDArray[np.bool_]:
    """Return for positions start to stop whether any range has them."""
    edges = np.zeros(stop - start + 1, np.int64)
    near = ranges[(ranges[:, 0] < stop) & (ranges[:, 1] > start)]
    np.add.at(edges, np.clip(near[:, 0], start, stop) - start, 1)
    np.add.at(edges, np.clip(near[:, 1], start, stop) - start, -1)
    inside: npt.NDArray[np.bool_] = np.cumsum(edges[:-1]) > 0
    return inside


def missing_chunks(
    stored: npt.NDArray[np.bool_],
    chunk_shape: tuple[int, int],
    blocks: Iterable[States],
    ranges: Table,
) -> Iterator[tuple[int, int]]:
    """Yield row and column of each chunk that is not stored though something in it is covered.

    Parameters
    ----------
    stored
        (bands, chunks across), whether each chunk of the main is in the file.
    chunk_shape
        Rows and columns of a chunk.
    blocks
        The states of consecutive positions.
    ranges
        The partial ranges.
    """
    rows, cols = chunk_shape
    needed = np.zeros_like(stored)
    offset = 0
    for states in blocks:
        bands = np.unique((offset + np.flatnonzero(states == COMPLETE)) // rows)
        needed[bands] = True
        offset += len(states)
    for row, row_end, col, col_end in ranges.tolist():
        needed[row // rows : -(-row_end // rows), col // cols : -(-col_end // cols)] = True
    for band, across in np.argwhere(needed & ~stored).tolist():
        yield band * rows, across * cols


def positions_complete(blocks: Iterable[tuple[Any, ...]]) -> int:
    """Count the positions that are complete in each of several mains, block by block."""
    return sum(
        int(np.count_nonzero(np.all([states == COMPLETE for states in block], axis=0)))
        for block in blocks
    )
