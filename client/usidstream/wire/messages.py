"""The messages of protocol 1, each one dataclass.

Public fields are the keys of frame 0; a field's annotation is its msgpack kind (see `kinds`), and a
field with a default may be left out. ``frames`` are the raw frames behind frame 0.
``docs/protocol.md`` describes the same in prose; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias

Frame: TypeAlias = bytes | bytearray | memoryview


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
    """Open a scan, or resume one whose id the daemon knows. Frames: the layout's arrays.

    ``shuffle`` says by main what the client found best for its data; the layout's own word counts
    more, and for a scan that exists it says nothing.
    """

    type = "open"
    scan: str
    layout: dict[str, Any]
    file: str = "scan"
    shuffle: dict[str, bool] = field(default_factory=dict)


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
    """Attributes learnt while the scan runs; the last value counts. Frames: their arrays."""

    type = "annotate"
    scan: str
    seq: int
    attrs: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish(Message):
    """Finalise the scan once everything up to ``seq`` has arrived. Frames: the arrays of attrs."""

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
