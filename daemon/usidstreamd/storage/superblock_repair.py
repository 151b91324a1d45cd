"""A superblock that a dead writer left, made right: no flags, and an end that cuts nothing off.

HDF5 refuses a file whose writer died; with the flags cleared but the end of allocation as it
stands in the superblock, it would cut the file below live chunks. So the end is moved behind
everything that is known to be there, and the checksum made anew. `RepairedView` shows a file so
without changing it, for looking; `repair` changes it, for going on.

Layout of superblock versions 2 and 3: HDF5 File Format Specification, section II.A. Checksum:
Bob Jenkins' lookup3 (``hashlittle``), as the specification names it.
"""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from usidstream.disk import sync_data

from .errors import damaged_error, storage_error
from .superblock import SIGNATURE

# signature, version, sizes of offsets and lengths, flags; base, extension, end, root; checksum
_LAYOUT = struct.Struct("<8s4B4QI")
SUPERBLOCK_BYTES = _LAYOUT.size
_CHECKSUM_BYTES = 4
_VERSIONS = (2, 3)
_U32 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Superblock:
    """A superblock of version 2 or 3 with offsets of 8 bytes, at the file's beginning.

    Parameters
    ----------
    version
    flags
        0 where no writer has the file open.
    extension, root
        Addresses that are kept.
    end
        The end of allocation: the first byte behind what HDF5 counts as the file.
    """

    version: int
    flags: int
    extension: int
    end: int
    root: int

    @classmethod
    def from_bytes(cls, head: bytes) -> Superblock:
        """Read a superblock; raise ValueError where there is none that is whole."""
        if len(head) < SUPERBLOCK_BYTES or not head.startswith(SIGNATURE):
            raise ValueError("does not begin with a superblock")
        head = head[:SUPERBLOCK_BYTES]
        _, version, offsets, lengths, flags, base, extension, end, root, checksum = _LAYOUT.unpack(
            head
        )
        if version not in _VERSIONS or (offsets, lengths) != (8, 8) or base != 0:
            raise ValueError(f"has a superblock of version {version} that is not the daemon's")
        if lookup3(head[:-_CHECKSUM_BYTES]) != checksum:
            raise ValueError("has a superblock whose checksum is wrong")
        return cls(version, flags, extension, end, root)

    def to_bytes(self) -> bytes:
        """Return the superblock with its checksum."""
        fields = (SIGNATURE, self.version, 8, 8, self.flags, 0, self.extension, self.end, self.root)
        content = _LAYOUT.pack(*fields, 0)[:-_CHECKSUM_BYTES]
        return content + lookup3(content).to_bytes(_CHECKSUM_BYTES, "little")

    def repaired(self, end: int) -> Superblock:
        """Return it without flags, ending no earlier than asked for."""
        return replace(self, flags=0, end=max(self.end, end))


def read_superblock(path: Path) -> Superblock:
    """Read a file's superblock.

    Raises
    ------
    StorageError
        ``file_damaged``: there is none, or it is not whole; ``storage_failed``: not readable.
    """
    try:
        with path.open("rb") as file:
            head = file.read(SUPERBLOCK_BYTES)
    except OSError as error:
        raise storage_error("read", path, error) from error
    try:
        return Superblock.from_bytes(head)
    except ValueError as error:
        raise damaged_error(path, f"{error}.") from error


def repair(path: Path, end: int = 0) -> bool:
    """Make a file's superblock right, durably; return whether anything was changed.

    Does nothing to a file that is right, and may be cut short anywhere and done again.

    Parameters
    ----------
    end
        The first byte behind everything known to be in the file.

    Raises
    ------
    StorageError
        As `read_superblock`; or it could not be written.
    """
    found = read_superblock(path)
    try:
        size = path.stat().st_size
        wanted = found.repaired(max(end, size))
        if wanted == found and size >= wanted.end:
            return False
        with path.open("r+b", buffering=0) as file:
            if size < wanted.end:  # HDF5 refuses a file that is shorter than it says
                file.truncate(wanted.end)
                os.fsync(file.fileno())
            file.write(wanted.to_bytes())
            sync_data(file.fileno())
    except OSError as error:
        raise storage_error("repair", path, error) from error
    return True


class RepairedView(io.RawIOBase):
    """A file as `repair` would leave it, to be read by h5py; the file itself is not changed.

    Parameters
    ----------
    path
    end
        As for `repair`.
    """

    def __init__(self, path: Path, end: int = 0) -> None:
        super().__init__()
        found = read_superblock(path)
        self._file = path.open("rb", buffering=0)
        size = os.fstat(self._file.fileno()).st_size
        superblock = found.repaired(max(end, size))
        self._head = superblock.to_bytes()
        self._nbytes = superblock.end
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset; return the position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._nbytes}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what stands at the position; return the number of bytes."""
        view = memoryview(buffer).cast("B")
        wanted = max(0, min(len(view), self._nbytes - self._position))
        self._file.seek(self._position)
        done = 0
        while done < wanted and (count := self._file.readinto(view[done:wanted])):
            done += count
        view[done:wanted] = bytes(wanted - done)  # behind the file's own end
        if self._position < len(self._head):
            head = self._head[self._position :][:wanted]
            view[: len(head)] = head
        self._position += wanted
        return wanted

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()


# ---------------------------------------------------------------- the checksum


def lookup3(data: bytes) -> int:
    """Return Jenkins' ``hashlittle(data, initval=0)``: 32 bits."""
    a = b = c = (0xDEADBEEF + len(data)) & _U32
    padded = data + bytes(-len(data) % 12)
    words = struct.unpack(f"<{len(padded) // 4}I", padded)
    for k in range(0, len(words) - 3, 3):
        a, b, c = _mixed(a + words[k], b + words[k + 1], c + words[k + 2])
    if not words:
        return c
    return _final(a + words[-3], b + words[-2], c + words[-1])


def _rotated(value: int, bits: int) -> int:
    value &= _U32
    return (value << bits | value >> (32 - bits)) & _U32


def _mixed(a: int, b: int, c: int) -> tuple[int, int, int]:
    for bits in (4, 6, 8, 16, 19, 4):
        a = (a - c) & _U32 ^ _rotated(c, bits)
        a, b, c = b, c + b & _U32, a  # each round takes the three in turn
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    for bits in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _rotated(b, bits)) & _U32
        a, b, c = b, c, a
    return b
