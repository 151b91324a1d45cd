"""What is covered, as the file says it: a state for each position, and ranges of partial ones.

Pure numpy on what the datasets ``completed_positions`` and ``partial_ranges`` hold; knows no file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

MISSING, COMPLETE, PARTIAL = 0, 1, 2

States = npt.NDArray[np.uint8]
PartialRanges = npt.NDArray[np.int64]
Ranges = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Coverage:
    """The coverage of one main.

    Parameters
    ----------
    states
        (N,) uint8: 0 missing, 1 complete, 2 partial.
    partial
        (k, 4) int64: row, row end, column, column end, half-open; the elements held of positions
        that are partial.
    """

    states: States
    partial: PartialRanges


@dataclass(frozen=True, slots=True)
class CoverageUpdate:
    """What changed in the coverage of one main since its last commit.

    Parameters
    ----------
    lo
        The first position that changed.
    states
        (n,) uint8: the states of positions ``lo`` to ``lo + n``; may be empty.
    partial
        (k, 4) int64: all partial ranges of the main, not only those that changed.
    """

    lo: int
    states: States
    partial: PartialRanges


def used_ranges(partial: npt.NDArray[Any]) -> PartialRanges:
    """Drop the rows of ``partial_ranges`` that hold nothing (a growing file never shrinks it)."""
    table = np.asarray(partial, dtype=np.int64).reshape(-1, 4)
    return table[table[:, 1] > table[:, 0]]


def incomplete_ranges(blocks: Iterable[States]) -> Ranges:
    """Return the half-open ranges of positions that are not complete.

    Parameters
    ----------
    blocks
        The states of consecutive positions from 0 on, in pieces of any size.
    """
    ranges: Ranges = []
    offset = 0
    for block in blocks:
        for start, stop in _runs(block != COMPLETE):
            if ranges and ranges[-1][1] == offset + start:
                ranges[-1] = (ranges[-1][0], offset + stop)
            else:
                ranges.append((offset + start, offset + stop))
        offset += len(block)
    return ranges


def _runs(flags: npt.NDArray[np.bool_]) -> Ranges:
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
