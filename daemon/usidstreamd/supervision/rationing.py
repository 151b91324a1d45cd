"""How often the same thing is told: a few times at once, then once in a while. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

MAX_KEYS_COUNT = 1024


@dataclass(slots=True)
class _Ration:
    left: float
    seen_s: float
    withheld: int = 0


class Rationing:
    """A ration for each key, so that one that comes too often silences no other.

    Parameters
    ----------
    burst_count
        So many at once,
    interval_s
        and one more after each of these.
    """

    def __init__(self, burst_count: int, interval_s: float) -> None:
        self._burst = float(burst_count)
        self._interval_s = interval_s
        self._rations: OrderedDict[Hashable, _Ration] = OrderedDict()

    def take(self, key: Hashable, now: float) -> int | None:
        """Return how many were withheld before this one, None if it is withheld itself."""
        ration = self._rations.setdefault(key, _Ration(self._burst, now))
        self._rations.move_to_end(key)
        while len(self._rations) > MAX_KEYS_COUNT:
            self._rations.popitem(last=False)
        grown = (now - ration.seen_s) / self._interval_s
        ration.left, ration.seen_s = min(self._burst, ration.left + grown), now
        if ration.left < 1.0:
            ration.withheld += 1
            return None
        ration.left -= 1.0
        withheld, ration.withheld = ration.withheld, 0
        return withheld
