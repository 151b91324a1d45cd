"""CRC-32 as zlib has it, by the fastest means there are: the same values on any machine."""

from __future__ import annotations

try:  # six times as fast; the light client may be without it
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32

__all__ = ["crc32"]
