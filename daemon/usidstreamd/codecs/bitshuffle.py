"""The bitshuffle filter with LZ4, by the library that hdf5plugin brings.

hdf5plugin itself is not imported, for it brings h5py; its library is the one that decodes the file
again, and holds no lock while it works.
"""

from __future__ import annotations

import ctypes
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .chunk import ChunkShape, CodecUnavailable, Elements, buffers, plain_bytes

_FILTER_ID = 32008
_LZ4 = 2


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
        "compression": _FILTER_ID,
        "compression_opts": (0, _LZ4),  # 0: the default block size
    }

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._library = bitshuffle_library()
        self._block_elements = self._library.bshuf_default_block_size(dtype.itemsize)

    def encode(
        self,
        chunk: Elements,
        chunk_shape: ChunkShape,
        col: int = 0,  # noqa: ARG002  # the interface
    ) -> bytes:
        """See `Codec.encode`."""
        plain = np.ascontiguousarray(plain_bytes(chunk, chunk_shape))
        itemsize, n_elements = self._dtype.itemsize, chunk_shape[0] * chunk_shape[1]
        bound = self._library.bshuf_compress_lz4_bound(n_elements, itemsize, self._block_elements)
        blocks = buffers.get("blocks", bound)
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
def bitshuffle_library() -> ctypes.CDLL:
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
