"""Bytes of a chunk as HDF5's shuffle and deflate filters store them.

Chunks written this way are read by every HDF5 library; they only skip its slow compression. Knows
no file.
"""

from __future__ import annotations

from typing import Any

import numpy as np

try:
    from isal.isal_zlib import compress
except ImportError:  # zlib is several times slower, the stream is just as plain
    from zlib import compress

FAST_LEVEL = 1


def shuffled_deflate(chunk: np.ndarray[Any, np.dtype[Any]]) -> bytes:
    """Return a whole chunk as the filters [shuffle, deflate] would store it.

    Parameters
    ----------
    chunk : ndarray
        All elements of the chunk, in C order; an edge chunk padded to its full size.
    """
    flat = np.ascontiguousarray(chunk).reshape(-1)
    planes = np.ascontiguousarray(flat.view(np.uint8).reshape(-1, flat.itemsize).T)
    return compress(planes, FAST_LEVEL)
