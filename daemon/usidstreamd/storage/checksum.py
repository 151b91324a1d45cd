"""CRC-32 as zlib has it, by the fastest means there are: the same values on any machine."""

from __future__ import annotations

try:
    from isal.isal_zlib import crc32
except ImportError:  # pragma: no cover - isal has no wheel for every platform
    from zlib import crc32

__all__ = ["crc32"]
