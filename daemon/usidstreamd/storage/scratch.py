"""Tiles that found no room in memory, parked in one sparse file of slots.

Nothing here is durable or meant to be: a tile's elements count only when the scan's own file holds
them. The file is made by the first write and removed at `FileScratch.close`; one that a killed
daemon left is emptied, for what it holds was never promised.
"""

from __future__ import annotations

from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from .errors import storage_error


class FileScratch:
    """Slots of a fixed size in a file; satisfies `usidstreamd.assembly.scratch.Scratch`.

    Used by one thread, the assembly's. The lowest free slot is taken first, so the file is never
    larger than the most tiles that were parked at once.

    Parameters
    ----------
    path
        The file, in the scan's journal directory.
    slot_nbytes
        The size of a slot: that of a whole tile.
    """

    def __init__(self, path: Path, slot_nbytes: int) -> None:
        self.path = path
        self.slot_nbytes = slot_nbytes
        self._file: FileIO | None = None

    def write(self, slot: int, offset: int, data: Any) -> None:
        """Write C-contiguous data into a slot, at an offset in bytes.

        Raises
        ------
        StorageError
            ``no_space`` or ``storage_failed``; what was to be written is still the caller's.
        """
        rest = np.frombuffer(data, np.uint8).data
        try:
            file = self._at(slot, offset, len(rest))
            while rest:
                rest = rest[file.write(rest) :]
        except OSError as error:
            raise storage_error("write", self.path, error) from error

    def read_into(self, slot: int, offset: int, buffer: Any) -> None:
        """Fill a C-contiguous buffer; bytes never written come back as anything.

        Raises
        ------
        StorageError
            ``storage_failed``.
        """
        rest = np.frombuffer(buffer, np.uint8).data
        try:
            file = self._at(slot, offset, len(rest))
            while rest and (count := file.readinto(rest)):
                rest = rest[count:]
        except OSError as error:
            raise storage_error("read", self.path, error) from error

    def free(self, slot: int) -> None:
        """Forget a slot's content; its blocks stay on the disk for the next tile to be parked."""

    def close(self) -> None:
        """Remove the file. A later write makes it anew."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self.path.unlink(missing_ok=True)

    def _at(self, slot: int, offset: int, nbytes: int) -> FileIO:
        if offset + nbytes > self.slot_nbytes:
            raise ValueError(f"{nbytes} bytes at {offset} overrun a slot of {self.slot_nbytes}")
        if self._file is None:
            self._file = FileIO(self.path, "w+")
        self._file.seek(slot * self.slot_nbytes + offset)
        return self._file
