"""HDF5's shuffle and deflate filters, plane by plane.

Once bytes are shuffled, byte k of all elements lies together, and such a plane is either well
compressible (signs, exponents, high bytes) or noise. Noise is not worth the processor's time: it
goes into *stored* blocks, the rest through raw deflate, each plane ending on a byte boundary (a
full flush). A zlib header, an empty last block and the Adler-32 of the whole around them make one
plain zlib stream (RFC 1950; RFC 1951, sections 3.2.3 and 3.2.4), as every gzip-capable reader
expects it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .chunk import Bytes, ChunkShape, Elements, buffers, check_length, plain_bytes
from .deflate import DEFLATE_LEVEL, DeflateBackend

STORED_ABOVE = 0.94
"""A plane whose sample shrinks to no less than this part is stored: 6 % are not worth the time."""
SAMPLE_BYTES = 8 << 10
SAMPLE_PIECES = 4
"""A plane's sample: pieces from all over it, for the corner of a detector frame is dark."""
RESAMPLE_CHUNKS = 32
"""Data changes during a scan: planes are sampled again after as many chunks of their columns."""
_MAX_STORED_BLOCK = 65535
_ZLIB_HEADER = b"\x78\x01"
_LAST_EMPTY_BLOCK = b"\x01\x00\x00\xff\xff"


@dataclass(slots=True)
class _StoredPlanes:
    """Which planes of some columns are noise, and for how many more chunks that is believed."""

    stored: tuple[bool, ...]
    chunks_left: int = RESAMPLE_CHUNKS


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
        self._choices: dict[int, _StoredPlanes] = {}

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
        if not self._shuffle:
            return self._backend.zlib_stream(plain_bytes(chunk, chunk_shape).data)
        planes = shuffle_planes(chunk, chunk_shape)
        if self._backend.raw_blocks is None:
            return self._backend.zlib_stream(planes.reshape(-1).data)
        stream: list[bytes | memoryview] = [_ZLIB_HEADER]
        for plane, stored in zip(planes, self._stored_planes(planes, col), strict=True):
            stream += _stored_blocks(plane) if stored else self._backend.raw_blocks(plane.data)
        adler32 = self._backend.adler32(planes.reshape(-1).data)
        return b"".join((*stream, _LAST_EMPTY_BLOCK, adler32.to_bytes(4, "big")))

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

    def _stored_planes(self, planes: Bytes, col: int) -> tuple[bool, ...]:
        """Return for each plane whether it is stored. Any answer, also a stale one, decodes."""
        choice = self._choices.get(col)
        if choice is None or choice.chunks_left <= 0:
            stored = tuple(self._is_noise(plane) for plane in planes)
            choice = self._choices[col] = _StoredPlanes(stored)
        choice.chunks_left -= 1
        return choice.stored

    def _is_noise(self, plane: Bytes) -> bool:
        length = min(SAMPLE_BYTES, len(plane)) // SAMPLE_PIECES
        starts = [len(plane) * k // SAMPLE_PIECES for k in range(SAMPLE_PIECES)]
        sample = np.concatenate([plane[start : start + length] for start in starts])
        return len(self._backend.zlib_stream(sample.data)) > STORED_ABOVE * len(sample)


def shuffle_planes(chunk: Elements, chunk_shape: ChunkShape) -> Bytes:
    """Return HDF5's byte shuffle: uint8 (itemsize, n), plane k holding byte k of each element.

    The result is a buffer of this thread, good until the next call.

    Parameters
    ----------
    chunk, chunk_shape
        As for `Codec.encode`.
    """
    itemsize = chunk.dtype.itemsize
    planes = buffers.get("planes", chunk_shape[0] * chunk_shape[1] * itemsize)
    planes = planes.reshape(itemsize, -1)
    word = next((nbytes for nbytes in (4, 2) if itemsize % nbytes == 0), 1)
    if word == 1:
        np.copyto(planes, plain_bytes(chunk, chunk_shape).reshape(-1, itemsize).T)
        return planes
    # Shifting words and casting them to bytes is vectorised; picking bytes apart is not.
    words = _words(chunk, chunk_shape, word)
    shifted = buffers.get("words", planes.nbytes // itemsize * word).view(words.dtype)
    for k in range(itemsize // word):
        np.copyto(shifted.reshape(words.shape[:-1]), words[..., k])
        for j in range(word):
            np.copyto(planes[k * word + j], shifted, casting="unsafe")
            if j + 1 < word:
                np.right_shift(shifted, 8, out=shifted)
    return planes


def _words(chunk: Elements, chunk_shape: ChunkShape, word: int) -> npt.NDArray[Any]:
    """Return a whole chunk's elements as unsigned words, (..., words of an element), in C order."""
    n_words = chunk.dtype.itemsize // word
    if chunk.shape == chunk_shape and chunk.strides[1] == chunk.dtype.itemsize:
        # Lines of a wider band: they are picked up as they stand, not copied together first.
        return chunk.view(f"<u{word}").reshape(*chunk_shape, n_words)
    return plain_bytes(chunk, chunk_shape).view(f"<u{word}").reshape(-1, n_words)


def _stored_blocks(plane: Bytes) -> list[bytes | memoryview]:
    """Return a plane as stored deflate blocks, none of them the last (RFC 1951, 3.2.4)."""
    blocks: list[bytes | memoryview] = []
    for start in range(0, len(plane), _MAX_STORED_BLOCK):
        piece = plane[start : start + _MAX_STORED_BLOCK]
        length = len(piece)
        header = length.to_bytes(2, "little") + (length ^ 0xFFFF).to_bytes(2, "little")
        blocks += [b"\x00" + header, piece.data]
    return blocks
