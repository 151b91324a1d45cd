"""Protocol 1: messages to frames and back.

Pure: no socket, no clock, no thread, no file. A message is one dataclass below; its public
fields are the keys of frame 0 (a msgpack map with a ``type`` and no extension types), its
``frames`` are the raw frames behind it. `decode_client` and `decode_daemon` trust nothing: whatever
does not fit raises `WireError` with a stable code and the name of the field. Unknown keys are
ignored, so that either side may grow. ``docs/protocol.md`` specifies the same in prose; a test
holds the two together.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias

import msgpack
import numpy as np

from .errors import UsidstreamError

try:  # isal's CRC-32 is six times as fast; the light client may be without it
    from isal.isal_zlib import crc32 as _crc32
except ImportError:
    from zlib import crc32 as _crc32

VERSION = 1
FEATURES = ("rows", "columns", "scattered", "several-mains", "join", "annotate", "resume")

DEFAULT_DATA_PORT = 5755
MAX_HEADER_BYTES = 1 << 20
MAX_FRAMES_COUNT = 4096
MAX_LAYOUT_BYTES = 512 << 20
MAX_BLOCK_BYTES = 8 << 20
MAX_LAYOUT_DEPTH = 12
MAX_INT = (1 << 63) - 1

Frame: TypeAlias = bytes | bytearray | memoryview
Ranges: TypeAlias = "np.ndarray[Any, np.dtype[np.integer[Any]]]"

_ADDRESS = struct.Struct("<4Q")
_SCAN_ID = re.compile(r"[0-9a-f]{32}\Z")


class WireError(UsidstreamError):
    """A message that this version cannot read. ``details['field']`` names the culprit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """The base of all messages. ``frames`` are the raw frames behind frame 0."""

    type: ClassVar[str]
    frames: Sequence[Frame] = field(default=(), repr=False)


# ---------------------------------------------------------------- from the client


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello(Message):
    """The first message of every connection.

    ``instance`` names the client over its reconnections: a new connection of the same instance
    takes the place of the old one at once.
    """

    type = "hello"
    versions: list[int]
    client: str = ""
    instance: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Open(Message):
    """Open a scan, or resume one whose id the daemon knows. Frames: the layout's arrays."""

    type = "open"
    scan: str
    layout: dict[str, Any]
    file: str = "scan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Join(Message):
    """Help to fill a scan that another client opened."""

    type = "join"
    scan: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave(Message):
    """Stop helping, once everything up to ``seq`` is durable."""

    type = "leave"
    scan: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Block(Message):
    """Rows ``row .. row+rows``, columns ``col .. col+cols`` of a main, in C order.

    Frames: the payload; or, for scattered rows, their numbers (u64 LE, then ``row`` is 0) and the
    payload. ``crc`` is `block_crc`.
    """

    type = "block"
    scan: str
    main: str
    seq: int
    row: int
    rows: int
    col: int
    cols: int
    crc: int
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotate(Message):
    """Attributes learnt while the scan runs; the last value of a name counts."""

    type = "annotate"
    scan: str
    seq: int
    attrs: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish(Message):
    """Finalise the scan once everything up to ``seq`` has arrived."""

    type = "finish"
    scan: str
    seq: int
    attrs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Abort(Message):
    """End the scan now; what arrived stays."""

    type = "abort"
    scan: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRequest(Message):
    """Ask about all scans, or one, with its durable coverage if ``coverage``."""

    type = "status"
    scan: str = ""
    coverage: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping(Message):
    """Ask for a pong and, with ``scan``, its latest ack.

    ``commit`` tells that a caller waits for durability, so that the daemon need not wait for its
    next periodic commit.
    """

    type = "ping"
    scan: str = ""
    commit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bye(Message):
    """The connection ends; its scans stay resumable."""

    type = "bye"


