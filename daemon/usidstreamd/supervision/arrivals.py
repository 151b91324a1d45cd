"""When an instrument has stalled: from the number of blocks that came, the clock, and its own pace.

Pure. How long nothing may come is derived from the scan, never a fixed number of seconds: ten times
(`StallRule.factor`) its ``pixel_time_s`` or the longest pause between its last blocks, whichever is
longer, and at least a floor. Pauses that were told as stalls do not count, else the first would
hide the second. Time in which the instrument could not send, for want of credit, is not its own.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

MAX_PAUSES_COUNT = 32
"""Pauses between blocks that are remembered: a line scan's flyback is among them."""


@dataclass(frozen=True, slots=True)
class StallRule:
    """How long nothing may come.

    Parameters
    ----------
    floor_s
        At least so long.
    factor
        So many times the time of a pixel, or the longest pause.
    """

    floor_s: float
    factor: float

    def limit_s(self, pixel_time_s: float | None, pause_s: float) -> float:
        """Return how long nothing may come from an instrument of this pace."""
        return max(self.floor_s, self.factor * (pixel_time_s or 0.0), self.factor * pause_s)


@dataclass(frozen=True, slots=True)
class Stalled:
    """Nothing has come for too long."""

    silent_s: float
    limit_s: float


@dataclass(frozen=True, slots=True)
class Resumed:
    """Something has come again."""

    silent_s: float


class Arrivals:
    """What comes for one scan.

    Parameters
    ----------
    pixel_time_s
        As its layout tells, or None.
    now
        When it began, on any clock.
    count
        Blocks that had come by then.
    """

    def __init__(self, pixel_time_s: float | None, now: float, count: int = 0) -> None:
        self._pixel_time_s = pixel_time_s
        self._count = count
        self._last_s = now
        self._pauses: deque[float] = deque(maxlen=MAX_PAUSES_COUNT)
        self._has_begun = False
        self.is_stalled = False

    def see(
        self, now: float, count: int, rule: StallRule, *, may_send: bool
    ) -> Stalled | Resumed | None:
        """Take how many blocks have come; return what has changed, if anything has.

        Parameters
        ----------
        now, count
            The clock, and all blocks that ever came.
        rule
            How long nothing may come.
        may_send
            Whether the instrument had credit, so that silence is its own.
        """
        if count != self._count:
            self._count = count
            return self._on_arrival(now)
        if not may_send and not self.is_stalled:
            self._last_s = now
            self._has_begun = False  # a pause that was not its own is none of its pace
            return None
        silent_s = now - self._last_s
        limit_s = rule.limit_s(self._pixel_time_s, max(self._pauses, default=0.0))
        if self.is_stalled or silent_s < limit_s:
            return None
        self.is_stalled = True
        return Stalled(silent_s, limit_s)

    def _on_arrival(self, now: float) -> Resumed | None:
        silent_s, self._last_s = now - self._last_s, now
        if self.is_stalled:
            self.is_stalled = False
            self._has_begun = True
            return Resumed(silent_s)
        if self._has_begun:
            self._pauses.append(silent_s)
        self._has_begun = True
        return None
