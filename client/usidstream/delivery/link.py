"""The life of a connection: when to dial, greet, listen, and give up.

Pure: time comes in as ``now`` (seconds of any monotonic clock), and `advance` says what is to be
done. Knows hello and welcome; must never know scans or sockets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from types import MappingProxyType

from ..wire import MAX_BLOCK_BYTES, Welcome

FIRST_BACKOFF_S = 0.05
LONGEST_BACKOFF_S = 1.0
GREETING_TIMEOUT_S = 5.0
HEARTBEAT_INTERVAL_S = 1.0
DEAD_AFTER_S = 10.0
STEADY_AFTER_S = 2.0
"""A connection that lasted this long was a good one: the next backoff starts small again."""


class LinkState(Enum):
    """Where a connection stands."""

    DOWN = auto()
    GREETING = auto()
    UP = auto()


class LinkEvent(Enum):
    """What moves it."""

    DIALLED = auto()
    WELCOMED = auto()
    LOST = auto()


TRANSITIONS: Mapping[tuple[LinkState, LinkEvent], LinkState] = MappingProxyType(
    {
        (LinkState.DOWN, LinkEvent.DIALLED): LinkState.GREETING,
        (LinkState.GREETING, LinkEvent.WELCOMED): LinkState.UP,
        (LinkState.GREETING, LinkEvent.LOST): LinkState.DOWN,
        (LinkState.UP, LinkEvent.LOST): LinkState.DOWN,
    }
)


class Step(Enum):
    """What `Link.advance` asks of the owner of the socket."""

    DIAL = auto()
    PING = auto()
    HANG_UP = auto()


@dataclass
class Link:
    """A connection that is made again whenever it is lost."""

    state: LinkState = LinkState.DOWN
    welcome: Welcome | None = None
    trouble: str = ""
    _dial_at: float = 0.0
    _backoff_s: float = FIRST_BACKOFF_S
    _since: float = 0.0
    _heard_at: float = 0.0
    _ping_at: float = field(default=0.0)

    @property
    def up(self) -> bool:
        """Whether messages about scans may be sent."""
        return self.state is LinkState.UP

    @property
    def max_block_bytes(self) -> int:
        """The largest block that the daemon takes."""
        if self.welcome is None:
            return MAX_BLOCK_BYTES
        limits = self.welcome.limits
        largest = limits.get("max_block_bytes", MAX_BLOCK_BYTES)
        return max(1, min(largest, limits.get("credit_window_bytes", largest)))

    def advance(self, now: float) -> Step | None:
        """Return what is due now."""
        if self.state is LinkState.DOWN:
            return Step.DIAL if now >= self._dial_at else None
        if now >= self._deadline():
            return Step.HANG_UP
        if self.up and now >= self._ping_at:
            self._ping_at = now + HEARTBEAT_INTERVAL_S
            return Step.PING
        return None

    def due_at(self) -> float:
        """Return the time at which `advance` has something to say."""
        if self.state is LinkState.DOWN:
            return self._dial_at
        return min(self._deadline(), self._ping_at) if self.up else self._deadline()

    def _deadline(self) -> float:
        if self.up:
            return self._heard_at + DEAD_AFTER_S
        return self._since + GREETING_TIMEOUT_S

    def silence(self, now: float) -> str:
        """Say why `Step.HANG_UP` was asked for."""
        if self.up:
            return f"the daemon was silent for {now - self._heard_at:.1f} s"
        return f"no answer to hello within {GREETING_TIMEOUT_S:g} s"

    def dialled(self, now: float) -> None:
        """A fresh socket was connected and hello sent."""
        self._move(LinkEvent.DIALLED, now)

    def welcomed(self, welcome: Welcome, now: float) -> None:
        """The daemon answered hello."""
        self._move(LinkEvent.WELCOMED, now)
        self.welcome = welcome
        self.trouble = ""
        self._ping_at = now + HEARTBEAT_INTERVAL_S

    def heard(self, now: float) -> None:
        """Any message came."""
        self._heard_at = now

    def lost(self, trouble: str, now: float) -> None:
        """The connection is gone, or was hung up."""
        steady = self.up and now - self._since >= STEADY_AFTER_S
        if steady:
            self._backoff_s = FIRST_BACKOFF_S
        self._move(LinkEvent.LOST, now)
        self.trouble = trouble
        self._dial_at = now + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, LONGEST_BACKOFF_S)

    def _move(self, event: LinkEvent, now: float) -> None:
        self.state = TRANSITIONS[self.state, event]
        self._since = self._heard_at = now