# ---------------------------------------------------------------- from the daemon


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome(Message):
    """The answer to hello. A port is ``None`` where that service is off."""

    type = "welcome"
    version: int
    daemon: str
    instance: str
    features: list[str]
    limits: dict[str, int]
    ports: dict[str, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened(Message):
    """The answer to open and join.

    ``coverage`` maps each main to the indices of two frames of u64 LE: ``complete``, pairs (start,
    stop) of positions, and ``partial``, quadruples (row, row end, column, column end). It is what
    is durable. ``layout`` (its arrays among the frames too) is there for a joiner.
    """

    type = "opened"
    scan: str
    file: str
    role: str
    resumed: bool
    credit: int
    positions: int
    coverage: dict[str, dict[str, int]]
    layout: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack(Message):
    """What has arrived, what is safe, and how much may be sent; each is absolute.

    ``received`` and ``durable`` are seq numbers, ``credit`` the total of raw-frame bytes that this
    client session may send to this scan, ``positions`` the number durable in every main.
    """

    type = "ack"
    scan: str
    received: int
    durable: int
    credit: int
    positions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Resend(Message):
    """Blocks from ``seq`` on did not arrive or are no longer held: send them again, in order."""

    type = "resend"
    scan: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished(Message):
    """The scan's end, or, after leave, the end of this client's part (status ``acquiring``).

    ``missing`` maps a main to the index of a frame with pairs (start, stop) of u64 LE: positions
    that are not complete; a main without any is not named.
    """

    type = "finished"
    scan: str
    file: str
    status: str
    missing: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aborted(Finished):
    """The scan ended by abort; fields as in finished."""

    type = "aborted"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport(Message):
    """The answer to status. ``coverage`` as in opened, only where it was asked for."""

    type = "status"
    daemon: dict[str, Any]
    scans: list[dict[str, Any]]
    coverage: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong(Message):
    """The answer to ping."""

    type = "pong"
    scan: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Error(Message):
    """Something was refused. ``seq`` names the block, 0 where none is meant."""

    type = "error"
    code: str
    message: str
    hint: str = ""
    retryable: bool = False
    operation: str = ""
    scan: str = ""
    seq: int = 0
    details: dict[str, Any] = field(default_factory=dict)


CLIENT_MESSAGES: Mapping[str, type[Message]] = MappingProxyType(
    {
        m.type: m
        for m in (
            Hello, Open, Join, Leave, Block, Annotate, Finish, Abort, StatusRequest, Ping, Bye,
        )
    }
)  # fmt: skip
DAEMON_MESSAGES: Mapping[str, type[Message]] = MappingProxyType(
    {
        m.type: m
        for m in (Welcome, Opened, Ack, Resend, Finished, Aborted, StatusReport, Pong, Error)
    }
)


# ---------------------------------------------------------------- frames


def encode(message: Message) -> list[Frame]:
    """Turn a message into its frames.

    Raises
    ------
    WireError
        ``message_too_large`` if frame 0 exceeds `MAX_HEADER_BYTES`, ``bad_message`` if a value
        has no msgpack form.
    """
    header = {"type": message.type}
    header |= {f.name: getattr(message, f.name) for f in _public_fields(type(message))}
    try:
        packed: bytes = msgpack.packb(header)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"{message.type}: {error}", code="bad_message") from error
    if len(packed) > MAX_HEADER_BYTES:
        raise WireError(
            f"{message.type}: frame 0 takes {len(packed)} bytes, over {MAX_HEADER_BYTES}",
            code="message_too_large",
        )
    return [packed, *message.frames]


def decode_client(frames: Sequence[Frame]) -> Message:
    """Read a message from a client; raise `WireError` for anything that is none."""
    return _decode(frames, CLIENT_MESSAGES)


def decode_daemon(frames: Sequence[Frame]) -> Message:
    """Read a message from the daemon; raise `WireError` for anything that is none."""
    return _decode(frames, DAEMON_MESSAGES)


def _decode(frames: Sequence[Frame], kinds: Mapping[str, type[Message]]) -> Message:
    if not frames or len(frames) > MAX_FRAMES_COUNT:
        raise WireError(
            f"a message has 1 to {MAX_FRAMES_COUNT} frames, not {len(frames)}", code="bad_message"
        )
    header = _unpack_header(frames[0])
    name = header.get("type")
    kind = kinds.get(name) if isinstance(name, str) else None
    if kind is None:
        raise WireError(
            f"message type {str(name)[:40]!r} is not one of {', '.join(kinds)}", code="unknown_type"
        )
    return kind(**_checked(kind, header), frames=tuple(frames[1:]))


def _unpack_header(frame: Frame) -> dict[str, Any]:
    if len(frame) > MAX_HEADER_BYTES:
        raise WireError(
            f"frame 0 has {len(frame)} bytes, over {MAX_HEADER_BYTES}", code="message_too_large"
        )
    try:
        header = msgpack.unpackb(frame, ext_hook=_refuse_extension, strict_map_key=True)
    except Exception as error:  # msgpack raises many kinds
        raise WireError(f"frame 0 is not msgpack: {error}", code="bad_message") from error
    if not isinstance(header, dict):
        raise WireError(
            f"frame 0 is a {type(header).__name__}, not a map with a 'type'", code="bad_message"
        )
    return header


def _refuse_extension(code: int, _data: bytes) -> Any:
    raise ValueError(f"extension type {code} is not part of the protocol")


_KINDS: Mapping[str, tuple[type, str]] = MappingProxyType(
    {
        "str": (str, "a string"),
        "int": (int, "an integer from 0 to 2**63 - 1"),
        "bool": (bool, "true or false"),
        "dict": (dict, "a map"),
        "list": (list, "an array"),
    }
)


def _public_fields(kind: type[Message]) -> tuple[Any, ...]:
    return _FIELDS[kind]


def field_kind(annotation: str) -> str:
    """Return the msgpack kind behind a field's annotation, such as ``dict`` for a map."""
    return annotation.partition("[")[0]


