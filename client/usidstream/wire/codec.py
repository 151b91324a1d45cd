"""Messages to frames and back.

Decoding trusts nothing: whatever does not fit raises `WireError` with a stable code and the name of
the field, takes memory in proportion to the frame at most, and keeps no part of what it refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, NamedTuple

import msgpack

from .kinds import Kind, read_kind
from .limits import MAX_FRAMES_COUNT, MAX_HEADER_BYTES, WireError, bad_message
from .messages import CLIENT_MESSAGES, DAEMON_MESSAGES, Frame, Message
from .telemetry import MAX_TOPIC_BYTES, TELEMETRY_MESSAGES

SMALL_HEADER_BYTES = 1024
"""Frames up to this size are unpacked at once; larger ones are first walked through."""

_SCAN_ID = re.compile(r"[0-9a-f]{32}\Z")


class _Field(NamedTuple):
    name: str
    kind: Kind
    is_required: bool


def encode(message: Message) -> list[Frame]:
    """Turn a message into its frames.

    Raises
    ------
    WireError
        ``message_too_large`` if frame 0 exceeds `MAX_HEADER_BYTES`, ``bad_message`` if a value
        has no msgpack form.
    """
    header = {"type": message.type}
    header |= {f.name: getattr(message, f.name) for f in _FIELDS[type(message)]}
    try:
        packed: bytes = msgpack.packb(header)
    except (TypeError, ValueError, OverflowError) as error:
        raise bad_message(message.type, str(error)) from error
    _check_header_size(packed)
    return [packed, *message.frames]


def decode_client(frames: Sequence[Frame]) -> Message:
    """Read a message from a client; raise `WireError` for anything that is none."""
    return _decode(frames, CLIENT_MESSAGES)


def decode_daemon(frames: Sequence[Frame]) -> Message:
    """Read a message from the daemon; raise `WireError` for anything that is none."""
    return _decode(frames, DAEMON_MESSAGES)


def encode_telemetry(topic: str, message: Message) -> list[Frame]:
    """Turn a message of the telemetry socket into its frames, the topic first; as `encode`."""
    return [topic.encode(), *encode(message)]


def decode_telemetry(frames: Sequence[Frame]) -> tuple[str, Message]:
    """Read a message from the telemetry socket: its topic, and what it says.

    Raises
    ------
    WireError
        For anything that is none. ``unknown_type`` may come from a newer daemon: pass over it.
    """
    if not frames or len(frames[0]) > MAX_TOPIC_BYTES:
        raise bad_message("frame 0", f"is no topic of at most {MAX_TOPIC_BYTES} bytes")
    try:
        topic = bytes(frames[0]).decode()
    except UnicodeDecodeError as error:
        raise bad_message("frame 0", f"is no topic in UTF-8: {error}") from error
    return topic, _decode(frames[1:], TELEMETRY_MESSAGES)


def _decode(frames: Sequence[Frame], kinds: Mapping[str, type[Message]]) -> Message:
    if not frames:
        raise bad_message("message", "has no frames")
    if len(frames) > MAX_FRAMES_COUNT:
        raise WireError(
            f"a message has at most {MAX_FRAMES_COUNT} frames, not {len(frames)}",
            code="message_too_large",
        )
    header = _unpack_header(frames[0])
    kind = _message_type(header, kinds)
    return kind(**_checked(kind, header), frames=tuple(frames[1:]))


def _message_type(header: Mapping[str, Any], kinds: Mapping[str, type[Message]]) -> type[Message]:
    name = header.get("type")
    if type(name) is not str:
        raise bad_message("frame 0", "has no 'type' that is a string", field="type")
    kind = kinds.get(name)
    if kind is None:
        raise WireError(
            f"message type {name[:40]!r} is not one of {', '.join(kinds)}",
            code="unknown_type",
            details={"field": "type"},
        )
    return kind


def _unpack_header(frame: Frame) -> dict[str, Any]:
    _check_header_size(frame)
    try:
        if len(frame) > SMALL_HEADER_BYTES:
            _walk(frame)
        header = msgpack.unpackb(frame, ext_hook=_refuse_extension)
    except Exception as error:  # msgpack raises many kinds
        raise bad_message("frame 0", f"is not msgpack: {error}") from error
    if not isinstance(header, dict):
        raise bad_message("frame 0", f"is a {type(header).__name__}, not a map")
    return header


def _check_header_size(frame: Frame) -> None:
    if len(frame) > MAX_HEADER_BYTES:
        raise WireError(
            f"frame 0 has {len(frame)} bytes, over {MAX_HEADER_BYTES}", code="message_too_large"
        )


def _walk(frame: Frame) -> None:
    """Check that all that a frame claims to hold is there, without making any of it.

    Else a few bytes that claim a long array, nested, would have memory set aside for each.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=len(frame))
    unpacker.feed(frame)
    try:
        unpacker.skip()
    except msgpack.OutOfData as error:
        raise ValueError("it ends early") from error


def _refuse_extension(code: int, _data: bytes) -> Any:
    raise ValueError(f"extension type {code} is not part of the protocol")


def _checked(kind: type[Message], header: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for spec in _FIELDS[kind]:
        if spec.name in header:
            value = header[spec.name]
            if not spec.kind.fits(value):
                raise _bad_field(kind, spec.name, f"is not {spec.kind.words}")
            values[spec.name] = value
        elif spec.is_required:
            raise _bad_field(kind, spec.name, "is missing")
    _check_scan(kind, values)
    return values


def is_scan_id(text: object) -> bool:
    """Whether a value is a scan's id: 32 lower-case hexadecimal digits."""
    return type(text) is str and _SCAN_ID.match(text) is not None


def _check_scan(kind: type[Message], values: Mapping[str, Any]) -> None:
    """Check a scan id; only messages that need not name a scan may leave it empty."""
    scan = values.get("scan", "")
    if not scan and kind not in _NEEDS_SCAN:
        return
    if not is_scan_id(scan):
        raise _bad_field(kind, "scan", "is not 32 lower-case hexadecimal digits")


def _bad_field(kind: type[Message], name: str, problem: str) -> WireError:
    return bad_message(f"{kind.type}: {name}", problem, field=name)


def _fields_of(kind: type[Message]) -> tuple[_Field, ...]:
    return tuple(
        _Field(f.name, read, f.default is MISSING and f.default_factory is MISSING)
        for f in fields(kind)
        if f.name != "frames" and (read := read_kind(str(f.type))) is not None
    )


_FIELDS = {
    kind: _fields_of(kind)
    for kinds in (CLIENT_MESSAGES, DAEMON_MESSAGES, TELEMETRY_MESSAGES)
    for kind in kinds.values()
}
_NEEDS_SCAN = frozenset(
    kind
    for kind, specs in _FIELDS.items()
    if any(spec.name == "scan" and spec.is_required for spec in specs)
)
