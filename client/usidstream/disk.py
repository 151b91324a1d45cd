"""Bytes to a disk, and the proof that they are there: what differs between platforms.

It knows file descriptors and raises `OSError` as the system says; what a file means, and what to
tell whom, is for others to know.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .framing import Buffer

MAX_BUFFERS_COUNT = 1000
"""Buffers of one ``writev``; POSIX systems take 1024."""


# EFBIG stands for a quota by RLIMIT_FSIZE or a file system's largest file.
NO_SPACE_NUMBERS = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})


def sync_data(fd: int) -> None:
    """Bring a file's data, and the size needed to read it, to the disk.

    Raises
    ------
    OSError
        As the operating system says; nothing since the last good sync may be relied on.
    """
    if sys.platform == "darwin":  # fsync leaves the data in the drive's cache there
        import fcntl

        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    elif hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        os.fsync(fd)


def sync_names(directory: Path) -> None:
    """Bring a directory's names to the disk, where the platform has such an operation."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, buffers: Sequence[Buffer]) -> int:
    """Write buffers one behind the other, however little the system takes at a time.

    Returns
    -------
    int
        How many bytes these are.
    """
    views = [memoryview(buffer).cast("B") for buffer in buffers]
    total = sum(len(view) for view in views)
    first = 0
    while first < len(views):
        left = _write_some(fd, views[first : first + MAX_BUFFERS_COUNT])
        while first < len(views) and left >= len(views[first]):
            left -= len(views[first])
            first += 1
        if left:
            views[first] = views[first][left:]
    return total


def _write_some(fd: int, views: Sequence[memoryview]) -> int:
    if hasattr(os, "writev"):
        return os.writev(fd, views)
    return os.write(fd, views[0])
