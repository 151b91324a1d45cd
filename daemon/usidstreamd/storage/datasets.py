"""The open datasets of one main: itself, its coverage, and the checksums of its chunks.

Everything is written as whole chunks, past HDF5's chunk cache. Knows chunks and their lengths;
never when something is flushed or synced.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from .address import AddressedWriter
from .chunktable import Entries
from .coverage import Coverage, CoverageUpdate, PartialRanges, States, used_ranges
from .filters import require_filter
from .seals import (
    checksums_beside,
    checksums_of,
    content_crc,
    seal,
    sealed_crc,
    unseal,
    write_checksums,
)
from .structure import COMPLETED, PARTIAL_RANGES

STATES_BLOCK_POSITIONS = 4 << 20

Payload = bytes | bytearray | memoryview


class LiveMain:
    """The datasets of one main in a file that is open for writing.

    Parameters
    ----------
    h5_file : h5py.File
    path
        The main's path in it.
    """

    def __init__(self, h5_file: Any, path: str) -> None:
        self._dataset = h5_file[path]
        self._completed = self._dataset.parent[COMPLETED]
        self._ranges = self._dataset.parent[PARTIAL_RANGES]
        self._checksums = checksums_beside(self._dataset.parent)
        self._partial = np.asarray(self._ranges[:], dtype=np.int64)  # as it stands in the file
        # Bound once: looking it up costs as much as writing a small chunk.
        self._dataset_id = self._dataset.id
        plist = self._dataset_id.get_create_plist()
        filters = [plist.get_filter(position)[0] for position in range(plist.get_nfilters())]
        for number in filters:
            require_filter(number, path)
        self._is_sealed = filters[-1:] == [h5py.h5z.FILTER_DEFLATE]
        self._n_rows, self._n_cols = self._dataset.shape
        self._chunk_rows, self._chunk_cols = self._dataset.chunks
        chunk_nbytes = self._chunk_rows * self._chunk_cols * self._dataset.dtype.itemsize
        self._raw_nbytes = 0 if filters else chunk_nbytes
        self._has_failed = False

    def write_chunk(self, row: int, col: int, payload: Payload, writer: AddressedWriter) -> int:
        """Write the encoded chunk whose first element is (row, col); return its address."""
        # HDF5 (2.0) takes an address outside the dataset, and corrupts the process's memory; and
        # an unfiltered chunk of any length, and writes over what follows it in the file.
        inside = 0 <= row < self._n_rows and 0 <= col < self._n_cols
        if not inside or row % self._chunk_rows or col % self._chunk_cols:
            raise ValueError(f"{self._dataset.name}: no chunk begins at row {row}, column {col}")
        if self._raw_nbytes and len(payload) != self._raw_nbytes:
            raise ValueError(
                f"{self._dataset.name}: an unfiltered chunk has {self._raw_nbytes} bytes, "
                f"not {len(payload)}"
            )
        is_second_try, self._has_failed = self._has_failed, True
        if is_second_try:
            self._reopen()
        address = writer.write(self._dataset_id, (row, col), payload, is_sealed=self._is_sealed)
        if is_second_try:
            self._require_indexed(row, col, address)
        self._has_failed = False
        return address

    def _reopen(self) -> None:
        """Make HDF5 forget the chunk that it could not write.

        HDF5 (2.0) remembers it as written: what is written in its place reaches no index.
        """
        h5_file, path = self._dataset.file, self._dataset.name
        while self._dataset_id.valid:  # errors that are still told hold on to it
            h5py.h5i.dec_ref(self._dataset_id)
        self._dataset = h5_file[path]
        self._dataset_id = self._dataset.id

    def _require_indexed(self, row: int, col: int, address: int) -> None:
        found = self._dataset_id.get_chunk_info_by_coord((row, col)).byte_offset
        if found != address:
            raise RuntimeError(
                f"{self._dataset.name}: HDF5 has the chunk at row {row}, column {col} at {found}, "
                f"but it was written at {address}"
            )

    def read(self, row: int, rows: int, col: int, cols: int) -> npt.NDArray[Any]:
        """Return elements (rows, cols)."""
        elements: npt.NDArray[Any] = self._dataset[row : row + rows, col : col + cols]
        return elements

    def write_coverage(self, update: CoverageUpdate) -> None:
        """Write what changed in the coverage."""
        self._write_states(update.lo, update.states)
        self._write_ranges(update.partial)

    def read_coverage(self) -> Coverage:
        """Return the coverage."""
        return Coverage(states=self._completed[:], partial=used_ranges(self._partial))

    def state_blocks(self) -> Iterator[States]:
        """Yield the states of all positions, in blocks of at most `STATES_BLOCK_POSITIONS`."""
        for start in range(0, len(self._completed), STATES_BLOCK_POSITIONS):
            yield self._completed[start : start + STATES_BLOCK_POSITIONS]

    def drop_unused_ranges(self) -> None:
        """Cut ``partial_ranges`` to what is used; only outside SWMR mode."""
        used = used_ranges(self._partial)
        self._write_ranges(used)
        self._ranges.resize(len(used), axis=0)
        self._partial = used

    @property
    def checksums_nbytes(self) -> int:
        """What the checksums take in the file, nearly."""
        if self._checksums is None:
            return 0
        return int(self._checksums.size * self._checksums.dtype.itemsize)

    def seal(self, chunks: Entries) -> None:
        """Write the checksums of all chunks and of the coverage; only outside SWMR mode.

        Parameters
        ----------
        chunks
            Of this main, as the ledger has them.
        """
        if self._checksums is None:
            return
        shape = (self._n_rows, self._n_cols)
        table = checksums_of(chunks, shape, (self._chunk_rows, self._chunk_cols))
        write_checksums(self._checksums, table)
        for dataset in (self._completed, self._ranges, self._checksums):
            seal(dataset)

    def is_sealed(self) -> bool:
        """Whether checksums and coverage are as `seal` left them."""
        if self._checksums is None:
            return True
        sealed = (self._completed, self._ranges, self._checksums)
        return all(sealed_crc(dataset) == content_crc(dataset) for dataset in sealed)

    def unseal(self) -> None:
        """Say that coverage and chunks may change from now on; only outside SWMR mode."""
        for dataset in (self._completed, self._ranges, self._checksums):
            if dataset is not None:
                unseal(dataset)

    def _write_states(self, lo: int, states: States) -> None:
        n_positions, step = len(self._completed), self._completed.chunks[0]
        stop = lo + len(states)
        if lo < 0 or stop > n_positions:
            raise ValueError(f"{self._completed.name}: states of {lo} to {stop} of {n_positions}")
        for start in range(lo - lo % step, stop, step):
            old = self._completed[start : start + step]
            first, last = max(lo, start), min(stop, start + step)
            new = np.zeros(step, np.uint8)
            new[: len(old)] = old
            new[first - start : last - start] = states[first - lo : last - lo]
            if not np.array_equal(new[: len(old)], old):
                self._completed.id.write_direct_chunk((start,), new.data)

    def _write_ranges(self, partial: PartialRanges) -> None:
        # Never made smaller while readers look on: rows that are not used any more become zero.
        n_old, n_new = len(self._partial), len(partial)
        n_rows, step = max(n_old, n_new), self._ranges.chunks[0]
        table = np.zeros((-(-n_rows // step) * step, 4), np.int64)
        table[:n_new] = partial
        if n_new > n_old:
            self._ranges.resize(n_new, axis=0)
        for start in range(0, n_rows, step):
            chunk = table[start : start + step]
            old = self._partial[start : start + step]
            if len(old) < min(step, n_rows - start) or not np.array_equal(chunk[: len(old)], old):
                self._ranges.id.write_direct_chunk((start, 0), chunk.tobytes())
        self._partial = table[:n_rows]
