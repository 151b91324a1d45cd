"""What every codec is, and a chunk's elements as whole plain bytes.

Knows elements and bytes; no compression.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from usidstream.errors import UsidstreamError

Elements = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
ChunkShape = tuple[int, int]


class CodecUnavailable(UsidstreamError):  # noqa: N818  # the condition, as the layout meets it
    """A layout asks for a compression that this installation lacks."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message, code="unsupported_feature", hint=hint)


class Codec(Protocol):
    """How the chunks of one main are encoded."""

    @property
    def name(self) -> str:
        """The layout's name of the compression."""

    @property
    def hdf5_filters(self) -> dict[str, Any]:
        """Keywords for h5py's ``create_dataset`` that give the dataset the same filters."""

    def encode(self, chunk: Elements, chunk_shape: ChunkShape, col: int = 0) -> bytes:
        """Return a chunk as it stands in the file.

        Parameters
        ----------
        chunk
            Array (rows, columns), also a view with strides; not larger than ``chunk_shape``. An
            edge chunk is filled up with zeros.
        chunk_shape
            The dataset's chunk shape.
        col
            The chunk's first column. Only a hint: chunks of the same columns are alike.
        """

    def decode(self, data: bytes, chunk_shape: ChunkShape) -> Elements:
        """Return a whole chunk (rows, columns) from its bytes.

        Raises
        ------
        ValueError
            The bytes are damaged or have another length than the chunk.
        """


class ThreadBuffers(threading.local):
    """Buffers of one thread, by what they are for; each grows to the largest chunk it met."""

    def __init__(self) -> None:
        self._held: dict[str, Bytes] = {}

    def get(self, use: str, nbytes: int) -> Bytes:
        """Return a buffer with any content, good until the same use is asked for again."""
        held = self._held.get(use)
        if held is None or held.nbytes < nbytes:
            held = self._held[use] = np.empty(nbytes, np.uint8)
        return held[:nbytes]


buffers = ThreadBuffers()


def plain_bytes(chunk: Elements, chunk_shape: ChunkShape) -> Bytes:
    """Return the bytes of a whole chunk in C order: a view where it can be, else a buffer."""
    if chunk.shape == chunk_shape and chunk.flags.c_contiguous:
        return chunk.reshape(-1).view(np.uint8)
    if chunk.ndim != 2 or chunk.shape[0] > chunk_shape[0] or chunk.shape[1] > chunk_shape[1]:
        raise ValueError(f"elements of shape {chunk.shape} for a chunk of {chunk_shape}.")
    itemsize = chunk.dtype.itemsize
    plain = buffers.get("plain", chunk_shape[0] * chunk_shape[1] * itemsize)
    whole = plain.view(np.dtype((np.void, itemsize)) if chunk.dtype.names else chunk.dtype)
    whole = whole.reshape(chunk_shape)
    rows, cols = chunk.shape
    chunk = chunk.view(whole.dtype)
    if chunk.strides[0] < chunk.strides[1]:
        # Column by column numpy is up to six times faster where columns lie contiguous.
        for col in range(cols):
            whole[:rows, col] = chunk[:, col]
    else:
        whole[:rows, :cols] = chunk
    if chunk.shape != chunk_shape:
        zero = np.zeros((), whole.dtype)
        whole[rows:] = zero
        whole[:rows, cols:] = zero
    return plain


def check_length(data: Bytes, itemsize: int, chunk_shape: ChunkShape) -> None:
    """Raise ValueError unless decoded bytes are a whole chunk's."""
    expected = chunk_shape[0] * chunk_shape[1] * itemsize
    if len(data) != expected:
        raise ValueError(f"a chunk of {expected} bytes decodes to {len(data)} bytes.")


class Uncompressed:
    """No filter: a chunk's bytes are its elements."""

    name = "none"
    hdf5_filters: dict[str, Any] = {}  # noqa: RUF012  # read only, as in every codec

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype

    def encode(
        self,
        chunk: Elements,
        chunk_shape: ChunkShape,
        col: int = 0,  # noqa: ARG002  # the interface
    ) -> bytes:
        """See `Codec.encode`."""
        return plain_bytes(chunk, chunk_shape).tobytes()

    def decode(self, data: bytes, chunk_shape: ChunkShape) -> Elements:
        """See `Codec.decode`."""
        plain = np.frombuffer(data, np.uint8)
        check_length(plain, self._dtype.itemsize, chunk_shape)
        return plain.view(self._dtype).reshape(chunk_shape)
