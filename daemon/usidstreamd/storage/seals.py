"""What lets a finished file be believed: a checksum of every chunk, and of what is said about them.

``chunk_checksums`` holds, for each chunk of a main, the CRC-32 and the number of its stored bytes,
0 bytes for a chunk that was never written. It, and the coverage, are stored as they are; an
attribute of each tells the CRC-32 of its whole content. All of it is written when a scan ends,
outside SWMR mode, from what the ledger says; so it is of what was promised, and not of what the
disk returns by then.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from usidstream.checksum import crc32

from .chunktable import Entries
from .structure import CHECKSUM_COLUMNS, CHECKSUMS, CONTENT_CRC, NOT_SEALED, chunk_grid

BLOCK_BYTES = 4 << 20

Checksums = npt.NDArray[np.uint32]
"""(rows of chunks, chunks in each, 2): CRC-32 and number of the stored bytes; 0, 0 for no chunk."""


def checksums_of(entries: Entries, shape: tuple[int, int], chunks: tuple[int, int]) -> Checksums:
    """Return the checksums of a main's chunks.

    Parameters
    ----------
    entries
        Of chunks of the main, each once.
    shape, chunks
        Of the main.
    """
    table = np.zeros((*chunk_grid(shape, chunks), len(CHECKSUM_COLUMNS)), "<u4")
    band, across = entries["row"] // chunks[0], entries["col"] // chunks[1]
    table[band, across, 0] = entries["crc32"]
    table[band, across, 1] = entries["nbytes"]
    return table


def write_checksums(dataset: Any, table: Checksums) -> None:
    """Write ``chunk_checksums``, chunk by chunk past HDF5's cache."""
    bands, wide, _ = dataset.chunks
    for band in range(0, table.shape[0], bands):
        for across in range(0, table.shape[1], wide):
            part = table[band : band + bands, across : across + wide]
            chunk = np.zeros(dataset.chunks, "<u4")
            chunk[: part.shape[0], : part.shape[1]] = part
            dataset.id.write_direct_chunk((band, across, 0), chunk.data)


def seal(dataset: Any) -> None:
    """Set the checksum of a dataset's content, as it stands in the file."""
    dataset.attrs.modify(CONTENT_CRC, np.int64(content_crc(dataset)))


def unseal(dataset: Any) -> None:
    """Say that a dataset's content may change."""
    if sealed_crc(dataset) is not None:
        dataset.attrs.modify(CONTENT_CRC, np.int64(NOT_SEALED))


def sealed_crc(dataset: Any) -> int | None:
    """Return the checksum that a dataset's content should have, None where nobody has said."""
    crc = int(dataset.attrs.get(CONTENT_CRC, NOT_SEALED))
    return None if crc == NOT_SEALED else crc


def content_crc(dataset: Any) -> int:
    """Return the CRC-32 of a dataset's elements in C order, little-endian."""
    crc = 0
    for block in _blocks(dataset):
        crc = crc32(np.ascontiguousarray(block, block.dtype.newbyteorder("<")).data, crc)
    return crc


def checksums_beside(group: Any) -> Any:
    """Return the ``chunk_checksums`` of a group; None in files of older make."""
    return group.get(CHECKSUMS)


def _blocks(dataset: Any) -> Iterator[npt.NDArray[Any]]:
    row_nbytes = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:], dtype=np.int64))
    step = max(1, BLOCK_BYTES // row_nbytes)
    for start in range(0, dataset.shape[0], step):
        yield dataset[start : start + step]
