"""How quickly counts rise, and how long things take: what operators are told. Pure."""

from __future__ import annotations

from collections import deque

import numpy as np

MAX_DURATIONS_COUNT = 1024
MAX_SAMPLES_COUNT = 512


class Rate:
    """A count's rise a second over the last while.

    Parameters
    ----------
    window_s
        How long a while.
    now, count
        Where it begins.
    """

    def __init__(self, window_s: float, now: float, count: float = 0.0) -> None:
        self._window_s = window_s
        self._samples = deque([(now, count)], MAX_SAMPLES_COUNT)

    def see(self, now: float, count: float) -> None:
        """Note where the count is."""
        samples = self._samples
        samples.append((now, count))
        # One that is older stays: without it there would be no rise to see.
        while len(samples) > 2 and samples[1][0] <= now - self._window_s:
            samples.popleft()

    @property
    def per_s(self) -> float:
        """The rise a second; 0 before two samples."""
        (began, first), (now, last) = self._samples[0], self._samples[-1]
        return (last - first) / (now - began) if now > began else 0.0


class Durations:
    """The latest `MAX_DURATIONS_COUNT` times that something took."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=MAX_DURATIONS_COUNT)

    def note(self, seconds: float) -> None:
        """Note one."""
        self._seconds.append(seconds)

    def percentile(self, percent: float) -> float | None:
        """Return the time that so many percent of them stayed below, None before the first."""
        if not self._seconds:
            return None
        return float(np.percentile(np.array(self._seconds), percent))
