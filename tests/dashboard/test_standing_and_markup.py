"""How scans stand by what telemetry tells, and how that is said: escaped, plain, bounded."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from usidstream import Dimension, MainLayout, ScanLayout, wire
from usidstreamd.dashboard import markup
from usidstreamd.dashboard.standing import MAX_KNOWN_SCANS_COUNT, Standing

SCAN = "0123456789abcdef" * 2
EVIL = '<img src=x onerror="alert(1)">$$x$$'


def heartbeat(**more: Any) -> wire.Heartbeat:
    plain: dict[str, Any] = {
        "daemon": "usidstreamd", "instance": "a", "time_s": 1.0, "uptime_s": 1.0,
        "endpoint": "tcp://127.0.0.1:5755", "data_dir": "/data", "ports": {}, "clients": 1,
        "memory_in_use_bytes": 1 << 20, "memory_budget_bytes": 4 << 20,
        "disk_free_bytes": 10 << 30, "disk_needed_bytes": 1 << 30, "disk_left_s": 7200.0,
        "write_bytes_per_s": 3e6, "sync_p50_s": 0.002, "sync_p99_s": 0.02, "scans": {},
        "states": {}, "warnings": [],
    }  # fmt: skip
    return wire.Heartbeat(**(plain | more))


def progress(**more: Any) -> wire.Progress:
    plain: dict[str, Any] = {
        "scan": SCAN, "time_s": 1.0, "name": "Measurement",
        "file": "/data/sample_A_20261128-120000_01234567.h5", "state": "acquiring",
        "n_positions": 200, "mains": ["Height"], "positions_received": 50,
        "positions_durable": 40, "missing": {"Height": 3}, "rate_per_s": 12.0, "bytes_per_s": 1e3,
        "left_s": 90.0, "lag_s": 0.047, "lag_rows": 10, "recoveries": 0, "clients": 1,
        "blocks_refused": 0, "failure": "", "shortage": "",
    }  # fmt: skip
    return wire.Progress(**(plain | more))


def closed(**more: Any) -> wire.ScanClosed:
    plain: dict[str, Any] = {
        "scan": SCAN, "time_s": 2.0, "name": "Measurement",
        "file": "/data/sample_A_20261128-120000_01234567.h5", "state": "ended",
        "status": "incomplete", "failure": "", "n_positions": 200, "positions_durable": 197,
        "missing": {"Height": 3},
    }  # fmt: skip
    return wire.ScanClosed(**(plain | more))


class Tags(HTMLParser):
    """Collects the tags and attributes of a piece of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_a_scan_is_followed_from_progress_to_its_end() -> None:
    standing = Standing()
    standing.take(heartbeat(scans={SCAN: "opening"}), 0.0)
    assert standing.scans[SCAN].state == "opening"
    standing.take(progress(), 1.0)
    scan = standing.scans[SCAN]
    assert (scan.title, scan.fraction, scan.missing) == ("sample_A", 0.25, 3)
    card = markup.scan_cards([scan], SCAN, is_connected=True)
    assert "25 % · 90 s left · 12 pos/s · 47 ms lag · 3 missing" in card
    standing.take(closed(), 2.0)
    scan = standing.scans[SCAN]
    assert (scan.words, scan.is_over, scan.durable) == ("incomplete", True, 197)
    card = markup.scan_cards([scan], "", is_connected=True)
    assert "98 % · 3 missing" in card
    assert "left" not in card


def test_a_stack_comes_as_far_as_its_bytes() -> None:
    standing = Standing()
    stack = {"positions_received": 0, "positions_durable": 0, "missing": {}, "rate_per_s": 0.0}
    standing.take(progress(**stack, received_bytes=520, total_bytes=1000), 0.0)
    card = markup.scan_cards(standing.scans.values(), SCAN, is_connected=True)
    assert "52 % · 90 s left · 1.0 KiB/s · 47 ms lag · 0 missing" in card
    assert "width:52.0%" in card
    standing.take(progress(**stack, bytes_per_s=0.0, received_bytes=520, total_bytes=1000), 0.0)
    card = markup.scan_cards(standing.scans.values(), SCAN, is_connected=True)
    assert "52 % · no data now" in card


@pytest.mark.parametrize(("state", "part"), [("ended", 0.52), ("failed", 0.1)])
def test_what_came_of_a_stack_is_there_after_its_end_unless_it_failed(
    state: str, part: float
) -> None:
    standing = Standing()
    standing.take(progress(received_bytes=520, total_bytes=1000), 0.0)
    standing.take(closed(state=state, status="", positions_durable=20), 1.0)
    assert standing.scans[SCAN].fraction == part


