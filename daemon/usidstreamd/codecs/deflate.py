"""The libraries that deflate, behind one face; the fastest that is installed is used.

Knows bytes and zlib streams; no elements, no HDF5.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

DEFLATE_LEVEL = 1
"""The level that keeps up with an instrument; higher ones save a few percent of the file."""


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
def best_backend() -> DeflateBackend:
    """Return the fastest backend that is installed."""
    for make in DEFLATE_BACKENDS.values():
        try:
            return make()
        except ImportError:
            continue
    raise RuntimeError("Python was built without zlib.")
