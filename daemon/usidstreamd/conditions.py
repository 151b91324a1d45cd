"""What needs an operator at present: one list of named conditions that every screen reads.

Whoever finds something amiss raises a warning, and clears it when it is over; heartbeat, status,
metrics and log read the same list. A condition is known by its code and, where it concerns one, the
scan, so that raising it again is no news. Pure but for the clock, and safe from any thread. It
never knows who reads it, nor how a condition is found.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple


class Meaning(NamedTuple):
    """What a condition is, and what to do about it."""

    meaning: str
    remedy: str


CONDITIONS: Mapping[str, Meaning] = MappingProxyType(
    {
        "disk_short": Meaning(
            "The disk is short of room: no credit is added, no scan is opened.",
            "Free space, or move finished files away; scans go on by themselves.",
        ),
        "scan_waits_for_room": Meaning(
            "A scan found no room for what it has to write.",
            "Free space; the scan goes on by itself. What was told as durable is safe.",
        ),
        "scan_failed": Meaning(
            "A scan's file or journal could not be written, read or synced.",
            "See the log and the disk; what was told as durable is safe, and opening the scan "
            "again recovers it.",
        ),
        "instrument_stalled": Meaning(
            "Nothing has come for a scan for longer than its pace explains.",
            "Look at the instrument and its program; the scan waits, and goes on when data comes.",
        ),
        "io_stalled": Meaning(
            "A write, sync or flush of a scan has taken longer than `io_stall_s`.",
            "Look at the disk (`dmesg`, its share, its array); what was told as durable is safe, "
            "and nothing else is acknowledged meanwhile.",
        ),
        "loop_stalled": Meaning(
            "The loop that serves clients has taken longer than `io_stall_s` for one turn.",
            "As for `io_stalled`; no client is answered meanwhile, and systemd restarts the "
            "daemon after `WatchdogSec`.",
        ),
        "port_taken": Meaning(
            "The port that a service was to listen on is another program's; it has another one.",
            "Usually a second daemon: stop one, or give each its own ports.",
        ),
        "previews_crowded": Meaning(
            "More reductions of one main are watched than are served.",
            "Close a viewer, or let viewers show the same reductions.",
        ),
    }
)
"""Every condition there is. Codes are stable; `docs/operating.md` has the same table."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A warning in force.

    Parameters
    ----------
    code
        A key of `CONDITIONS`.
    text
        What is the matter, for people.
    scan
        The scan's id; empty where it concerns none.
    since_s
        When it began, in seconds since 1970.
    """

    code: str
    text: str
    scan: str
    since_s: float

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "code": self.code,
            "text": self.text,
            "scan": self.scan,
            "since_s": self.since_s,
        }


class Warnings:
    """The conditions in force.

    Parameters
    ----------
    clock
        Returns the time in seconds since 1970.

    Attributes
    ----------
    version
        Rises whenever a condition begins or ends, so that a reader sees quickly that none did.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._conditions: dict[tuple[str, str], Condition] = {}
        self.version = 0

    def begin(self, code: str, text: str, scan: str = "") -> None:
        """Raise a warning; one that is in force keeps its beginning and takes the text.

        Raises
        ------
        KeyError
            There is no such condition in `CONDITIONS`.
        """
        if code not in CONDITIONS:
            raise KeyError(code)
        with self._lock:
            held = self._conditions.get((code, scan))
            if held is None:
                self.version += 1
                held = Condition(code, text, scan, self._clock())
            self._conditions[code, scan] = replace(held, text=text)

    def end(self, code: str, scan: str = "") -> None:
        """Clear a warning, if it is in force."""
        with self._lock:
            if self._conditions.pop((code, scan), None) is not None:
                self.version += 1

    def note(self, code: str, text: str | None, scan: str = "") -> None:
        """Raise a warning where there is a text, clear it where there is none."""
        if text:
            self.begin(code, text, scan)
        else:
            self.end(code, scan)

    def forget_scan(self, scan: str) -> None:
        """Clear all warnings of a scan that is no more."""
        with self._lock:
            for key in [key for key in self._conditions if key[1] == scan]:
                del self._conditions[key]
                self.version += 1

    def current(self) -> tuple[Condition, ...]:
        """Return the conditions in force, those that began first standing first."""
        with self._lock:
            return tuple(self._conditions.values())
