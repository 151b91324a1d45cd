"""What the telemetry socket publishes: topics, and one dataclass for each message.

As in ``messages``, public fields are the keys of the header and an annotation is a field's kind.
On the wire a topic stands before the header, so that ZeroMQ itself tells who wants what. Whatever
is told is either a standing, complete in itself, or news that is told again to whoever subscribes
later: a listener that lost a message, or came late, needs no other repair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from .messages import Message

MAX_TOPIC_BYTES = 255
MAX_INCREMENT_ROWS_COUNT = 65536
MAX_NEWEST_POINTS_COUNT = 65536
MAX_NEWEST_DIMENSIONS = 32
MAX_TOLD_LAYOUT_BYTES = 16 << 20
MAX_TOLD_RANGES_COUNT = 1000
MAX_REDUCTIONS_COUNT = 8
MAX_SUBSCRIPTIONS_COUNT = 4096
HEARTBEAT_INTERVAL_S = 1.0
PROGRESS_INTERVAL_S = 0.5
PREVIEW_INTERVAL_S = 0.25
SILENCE_TIMEOUT_S = 3.0

DAEMON_TOPIC = "daemon"
SCAN_TOPICS = "scan/"
"""The prefix of the topics of all scans."""


def scan_topic(scan: str) -> str:
    """Return the topic of a scan's opening, progress, warnings and end."""
    return f"{SCAN_TOPICS}{scan}"


def layout_topic(scan: str) -> str:
    """Return the topic of a scan's layout."""
    return f"layout/{scan}"


def preview_topic(scan: str, main: int, reduction: str) -> str:
    """Return the topic of a preview.

    Parameters
    ----------
    main
        The main's number in the layout, from 0.
    reduction
        ``mean``, ``max``, ``at:<column>``, ``latest`` or ``newest``.
    """
    return f"preview/{scan}/{main}/{reduction}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(Message):
    """How the daemon does; at least as often as `HEARTBEAT_INTERVAL_S` while anybody listens."""

    type = "heartbeat"
    daemon: str
    instance: str
    time_s: float
    uptime_s: float
    endpoint: str
    data_dir: str
    ports: dict[str, int | None]
    clients: int
    memory_in_use_bytes: int
    memory_budget_bytes: int
    disk_free_bytes: int
    disk_needed_bytes: int
    disk_left_s: float | None
    write_bytes_per_s: float
    sync_p50_s: float | None
    sync_p99_s: float | None
    scans: dict[str, str]
    states: dict[str, int]
    warnings: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOpened(Message):
    """A scan is open from now on: new, or resumed."""

    type = "scan_opened"
    scan: str
    time_s: float
    name: str
    file: str
    n_positions: int
    mains: list[str]
    resumed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Message):
    """How an open scan stands. ``missing`` counts, by main, the gaps behind its farthest row."""

    type = "progress"
    scan: str
    time_s: float
    name: str
    file: str
    state: str
    n_positions: int
    mains: list[str]
    positions_received: int
    positions_durable: int
    missing: dict[str, int]
    rate_per_s: float
    bytes_per_s: float
    left_s: float | None
    lag_s: float
    lag_rows: int
    recoveries: int
    clients: int
    blocks_refused: int
    failure: str
    shortage: str
    received_bytes: int = 0
    total_bytes: int = 0


def received_part(
    positions: int, n_positions: int, received_bytes: int = 0, total_bytes: int = 0
) -> float:
    """Return the part of a scan that has come, from 0 to 1.

    It is that of its bytes, which tell of incomplete positions too, as of the images of a stack;
    that of its positions where no bytes are told (a ``total_bytes`` of 0), or more positions.
    """
    of_positions = positions / n_positions if n_positions else 0.0
    of_bytes = received_bytes / total_bytes if total_bytes else 0.0
    return min(max(of_positions, of_bytes), 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class WarningTold(Message):
    """A warning is in force from now on, or, with ``over``, no more."""

    type = "warning"
    code: str
    text: str
    scan: str = ""
    since_s: float
    time_s: float
    over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanClosed(Message):
    """The daemon has let go of a scan; ``status`` tells the result where the scan has ended.

    ``missing`` counts positions by main; ``ranges`` maps a main to the index of a frame with the
    first of them, pairs (start, stop) of u64 LE, at most `MAX_TOLD_RANGES_COUNT`.
    """

    type = "scan_closed"
    scan: str
    time_s: float
    name: str
    file: str
    state: str
    status: str
    failure: str
    n_positions: int
    positions_durable: int
    missing: dict[str, int] = field(default_factory=dict)
    ranges: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutTold(Message):
    """A scan's layout as in open, its arrays among the frames; empty if these are too large."""

    type = "layout"
    scan: str
    file: str
    layout: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Increment(Message):
    """One value for each of some rows. Frames: the rows, and float32 values; see `previews`.

    ``column`` is the one that values of ``latest`` are of, None for other reductions.
    """

    type = "increment"
    scan: str
    main: int
    name: str
    reduction: str
    seq: int
    rows: str
    cols: int
    n_cols: int
    skipped: int
    column: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest(Message):
    """The newest row, with ``shape`` and ``steps`` by dimension, fastest first. Frame: float32."""

    type = "newest"
    scan: str
    main: int
    name: str
    row: int
    shape: list[int]
    steps: list[int]


TELEMETRY_MESSAGES: Mapping[str, type[Message]] = MappingProxyType(
    {
        m.type: m
        for m in (
            Heartbeat, ScanOpened, Progress, WarningTold, ScanClosed, LayoutTold, Increment, Newest,
        )
    }
)  # fmt: skip
