"""Memory for blocks, cut from larger pieces.

A block is copied into memory that is not in use, and the first touch of each page of it costs more
than copying the pixels that go there. So it is cut from *slabs*, for which numpy asks the kernel
for pages of 2 MiB, and slabs stand in a *ring*: blocks become durable about in the order in which
they were cut, and the oldest slab is used again as soon as nothing refers to it. Some are touched
while a scan is being opened, before the first pixel is there. It knows bytes only.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

SLAB_BYTES = 8 << 20
MAX_CUT_BYTES = SLAB_BYTES // 4
"""What is larger has memory of its own."""
MAX_RING_SLABS_COUNT = 16
"""More than what is retained at most comes to; what is older is let go when its blocks are."""
ALIGNMENT_BYTES = 64

Slab = npt.NDArray[np.uint8]


def _count_of_one() -> int:
    only = deque([object()]).popleft()
    return sys.getrefcount(only)


_ONE = _count_of_one()
"""References to what a single variable refers to, as this interpreter counts them."""


class SlabRing:
    """The slabs of one scan, the oldest first.

    May be used by several threads: who has taken a slab out looks at it alone.
    """

    def __init__(self) -> None:
        self._slabs: deque[Slab] = deque()

    def touch(self, nbytes: int) -> None:
        """Have whole slabs ready for as many bytes, every page of them touched."""
        for _ in range(min(nbytes // SLAB_BYTES, MAX_RING_SLABS_COUNT)):
            slab = np.empty(SLAB_BYTES, np.uint8)
            slab.fill(0)
            self._slabs.appendleft(slab)

    def let_go(self) -> None:
        """Hold no slab; those that are in use stay with their users."""
        self._slabs.clear()

    def take(self) -> Slab:
        """Return a slab with any content, which nobody else uses while it is referred to."""
        slab = self._oldest_if_free()
        if slab is None:
            slab = np.empty(SLAB_BYTES, np.uint8)
            if len(self._slabs) >= MAX_RING_SLABS_COUNT:
                self._slabs.popleft()
        self._slabs.append(slab)
        return slab

    def _oldest_if_free(self) -> Slab | None:
        try:
            slab = self._slabs.popleft()
        except IndexError:
            return None
        if sys.getrefcount(slab) == _ONE:
            return slab
        self._slabs.appendleft(slab)
        return None


class Slabs:
    """Where blocks that are cut one after the other get their memory.

    Parameters
    ----------
    ring
        Where slabs come from.
    expected_bytes
        What will be asked for in all: where that is less than a slab, none is taken.
    """

    def __init__(self, ring: SlabRing, expected_bytes: int = SLAB_BYTES) -> None:
        self._ring = ring
        self._slab_bytes = min(SLAB_BYTES, expected_bytes)
        self._left: Slab = np.empty(0, np.uint8)

    def take_array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return an array with any content."""
        return self._take(math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)

    def let_go(self) -> None:
        """Hold no memory for the next ones."""
        self._left = self._left[:0].copy()

    def _take(self, nbytes: int) -> Slab:
        if nbytes > min(MAX_CUT_BYTES, self._slab_bytes):
            return np.empty(nbytes, np.uint8)
        if nbytes > len(self._left):
            self._left = self._new_slab()
        used = -(-nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        taken, self._left = self._left[:nbytes], self._left[used:]
        return taken

    def _new_slab(self) -> Slab:
        if self._slab_bytes < SLAB_BYTES:
            return np.empty(self._slab_bytes, np.uint8)
        return self._ring.take()
