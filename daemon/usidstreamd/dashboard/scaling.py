"""From values to the limits of a colour scale. Pure numpy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_SAMPLES_COUNT = 65_536
STEADY_FRACTION = 0.02
"""Limits that would move by less than this part of their span stay: colours should not flicker."""

SCALES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "1 to 99 %": (1.0, 99.0),
        "5 to 95 %": (5.0, 95.0),
        "0.1 to 99.9 %": (0.1, 99.9),
        "all values": (0.0, 100.0),
    }
)
"""What the colours span, by percentiles of the values."""

_TURNS: Mapping[str, float] = MappingProxyType(
    {"rad": 2 * math.pi, "deg": 360.0, "°": 360.0, "degrees": 360.0}
)


def limits_of(values: npt.NDArray[Any], scale: str) -> tuple[float, float] | None:
    """Return what the colours should span; None if there is no finite value.

    Taken over `MAX_SAMPLES_COUNT` values, evenly spread.
    """
    stride = max(1, values.size // MAX_SAMPLES_COUNT)
    sample = values.ravel()[::stride]
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return None
    low, high = (float(limit) for limit in np.percentile(sample, SCALES[scale]))
    if low == high:
        low, high = float(sample.min()), float(sample.max())
    return widened(low, high)


def widened(low: float, high: float) -> tuple[float, float]:
    """Return limits that differ: those of a single value get room on both sides."""
    if high > low:
        return low, high
    room = abs(low) * 0.05 or 0.5
    return low - room, high + room


def full_turn(values: npt.NDArray[Any], units: str) -> tuple[float, float] | None:
    """Return the turn that holds all angles, from -half or from 0; None if neither does."""
    turn = _TURNS.get(units.lower())
    finite = values[np.isfinite(values)]
    if turn is None or not finite.size:
        return None
    low, high = float(finite.min()), float(finite.max())
    slack = turn / 1000
    for start in (-turn / 2, 0.0):
        if start - slack <= low and high <= start + turn + slack:
            return start, start + turn
    return None


def has_moved(old: tuple[float, float] | None, new: tuple[float, float]) -> bool:
    """Tell whether limits moved by enough to be worth changing every pixel's colour."""
    if old is None:
        return True
    span = max(new[1] - new[0], np.finfo(float).tiny)
    return max(abs(old[0] - new[0]), abs(old[1] - new[1])) > STEADY_FRACTION * span
