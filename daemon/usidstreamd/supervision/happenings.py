"""What the command of ``on_event`` is run for, and what it is given. Plain values."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

VARIABLE_PREFIX = "USIDSTREAMD_"
MAX_VARIABLE_CHARS = 4000
"""Of one variable: the operating system bounds all of them together."""

HAPPENINGS: Mapping[str, str] = MappingProxyType(
    {
        "stalled": "Nothing has come for a scan for longer than its pace explains.",
        "resumed": "Data comes again for a scan that had stalled.",
        "finished": "A scan has ended, by `finish` or by `abort`; `status` tells how, `missing` "
        "which positions are not complete.",
        "failed": "A scan's file or journal could not be written, read or synced.",
        "interrupted": "A scan's clients stayed away for `resume_timeout_s`; it is closed as it "
        "is, and can be resumed.",
        "recovered": "A file that was not closed was put right, and its scan goes on.",
        "disk_short": "The disk is short of room; no credit is added, no scan is opened.",
        "disk_back": "There is room again; scans go on.",
        "io_stalled": "A write, sync or flush has taken longer than `io_stall_s`.",
        "io_back": "It has returned; `seconds` tells after how long.",
    }
)
"""Every happening. Names are stable; `docs/operating.md` has the same table."""


def markdown_table() -> str:
    """Return the happenings as a table for the docs."""
    rows = [f"| `{name}` | {meaning} |" for name, meaning in HAPPENINGS.items()]
    return "\n".join(["| event | when |", "| --- | --- |", *rows]) + "\n"


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that an operator may want to hear of.

    Parameters
    ----------
    event
        A key of `HAPPENINGS`.
    text
        What has happened, for people.
    scan, name, file
        The scan's id, its name and its file; empty where it concerns none.
    details
        More of it, as plain values.
    time_s
        When, in seconds since 1970.
    """

    event: str
    text: str
    scan: str = ""
    name: str = ""
    file: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    time_s: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        if self.event not in HAPPENINGS:
            raise KeyError(self.event)

    def to_json(self, **more: Any) -> str:
        """Return it as one JSON object, with what the caller knows besides."""
        told = {
            "event": self.event,
            "text": self.text,
            "scan": self.scan,
            "name": self.name,
            "file": self.file,
            "time_s": self.time_s,
        }
        return json.dumps(told | dict(self.details) | more)

    def to_variables(self) -> dict[str, str]:
        """Return what fits into variables: those facts that are one word or number each."""
        facts = {
            "EVENT": self.event,
            "TEXT": self.text,
            "SCAN": self.scan,
            "NAME": self.name,
            "FILE": self.file,
        }
        plain = {k.upper(): v for k, v in self.details.items() if isinstance(v, str | int | float)}
        return {
            VARIABLE_PREFIX + key: str(value).replace("\0", "")[:MAX_VARIABLE_CHARS]
            for key, value in (facts | plain).items()
        }
