"""A chunk's elements become exactly the bytes that HDF5's filter pipeline decodes.

So a chunk is written as it is (``write_direct_chunk``) and every stock reader opens the file.

The default is gzip after the byte shuffle, made plane by plane: once shuffled, byte k of all
elements lies together, and planes are either well compressible (signs, exponents, high bytes) or
noise. Noise is not worth the processor's time: it goes into *stored* blocks, the rest through raw
deflate, each plane ending on a byte boundary (a full flush). A zlib header, an empty last block and
the Adler-32 of the whole around them make one plain zlib stream (RFC 1950, RFC 1951 sections 3.2.3
and 3.2.4).

Everything heavy runs without the GIL, and each thread has buffers of its own: one codec serves all
threads. This module knows elements, bytes and compression libraries; never HDF5, files or mains.
"""

from __future__ import annotations

import ctypes
import importlib.util
import threading
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from usidstream.errors import UsidstreamError

Elements = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
ChunkShape = tuple[int, int]

DEFLATE_LEVEL = 1
"""The level that keeps up with an instrument; higher ones save a few percent of the file."""
STORED_ABOVE = 0.94
"""A plane whose sample shrinks to no less than this part is stored: 6 % are not worth the time."""
SAMPLE_BYTES = 8 << 10
SAMPLE_PIECES = 4
"""A plane's sample: pieces from all over it, for the corner of a detector frame is dark."""
RESAMPLE_CHUNKS = 32
"""Data changes during a scan: planes are sampled again after as many chunks."""
_MAX_STORED_BLOCK = 65535
_ZLIB_HEADER = b"\x78\x01"
_LAST_EMPTY_BLOCK = b"\x01\x00\x00\xff\xff"
_BITSHUFFLE_FILTER_ID = 32008
_BITSHUFFLE_LZ4 = 2


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

    def encode(self, chunk: Elements, chunk_shape: ChunkShape) -> bytes:
        """Return a chunk as it stands in the file.

        Parameters
        ----------
        chunk
            Array (rows, columns), also a view with strides; not larger than ``chunk_shape``. An
            edge chunk is filled up with zeros.
        chunk_shape
            The dataset's chunk shape.
        """

    def decode(self, data: bytes, chunk_shape: ChunkShape) -> Elements:
        """Return a whole chunk (rows, columns) from its bytes.

        Raises
        ------
        ValueError
            The bytes are damaged or have another length than the chunk.
        """


class DeflateBackend(NamedTuple):
    """A deflate library.

    Parameters
    ----------
    name
        Of the Python package.
    zlib_stream
        Makes one whole zlib stream of contiguous bytes.
    raw_blocks
        Makes raw deflate blocks, none of them the last, that end on a byte boundary; None if the
        library cannot.
    adler32
        Of contiguous bytes.
    """

    name: str
    zlib_stream: Callable[[memoryview], bytes]
    raw_blocks: Callable[[memoryview], Sequence[bytes]] | None
    adler32: Callable[[memoryview], int]


def _isal_backend() -> DeflateBackend:
    from isal import isal_zlib

    def raw_blocks(data: memoryview) -> Sequence[bytes]:
        stream = isal_zlib.compressobj(DEFLATE_LEVEL, wbits=-15)
        return stream.compress(data), stream.flush(isal_zlib.Z_FULL_FLUSH)

    def zlib_stream(data: memoryview) -> bytes:
        return isal_zlib.compress(data, DEFLATE_LEVEL)

    return DeflateBackend("isal", zlib_stream, raw_blocks, isal_zlib.adler32)


def _libdeflate_backend() -> DeflateBackend:
    import deflate

    def zlib_stream(data: memoryview) -> bytes:
        return bytes(deflate.zlib_compress(data, DEFLATE_LEVEL))

    return DeflateBackend("deflate", zlib_stream, None, zlib.adler32)


def _zlib_backend() -> DeflateBackend:
    def raw_blocks(data: memoryview) -> Sequence[bytes]:
        stream = zlib.compressobj(DEFLATE_LEVEL, wbits=-15)
        return stream.compress(data), stream.flush(zlib.Z_FULL_FLUSH)

    def zlib_stream(data: memoryview) -> bytes:
        return zlib.compress(data, DEFLATE_LEVEL)

    return DeflateBackend("zlib", zlib_stream, raw_blocks, zlib.adler32)


DEFLATE_BACKENDS: dict[str, Callable[[], DeflateBackend]] = {
    "isal": _isal_backend,
    "deflate": _libdeflate_backend,
    "zlib": _zlib_backend,
}
"""Fastest first; `zlib` is always there."""


