"""How the daemon and its scans stand, as the telemetry tells it. Pure: messages in, facts out.

Each message is complete in itself, so that one which is lost, or told twice, does no harm. Time is
handed in, in seconds of a steady clock.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

from usidstream import wire
from usidstream.errors import UsidstreamError
from usidstream.layout import ScanLayout

from .views import MainView, views_of_layout

MAX_KNOWN_SCANS_COUNT = 32
MAX_WARNINGS_COUNT = 50

OVER = ("ended", "interrupted", "failed", "suspended")


@dataclass(frozen=True)
class ScanStanding:
    """One scan, as far as it was told."""

    scan: str
    name: str = ""
    file: str = ""
    state: str = "opening"
    status: str = ""
    n_positions: int = 0
    mains: tuple[str, ...] = ()
    received: int = 0
    durable: int = 0
    missing: int = 0
    received_bytes: int = 0
    total_bytes: int = 0
    rate_per_s: float = 0.0
    bytes_per_s: float = 0.0
    left_s: float | None = None
    lag_s: float = 0.0
    failure: str = ""
    shortage: str = ""

    @property
    def title(self) -> str:
        """The name that people gave it: of its file without time and id, else of its layout."""
        stem = self.file.replace("\\", "/").rpartition("/")[2].removesuffix(".h5")
        return stem.rsplit("_", 2)[0] if stem.count("_") > 1 else stem or self.name or self.scan[:8]

    @property
    def is_over(self) -> bool:
        """Whether no more data will come, as far as the daemon knows."""
        return self.state in OVER

    @property
    def words(self) -> str:
        """Its state in a word: the result's where there is one."""
        return self.status or self.state

    @property
    def fraction(self) -> float:
        """The part that has arrived."""
        told = self.received_bytes, self.total_bytes
        return wire.received_part(self.received, self.n_positions, *told)


@dataclass
class Standing:
    """Everything that a listener knows.

    Attributes
    ----------
    heartbeat
        The last one, or None.
    heard_s
        When it came.
    scans
        By id, the one that was opened last at the end.
    views
        By scan, what is needed to draw each of its mains, where the layout was told.
    warnings
        In force, by code and scan.
    restarts
        How often another instance of the daemon was met.
    """

    heartbeat: wire.Heartbeat | None = None
    heard_s: float | None = None
    scans: OrderedDict[str, ScanStanding] = field(default_factory=OrderedDict)
    views: dict[str, list[MainView]] = field(default_factory=dict)
    warnings: dict[tuple[str, str], str] = field(default_factory=dict)
    restarts: int = 0

    def is_connected(self, now_s: float) -> bool:
        """Whether the daemon was heard lately."""
        return self.heard_s is not None and now_s - self.heard_s <= wire.SILENCE_TIMEOUT_S

    def take(self, message: wire.Message, now_s: float) -> None:
        """Take in a message; previews and unknown ones change nothing."""
        if isinstance(message, wire.Heartbeat):
            self._take_heartbeat(message, now_s)
        elif isinstance(message, wire.ScanOpened):
            self._update(message.scan, **_named(message), state="opening", status="", failure="")
            self.scans.move_to_end(message.scan)
        elif isinstance(message, wire.Progress):
            self._update(message.scan, **_named(message), **_progress(message))
        elif isinstance(message, wire.ScanClosed):
            self._take_closed(message)
        elif isinstance(message, wire.WarningTold):
            self._take_warning(message)
        elif isinstance(message, wire.LayoutTold):
            self._take_layout(message)

    def _take_heartbeat(self, message: wire.Heartbeat, now_s: float) -> None:
        before, self.heartbeat, self.heard_s = self.heartbeat, message, now_s
        if before is not None and before.instance != message.instance:
            self.restarts += 1
        self.warnings = {
            (str(told.get("code", "")), str(told.get("scan", ""))): str(told.get("text", ""))
            for told in message.warnings[:MAX_WARNINGS_COUNT]
        }
        for scan, state in message.scans.items():
            if scan not in self.scans or self.scans[scan].state != state:
                self._update(scan, state=state, status="")

    def _take_closed(self, message: wire.ScanClosed) -> None:
        self._update(
            message.scan,
            name=message.name,
            file=message.file,
            n_positions=message.n_positions,
            state=message.state,
            status=message.status,
            failure=message.failure,
            received=message.positions_durable,
            durable=message.positions_durable,
            missing=max(message.missing.values(), default=0),
            rate_per_s=0.0,
            bytes_per_s=0.0,
            left_s=None,
            lag_s=0.0,
            shortage="",
        )
        if message.state == "failed":  # not all that had come is kept
            self._update(message.scan, received_bytes=0)

    def _take_warning(self, message: wire.WarningTold) -> None:
        key = (message.code, message.scan)
        if message.over:
            self.warnings.pop(key, None)
        elif len(self.warnings) < MAX_WARNINGS_COUNT:
            self.warnings[key] = message.text

    def _take_layout(self, message: wire.LayoutTold) -> None:
        if not message.layout or message.scan in self.views:
            return
        try:
            plain = wire.unpack_layout(message.layout, message.frames)
            self.views[message.scan] = views_of_layout(ScanLayout.from_dict(plain))
        except UsidstreamError:  # of a later version: the file tells its axes
            return

    def _update(self, scan: str, **changes: Any) -> None:
        known = self.scans.get(scan) or ScanStanding(scan)
        self.scans[scan] = replace(known, **changes)
        while len(self.scans) > MAX_KNOWN_SCANS_COUNT:
            over = next((s for s, told in self.scans.items() if told.is_over), None)
            forgotten = over or next(iter(self.scans))
            del self.scans[forgotten]
            self.views.pop(forgotten, None)


def _named(message: wire.ScanOpened | wire.Progress) -> dict[str, Any]:
    return {
        "name": message.name,
        "file": message.file,
        "n_positions": message.n_positions,
        "mains": tuple(message.mains),
    }


def _progress(message: wire.Progress) -> dict[str, Any]:
    return {
        "state": message.state,
        "status": "",
        "received": message.positions_received,
        "durable": message.positions_durable,
        "missing": max(message.missing.values(), default=0),
        "received_bytes": message.received_bytes,
        "total_bytes": message.total_bytes,
        "rate_per_s": message.rate_per_s,
        "bytes_per_s": message.bytes_per_s,
        "left_s": message.left_s,
        "lag_s": message.lag_s,
        "failure": message.failure,
        "shortage": message.shortage,
    }
