"""The memory that all tiles of all scans share, and the order in which they give it up.

A buffer is plain bytes; the pool knows no tile, only *holders* that can be asked to `park`. When
the budget is spent it asks the holder that was used longest ago, whichever scan it belongs to. It
never waits: where nobody can park, for all buffers are on their way into files, it says so.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

import numpy as np
import numpy.typing as npt

Buffer = npt.NDArray[np.uint8]


class Holder(Protocol):
    """Something that holds a buffer and can do without it."""

    def park(self) -> None:
        """Put the buffer's content elsewhere and `BufferPool.give` it back.

        What it raises reaches the caller of `BufferPool.take`; the holder then still has its
        buffer.
        """


class BufferPool:
    """Buffers of at most ``budget_bytes`` in all, given back and taken again.

    A single buffer larger than the budget is granted when no other is in use, so that a small
    budget makes a scan slow but never stops it. Used from one thread.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.in_use_bytes = 0
        self._spare: dict[int, list[Buffer]] = {}
        self._spare_bytes = 0
        self._holders: OrderedDict[Holder, None] = OrderedDict()
        self._latest: Holder | None = None

    def take(self, nbytes: int) -> Buffer | None:
        """Return a buffer with any content, or None until one in use is given back.

        Raises
        ------
        Exception
            What a holder raised that could not park, if no other could either.
        """
        while self.in_use_bytes and self.in_use_bytes + nbytes > self.budget_bytes:
            if not self._park_one():
                return None
        spare = self._spare.get(nbytes)
        if spare:
            self._spare_bytes -= nbytes
            buffer = spare.pop()
        else:
            self._shrink_spare(self.budget_bytes - self.in_use_bytes - nbytes)
            buffer = np.empty(nbytes, np.uint8)
        self.in_use_bytes += nbytes
        return buffer

    def give(self, buffer: Buffer) -> None:
        """Take a buffer back; its content is forgotten."""
        self.in_use_bytes -= buffer.nbytes
        if self.in_use_bytes + self._spare_bytes + buffer.nbytes <= self.budget_bytes:
            self._spare.setdefault(buffer.nbytes, []).append(buffer)
            self._spare_bytes += buffer.nbytes

    def use(self, holder: Holder) -> None:
        """Note that the holder's buffer was used just now: it is the last to be parked."""
        if holder is not self._latest:
            self._holders[holder] = None
            self._holders.move_to_end(holder)
            self._latest = holder

    def forget(self, holder: Holder) -> None:
        """Ask this holder no more: its buffer is complete, parked or dropped."""
        self._holders.pop(holder, None)
        if self._latest is holder:
            self._latest = None

    def _park_one(self) -> bool:
        """Ask holders to park until one does. The disk of one scan must not stop another."""
        failure: Exception | None = None
        for holder in tuple(self._holders):
            try:
                holder.park()
            except Exception as error:  # noqa: BLE001  # raised below if nobody can park
                failure = failure or error
            else:
                return True
        if failure is not None:
            raise failure
        return False

    def _shrink_spare(self, allowed_bytes: int) -> None:
        """Let go of spare buffers, which have the wrong size, until they fit what is allowed."""
        for nbytes, buffers in list(self._spare.items()):
            while buffers and self._spare_bytes > allowed_bytes:
                buffers.pop()
                self._spare_bytes -= nbytes
            if not buffers:
                del self._spare[nbytes]