@cache
def _best_backend() -> DeflateBackend:
    for make in DEFLATE_BACKENDS.values():
        try:
            return make()
        except ImportError:
            continue
    raise RuntimeError("Python was built without zlib.")


def deflate_backend() -> str:
    """Return the name of the package that deflates: ``isal``, ``deflate`` or ``zlib``."""
    return _best_backend().name


def prefers_shuffle(dtype: np.dtype[Any]) -> bool:
    """Return whether elements of a dtype are byte-shuffled where the layout does not say.

    All that have more than one byte. Measured on real atomic force and piezoresponse scans, gzip
    alone shrinks float32 to 0.68-0.91, shuffled to 0.66-0.84; the high bytes of integers vanish;
    and plane by plane it is twice as fast. The exception is float32 that holds quantised counts
    (0.62 alone, 0.75 shuffled), for which a layout may say ``shuffle = false``, and better says
    int16 with a scale.
    """
    return dtype.itemsize > 1


def choose(compression: str, shuffle: bool | None, dtype: np.dtype[Any]) -> Codec:
    """Return the codec of a main.

    Parameters
    ----------
    compression
        ``gzip``, ``bitshuffle-lz4`` or ``none``.
    shuffle
        Byte shuffle before gzip; `prefers_shuffle` decides if None.
    dtype
        The main's dtype.

    Raises
    ------
    CodecUnavailable
        A package is missing; the hint tells which to install.
    """
    dtype = np.dtype(dtype)
    if compression == "gzip":
        shuffle = prefers_shuffle(dtype) if shuffle is None else shuffle
        return Gzip(dtype, shuffle=shuffle, backend=_best_backend())
    if compression == "bitshuffle-lz4":
        return BitshuffleLz4(dtype)
    if compression == "none":
        return Uncompressed(dtype)
    raise CodecUnavailable(
        f"compression '{compression}' is not known.", "Use 'gzip', 'bitshuffle-lz4' or 'none'."
    )


class _Buffers(threading.local):
    """Buffers of one thread, by what they are for; each grows to the largest chunk it met."""

    def __init__(self) -> None:
        self._held: dict[str, Bytes] = {}

    def get(self, use: str, nbytes: int) -> Bytes:
        """Return a buffer with any content, good until the same use is asked for again."""
        held = self._held.get(use)
        if held is None or held.nbytes < nbytes:
            held = self._held[use] = np.empty(nbytes, np.uint8)
        return held[:nbytes]


_buffers = _Buffers()


def _plain(chunk: Elements, chunk_shape: ChunkShape) -> Bytes:
    """Return the bytes of a whole chunk in C order: a view where it can be, else a buffer."""
    if chunk.shape == chunk_shape and chunk.flags.c_contiguous:
        return chunk.reshape(-1).view(np.uint8)
    if chunk.ndim != 2 or chunk.shape[0] > chunk_shape[0] or chunk.shape[1] > chunk_shape[1]:
        raise ValueError(f"elements of shape {chunk.shape} for a chunk of {chunk_shape}.")
    itemsize = chunk.dtype.itemsize
    plain = _buffers.get("plain", chunk_shape[0] * chunk_shape[1] * itemsize)
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


def _check_length(data: Bytes, itemsize: int, chunk_shape: ChunkShape) -> None:
    expected = chunk_shape[0] * chunk_shape[1] * itemsize
    if len(data) != expected:
        raise ValueError(f"a chunk of {expected} bytes decodes to {len(data)} bytes.")


