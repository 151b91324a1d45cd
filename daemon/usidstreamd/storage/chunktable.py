"""Where the chunks of a scan lie in its file: a table, 40 bytes a chunk.

Pure numpy. The table is the ledger's word; whether the file agrees is for others to find out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

ENTRY = struct.Struct("<IIQQQII")
ENTRY_DTYPE = np.dtype(
    [
        ("main", "<u4"),
        ("nbytes", "<u4"),
        ("row", "<u8"),
        ("col", "<u8"),
        ("offset", "<u8"),
        ("crc32", "<u4"),
        ("flags", "<u4"),
    ]
)
FLAG_INCOMPLETE = 1
"""The chunk was written although elements of it are missing."""

Entries = npt.NDArray[Any]
"""A structured array of `ENTRY_DTYPE`."""
NO_ENTRIES: Entries = np.empty(0, ENTRY_DTYPE)


class ChunkAddress(NamedTuple):
    """A chunk and where it lies.

    Parameters
    ----------
    main
        The main's number in the layout.
    row, col
        The chunk's first element.
    offset, nbytes
        Its bytes in the file.
    crc32
        Of these bytes.
    is_complete
        Whether every element of it was measured.
    """

    main: int
    row: int
    col: int
    offset: int
    nbytes: int
    crc32: int
    is_complete: bool = True


def unpack_entries(packed: bytes | memoryview) -> Entries:
    """Return entries; raise ValueError where the length is not that of whole ones."""
    return np.frombuffer(packed, ENTRY_DTYPE)


class ChunkTable:
    """The chunks of a scan, each once: the address that was recorded last.

    Parameters
    ----------
    pieces
        Entries in the order in which they were recorded.

    Attributes
    ----------
    entries
        In the order of main, row, column.
    """

    def __init__(self, pieces: Sequence[Entries] = ()) -> None:
        entries = np.concatenate(pieces) if pieces else NO_ENTRIES
        order = np.lexsort((entries["col"], entries["row"], entries["main"]))  # stable
        entries = entries[order]
        is_last = np.ones(len(entries), np.bool_)
        is_last[:-1] = np.logical_or.reduce(
            [entries[key][1:] != entries[key][:-1] for key in ("main", "row", "col")]
        )
        self.entries: Entries = entries[is_last]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[ChunkAddress]:
        for main, nbytes, row, col, offset, crc, flags in self.entries.tolist():
            yield ChunkAddress(main, row, col, offset, nbytes, crc, not flags & FLAG_INCOMPLETE)

    def of_main(self, main: int) -> Entries:
        """Return the entries of a main, in the order of row, column."""
        lo, hi = np.searchsorted(self.entries["main"], [main, main + 1])
        return self.entries[lo:hi]

    def without(self, dropped: npt.NDArray[np.bool_]) -> ChunkTable:
        """Return the table without the entries that are marked."""
        return ChunkTable([self.entries[~dropped]])

    def whole(self) -> ChunkTable:
        """Return the table without the chunks that were written although elements are missing."""
        return self.without((self.entries["flags"] & FLAG_INCOMPLETE) != 0)

    def marked(self, numbers: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Return a mark for each entry: whether its number is among some."""
        marks = np.zeros(len(self.entries), np.bool_)
        marks[np.array(numbers, np.intp)] = True
        return marks

    @property
    def end(self) -> int:
        """The first byte of the file behind all chunks; 0 where there are none."""
        if not len(self.entries):
            return 0
        return int((self.entries["offset"] + self.entries["nbytes"]).max())


def pack_addresses(addresses: ChunkTable | Iterable[ChunkAddress]) -> bytes:
    """Return addresses as entries."""
    if isinstance(addresses, ChunkTable):
        return addresses.entries.tobytes()
    return b"".join(
        ENTRY.pack(a.main, a.nbytes, a.row, a.col, a.offset, a.crc32, int(not a.is_complete))
        for a in addresses
    )
