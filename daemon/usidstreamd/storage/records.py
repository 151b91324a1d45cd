"""Append-only files of framed records: the ledger's, and the row segments'.

Writing never moves what was written before, and a record that could not be written whole is cut
off again, so that a good one never stands behind a bad one. Reading stops at the first record that
is not whole. What a record means is for others to know; the frame is that of `framing`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TypeAlias

from .checksum import crc32
from .errors import StorageError, storage_error, sync_error
from .files import sync_data
from .framing import HEADER, MAX_RECORD_BYTES, FramingError

READ_BUFFER_BYTES = 1 << 20
MAX_BUFFERS_COUNT = 1000
"""Buffers of one ``writev``; POSIX systems take 1024."""

Buffer: TypeAlias = bytes | bytearray | memoryview
Parts: TypeAlias = Sequence[Buffer]
"""A record's payload in pieces, each C-contiguous, in order."""


def record_header(parts: Parts) -> bytes:
    """Return the frame that precedes a payload; raise `FramingError` if that is too large."""
    length = sum(memoryview(part).nbytes for part in parts)
    if length > MAX_RECORD_BYTES:
        raise FramingError(f"a record holds at most {MAX_RECORD_BYTES} bytes, not {length}")
    crc = crc32(length.to_bytes(4, "little"))
    for part in parts:
        crc = crc32(part, crc)
    return HEADER.pack(length, crc)


class RecordReader:
    """Iterates over the payloads of a file's whole records, one in memory at a time.

    Attributes
    ----------
    good_bytes : int
        Where the last whole record ends; exact when the iteration has ended.
    cut_bytes : int
        What stands behind it, then.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.good_bytes = 0
        self.cut_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        """Yield the payloads; raise `StorageError` where the file cannot be read."""
        try:
            with self._path.open("rb", buffering=READ_BUFFER_BYTES) as file:
                size = os.fstat(file.fileno()).st_size
                self.good_bytes, self.cut_bytes = 0, size
                while (payload := self._next(file.read(HEADER.size), file)) is not None:
                    self.good_bytes += HEADER.size + len(payload)
                    self.cut_bytes = size - self.good_bytes
                    yield payload
        except OSError as error:
            raise storage_error("read", self._path, error) from error

    def _next(self, header: bytes, file: BinaryIO) -> bytes | None:
        if len(header) < HEADER.size:
            return None
        length, crc = HEADER.unpack(header)
        if length > self.cut_bytes - HEADER.size:  # a length that is damaged asks for no memory
            return None
        payload = file.read(length)
        good = crc32(payload, crc32(header[:4])) == crc
        return payload if good and len(payload) == length else None


class RecordFile:
    """A file of records, open to append to. Used by one thread.

    Parameters
    ----------
    path
        Exists if ``good_bytes`` is given, and must not if it is not.
    good_bytes
        Where the last whole record ends; what stands behind it is cut off, durably.

    Raises
    ------
    StorageError
        It cannot be opened, or cut.
    """

    def __init__(self, path: Path, good_bytes: int | None = None) -> None:
        self.path = path
        self._failure: StorageError | None = None
        flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0)
        try:
            new = good_bytes is None
            self._fd = os.open(path, flags | (os.O_CREAT | os.O_EXCL if new else 0), 0o666)
        except OSError as error:
            raise storage_error("open", path, error) from error
        self.nbytes = good_bytes or 0
        try:
            if os.fstat(self._fd).st_size != self.nbytes:
                os.ftruncate(self._fd, self.nbytes)
                os.fsync(self._fd)
        except OSError as error:
            self.close()
            raise storage_error("cut", path, error) from error

    def append(self, records: Sequence[Parts]) -> None:
        """Write records, each as its payload's pieces; `sync` makes them durable.

        Raises
        ------
        StorageError
            None of them is in the file.
        """
        self._require_sound()
        buffers: list[Buffer] = []
        for parts in records:
            buffers += record_header(parts), *parts
        try:
            nbytes = _write_all(self._fd, buffers)
        except OSError as error:
            self._take_back()
            raise storage_error("write", self.path, error) from error
        self.nbytes += nbytes

    def sync(self) -> None:
        """Bring everything appended to the disk.

        Raises
        ------
        SyncError
            Nothing since the last good sync may be relied on; the file takes nothing more.
        """
        self._require_sound()
        try:
            sync_data(self._fd)
        except OSError as error:
            self._failure = sync_error(self.path, error)
            raise self._failure from error

    def close(self) -> None:
        """Close the file; nothing is synced."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):  # what counts was synced before
                os.close(fd)

    def _require_sound(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _take_back(self) -> None:
        """Cut off what was written of records that failed; without that nothing may follow."""
        try:
            os.ftruncate(self._fd, self.nbytes)
        except OSError as error:
            self._failure = storage_error("cut", self.path, error)
            raise self._failure from error


def _write_all(fd: int, buffers: Sequence[Buffer]) -> int:
    """Write buffers one behind the other, however little the system takes at a time."""
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