def test_silence_is_said_plainly() -> None:
    standing = Standing()
    assert "no daemon answers at tcp://x:1" in markup.status_pill(standing, 0.0, "tcp://x:1")
    standing.take(heartbeat(), 10.0)
    assert "live" in markup.status_pill(standing, 12.9, "")
    gone = markup.status_pill(standing, 71.0, "tcp://x:1")
    assert "not connected" in gone
    assert "61 s" in gone
    assert "61 s (asks for keys)" in markup.status_pill(standing, 71.0, "", "asks for keys")
    assert markup.page_title(None, "", False) == "not connected · usidstream"
    assert "Disk" not in markup.health(standing, 71.0), "old figures would look like new ones"


def test_a_restart_is_noticed() -> None:
    standing = Standing()
    for instance in "aab":
        standing.take(heartbeat(instance=instance), 0.0)
    assert standing.restarts == 1


def test_warnings_come_and_go() -> None:
    standing = Standing()
    told = {"code": "disk_short", "text": "short of room", "scan": "", "since_s": 1.0}
    standing.take(heartbeat(warnings=[told]), 0.0)
    assert "short of room" in markup.health(standing, 0.0)
    standing.take(wire.WarningTold(**told, time_s=2.0, over=True), 1.0)
    assert "short of room" not in markup.health(standing, 1.0)


def test_a_warning_names_its_scan() -> None:
    standing = Standing()
    standing.take(progress(file=f"/data/gold_20260101-000000_{SCAN[:8]}.h5"), 0.0)
    told = {"code": "stalled", "text": "nothing has come", "since_s": 1.0}
    unknown = "f" * 32
    warnings = [told | {"scan": SCAN}, told | {"scan": unknown}]
    standing.take(heartbeat(warnings=warnings, states={SCAN: "acquiring"}), 0.0)
    shown = markup.health(standing, 0.0)
    assert "gold: nothing has come" in shown
    assert f"{unknown[:8]}: nothing has come" in shown


def test_names_of_clients_are_escaped_everywhere() -> None:
    standing = Standing()
    standing.take(progress(file=f"/data/{EVIL}.h5", failure=EVIL, shortage=EVIL), 0.0)
    warning = {"code": EVIL, "text": EVIL, "scan": SCAN, "since_s": 1.0}
    standing.take(heartbeat(daemon=EVIL, data_dir=EVIL, endpoint=EVIL, warnings=[warning]), 0.0)
    scan = standing.scans[SCAN]
    pieces = [
        markup.scan_cards([scan], SCAN, is_connected=True),
        markup.health(standing, 0.0, [EVIL]),
        markup.heading(EVIL, EVIL),
        markup.note(EVIL),
        markup.status_pill(Standing(), 0.0, EVIL),
        markup.status_pill(Standing(), 0.0, "", EVIL),
        markup.status_pill(standing, 99.0, EVIL, EVIL),
    ]
    for piece in pieces:
        found = Tags(piece)
        assert "img" not in found.tags
        assert "onerror" not in found.attributes
    assert "&lt;img" in pieces[0]


def test_layouts_are_taken_once_and_only_if_they_can_be_read() -> None:
    layout = ScanLayout(
        positions=[Dimension("X", "um", np.array([0.0, 1.0, 4.0]))],
        mains=[MainLayout("Raw", "Current", "nA", "f4")],
    )
    frames: list[wire.Frame] = []
    header = wire.pack_layout(layout.to_dict(), frames)
    standing = Standing()
    told = wire.LayoutTold(scan=SCAN, file="", layout={"unknown": 1})
    standing.take(told, 0.0)
    standing.take(wire.LayoutTold(scan=SCAN, file="", layout={}), 0.0)
    assert not standing.views
    standing.take(wire.LayoutTold(scan=SCAN, file="", layout=header, frames=tuple(frames)), 0.0)
    np.testing.assert_array_equal(standing.views[SCAN][0].positions[0].values, [0, 1, 4])


def test_scans_are_forgotten_the_oldest_ended_one_first() -> None:
    standing = Standing()
    ids = [f"{number:032x}" for number in range(MAX_KNOWN_SCANS_COUNT + 3)]
    standing.take(progress(scan=ids[0]), 0.0)
    for scan in ids[1:]:
        standing.take(closed(scan=scan), 0.0)
    assert len(standing.scans) == MAX_KNOWN_SCANS_COUNT
    assert ids[0] in standing.scans, "it is still running"
    assert ids[1] not in standing.scans


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "unknown"), (0, "0 s"), (0.0003, "300 µs"), (0.0471, "47 ms"), (3.14, "3.1 s"),
        (119, "119 s"), (600, "10 min"), (9000, "2.5 h"), (864_000, "10 days"), (1e12, "years"),
    ],
)  # fmt: skip
def test_durations_are_said_as_people_do(value: float | None, words: str) -> None:
    assert markup.seconds(value) == words
