"""Rate control: when the next pixel is due. Pure but for the clock, which tests replace."""

from __future__ import annotations

import time
from collections.abc import Callable

SHORTEST_WAIT_S = 0.001
"""Shorter waits are not worth a system call, and timers do not keep them."""


class Pacer:
    """Tells how long to wait before each pixel, so that the mean rate holds for however long.

    Every deadline counts from the start, so rounding does not add up; after a pause that was not
    the pacer's, pixels follow at once until the schedule is met again.

    Parameters
    ----------
    rate_per_s
        Pixels a second; None is as fast as possible.
    clock
        Seconds, monotonic.

    Raises
    ------
    ValueError
        The rate is not positive.
    """

    def __init__(
        self, rate_per_s: float | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if rate_per_s is not None and not rate_per_s > 0:
            raise ValueError(f"The rate must be positive, not {rate_per_s}.")
        self._interval_s = 1 / rate_per_s if rate_per_s else 0.0
        self._clock = clock
        self._start = clock()

    def wait_s(self, done: int) -> float:
        """Return the seconds from now until pixel number ``done`` is due; 0 if it is, or nearly."""
        if not self._interval_s:
            return 0.0
        wait = self._start + done * self._interval_s - self._clock()
        return wait if wait >= SHORTEST_WAIT_S else 0.0
