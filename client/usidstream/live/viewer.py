"""Frames from a telemetry socket to events, and the silence between them. Neither socket nor clock.

It tells a daemon that is there from one that is not, and one that was restarted from the same one;
what was told before and is told again for somebody else's sake passes only where it is harmless.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from .. import wire
from ..errors import UsidstreamError
from .events import Connected, Disconnected, Event, read_event

log = logging.getLogger("usidstream")

MAX_REMEMBERED_ENDS_COUNT = 64


class Viewer:
    """What one viewer knows of its connection.

    Parameters
    ----------
    silence_timeout_s
        How long a daemon may be silent until it counts as gone.

    Attributes
    ----------
    topics
        What is subscribed to; a whole preview topic stands for itself alone.
    instance
        Of the daemon that is heard, empty while none is.
    """

    def __init__(self, silence_timeout_s: float = wire.SILENCE_TIMEOUT_S) -> None:
        self.topics: dict[str, None] = {}
        self.instance = ""
        self._silence_timeout_s = silence_timeout_s
        self._deadline_s = 0.0
        self._reason = ""
        self._ends: OrderedDict[tuple[str, float], None] = OrderedDict()

    @property
    def deadline_s(self) -> float:
        """When `is_silent` turns true unless something comes."""
        return self._deadline_s

    def is_silent(self, now: float) -> bool:
        """Tell whether a daemon should have been heard by now."""
        return now >= self._deadline_s

    def begin(self, now: float) -> None:
        """Listen on a fresh socket from now on."""
        self._deadline_s = now + self._silence_timeout_s

    def lose(self, reason: str) -> Iterator[Event]:
        """Count the daemon as gone; tell so unless the same was told."""
        self.instance = ""
        if reason != self._reason:
            self._reason = reason
            yield Disconnected(reason)

    def receive(self, frames: Sequence[wire.Frame], now: float) -> Iterator[Event]:
        """Read what came; yield what it tells."""
        try:
            topic, message = wire.decode_telemetry(frames)
            event = read_event(message) if self._wants(topic) else None
        except UsidstreamError as error:
            # An unknown type is a newer daemon's; anything else must not stop a viewer either.
            if error.code != "unknown_type":
                log.warning("telemetry that cannot be read: %s", error.message)
            return
        if isinstance(event, wire.Heartbeat):
            yield from self._on_heartbeat(event, now)
        if event is not None and not self._was_told(event):
            yield event

    def _on_heartbeat(self, heartbeat: wire.Heartbeat, now: float) -> Iterator[Event]:
        self.begin(now)
        if heartbeat.instance == self.instance:
            return
        if self.instance:
            yield from self.lose("the daemon was restarted")
        self.instance = heartbeat.instance
        self._reason = ""
        yield Connected(heartbeat.instance, heartbeat.daemon)

    def _wants(self, topic: str) -> bool:
        """Tell a topic that was meant from one that only begins alike."""
        return topic in self.topics or any(
            topic.startswith(prefix) for prefix in self.topics if not _is_whole_preview(prefix)
        )

    def _was_told(self, event: Event) -> bool:
        """Tell whether a scan's end was told before: it is repeated for each newcomer."""
        if not isinstance(event, wire.ScanClosed):
            return False
        key = event.scan, event.time_s
        if key in self._ends:
            return True
        self._ends[key] = None
        if len(self._ends) > MAX_REMEMBERED_ENDS_COUNT:
            self._ends.popitem(last=False)
        return False


def _is_whole_preview(topic: str) -> bool:
    return topic.startswith("preview/") and topic.count("/") == 3 and not topic.endswith("/")
