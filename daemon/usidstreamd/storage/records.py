"""Append-only files of framed records: the ledger's, and the row segments'.

Writing never moves what was written before, and a record that could not be written whole is cut
off again, so that a good one never stands behind a bad one. Reading stops at the first record that
is not whole. What a record means is for others to know; the frame is that of `usidstream.framing`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from usidstream.disk import write_all
from usidstream.framing import HEADER, Buffer, FramingError, Parts, read_records, record_header

from .errors import StorageError, storage_error, sync_error
from .syncs import sync

READ_BUFFER_BYTES = 1 << 20


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
                with contextlib.suppress(FramingError):  # what stands behind is counted, not read
                    for payload in read_records(file, size):
                        self.good_bytes += HEADER.size + len(payload)
                        self.cut_bytes = size - self.good_bytes
                        yield payload
        except OSError as error:
            raise storage_error("read", self._path, error) from error


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
            nbytes = write_all(self._fd, buffers)
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
            sync(self._fd, "journal")
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
