"""Whether every stored byte of a dataset can be had: each chunk is in the file, alone, and decodes.

Chunks of HDF5's own filters are decoded here, which also finds those that are shorter than they
should be: HDF5 passes them on with whatever was in its memory. All others are read through HDF5.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import h5py
import numpy as np
import numpy.typing as npt

from ..storage.filters import is_filter_available
from .report import READ_ERRORS, Report

BLOCK_BYTES = 8 << 20
"""Datasets without chunks are read in blocks of about this size."""
_DECODED_HERE = ({h5py.h5z.FILTER_DEFLATE}, {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE})


@dataclass
class StoredChunks:
    """The chunks of a dataset that are in the file.

    Parameters
    ----------
    offsets
        (n, rank): the first element of each.
    addresses, sizes
        (n,): where each lies in the file, and its bytes.
    masks
        (n,): the filters that were left out.
    """

    offsets: npt.NDArray[np.int64]
    addresses: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    masks: npt.NDArray[np.int64]


def units_of(dataset: Any) -> int:
    """Return the number of chunks or blocks that `check_data` will read."""
    try:
        if dataset.chunks is not None:
            return int(dataset.id.get_num_chunks())
        return sum(1 for _ in _blocks(dataset))
    except READ_ERRORS:
        return 0


def stored_chunks(dataset: Any, report: Report) -> StoredChunks | None:
    """List the chunks of a dataset; None where it has none or they cannot be listed."""
    if dataset.chunks is None:
        return None
    try:
        table = np.zeros((int(dataset.id.get_num_chunks()), dataset.ndim + 3), np.int64)
        rows = iter(table)

        def keep(info: Any) -> None:
            next(rows)[:] = (*info.chunk_offset, info.byte_offset or 0, info.size, info.filter_mask)

        dataset.id.chunk_iter(keep)
    except (*READ_ERRORS, StopIteration) as error:
        report.fault(dataset.name, f"its chunks cannot be listed: {error}")
        return None
    return StoredChunks(table[:, :-3], table[:, -3], table[:, -2], table[:, -1])


def check_extents(
    chunks: Mapping[str, StoredChunks | None], file_nbytes: int, report: Report
) -> None:
    """Check that no chunk reaches over the file's end or into another chunk."""
    names = [name for name, listed in chunks.items() if listed is not None]
    tables = [listed for listed in chunks.values() if listed is not None]
    if not tables:
        return
    starts = np.concatenate([listed.addresses for listed in tables])
    ends = starts + np.concatenate([listed.sizes for listed in tables])
    owners = np.repeat(np.arange(len(names)), [len(listed.sizes) for listed in tables])
    for number in np.flatnonzero(ends > file_nbytes):
        report.fault(
            names[owners[number]],
            f"a chunk ends at byte {ends[number]} of a file of {file_nbytes} bytes",
        )
    order = np.argsort(starts, kind="stable")
    for number in np.flatnonzero(starts[order][1:] < ends[order][:-1]):
        first, second = order[number], order[number + 1]
        report.fault(
            names[owners[second]],
            f"the chunk at byte {starts[second]} overlaps one of {names[owners[first]]}",
        )


class Checksums(Protocol):
    """Knows what the stored bytes of a dataset's chunks should be."""

    def missing(self, stored: StoredChunks) -> Iterator[str]:
        """Yield what is wrong with which chunks are stored."""

    def faults(self, offset: tuple[int, ...], address: int, stored: bytes) -> Iterator[str]:
        """Yield what is wrong with a chunk's stored bytes."""


def check_data(
    dataset: Any,
    chunks: StoredChunks | None,
    report: Report,
    advance: Callable[[], None],
    checksums: Checksums | None = None,
) -> None:
    """Read every stored chunk or block of a dataset, and compare it where checksums are held."""
    if dataset.chunks is None:
        _check_blocks(dataset, report, advance)
        return
    if chunks is None:
        return
    for fault in checksums.missing(chunks) if checksums else ():
        report.fault(dataset.name, fault)
    decode = _decoder(dataset) if _has_filters(dataset, report) else None
    for number in np.argsort(chunks.addresses, kind="stable"):
        offset = tuple(chunks.offsets[number].tolist())
        try:
            _mask, stored = dataset.id.read_direct_chunk(offset)
            address = int(chunks.addresses[number])
            damage = list(checksums.faults(offset, address, stored)) if checksums else []
            for fault in damage:
                report.fault(dataset.name, fault)
            if decode is not None and not damage:  # how it fails to decode would tell no more
                decode(offset, int(chunks.masks[number]), stored)
        except (*READ_ERRORS, zlib.error) as error:
            report.fault(dataset.name, f"the chunk at {offset} cannot be decoded: {error}")
        report.chunks += 1
        report.nbytes += int(chunks.sizes[number])
        advance()


def _check_blocks(dataset: Any, report: Report, advance: Callable[[], None]) -> None:
    for block in _blocks(dataset):
        try:
            report.nbytes += int(getattr(dataset[block], "nbytes", 0))
        except READ_ERRORS as error:
            report.fault(dataset.name, f"block {block} cannot be read: {error}")
        report.chunks += 1
        advance()


def _blocks(dataset: Any) -> Iterator[Any]:
    if dataset.shape is None:  # a null dataspace
        return
    if not dataset.shape:
        yield ()
        return
    row_nbytes = max(1, dataset.dtype.itemsize * int(np.prod(dataset.shape[1:], dtype=np.int64)))
    step = max(1, BLOCK_BYTES // row_nbytes)
    for start in range(0, dataset.shape[0], step):
        yield slice(start, min(start + step, dataset.shape[0]))


def _filters(dataset: Any) -> list[int]:
    plist = dataset.id.get_create_plist()
    return [plist.get_filter(number)[0] for number in range(plist.get_nfilters())]


def _has_filters(dataset: Any, report: Report) -> bool:
    """Whether every filter of a dataset is at hand; those that are not are a fault."""
    for number in _filters(dataset):
        if is_filter_available(number):
            continue
        report.fault(
            dataset.name,
            f"needs the HDF5 filter {number}, which is not installed; try the extra 'plugins'",
        )
        return False
    return True


def _decoder(dataset: Any) -> Callable[[tuple[int, ...], int, bytes], None]:
    """Return a function that decodes the chunk at an offset, or raises."""
    filters = set(_filters(dataset))
    kind = dataset.id.get_type()
    nbytes = int(np.prod(dataset.chunks, dtype=np.int64)) * kind.get_size()

    def through_hdf5(offset: tuple[int, ...], _mask: int, _stored: bytes) -> None:
        dataset[tuple(slice(o, o + n) for o, n in zip(offset, dataset.chunks, strict=True))]

    def here(offset: tuple[int, ...], mask: int, stored: bytes) -> None:
        if mask:
            through_hdf5(offset, mask, stored)
            return
        found = len(zlib.decompress(stored)) if filters else len(stored)
        if found != nbytes:
            raise ValueError(f"it has {found} bytes instead of {nbytes}")

    is_known = not filters or filters in _DECODED_HERE
    return here if is_known and holds_all(kind) else through_hdf5


def holds_all(kind: Any) -> bool:
    """Whether elements of an HDF5 type are as long in memory as in a chunk, and whole there.

    Variable lengths are stored elsewhere in the file. HDF5 tells of texts of any length in a table
    only that there are texts.
    """
    if isinstance(kind, h5py.h5t.TypeStringID):
        return not kind.is_variable_str()
    return not (kind.detect_class(h5py.h5t.VLEN) or kind.detect_class(h5py.h5t.STRING))
