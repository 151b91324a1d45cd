"""What ``usidstream watch`` knows at present, from events alone. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import fields
from typing import Any

from .. import live, wire

MAX_ENDS_COUNT = 5


class Model:
    """The present standing of a daemon.

    Attributes
    ----------
    reason
        Why no daemon is heard; empty while one is.
    daemon
        The latest heartbeat as plain values, None before the first.
    scans
        The latest progress of each open scan as plain values, by its id, the oldest scan first.
    ends
        The scans that were closed last.
    warnings
        In force, as plain values.
    """

    def __init__(self) -> None:
        self.reason = "looking for the daemon"
        self.daemon: dict[str, Any] | None = None
        self.scans: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.ends: deque[live.ScanClosed] = deque(maxlen=MAX_ENDS_COUNT)
        self.warnings: list[dict[str, Any]] = []

    def take(self, event: live.Event) -> None:
        """Take an event."""
        match event:
            case live.Connected():
                self.reason = ""
            case live.Disconnected(reason=reason):
                self.reason, self.daemon, self.warnings = reason, None, []
                self.scans.clear()
            case live.Heartbeat():
                self._take_heartbeat(event)
            case live.Progress(scan=scan):
                self.scans[scan] = plain(event)
            case live.ScanClosed(scan=scan):
                self.scans.pop(scan, None)
                self.ends.append(event)
            case live.WarningTold():
                self._take_warning(event)

    def _take_heartbeat(self, heartbeat: live.Heartbeat) -> None:
        self.daemon = plain(heartbeat)
        self.warnings = list(heartbeat.warnings)
        for scan in self.scans.keys() - heartbeat.scans.keys():  # the news of its end was lost
            del self.scans[scan]

    def _take_warning(self, event: live.WarningTold) -> None:
        key = event.code, event.scan
        self.warnings = [held for held in self.warnings if (held["code"], held["scan"]) != key]
        if not event.over:
            self.warnings.append(plain(event))


def plain(event: live.Event) -> dict[str, Any]:
    """Return an event's fields as plain values, without raw frames."""
    values = {spec.name: getattr(event, spec.name) for spec in fields(event)}
    frames = values.pop("frames", ())
    if isinstance(event, live.ScanClosed):
        values["ranges"] = {
            name: [list(pair) for pair in wire.unpack_ranges(index, frames, 2)]
            for name, index in event.ranges.items()
        }
    return values
