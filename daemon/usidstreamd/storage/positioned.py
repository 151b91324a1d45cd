"""Reading at a place in a file, on every platform, whatever the descriptor's position."""

from __future__ import annotations

import os


def read_at(fd: int, nbytes: int, offset: int) -> bytes:
    """Return so many bytes from an offset, fewer where the file ends.

    Where the system has no such call, no other thread may use the descriptor.
    """
    pieces: list[bytes] = []
    while nbytes and (piece := _read_some(fd, nbytes, offset)):
        pieces.append(piece)
        nbytes -= len(piece)
        offset += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _read_some(fd: int, nbytes: int, offset: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(fd, nbytes, offset)
    os.lseek(fd, offset, os.SEEK_SET)
    return os.read(fd, nbytes)