class Uncompressed:
    """No filter: a chunk's bytes are its elements."""

    name = "none"
    hdf5_filters: dict[str, Any] = {}  # noqa: RUF012  # read only, as in every codec

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype

    def encode(self, chunk: Elements, chunk_shape: ChunkShape) -> bytes:
        """See `Codec.encode`."""
        return _plain(chunk, chunk_shape).tobytes()

    def decode(self, data: bytes, chunk_shape: ChunkShape) -> Elements:
        """See `Codec.decode`."""
        plain = np.frombuffer(data, np.uint8)
        _check_length(plain, self._dtype.itemsize, chunk_shape)
        return plain.view(self._dtype).reshape(chunk_shape)


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
        self._stored_planes: tuple[bool, ...] = ()
        self._chunks_until_sample = 0

    @property
    def hdf5_filters(self) -> dict[str, Any]:
        """See `Codec.hdf5_filters`."""
        return {
            "compression": "gzip",
            "compression_opts": DEFLATE_LEVEL,
            "shuffle": self._shuffle,
        }

    def encode(self, chunk: Elements, chunk_shape: ChunkShape) -> bytes:
        """See `Codec.encode`."""
        plain = _plain(chunk, chunk_shape)
        if not self._shuffle:
            return self._backend.zlib_stream(plain.data)
        planes = shuffle_planes(plain, self._dtype.itemsize)
        if self._backend.raw_blocks is None:
            return self._backend.zlib_stream(planes.reshape(-1).data)
        return b"".join(self._stream(planes, self._backend.raw_blocks))

    def decode(self, data: bytes, chunk_shape: ChunkShape) -> Elements:
        """See `Codec.decode`."""
        try:
            plain = np.frombuffer(zlib.decompress(data), np.uint8)
        except zlib.error as error:
            raise ValueError(f"a chunk cannot be inflated: {error}.") from error
        itemsize = self._dtype.itemsize
        _check_length(plain, itemsize, chunk_shape)
        if self._shuffle:
            plain = np.ascontiguousarray(plain.reshape(itemsize, -1).T).reshape(-1)
        return plain.view(self._dtype).reshape(chunk_shape)

    def _stream(
        self, planes: Bytes, raw_blocks: Callable[[memoryview], Sequence[bytes]]
    ) -> list[bytes | memoryview]:
        """Return one zlib stream in pieces."""
        stream: list[bytes | memoryview] = [_ZLIB_HEADER]
        for plane, stored in zip(planes, self._choose_stored(planes), strict=True):
            stream += _stored_blocks(plane) if stored else raw_blocks(plane.data)
        adler32 = self._backend.adler32(planes.reshape(-1).data)
        return [*stream, _LAST_EMPTY_BLOCK, adler32.to_bytes(4, "big")]

    def _choose_stored(self, planes: Bytes) -> tuple[bool, ...]:
        """Return for each plane whether it is stored. Any answer, also a stale one, decodes."""
        if self._chunks_until_sample <= 0:
            # The choice before the count: another thread may be here, too.
            self._stored_planes = tuple(self._is_noise(plane) for plane in planes)
            self._chunks_until_sample = RESAMPLE_CHUNKS
        self._chunks_until_sample -= 1
        return self._stored_planes

    def _is_noise(self, plane: Bytes) -> bool:
        length = min(SAMPLE_BYTES, len(plane)) // SAMPLE_PIECES
        starts = [len(plane) * k // SAMPLE_PIECES for k in range(SAMPLE_PIECES)]
        sample = np.concatenate([plane[start : start + length] for start in starts])
        return len(self._backend.zlib_stream(sample.data)) > STORED_ABOVE * len(sample)


def shuffle_planes(plain: Bytes, itemsize: int) -> Bytes:
    """Return HDF5's byte shuffle: uint8 (itemsize, n), plane k holding byte k of each element.

    The result is a buffer of this thread, good until the next call.
    """
    planes = _buffers.get("planes", plain.nbytes).reshape(itemsize, -1)
    word = next((nbytes for nbytes in (4, 2) if itemsize % nbytes == 0), 1)
    if word == 1:
        np.copyto(planes, plain.reshape(-1, itemsize).T)
        return planes
    # Shifting words and casting them to bytes is vectorised; picking bytes apart is not.
    words = plain.view(f"<u{word}").reshape(-1, itemsize // word)
    shifted = _buffers.get("words", len(words) * word).view(words.dtype)
    for k in range(itemsize // word):
        np.copyto(shifted, words[:, k])
        for j in range(word):
            np.copyto(planes[k * word + j], shifted, casting="unsafe")
            if j + 1 < word:
                np.right_shift(shifted, 8, out=shifted)
    return planes


def _stored_blocks(plane: Bytes) -> list[bytes | memoryview]:
    """Return a plane as stored deflate blocks, none of them the last (RFC 1951, 3.2.4)."""
    blocks: list[bytes | memoryview] = []
    for start in range(0, len(plane), _MAX_STORED_BLOCK):
        piece = plane[start : start + _MAX_STORED_BLOCK]
        length = len(piece)
        header = length.to_bytes(2, "little") + (length ^ 0xFFFF).to_bytes(2, "little")
        blocks += [b"\x00" + header, piece.data]
    return blocks


class BitshuffleLz4:
    """The bitshuffle filter with LZ4 (HDF5 filter 32008), by the library that hdf5plugin brings.

    The chunk format is bitshuffle's: 8 bytes of length and 4 of block size, big-endian, then the
    blocks; see ``bshuf_h5filter.c`` of github.com/kiyo-masui/bitshuffle.

    Raises
    ------
    CodecUnavailable
        hdf5plugin is missing, or its library does not show the functions.
    """

    name = "bitshuffle-lz4"
    hdf5_filters: dict[str, Any] = {  # noqa: RUF012  # read only, as in every codec
        "compression": _BITSHUFFLE_FILTER_ID,
        "compression_opts": (0, _BITSHUFFLE_LZ4),  # 0: the default block size
    }

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._library = _bitshuffle_library()
        self._block_elements = self._library.bshuf_default_block_size(dtype.itemsize)

    def encode(self, chunk: Elements, chunk_shape: ChunkShape) -> bytes:
        """See `Codec.encode`."""
        plain = np.ascontiguousarray(_plain(chunk, chunk_shape))
        itemsize, n_elements = self._dtype.itemsize, chunk_shape[0] * chunk_shape[1]
        bound = self._library.bshuf_compress_lz4_bound(n_elements, itemsize, self._block_elements)
        blocks = _buffers.get("blocks", bound)
        nbytes = self._library.bshuf_compress_lz4(
            plain.ctypes.data, blocks.ctypes.data, n_elements, itemsize, self._block_elements
        )
        if nbytes < 0:
            raise RuntimeError(f"bitshuffle failed with code {nbytes}.")
        header = plain.nbytes.to_bytes(8, "big")
        header += (self._block_elements * itemsize).to_bytes(4, "big")
        return b"".join((header, blocks[:nbytes].data))

    def decode(self, data: bytes, chunk_shape: ChunkShape) -> Elements:
        """See `Codec.decode`."""
        itemsize, n_elements = self._dtype.itemsize, chunk_shape[0] * chunk_shape[1]
        block_elements = self._check_blocks(data, n_elements)
        blocks = np.frombuffer(data, np.uint8)[12:]
        plain = np.empty(n_elements * itemsize, np.uint8)
        used = self._library.bshuf_decompress_lz4(
            blocks.ctypes.data, plain.ctypes.data, n_elements, itemsize, block_elements
        )
        if used != blocks.nbytes:
            raise ValueError(f"bitshuffle decoded {used} of {blocks.nbytes} bytes.")
        return plain.view(self._dtype).reshape(chunk_shape)

    def _check_blocks(self, data: bytes, n_elements: int) -> int:
        """Return the elements of a block, once the lengths fit: the library trusts them."""
        itemsize = self._dtype.itemsize
        nbytes, block_nbytes = int.from_bytes(data[:8], "big"), int.from_bytes(data[8:12], "big")
        block_elements = block_nbytes // itemsize
        if nbytes != n_elements * itemsize or not block_elements or block_elements % 8:
            raise ValueError(f"no bitshuffle chunk of {n_elements * itemsize} bytes.")
        n_blocks, rest = divmod(n_elements, block_elements)
        end = 12
        for _ in range(n_blocks + (rest >= 8)):
            end += 4 + int.from_bytes(data[end : end + 4], "big")
        if end + rest % 8 * itemsize != len(data):
            raise ValueError(f"the bitshuffle blocks do not fit in {len(data)} bytes.")
        return block_elements


@cache
def _bitshuffle_library() -> ctypes.CDLL:
    """Load bitshuffle's C functions; calls through ctypes release the GIL."""
    hint = "Run: pip install 'usidstream[plugins]', or use compression 'gzip'."
    spec = importlib.util.find_spec("hdf5plugin")
    if spec is None or not spec.submodule_search_locations:
        raise CodecUnavailable("bitshuffle-lz4 needs the package hdf5plugin.", hint)
    folder = Path(spec.submodule_search_locations[0]) / "plugins"
    found = sorted(folder.glob("*h5bshuf.*"))
    if not found:
        raise CodecUnavailable(f"hdf5plugin in {folder} brings no bitshuffle library.", hint)
    library = ctypes.CDLL(str(found[0]))
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    try:
        library.bshuf_default_block_size.restype = size
        library.bshuf_default_block_size.argtypes = [size]
        library.bshuf_compress_lz4_bound.restype = size
        library.bshuf_compress_lz4_bound.argtypes = [size] * 3
        for function in (library.bshuf_compress_lz4, library.bshuf_decompress_lz4):
            function.restype = ctypes.c_int64
            function.argtypes = [pointer, pointer, size, size, size]
    except AttributeError as error:
        message = f"hdf5plugin's bitshuffle library does not show its functions: {error}."
        raise CodecUnavailable(message, "Use compression 'gzip'.") from error
    return library
