"""Whether a main's data shrinks better with its bytes shuffled, judged from a sample of it.

Pure. Byte shuffle brings the first bytes of all elements together, then the second ones, and so on:
gzip finds more in most data, and less in floats that hold quantised counts, whose whole patterns
repeat. Knows bytes only; it must never know how a daemon stores them, nor any connection.
"""

from __future__ import annotations

import zlib

import numpy as np

from .conform import Array

MAX_SAMPLE_BYTES = 1 << 20
"""Of a larger sample the beginning is judged."""
PLAIN_BELOW = 0.95
"""Shuffled chunks are written quicker: plain ones must be this much smaller to be preferred."""


def prefers_shuffle(sample: Array) -> bool:
    """Return whether data like a sample is to be byte-shuffled before gzip.

    Parameters
    ----------
    sample
        Elements as they will be stored, any shape; at least one.
    """
    itemsize = sample.dtype.itemsize
    whole = np.ascontiguousarray(sample).reshape(-1)[: max(1, MAX_SAMPLE_BYTES // itemsize)]
    plain = whole.view(np.uint8)
    shuffled = np.ascontiguousarray(plain.reshape(-1, itemsize).T)
    return _deflated(plain) >= PLAIN_BELOW * _deflated(shuffled)


def _deflated(contents: Array) -> int:
    return len(zlib.compress(contents.data, level=1))
