"""What storage raises: one error with a stable code, made from what the operating system said.

It knows errno and the codes of `usidstream.errors`, and how h5py passes an errno on; nothing of
what a file means.
"""

from __future__ import annotations

import re
from pathlib import Path

from usidstream.disk import NO_SPACE_NUMBERS
from usidstream.errors import UsidstreamError


class StorageError(UsidstreamError):
    """A file could not be made, written, synced or read; ``details['file']`` names it."""


class SyncError(StorageError):
    """A sync failed: what was written since the last good one may be lost.

    A later sync that succeeds proves nothing, for the kernel drops pages that it could not write.
    """


def storage_error(operation: str, path: Path, error: Exception) -> StorageError:
    """Make the error for an operation on a file that failed.

    Parameters
    ----------
    operation
        What was done, as in ``could not <operation> <path>``.
    error
        The cause. A `StorageError` is returned as it is.

    Returns
    -------
    An error with code ``no_space`` where space was lacking, else ``storage_failed``.
    """
    if isinstance(error, StorageError):
        return error
    code = "no_space" if is_no_space(error) else "storage_failed"
    return StorageError(
        f"could not {operation} {path}: {error}", code=code, details={"file": str(path)}
    )


def sync_error(path: Path, error: OSError) -> SyncError:
    """Make the error for a sync that failed, whatever its errno."""
    return half_way_error("sync", path, error)


def half_way_error(operation: str, path: Path, error: Exception) -> SyncError:
    """Make the error for what cannot be asked again even if space was all that lacked."""
    return SyncError(
        f"could not {operation} {path}: {error}",
        code="storage_failed",
        hint="What was acknowledged as durable is safe; look at the disk before going on.",
        details={"file": str(path)},
    )


def damaged_error(path: Path, reason: str, hint: str = "") -> StorageError:
    """Make the error for a file that must not be continued as it is."""
    return StorageError(
        f"{path} {reason}", code="file_damaged", hint=hint, details={"file": str(path)}
    )


def is_no_space(error: Exception) -> bool:
    """Whether an error says that the disk, or a quota of it, is full.

    h5py raises a RuntimeError without errno for some of HDF5's own; their text has it.
    """
    number = getattr(error, "errno", None)
    if number is None and (found := re.search(r"\berrno = (\d+)", str(error))):
        number = int(found[1])
    return number in NO_SPACE_NUMBERS
