"""Elements become planes of bytes, and planes one zlib stream.

A plane goes into the stream in one of three ways, and each is decoded alike: *stored* as it is,
*coded* by the frequencies of its bytes, or *matched* against its own past by a deflate library.
So planes follow each other as deflate blocks, between a zlib header and an empty last block with
the Adler-32 of the whole (RFC 1950; RFC 1951, sections 3.2.3 to 3.2.7).

The loops are compiled (`_planes.c`); where that module is missing, numpy shuffles and no plane is
coded. Knows bytes, not why a plane is treated as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .chunk import Bytes, ChunkShape, Elements, buffers, plain_bytes
from .deflate import DeflateBackend

compiled: Any
try:
    from . import _planes as compiled
except ImportError:  # no compiler was there when the package was built
    compiled = None

STORED, CODED, MATCHED = b"s", b"c", b"m"
_MAX_STORED_BLOCK = 65535
_ZLIB_HEADER = b"\x78\x01"
_LAST_EMPTY_BLOCK = b"\x01\x00\x00\xff\xff"


def shuffle_planes(chunk: Elements, chunk_shape: ChunkShape) -> Bytes:
    """Return HDF5's byte shuffle: uint8 (itemsize, n), plane k holding byte k of each element.

    The result is a buffer of this thread, good until the next call.

    Parameters
    ----------
    chunk, chunk_shape
        As for `Codec.encode`.
    """
    planes = _plane_buffer(chunk, chunk_shape)
    if compiled is None:
        _shuffle_by_numpy(chunk, chunk_shape, planes)
    else:
        compiled.shuffle(_lines(chunk, chunk_shape), planes)
    return planes


def can_be_one_step(ways: bytes) -> bool:
    """Return whether `shuffled_stream` can be asked for planes that are treated so."""
    return compiled is not None and MATCHED not in ways


def shuffled_stream(chunk: Elements, chunk_shape: ChunkShape, ways: bytes) -> bytes:
    """Return a chunk's planes as one zlib stream, in a single step without the GIL.

    Parameters
    ----------
    chunk, chunk_shape
        As for `Codec.encode`.
    ways
        Of each plane; see `can_be_one_step`.
    """
    lines = _lines(chunk, chunk_shape)
    stream: bytes = compiled.zlib_stream(_plane_buffer(chunk, chunk_shape), ways, (), lines)
    return stream


def zlib_stream(planes: Bytes, ways: bytes, backend: DeflateBackend) -> bytes:
    """Return planes as one zlib stream.

    Parameters
    ----------
    planes
        uint8 (planes, n), contiguous.
    ways
        `STORED`, `CODED` or `MATCHED` for each plane; coded only where the loops are compiled.
    backend
        Makes the blocks of planes that are matched, for which it must be able to.
    """
    matched = tuple(
        b"".join(backend.raw_blocks(plane.data))
        for plane, way in zip(planes, ways, strict=True)
        if way == MATCHED[0] and backend.raw_blocks
    )
    if compiled is not None:
        stream: bytes = compiled.zlib_stream(planes, ways, matched)
        return stream
    parts: list[bytes | memoryview] = [_ZLIB_HEADER]
    blocks = iter(matched)
    for plane, way in zip(planes, ways, strict=True):
        parts += _stored_blocks(plane) if way == STORED[0] else [next(blocks)]
    adler32 = backend.adler32(planes.reshape(-1).data)
    return b"".join((*parts, _LAST_EMPTY_BLOCK, adler32.to_bytes(4, "big")))


def _plane_buffer(chunk: Elements, chunk_shape: ChunkShape) -> Bytes:
    itemsize = chunk.dtype.itemsize
    planes = buffers.get("planes", chunk_shape[0] * chunk_shape[1] * itemsize)
    return planes.reshape(itemsize, -1)


def _lines(chunk: Elements, chunk_shape: ChunkShape) -> Bytes:
    """Return a whole chunk's bytes (lines, bytes of a line), as they stand in a band or in one."""
    if chunk.shape == chunk_shape and chunk.strides[1] == chunk.dtype.itemsize:
        return chunk.view(np.uint8)
    return plain_bytes(chunk, chunk_shape).reshape(1, -1)


def _shuffle_by_numpy(chunk: Elements, chunk_shape: ChunkShape, planes: Bytes) -> None:
    itemsize = chunk.dtype.itemsize
    word = next((nbytes for nbytes in (4, 2) if itemsize % nbytes == 0), 1)
    if word == 1:
        np.copyto(planes, plain_bytes(chunk, chunk_shape).reshape(-1, itemsize).T)
        return
    # Shifting words and casting them to bytes is vectorised; picking bytes apart is not.
    words = _words(chunk, chunk_shape, word)
    shifted = buffers.get("words", planes.nbytes // itemsize * word).view(words.dtype)
    for k in range(itemsize // word):
        np.copyto(shifted.reshape(words.shape[:-1]), words[..., k])
        for j in range(word):
            np.copyto(planes[k * word + j], shifted, casting="unsafe")
            if j + 1 < word:
                np.right_shift(shifted, 8, out=shifted)


def _words(chunk: Elements, chunk_shape: ChunkShape, word: int) -> npt.NDArray[Any]:
    """Return a whole chunk's elements as unsigned words, (..., words of an element), in C order."""
    lines = _lines(chunk, chunk_shape)
    return lines.view(f"<u{word}").reshape(len(lines), -1, chunk.dtype.itemsize // word)


def _stored_blocks(plane: Bytes) -> list[bytes | memoryview]:
    """Return a plane as stored deflate blocks, none of them the last (RFC 1951, 3.2.4)."""
    blocks: list[bytes | memoryview] = []
    for start in range(0, len(plane), _MAX_STORED_BLOCK):
        piece = plane[start : start + _MAX_STORED_BLOCK]
        length = len(piece)
        header = length.to_bytes(2, "little") + (length ^ 0xFFFF).to_bytes(2, "little")
        blocks += [b"\x00" + header, piece.data]
    return blocks
