"""A tile's lines in the scratch, where they go on taking elements in place.

So a scan in random order that is larger than memory costs one small write for each row, not a swap
of whole tiles: whole lines are one write, a few narrow pieces are a write each, and anything else
rewrites the lines it lies in. This module knows lines, cells and bytes; not what is held.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

import numpy as np
import numpy.typing as npt

from .blocks import Elements, Part
from .coverage import Lines, consecutive_runs
from .scratch import Scratch

MAX_PIECE_WRITES = 64
"""More lines than this are read, filled in and written back instead of piece by piece."""


class Slots:
    """The numbers of an assembly's slots in its scratch: the lowest free one first."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._n_slots = 0

    def take(self) -> int:
        """Return a number that no tile has."""
        if self._free:
            return heappop(self._free)
        self._n_slots += 1
        return self._n_slots - 1

    def give(self, slot: int) -> None:
        """Take a number back."""
        heappush(self._free, slot)


class ParkedLines:
    """A slot of the scratch as lines of ``n_cells`` elements.

    Parameters
    ----------
    scratch, slots
        The assembly's own.
    n_cells
        Elements of a line.
    element
        Their dtype.
    """

    __slots__ = ("_element", "_line_nbytes", "_n_cells", "_scratch", "_slot", "_slots")

    def __init__(
        self, scratch: Scratch, slots: Slots, n_cells: int, element: np.dtype[Any]
    ) -> None:
        self._scratch = scratch
        self._slots = slots
        self._n_cells = n_cells
        self._element = element
        self._line_nbytes = n_cells * element.itemsize
        self._slot = slots.take()

    def free(self) -> None:
        """Forget the lines and give the slot's number back."""
        self._scratch.free(self._slot)
        self._slots.give(self._slot)

    def read_into(self, lines: Elements) -> None:
        """Fill contiguous lines with those from line 0 on; what was never written is anything."""
        self._scratch.read_into(self._slot, 0, _bytes(lines))

    def write(self, start: int, lines: Elements) -> None:
        """Write contiguous whole lines, the first of them line ``start``."""
        self._scratch.write(self._slot, start * self._line_nbytes, _bytes(lines))

    def place(self, part: Part) -> None:
        """Put a part at its place."""
        if isinstance(part.lines, slice):
            self._place_run(part.lines.start, part.cells, part.source)
            return
        for start, stop in consecutive_runs(part.lines):
            self._place_run(int(part.lines[start]), part.cells, part.source[start:stop])

    def _place_run(self, start: int, cells: Lines, source: Elements) -> None:
        if source.shape[1] == self._n_cells:
            self.write(start, np.ascontiguousarray(source))
        elif isinstance(cells, slice) and len(source) <= MAX_PIECE_WRITES:
            offset = start * self._line_nbytes + cells.start * self._element.itemsize
            for piece in np.ascontiguousarray(source):
                self._scratch.write(self._slot, offset, _bytes(piece))
                offset += self._line_nbytes
        else:
            self._rewrite_run(start, cells, source)

    def _rewrite_run(self, start: int, cells: Lines, source: Elements) -> None:
        lines = np.empty((len(source), self._n_cells), self._element)
        self._scratch.read_into(self._slot, start * self._line_nbytes, _bytes(lines))
        lines[:, cells] = source
        self.write(start, lines)


def _bytes(elements: Elements) -> npt.NDArray[np.uint8]:
    """Return contiguous elements as bytes, without a copy."""
    return elements.reshape(-1).view(np.uint8)
