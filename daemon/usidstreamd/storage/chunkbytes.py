"""Chunks as bytes of a file, held against the checksums that the ledger has of them.

No HDF5: whatever is wrong with a file's metadata does not matter here. A sector that cannot be read
is damage like any other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from usidstream.checksum import crc32

from .chunktable import Entries
from .positioned import read_at

PROGRESS_EVERY_CHUNKS = 1024

Progress: TypeAlias = Callable[[int, int], None]
"""Takes how many chunks are done, and of how many."""


def no_progress(_done: int, _total: int) -> None:
    """Tell nobody."""


@contextmanager
def reading(path: Path) -> Iterator[int]:
    """Open a file to read at places."""
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        yield fd
    finally:
        os.close(fd)


def read_chunk(fd: int, offset: int, nbytes: int, crc: int) -> bytes | None:
    """Return a chunk's stored bytes, None where they are not those that were written."""
    try:
        payload = read_at(fd, nbytes, offset)
    except OSError:  # a bad sector loses what is on it, and nothing else
        return None
    return payload if len(payload) == nbytes and crc32(payload) == crc else None


def find_damaged(
    path: Path, entries: Entries, progress: Progress = no_progress
) -> npt.NDArray[np.intp]:
    """Read chunks of a file; return the numbers of those that are not as they were written.

    Raises
    ------
    OSError
        The file cannot be opened.
    """
    order = np.argsort(entries["offset"], kind="stable")
    places = entries[order][["offset", "nbytes", "crc32"]].tolist()
    damaged: list[int] = []
    with reading(path) as fd:
        for done, (number, (offset, nbytes, crc)) in enumerate(
            zip(order.tolist(), places, strict=True)
        ):
            if read_chunk(fd, offset, nbytes, crc) is None:
                damaged.append(number)
            if not done % PROGRESS_EVERY_CHUNKS:
                progress(done, len(places))
    progress(len(places), len(places))
    return np.array(sorted(damaged), np.intp)
