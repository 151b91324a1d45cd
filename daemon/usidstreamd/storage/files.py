"""Files and their names: what may stand in a data directory, and how it gets there for good.

A name that a client chose is a name, never a path. A file is published under its final name only
when its content is on the disk, and the name is on the disk before anybody is told. This module
knows file systems; it must never know HDF5, scans or threads.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from usidstream.disk import sync_data, sync_names
from usidstream.errors import LayoutError

from .errors import storage_error, sync_error

MAX_FILE_NAME_BYTES = 200  # leaves room for the time, the scan id and ".h5.journal" within 255
JOURNAL_SUFFIX = ".journal"
TEMPORARY_SUFFIX = ".tmp"

_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\<>:"|?*]')
_NO_HARD_LINKS = frozenset(
    {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, getattr(errno, "ENOTSUP", errno.EOPNOTSUPP)}
)
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|\Z)", re.IGNORECASE)


def safe_name(file: str) -> str:
    """Return the name that a client asked for, if it can stand in a directory anywhere.

    Raises
    ------
    LayoutError
        ``bad_name``: empty, too long, a path, hidden, or refused by some file system.
    """
    problem = _name_problem(file)
    if problem:
        raise LayoutError(
            f"{file[:60]!r} {problem}",
            field="file",
            hint="Give a plain name such as 'sample_A'; the daemon adds time, scan id and '.h5'.",
            code="bad_name",
        )
    return file


def _name_problem(file: str) -> str:
    try:
        length = len(file.encode("utf-8"))
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if not 1 <= length <= MAX_FILE_NAME_BYTES:
        return f"has {length} bytes; 1 to {MAX_FILE_NAME_BYTES} are allowed"
    if _FORBIDDEN.search(file):
        return "holds a character that file names must not have"
    if file.startswith((".", " ")) or file.endswith((".", " ")):
        return "begins or ends with a dot or a blank"
    if _DEVICES.match(file):
        return "is the name of a device on Windows"
    return ""


def scan_file_name(file: str, created: datetime, scan_id: str) -> str:
    """Return ``<file>_<YYYYmmdd-HHMMSS>_<first 8 of scan id>.h5``, in local time."""
    return f"{safe_name(file)}_{created.astimezone():%Y%m%d-%H%M%S}_{scan_id[:8]}.h5"


def journal_dir(path: Path) -> Path:
    """Return the journal directory of a scan's file."""
    return path.with_name(path.name + JOURNAL_SUFFIX)


def sync_file(path: Path) -> None:
    """Bring a whole file to the disk; raise `SyncError` if that fails."""
    try:
        fd = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            sync_data(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise sync_error(path, error) from error


def sync_directory(path: Path) -> None:
    """Bring a directory's names to the disk, where the platform has such an operation."""
    try:
        sync_names(path)
    except OSError as error:
        raise sync_error(path, error) from error


def publish(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file durably, replacing an older one of the name in a single step.

    A crash leaves the old file or the new one. A failure leaves the old one and nothing beside it.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        with temporary.open("wb") as file:
            file.writelines(parts)
            file.flush()
            sync_data(file.fileno())
        temporary.replace(path)
    except OSError as error:
        remove(temporary)
        raise storage_error("write", path, error) from error
    sync_directory(path.parent)


def publish_new(temporary: Path, path: Path) -> None:
    """Give a finished, synced file its final name; never overwrite one.

    Raises
    ------
    StorageError
        A file of that name exists, or the name could not be made. ``temporary`` still stands.
    """
    try:
        _rename_new(temporary, path)
    except OSError as error:
        raise storage_error("publish", path, error) from error
    sync_directory(path.parent)


def _rename_new(temporary: Path, path: Path) -> None:
    if os.name != "nt":  # there, rename itself refuses an existing name
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            # exFAT and some network disks: look first, for rename would overwrite
            if path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        else:
            temporary.unlink()
            return
    temporary.rename(path)


def remove(path: Path) -> None:
    """Remove a file, if it is there and lets itself be removed.

    For what a failed operation leaves: the failure is what the caller has to hear of, not that a
    dead disk keeps the name as well.
    """
    with contextlib.suppress(OSError):
        path.unlink()
