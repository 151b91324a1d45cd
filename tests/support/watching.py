"""Viewers of a real daemon: they gather events until something is seen, or fail saying what was."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from usidstream import live

E = TypeVar("E")

SEEN_TIMEOUT_S = 30.0


class Watcher:
    """A watch that remembers what it saw."""

    def __init__(self, endpoint: str | None, **options: Any) -> None:
        self.watch = live.watch(endpoint, **options)
        self.seen: list[live.Event] = []

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.watch.close()

    def until(
        self, kind: type[E], when: Callable[[E], object] = lambda _: True, *, fresh: bool = True
    ) -> E:
        """Return the first event of a kind, of those to come (or seen before, if not fresh)."""
        for event in [] if fresh else self.seen:
            if isinstance(event, kind) and when(event):
                return event
        deadline = time.monotonic() + SEEN_TIMEOUT_S
        while time.monotonic() < deadline:
            event = self.watch.next_event(0.2)
            if event is None:
                continue
            self.seen.append(event)
            if isinstance(event, kind) and when(event):
                return event
        raise AssertionError(f"no such {kind.__name__} in {SEEN_TIMEOUT_S:g} s: {self.seen[-20:]}")

    def of(self, kind: type[E]) -> list[E]:
        """Return what was seen of a kind."""
        return [event for event in self.seen if isinstance(event, kind)]
