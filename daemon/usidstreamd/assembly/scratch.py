"""Where parked tiles lie: the contract, and the one that keeps them in memory.

A scratch belongs to one assembly. It knows slots and bytes, not what they mean.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[Any] | memoryview
"""Contiguous bytes, whatever their dtype."""


class Scratch(Protocol):
    """Slots for parked tiles.

    Slots are numbered from 0, the lowest free one first, and each holds at most the bytes of one
    whole tile of its assembly. Nothing needs to survive a restart. Errors of the disk are raised as
    they are: what was being written is then still in memory.
    """

    def write(self, slot: int, offset: int, data: Bytes) -> None:
        """Write C-contiguous data into a slot, at an offset in bytes."""

    def read_into(self, slot: int, offset: int, buffer: Bytes) -> None:
        """Fill a C-contiguous buffer; bytes never written may come back as anything."""

    def free(self, slot: int) -> None:
        """Forget a slot's content, if it has any; its number may come again."""


class MemoryScratch:
    """A scratch without a file, for tests and trials.

    Parameters
    ----------
    slot_nbytes
        Bytes of a slot: those of a whole tile.
    """

    def __init__(self, slot_nbytes: int) -> None:
        self.slot_nbytes = slot_nbytes
        self.slots: dict[int, npt.NDArray[np.uint8]] = {}

    def write(self, slot: int, offset: int, data: Bytes) -> None:
        """See `Scratch.write`."""
        stored = self.slots.get(slot)
        if stored is None:
            stored = self.slots[slot] = np.full(self.slot_nbytes, 0xA5, np.uint8)
        flat = np.frombuffer(data, np.uint8)
        stored[offset : offset + len(flat)] = flat

    def read_into(self, slot: int, offset: int, buffer: Bytes) -> None:
        """See `Scratch.read_into`."""
        flat = np.frombuffer(buffer, np.uint8)
        flat[:] = self.slots[slot][offset : offset + len(flat)]

    def free(self, slot: int) -> None:
        """See `Scratch.free`."""
        self.slots.pop(slot, None)
