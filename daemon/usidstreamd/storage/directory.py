"""The data directory: one daemon at a time, and the scans that wait in it.

Two daemons in one directory would both continue the same scans, so a lock is held from start to
end; the operating system releases it when a daemon dies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from usidstream.errors import UsidstreamError

from .errors import StorageError, storage_error
from .record import OpenRecord, find_journals, remove_unfinished

LOCK_PARTS = (".usidstream", "lock")


class DataDirectory:
    """A data directory, locked until `close`.

    Parameters
    ----------
    path
        Made if it does not exist.

    Raises
    ------
    UsidstreamError
        It cannot be made or written, or another daemon uses it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = _acquire(path)
        remove_unfinished(path)

    def waiting(self) -> Iterator[OpenRecord | StorageError]:
        """Yield the scans that wait for their client, and what could not be read of others."""
        return find_journals(self.path)

    def close(self) -> None:
        """Release the lock."""
        self._lock.release()


@contextmanager
def hold_directory(path: Path) -> Iterator[None]:
    """Keep daemons out of a data directory while the ``with`` block lasts.

    Raises
    ------
    UsidstreamError
        It cannot be written, or a daemon uses it.
    """
    lock = _acquire(path)
    try:
        yield
    finally:
        lock.release()


def _acquire(path: Path) -> BaseFileLock:
    lock_path = path.joinpath(*LOCK_PARTS)
    lock = FileLock(lock_path)
    try:
        lock_path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UsidstreamError(
            f"{path} is in use by another daemon",
            code="storage_failed",
            hint="Stop that one, or choose another --data-dir.",
        ) from error
    except OSError as error:
        raise storage_error("lock", lock_path, error) from error
    return lock
