"""A log of what a process did to the files below one directory, as ``preload/recorder.c`` makes it.

A record has a head, little-endian: its bytes (u32), kind, bytes of the first name, of the second,
whether it failed (u16 each), unused (u32), inode and number (u64 each). The names follow, relative
to the directory, and the bytes written. The number is an offset, a size, or what joins the
beginning and the end of a sync. Operations stand in the order in which they happened; a sync covers
those before its beginning, and counts from its end on. What this module knows of a disk is nothing.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from pathlib import Path

from support.preload import build

_HEAD = struct.Struct("<IHHHHIQQ")


class Kind(enum.IntEnum):
    CREATE = 1
    MKDIR = 2
    WRITE = 3
    TRUNCATE = 4
    EXTEND = 5
    SYNC_BEGIN = 6
    SYNC_END = 7
    RENAME = 8
    LINK = 9
    UNLINK = 10
    RMDIR = 11


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Parameters
    ----------
    kind
    inode
        The file or directory; 0 for operations on names alone.
    number
        WRITE: the offset. TRUNCATE, EXTEND: the size. SYNC_BEGIN, SYNC_END: equal for both.
    name, other
        CREATE, MKDIR, UNLINK, RMDIR: the name. RENAME, LINK: the old and the new one.
    data
        WRITE: the bytes.
    failed
        SYNC_END: whether the sync failed, and nothing may be relied on.
    end
        Where the record ends in the log.
    """

    kind: Kind
    inode: int
    number: int
    name: str
    other: str
    data: memoryview
    failed: bool
    end: int


def environment(directory: Path, log: Path) -> dict[str, str]:
    """Return the variables that have a process recorded, and its children with it."""
    return {
        "LD_PRELOAD": str(build("recorder")),
        "USID_RECORD_DIR": str(directory.resolve()),
        "USID_RECORD_LOG": str(log.resolve()),
    }


def read_log(log: Path) -> list[Operation]:
    """Return the whole records of a log; the last may be cut off where a process was killed."""
    content = memoryview(log.read_bytes())
    operations: list[Operation] = []
    at = 0
    while at + _HEAD.size <= len(content):
        nbytes, kind, name_bytes, other_bytes, failed, _, inode, number = _HEAD.unpack_from(
            content, at
        )
        if at + nbytes > len(content):
            break
        names = at + _HEAD.size
        others, data = names + name_bytes, names + name_bytes + other_bytes
        operations.append(
            Operation(
                Kind(kind),
                inode,
                number,
                str(content[names:others], "utf-8"),
                str(content[others:data], "utf-8"),
                content[data : at + nbytes],
                bool(failed),
                at + nbytes,
            )
        )
        at += nbytes
    return operations
