"""Room on the disk: when it runs short, when it is back, and what that is called.

The decision is pure; `free_bytes` alone asks the operating system. It knows bytes, never what they
are for.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from .errors import StorageError, storage_error

CHUNKS_KEEP_FREE_BYTES = 32 << 20
"""Chunks are refused below this, so that a full disk is met here and not inside HDF5's flush."""
COMMITS_KEEP_FREE_BYTES = 8 << 20
"""Commits and finalising may use what chunks leave free, down to this."""
RECORDS_KEEP_FREE_BYTES = 4 << 20
"""Checkpoints and decisions are recorded down to this, when blocks are refused already."""
RETURN_PART = 8
"""Space is back when an eighth more than is needed is free: else a few bytes to and fro would
begin and end a pause each."""
PROBE_NAME = "probe"

_PROBE = bytes(1 << 20)


@dataclass(slots=True)
class SpaceWatch:
    """Whether the disk of a directory has the room that what was promised may need.

    Parameters
    ----------
    directory
        Where files are written; only named here.
    reserve_bytes
        The operator's reserve; more is needed where more was promised.
    free_bytes, needed_bytes
        As last seen.
    """

    directory: Path
    reserve_bytes: int
    is_short: bool = False
    free_bytes: int = 0
    needed_bytes: int = 0

    def look(self, free_bytes: int, promised_bytes: int) -> bool:
        """Take what is free, and what may still be written without asking.

        Returns
        -------
        bool
            Whether space has become short, or is back.
        """
        self.free_bytes = free_bytes
        self.needed_bytes = max(self.reserve_bytes, promised_bytes + CHUNKS_KEEP_FREE_BYTES)
        wanted = self.needed_bytes
        if self.is_short:
            wanted += self.needed_bytes // RETURN_PART
        was_short, self.is_short = self.is_short, free_bytes < wanted
        return self.is_short != was_short

    def error(self, reason: str = "") -> StorageError:
        """Make the error that tells of the shortage, or of another reason for it."""
        return no_space_error(self.directory, self.free_bytes, self.needed_bytes, reason)


def no_space_error(
    path: Path, free_bytes: int, needed_bytes: int, reason: str = ""
) -> StorageError:
    """Make the error for a disk that is too full to go on."""
    return StorageError(
        reason
        or f"only {free_bytes >> 20} MiB are free on the disk of {path}, {needed_bytes >> 20} MiB "
        "are needed to write and close what is open",
        code="no_space",
        hint=f"Free space on the disk of {path}; the scan goes on by itself.",
        details={"file": str(path), "free_bytes": free_bytes, "needed_bytes": needed_bytes},
    )


def free_bytes(path: Path) -> int:
    """Return what may still be written on the disk of a file or directory.

    Raises
    ------
    StorageError
        The operating system does not say.
    """
    try:
        return shutil.disk_usage(path).free
    except OSError as error:
        raise storage_error("look at the disk of", path, error) from error


def prove_room(directory: Path, nbytes: int) -> None:
    """Write so many bytes in a directory, and take them away again.

    A disk that has refused a write, as a quota does, may still say that much is free.

    Raises
    ------
    StorageError
        ``no_space`` or ``storage_failed``.
    """
    path = directory / PROBE_NAME
    try:
        with path.open("wb", buffering=0) as file:
            left = nbytes
            while left:
                left -= file.write(memoryview(_PROBE)[: min(left, len(_PROBE))])
    except OSError as error:
        raise storage_error("write", path, error) from error
    finally:
        path.unlink(missing_ok=True)


def require_room(path: Path, nbytes: int, keep_free_bytes: int) -> None:
    """Raise ``no_space`` unless so many bytes can be written and the rest still be free."""
    free = free_bytes(path)
    if free - nbytes < keep_free_bytes:
        raise no_space_error(path, free, nbytes + keep_free_bytes)
