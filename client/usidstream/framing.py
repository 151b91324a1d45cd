"""Records in a file: length, CRC-32, payload. Pure bytes: whoever has a file hands it in.

The daemon's journal and the client's spool are made of them. A record that was cut or damaged is
recognised as such, and so is everything behind it: reading stops there. What a payload means is for
others to know.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, TypeAlias

import msgpack

from .checksum import crc32

HEADER = struct.Struct("<II")  # bytes of payload, CRC-32 of the length's four bytes and the payload
MAX_RECORD_BYTES = (1 << 32) - 1

Buffer: TypeAlias = bytes | bytearray | memoryview
Parts: TypeAlias = Sequence[Buffer]
"""A record's payload in pieces, each C-contiguous, in order."""


class FramingError(ValueError):
    """A record is cut short or does not fit its checksum; the message tells the offset."""


def record_header(parts: Parts) -> bytes:
    """Return what precedes a payload in its record; raise `FramingError` if that is too large."""
    length = sum(memoryview(part).nbytes for part in parts)
    if length > MAX_RECORD_BYTES:
        raise FramingError(f"a record holds at most {MAX_RECORD_BYTES} bytes, not {length}")
    # The length is part of it, so that a run of zero bytes is no valid, empty record.
    crc = crc32(length.to_bytes(4, "little"))
    for part in parts:
        crc = crc32(part, crc)
    return HEADER.pack(length, crc)


def frame(payload: bytes) -> bytes:
    """Return a payload as a record."""
    return record_header((payload,)) + payload


def unframe(data: bytes | bytearray | memoryview) -> Iterator[bytes]:
    """Yield the payloads of consecutive records; as `read_records`."""
    return read_records(io.BytesIO(data), len(data))


def read_records(file: BinaryIO, nbytes: int) -> Iterator[bytes]:
    """Yield the payloads of consecutive records, one in memory at a time.

    Parameters
    ----------
    file
        Stands at the first record.
    nbytes
        What it holds from there on: a damaged length asks for no more memory than that.

    Raises
    ------
    FramingError
        At the first record that is not whole, after all those before it were yielded.
    """
    offset = 0
    while offset < nbytes:
        header = file.read(HEADER.size)
        start = offset + HEADER.size
        if len(header) < HEADER.size:
            raise FramingError(f"the record at byte {offset} is cut short")
        length, crc = HEADER.unpack(header)
        payload = file.read(length) if length <= nbytes - start else None
        if payload is None or len(payload) < length:
            raise FramingError(f"the record at byte {offset} is cut short or damaged")
        if crc32(payload, crc32(header[:4])) != crc:
            raise FramingError(f"the record at byte {offset} is damaged")
        yield payload
        offset = start + length


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
