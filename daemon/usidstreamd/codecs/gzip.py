"""HDF5's shuffle and deflate filters, plane by plane.

Once bytes are shuffled, byte k of all elements lies together, and such a plane is either well
compressible (signs, exponents, high bytes) or noise. What is noise is not worth the processor's
time, and what has few values in no order is not worth a search. So each plane is treated in its own
way (see `planes`), chosen by a sample: from the cheapest to the dearest, a way is taken if it saves
enough over those before it. Without shuffle all bytes are a single plane.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import planes
from .chunk import Bytes, ChunkShape, Elements, check_length, plain_bytes
from .deflate import DEFLATE_LEVEL, DeflateBackend

WORTH_IT = 0.1
"""A search must make a plane smaller by this part of it, and a code each block (`_planes.c`), which
is stored otherwise. Coding takes about 1 ns a byte, and a search twice as much: a byte that is
saved costs 10 ns at most."""
SAMPLE_BYTES = 16 << 10
SAMPLE_PIECES = 4
"""A plane's sample: pieces from all over it, for the corner of a detector frame is dark."""
RESAMPLE_CHUNKS = 32
"""Data changes during a scan: planes are sampled again after as many chunks of their columns."""


@dataclass(slots=True)
class _Choice:
    """How planes of some columns are treated, and for how many more chunks that is believed."""

    ways: bytes
    chunks_left: int = RESAMPLE_CHUNKS - 1


class Gzip:
    """HDF5's deflate filter, after its shuffle filter or alone.

    Parameters
    ----------
    dtype
        The main's dtype.
    shuffle
        Whether bytes are shuffled first; without effect on single bytes.
    backend
        The library that deflates.
    """

    name = "gzip"

    def __init__(self, dtype: np.dtype[Any], *, shuffle: bool, backend: DeflateBackend) -> None:
        self._dtype = dtype
        self._shuffle = shuffle and dtype.itemsize > 1
        self._backend = backend
        self._choices: dict[int, _Choice] = {}

    @property
    def hdf5_filters(self) -> dict[str, Any]:
        """See `Codec.hdf5_filters`."""
        return {
            "compression": "gzip",
            "compression_opts": DEFLATE_LEVEL,
            "shuffle": self._shuffle,
        }

    def encode(self, chunk: Elements, chunk_shape: ChunkShape, col: int = 0) -> bytes:
        """See `Codec.encode`."""
        ways = self._known_ways(col)
        if self._shuffle and ways is not None and planes.can_be_one_step(ways):
            return planes.shuffled_stream(chunk, chunk_shape, ways)
        if self._shuffle:
            whole = planes.shuffle_planes(chunk, chunk_shape)
        else:
            whole = plain_bytes(chunk, chunk_shape).reshape(1, -1)
        if planes.compiled is None and self._backend.raw_blocks is None:
            return self._backend.zlib_stream(whole.reshape(-1).data)
        return planes.zlib_stream(whole, ways or self._choose_ways(whole, col), self._backend)

    def decode(self, data: bytes, chunk_shape: ChunkShape) -> Elements:
        """See `Codec.decode`."""
        try:
            plain = np.frombuffer(zlib.decompress(data), np.uint8)
        except zlib.error as error:
            raise ValueError(f"a chunk cannot be inflated: {error}.") from error
        itemsize = self._dtype.itemsize
        check_length(plain, itemsize, chunk_shape)
        if self._shuffle:
            plain = np.ascontiguousarray(plain.reshape(itemsize, -1).T).reshape(-1)
        return plain.view(self._dtype).reshape(chunk_shape)

    def _known_ways(self, col: int) -> bytes | None:
        """Return how planes are treated, None if they are to be sampled (again).

        Any answer, also a stale one, decodes.
        """
        choice = self._choices.get(col)
        if choice is None or choice.chunks_left <= 0:
            return None
        choice.chunks_left -= 1
        return choice.ways

    def _choose_ways(self, whole: Bytes, col: int) -> bytes:
        ways = b"".join(choose_way(plane, self._backend) for plane in whole)
        self._choices[col] = _Choice(ways)
        return ways


def choose_way(plane: Bytes, backend: DeflateBackend) -> bytes:
    """Return how a plane of bytes (n,) is best treated: one of the ways of `planes`."""
    pieces = sample_of(plane)
    stored = sum(map(len, pieces))
    way, nbytes = planes.STORED, stored
    if planes.compiled is not None:
        coded = sum(min(len(piece), _coded_nbytes(piece, backend)) for piece in pieces)
        if coded < nbytes:  # some block is worth a code
            way, nbytes = planes.CODED, coded
    if backend.raw_blocks is not None:
        matched = len(backend.zlib_stream(np.concatenate(pieces).data))
        if matched < nbytes - WORTH_IT * stored:
            way = planes.MATCHED
    return way


def sample_of(plane: Bytes) -> list[Bytes]:
    """Return up to `SAMPLE_BYTES` bytes from all over a plane."""
    length = min(SAMPLE_BYTES, len(plane)) // SAMPLE_PIECES
    starts = [len(plane) * k // SAMPLE_PIECES for k in range(SAMPLE_PIECES)]
    return [plane[start : start + length] for start in starts]


def _coded_nbytes(piece: Bytes, backend: DeflateBackend) -> int:
    return len(planes.zlib_stream(piece.reshape(1, -1), planes.CODED, backend))
