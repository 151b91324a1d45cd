"""``usidstream watch`` where no terminal is: lines, or a JSON object an event. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime

from .. import live
from .model import plain
from .report import SHORT_ID_CHARS, gaps, lag, pace, share, warning_lines
from .words import in_line

PROGRESS_INTERVAL_S = 5.0


def json_line(event: live.Event) -> str:
    """Return an event as one JSON object with its ``type``."""
    return json.dumps({"type": event_type(event)} | plain(event))


def event_type(event: live.Event) -> str:
    """Return an event's type, as the protocol names it where it does."""
    name = getattr(event, "type", None)
    return name if isinstance(name, str) else type(event).__name__.lower()


class PlainLines:
    """Events as lines for people, progress of each scan at most each `PROGRESS_INTERVAL_S`."""

    def __init__(self) -> None:
        self._due_s: dict[str, float] = {}
        self._states: dict[str, str] = {}

    def take(self, event: live.Event, now: float) -> Iterator[str]:
        """Yield the line for an event, if it deserves one."""
        words = self._words(event, now)
        if words:
            yield f"{datetime.now().astimezone():%H:%M:%S} {words}"

    def _words(self, event: live.Event, now: float) -> str:
        words = ""
        match event:
            case live.Connected(daemon=daemon, instance=instance):
                words = f"connected to {daemon}, instance {instance}"
            case live.Disconnected(reason=reason):
                words = f"not connected: {in_line(reason)}"
            case live.ScanOpened():
                how = "goes on" if event.resumed else "is open"
                words = f"scan {_short(event)} {how}: {in_line(event.file)}"
            case live.Progress() if self._is_due(event, now):
                words = _progress(event)
            case live.WarningTold():
                over = "over: " if event.over else ""
                words = over + next(warning_lines([plain(event)]))
            case live.ScanClosed():
                self._due_s.pop(event.scan, None)
                self._states.pop(event.scan, None)
                words = closing(event)
        return words

    def _is_due(self, event: live.Progress, now: float) -> bool:
        if not event.file:  # it is being opened
            return False
        is_news = self._states.get(event.scan) != event.state
        if not is_news and now < self._due_s.get(event.scan, 0.0):
            return False
        self._states[event.scan] = event.state
        self._due_s[event.scan] = now + PROGRESS_INTERVAL_S
        return True


def closing(event: live.ScanClosed) -> str:
    """Say how a scan ended, or why it is no longer open."""
    words = f"scan {_short(event)} {event.status or event.state}: {in_line(event.file)}"
    missing = ", ".join(f"{in_line(name)} {count}" for name, count in event.missing.items())
    words += f", missing {missing}" if missing else ""
    return words + (f", {in_line(event.failure)}" if event.failure else "")


def _progress(event: live.Progress) -> str:
    scan = plain(event)
    words = (
        f"scan {_short(event)} {event.state}: {event.positions_durable} of {event.n_positions} "
        f"durable ({share(scan, event.positions_durable)}), {pace(scan)}, {lag(scan)}"
    )
    missing = gaps(scan)
    return words + (f", missing {missing}" if missing else "")


def _short(event: live.Progress | live.ScanOpened | live.ScanClosed) -> str:
    return event.scan[:SHORT_ID_CHARS]