def _checked(kind: type[Message], header: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for spec in _public_fields(kind):
        if spec.name not in header:
            continue
        values[spec.name] = _check(kind, spec, header[spec.name])
    missing = [name for name in _REQUIRED[kind] if name not in values]
    if missing:
        raise _bad(kind, missing[0], "is missing")
    return values


def _check(kind: type[Message], spec: Any, value: Any) -> Any:
    expected, words = _KINDS[field_kind(spec.type)]
    fits = type(value) is expected
    if expected is int:
        fits = fits and 0 <= value <= MAX_INT
    if not fits:
        raise _bad(kind, spec.name, f"is not {words}")
    if spec.name == "scan" and value and not _SCAN_ID.match(value):
        raise _bad(kind, "scan", "is not 32 lower-case hexadecimal digits")
    return value


def _bad(kind: type[Message], name: str, problem: str) -> WireError:
    return WireError(f"{kind.type}: {name} {problem}", code="bad_message", details={"field": name})


def _fields_of(kind: type[Message]) -> tuple[Any, ...]:
    return tuple(f for f in fields(kind) if f.name != "frames")


def _is_required(spec: Any) -> bool:
    return spec.default is MISSING and spec.default_factory is MISSING


_ALL = (*CLIENT_MESSAGES.values(), *DAEMON_MESSAGES.values())
_FIELDS = {kind: _fields_of(kind) for kind in _ALL}
_REQUIRED = {kind: tuple(f.name for f in _fields_of(kind) if _is_required(f)) for kind in _ALL}


# ---------------------------------------------------------------- blocks


def block_crc(row: int, rows: int, col: int, cols: int, frames: Sequence[Frame]) -> int:
    """Return the CRC-32 (IEEE 802.3, as zlib's) of a block's address and raw frames.

    The address is part of it so that a damaged one cannot put good data in the wrong place.
    """
    crc = _crc32(_ADDRESS.pack(row, rows, col, cols))
    for frame in frames:
        crc = _crc32(frame, crc)
    return crc


# ---------------------------------------------------------------- arrays and ranges


def pack_layout(layout: Any, frames: list[Frame]) -> Any:
    """Replace each array in a layout's plain form by a reference to a raw frame.

    Parameters
    ----------
    layout
        What `ScanLayout.to_dict` returns, or a part of it.
    frames
        The message's raw frames; arrays are appended, little-endian and in C order.

    Returns
    -------
    The same with ``{"__array__": index, "dtype": "<f8", "shape": [n]}`` for each array.
    """
    if isinstance(layout, np.ndarray):
        array = np.ascontiguousarray(layout, dtype=layout.dtype.newbyteorder("<"))
        frames.append(array.tobytes())
        return {
            "__array__": len(frames) - 1,
            "dtype": array.dtype.str,
            "shape": list(array.shape),
        }
    if isinstance(layout, Mapping):
        return {key: pack_layout(value, frames) for key, value in layout.items()}
    if isinstance(layout, list | tuple):
        return [pack_layout(value, frames) for value in layout]
    return layout


def unpack_layout(layout: Any, frames: Sequence[Frame], depth: int = 0) -> Any:
    """Put the arrays of `pack_layout` back; raise `WireError` where they do not fit."""
    if depth > MAX_LAYOUT_DEPTH:
        raise WireError(f"layout: nested over {MAX_LAYOUT_DEPTH} deep", code="bad_message")
    if isinstance(layout, dict):
        if layout.keys() == {"__array__", "dtype", "shape"}:
            return _unpack_array(layout, frames)
        return {key: unpack_layout(value, frames, depth + 1) for key, value in layout.items()}
    if isinstance(layout, list):
        return [unpack_layout(value, frames, depth + 1) for value in layout]
    return layout


def _unpack_array(reference: Mapping[str, Any], frames: Sequence[Frame]) -> np.ndarray[Any, Any]:
    frame = _frame(reference["__array__"], frames, "layout")
    try:
        dtype = np.dtype(reference["dtype"])
        if dtype.kind not in "iufc" or dtype.byteorder == ">":
            raise ValueError(f"dtype {reference['dtype']!r} is not a little-endian number")
        return np.frombuffer(frame, dtype=dtype).reshape(reference["shape"]).copy()
    except (TypeError, ValueError) as error:
        raise WireError(f"layout: array {reference}: {error}", code="bad_message") from error


def _frame(index: Any, frames: Sequence[Frame], where: str) -> Frame:
    if type(index) is not int or not 0 <= index < len(frames):
        raise WireError(f"{where}: frame {index!r} does not exist", code="bad_message")
    return frames[index]


def pack_ranges(ranges: Ranges | Sequence[Sequence[int]], frames: list[Frame]) -> int:
    """Append ranges as a frame of u64 LE; return its index."""
    frames.append(np.ascontiguousarray(ranges, dtype="<u8").tobytes())
    return len(frames) - 1


def unpack_ranges(index: Any, frames: Sequence[Frame], width: int) -> list[tuple[int, ...]]:
    """Read the ranges of a frame: tuples of ``width`` integers."""
    frame = _frame(index, frames, "ranges")
    if len(frame) % (8 * width):
        raise WireError(f"ranges: frame {index} is not made of {width} x u64", code="bad_message")
    table = np.frombuffer(frame, dtype="<u8").reshape(-1, width)
    return [tuple(entry) for entry in table.tolist()]
