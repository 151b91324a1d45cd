"""The first bytes of an HDF5 file, read without HDF5.

A writer that died leaves its flags in the superblock. HDF5 refuses such a file, or, with the flags
cleared by hand, cuts it below live chunks, or hangs in a SWMR open: so they are looked at before
any HDF5 open. Layout of the superblock: HDF5 File Format Specification, section II.A.
"""

from __future__ import annotations

from pathlib import Path

from .errors import damaged_error, storage_error

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_USERBLOCK_BYTES = 1 << 30
_VERSION_OFFSET = 8
_FLAGS_OFFSET = 11
_FIRST_VERSION_WITH_FLAGS = 2  # before, byte 11 is something else and nothing marks a writer


def consistency_flags(path: Path) -> int | None:
    """Return the file consistency flags: 0 when the file was closed, ``None`` if it is not HDF5.

    Bit 0 says that a writer has it open, bit 2 that it writes in SWMR mode.

    Raises
    ------
    StorageError
        The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            offset = 0
            while offset <= MAX_USERBLOCK_BYTES:
                file.seek(offset)
                head = file.read(_FLAGS_OFFSET + 1)
                if len(head) <= _FLAGS_OFFSET:
                    return None
                if head.startswith(SIGNATURE):
                    return flags_of(head)
                offset = 2 * offset or 512  # where a user block may end
            return None
    except OSError as error:
        raise storage_error("read", path, error) from error


def flags_of(head: bytes) -> int:
    """Return the flags of a superblock from its first 12 bytes."""
    return head[_FLAGS_OFFSET] if head[_VERSION_OFFSET] >= _FIRST_VERSION_WITH_FLAGS else 0


def require_closed(path: Path) -> None:
    """Raise ``file_damaged`` unless a file is HDF5 and no writer left its flags."""
    flags = consistency_flags(path)
    if flags is None:
        raise damaged_error(path, "is not an HDF5 file: its first bytes are others.")
    if flags:
        raise damaged_error(
            path,
            f"was not closed by its writer (flags {flags}): the daemon was killed, or another "
            "one is writing it.",
            "Nothing was changed. If no daemon has it open, put it right: "
            f"usidstreamd recover {path.name}",
        )
