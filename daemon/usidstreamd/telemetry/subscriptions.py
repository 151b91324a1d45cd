"""What is listened to, as the telemetry socket's subscriptions say. Pure.

One thread changes it, another reads: each change makes new sets in one assignment, so that a reader
never sees half of one. Only whole preview topics ask for anything to be computed; of one main at
most `MAX_REDUCTIONS_COUNT` reductions are served, those that were asked for first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

from usidstream import wire

MainKey: TypeAlias = tuple[str, int]
"""A scan's id and a main's number."""

NEWEST = "newest"

_SUBSCRIBE, _UNSUBSCRIBE = 1, 0
_PREVIEW = re.compile(
    r"preview/([0-9a-f]{32})/(0|[1-9]\d{0,3})/(mean|max|latest|at:(?:0|[1-9]\d{0,17})|newest)",
    re.ASCII,
)


class Subscriptions:
    """The subscriptions of all viewers together.

    Attributes
    ----------
    prefixes
        What topics begin with that somebody wants.
    previews
        By scan and main, what is to be computed: reductions, and ``newest``.
    crowded
        The scans of whose mains more reductions are wanted than are served.
    """

    def __init__(self) -> None:
        self.prefixes: frozenset[str] = frozenset()
        self.previews: Mapping[MainKey, tuple[str, ...]] = MappingProxyType({})
        self.crowded: frozenset[str] = frozenset()
        self._asked: dict[MainKey, dict[str, None]] = {}

    def take(self, frame: bytes) -> str | None:
        """Heed what an XPUB socket received; return the topic prefix of a new subscription.

        None for the end of one, and for what is none or one too many.
        """
        if not frame or len(frame) > 1 + wire.MAX_TOPIC_BYTES:
            return None
        try:
            prefix = frame[1:].decode()
        except UnicodeDecodeError:
            return None
        if frame[0] == _UNSUBSCRIBE:
            self._give_up(prefix)
        elif frame[0] == _SUBSCRIBE and self._has_room(prefix):
            self._note(prefix)
            return prefix
        return None

    def clear(self) -> None:
        """Forget all subscriptions, as their connections are gone."""
        self.prefixes = frozenset()
        self._asked.clear()
        self._serve()

    def wants(self, topic: str) -> bool:
        """Tell whether anybody listens to a topic."""
        return any(topic[:end] in self.prefixes for end in range(len(topic) + 1))

    def mains_of(self, scan: str) -> list[int]:
        """Return the numbers of a scan's mains of which previews are wanted."""
        return [main for held, main in self.previews if held == scan]

    def _has_room(self, prefix: str) -> bool:
        return prefix in self.prefixes or len(self.prefixes) < wire.MAX_SUBSCRIPTIONS_COUNT

    def _note(self, prefix: str) -> None:
        self.prefixes |= {prefix}
        preview = _PREVIEW.fullmatch(prefix)
        if preview is not None:
            key = preview[1], int(preview[2])
            self._asked.setdefault(key, {})[preview[3]] = None
            self._serve()

    def _give_up(self, prefix: str) -> None:
        self.prefixes -= {prefix}
        preview = _PREVIEW.fullmatch(prefix)
        if preview is not None:
            key = preview[1], int(preview[2])
            asked = self._asked.get(key, {})
            asked.pop(preview[3], None)
            if not asked:
                self._asked.pop(key, None)
            self._serve()

    def _serve(self) -> None:
        previews: dict[MainKey, tuple[str, ...]] = {}
        crowded: set[str] = set()
        for key, asked in self._asked.items():
            reductions = [name for name in asked if name != NEWEST]
            served = reductions[: wire.MAX_REDUCTIONS_COUNT]
            if len(reductions) > len(served):
                crowded.add(key[0])
            previews[key] = (*served, NEWEST) if NEWEST in asked else tuple(served)
        self.previews, self.crowded = MappingProxyType(previews), frozenset(crowded)
