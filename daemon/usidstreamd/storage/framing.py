"""Records in a file: length, CRC-32, payload. Pure bytes, no file.

A record that was cut or damaged is recognised as such, and so is everything behind it: reading
stops there. What a payload means is for others to know.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import msgpack

HEADER = struct.Struct("<II")  # bytes of payload, CRC-32 of the length's four bytes and the payload
MAX_RECORD_BYTES = (1 << 32) - 1


class FramingError(ValueError):
    """A record is cut short or does not fit its checksum; the message tells the offset."""


def frame(payload: bytes) -> bytes:
    """Return a payload as a record."""
    if len(payload) > MAX_RECORD_BYTES:
        raise FramingError(f"a record holds at most {MAX_RECORD_BYTES} bytes, not {len(payload)}")
    return HEADER.pack(len(payload), _crc(payload)) + payload


def unframe(data: bytes | memoryview) -> Iterator[bytes]:
    """Yield the payloads of consecutive records.

    Raises
    ------
    FramingError
        At the first record that is not whole, after all those before it were yielded.
    """
    view = memoryview(data)
    offset = 0
    while offset < len(view):
        start = offset + HEADER.size
        if start > len(view):
            raise FramingError(f"the record at byte {offset} is cut short")
        length, crc = HEADER.unpack_from(view, offset)
        payload = bytes(view[start : start + length])
        if len(payload) < length or _crc(payload) != crc:
            raise FramingError(f"the record at byte {offset} is cut short or damaged")
        yield payload
        offset = start + length


def _crc(payload: bytes) -> int:
    # The length is part of it, so that a run of zero bytes is no valid, empty record.
    return zlib.crc32(payload, zlib.crc32(struct.pack("<I", len(payload))))


def pack(value: Any) -> bytes:
    """Return a value of plain kinds as msgpack; raise `FramingError` for any other."""
    try:
        packed: bytes = msgpack.packb(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise FramingError(f"cannot be recorded: {error}") from error
    return packed


def unpack(payload: bytes) -> Any:
    """Return what `pack` was given (tuples as lists); raise `FramingError` where it is none."""
    try:
        return msgpack.unpackb(payload, strict_map_key=False)
    except Exception as error:  # msgpack raises many kinds
        raise FramingError(f"is not msgpack: {error}") from error
