"""What status and watch show of events and reports, at any width, and what they never show."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from support.telemetry_samples import BEAT, CLOSED, ENDPOINT, PROGRESS
from support.wire_samples import SCAN
from usidstream import live
from usidstream.terminal.lines import PROGRESS_INTERVAL_S, PlainLines, json_line
from usidstream.terminal.model import Model
from usidstream.terminal.report import report_lines, share
from usidstream.terminal.screen import MAX_SCANS_SHOWN_COUNT, draw

WARNING = {"code": "disk_short", "text": "20 MiB are free", "scan": "", "since_s": 5.0}
WARNED = live.WarningTold(
    code="disk_short", text="20 MiB are free", scan="", since_s=5.0, time_s=6.0, over=False
)


def screen_of(*events: live.Event, width: int = 80) -> str:
    model = Model()
    for event in events:
        model.take(event)
    page = io.StringIO()
    Console(file=page, width=width, force_terminal=False).print(draw(model, ENDPOINT))
    return page.getvalue()


CONNECTED = live.Connected("a", "usidstreamd 1")


@pytest.mark.parametrize("width", [40, 80, 140])
def test_a_screen_tells_the_scans_in_any_width(width: int) -> None:
    page = screen_of(CONNECTED, BEAT, PROGRESS, width=width)
    assert all(len(line) <= width for line in page.splitlines())
    assert "25.0 %  1024 of 4096" in page
    assert "missing so far: Raw 3" in page
    if width >= 80:
        assert "up 2 h 40 min, 1 client, 3.0 MiB of 128.0 MiB in open chunks" in page
        assert "5.0 GiB free on the disk, 2 h left at 1.0 MiB/s" in page
        assert "600/s, 976.6 KiB/s, 5 s left; not durable: 76 positions, 45 ms" in page


def test_a_screen_says_plainly_that_nobody_is_there() -> None:
    assert "NOT CONNECTED: looking for the daemon" in screen_of()
    lost = screen_of(CONNECTED, BEAT, PROGRESS, live.Disconnected("silent"))
    assert "NOT CONNECTED: silent" in lost
    assert "4096" not in lost
    assert "NOT CONNECTED" not in screen_of(live.Disconnected("silent"), CONNECTED, BEAT)


def test_a_screen_shows_warnings_until_they_are_over() -> None:
    assert "! disk_short since" in screen_of(CONNECTED, BEAT, WARNED)
    assert "! disk_short since" in screen_of(CONNECTED, replace(BEAT, warnings=[WARNING]))
    over = replace(WARNED, over=True)
    assert "disk_short" not in screen_of(CONNECTED, BEAT, WARNED, over)


def test_a_screen_shows_how_scans_ended() -> None:
    page = screen_of(CONNECTED, PROGRESS, CLOSED, replace(BEAT, scans={}))
    assert "no open scans" in page
    assert f"scan {SCAN[:8]} incomplete: /data/sample.h5, missing Raw 3" in page


def test_a_scan_whose_end_was_lost_goes_with_the_next_heartbeat() -> None:
    assert "1024" not in screen_of(CONNECTED, PROGRESS, replace(BEAT, scans={}))


def test_a_screen_stays_bounded() -> None:
    many = [replace(PROGRESS, scan=f"{number:032x}") for number in range(40)]
    page = screen_of(CONNECTED, *many)
    assert f"and {40 - MAX_SCANS_SHOWN_COUNT} more scans" in page
    assert len(page.splitlines()) < 5 * MAX_SCANS_SHOWN_COUNT + 5


def test_names_cannot_write_to_the_terminal() -> None:
    evil = replace(PROGRESS, name="[red]\x1b[2J", failure="a\nb\x07", file="[/]")
    page = screen_of(CONNECTED, BEAT, evil)
    assert "\x1b" not in page
    assert "\x07" not in page
    assert "[red]" in page  # no markup either


STACK = replace(
    PROGRESS,
    positions_received=0,
    positions_durable=0,
    missing={},
    rate_per_s=0.0,
    received_bytes=520,
    total_bytes=1000,
)


def test_of_a_stack_is_told_what_has_come() -> None:
    page = screen_of(CONNECTED, BEAT, STACK)
    assert "52.0 % received  0 of 4096" in page
    assert page.count("━") > screen_of(CONNECTED, BEAT, replace(STACK, total_bytes=0)).count("━")
    assert "0/s, 976.6 KiB/s, 5 s left" in page
    (line,) = lines_of((STACK, 0.0))
    assert "0 of 4096 durable (52.0 % received), 0/s" in line
    row = report(entry(positions=0, received_bytes=520, total_bytes=1000))[-1]
    assert "0 of 4096  52.0 % received" in row


@pytest.mark.parametrize(
    ("received_bytes", "total_bytes", "words"),
    [
        (0, 0, "25.0 %"),  # of an older daemon
        (0, 1000, "25.0 %"),  # not open yet
        (255, 1000, "25.0 %"),  # on its way to the disk
        (300, 1000, "30.0 % received"),
        (1000, 1000, "100 % received"),
    ],
)
def test_the_share_is_of_what_is_durable_unless_far_more_has_come(
    received_bytes: int, total_bytes: int, words: str
) -> None:
    told = {"received_bytes": received_bytes, "total_bytes": total_bytes}
    assert share({"n_positions": 4096} | told, 1024) == words
    assert share({"n_positions": 4096}, 1024) == "25.0 %"


# ---------------------------------------------------------------- lines and JSON


def lines_of(*told: tuple[live.Event, float]) -> list[str]:
    plain = PlainLines()
    return [line[9:] for event, now in told for line in plain.take(event, now)]


def test_lines_tell_progress_now_and_then_and_news_at_once() -> None:
    finishing = replace(PROGRESS, state="finishing")
    told = lines_of(
        (CONNECTED, 0.0),
        (BEAT, 0.0),
        (replace(PROGRESS, state="opening", file=""), 0.0),
        (PROGRESS, 0.0),
        (PROGRESS, 1.0),
        (PROGRESS, PROGRESS_INTERVAL_S),
        (finishing, PROGRESS_INTERVAL_S + 0.1),
        (CLOSED, 6.0),
        (live.Disconnected("silent"), 7.0),
    )
    assert [line.split(":")[0] for line in told] == [
        "connected to usidstreamd 1, instance a",
        f"scan {SCAN[:8]} acquiring",
        f"scan {SCAN[:8]} acquiring",
        f"scan {SCAN[:8]} finishing",
        f"scan {SCAN[:8]} incomplete",
        "not connected",
    ]
    assert "1024 of 4096 durable (25.0 %), 600/s" in told[1]


def test_lines_tell_when_a_warning_begins_and_ends() -> None:
    told = lines_of((WARNED, 0.0), (replace(WARNED, over=True), 1.0))
    assert told[0].startswith("! disk_short since")
    assert told[1].startswith("over: ! disk_short since")


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (CONNECTED, "connected"),
        (live.Disconnected("x"), "disconnected"),
        (BEAT, "heartbeat"),
        (PROGRESS, "progress"),
        (CLOSED, "scan_closed"),
        (WARNED, "warning"),
    ],
)
def test_every_event_is_a_json_object(event: live.Event, kind: str) -> None:
    told = json.loads(json_line(event))
    assert told["type"] == kind
    assert "frames" not in told


def test_ranges_are_written_out_in_json() -> None:
    assert json.loads(json_line(CLOSED))["ranges"] == {"Raw": [[7, 10]]}


# ---------------------------------------------------------------- status


def report(*scans: dict[str, Any], **daemon: Any) -> list[str]:
    facts = {spec: getattr(BEAT, spec) for spec in BEAT.__dataclass_fields__ if spec != "frames"}
    return list(report_lines({"daemon": facts | {"shortage": ""} | daemon, "scans": scans}))


def entry(**changed: Any) -> dict[str, Any]:
    known = {spec: getattr(PROGRESS, spec) for spec in PROGRESS.__dataclass_fields__}
    return known | {"positions": 1024} | changed


def test_a_report_is_a_table() -> None:
    lines = report(entry(), entry(scan="f" * 32, state="finishing", missing={}))
    heads = next(line for line in lines if line.startswith("scan  "))
    rows = lines[lines.index(heads) + 1 :]
    assert {row.index("/data/sample.h5") for row in rows} == {heads.index("file")}
    assert "25.0 %" in rows[0]
    assert "Raw 3" in rows[0]


def test_a_report_of_a_scan_that_waits_guesses_nothing() -> None:
    waiting = {"scan": SCAN, "state": "waiting", "n_positions": 9, "file": "/x.h5", "name": "M"}
    lines = report(waiting)
    assert lines[-1] == f"{SCAN}  waiting  ? of 9   /x.h5"


def test_a_report_tells_what_is_wrong() -> None:
    lines = report(entry(failure="the disk died"), shortage="20 MiB", warnings=[WARNING])
    assert "nothing more is taken: 20 MiB" in lines
    assert any(line.startswith("! disk_short since") for line in lines)
    assert lines[-1] == f"{SCAN}: the disk died"


def test_a_report_of_an_older_daemon_is_shown_as_far_as_it_goes() -> None:
    old = dict.fromkeys(("clients", "memory_in_use_bytes", "memory_budget_bytes"), 1)
    daemon = old | {"daemon": "d", "endpoint": "e", "data_dir": "f", "disk_free_bytes": 1}
    lines = list(report_lines({"daemon": daemon, "scans": [entry()]}))
    assert lines[0] == "d at e, files in f"
    assert list(report_lines({"daemon": daemon, "scans": []}))[-1] == "no open scans"
