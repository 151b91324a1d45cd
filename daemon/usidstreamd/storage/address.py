"""Chunks written directly, and where in the file they then lie.

HDF5 tells a chunk's address only by walking the chunk index, which costs milliseconds in a long
dataset. But it takes space where the file grew, or, for a small chunk, in a block reserved before,
right behind the chunk written last. Such a guess is believed only if the chunk's bytes are there
and were not there before the write; else HDF5 is asked. Used by the thread that owns the file.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from usidstream.framing import Buffer as Payload

from .positioned import read_at
from .record import MainPlan

SAMPLE_BYTES = 32

_Marks: TypeAlias = list[tuple[int, bytes]]


class AddressedWriter:
    """Writes chunks of one open HDF5 file and tells their addresses.

    Parameters
    ----------
    file_id : h5py.h5f.FileID
        Of a file without user block.
    fd
        A descriptor of the same file, to read with.

    Attributes
    ----------
    n_asked : int
        How often HDF5 had to be asked.
    """

    def __init__(self, file_id: Any, fd: int) -> None:
        self._file_nbytes = file_id.get_filesize
        self._fd = fd
        self._end = 0
        self.n_asked = 0

    def write(
        self, dataset_id: Any, offset: tuple[int, int], payload: Payload, *, is_sealed: bool
    ) -> int:
        """Write an encoded chunk; return its address.

        Parameters
        ----------
        dataset_id : h5py.h5d.DatasetID
        offset
            The chunk's first element.
        payload
            The chunk as the dataset's filters decode it.
        is_sealed
            Whether it ends in a checksum of its content, as a zlib stream does: then a few bytes
            tell it from any other.

        Raises
        ------
        OSError, RuntimeError
            As h5py's ``write_direct_chunk`` and ``get_chunk_info_by_coord``, or ``os.pread``.
        """
        nbytes, before = len(payload), self._file_nbytes()
        marks = _marks(payload, is_sealed)
        # A reserve at the file's end may also be enlarged, so that the chunk begins in its rest.
        reserves = [self._end] if self._end < before and not self._holds(self._end, marks) else []
        dataset_id.write_direct_chunk(offset, payload)
        after = self._file_nbytes()
        # What grew was empty before.
        guesses = [before, after - nbytes, *reserves] if after - before >= nbytes else reserves
        if not any(part.strip(b"\0") for _start, part in marks):
            guesses = []  # zeros are also where nothing was written
        address = next((guess for guess in guesses if self._holds(guess, marks)), -1)
        if address < 0:
            self.n_asked += 1
            address = int(dataset_id.get_chunk_info_by_coord(offset).byte_offset)
        self._end = address + nbytes
        return address

    def _holds(self, address: int, marks: _Marks) -> bool:
        return all(
            read_at(self._fd, len(wanted), address + start) == wanted for start, wanted in marks
        )


def is_sealed(plan: MainPlan) -> bool:
    """Whether the chunks of a main end in a checksum of their content."""
    return plan.filters.get("compression") == "gzip"


def _marks(payload: Payload, is_sealed: bool) -> _Marks:
    """Return the bytes to be compared, and where in the chunk they stand."""
    content = memoryview(payload).cast("B")
    if not is_sealed or len(content) <= 2 * SAMPLE_BYTES:
        return [(0, bytes(content))]
    tail = len(content) - SAMPLE_BYTES
    return [(0, bytes(content[:SAMPLE_BYTES])), (tail, bytes(content[tail:]))]
