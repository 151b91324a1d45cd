"""The list of warnings: what is in force, since when, and that every condition is documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from usidstreamd.conditions import CONDITIONS, Condition, Warnings

OPERATING = Path(__file__).resolve().parents[2] / "docs" / "operating.md"
SCAN = "0" * 32


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_condition_keeps_its_beginning_and_takes_the_newest_text() -> None:
    clock = Clock()
    warnings = Warnings(clock)
    warnings.begin("disk_short", "20 MiB are free")
    clock.now = 200.0
    version = warnings.version
    warnings.begin("disk_short", "10 MiB are free")
    assert warnings.current() == (Condition("disk_short", "10 MiB are free", "", 100.0),)
    assert warnings.version == version


def test_one_that_comes_back_begins_anew() -> None:
    clock = Clock()
    warnings = Warnings(clock)
    warnings.begin("disk_short", "")
    warnings.end("disk_short")
    assert warnings.current() == ()
    clock.now = 200.0
    warnings.begin("disk_short", "")
    assert [condition.since_s for condition in warnings.current()] == [200.0]
    assert warnings.version == 3


def test_the_same_code_of_two_scans_is_two_conditions() -> None:
    warnings = Warnings(Clock())
    for scan in (SCAN, "1" * 32):
        warnings.note("scan_failed", "lost", scan)
    warnings.note("scan_failed", None, SCAN)
    assert [condition.scan for condition in warnings.current()] == ["1" * 32]


def test_a_scan_that_is_no_more_has_no_warnings() -> None:
    warnings = Warnings(Clock())
    warnings.begin("disk_short", "full")
    warnings.begin("scan_failed", "lost", SCAN)
    warnings.begin("scan_waits_for_room", "full", SCAN)
    warnings.forget_scan(SCAN)
    assert [condition.code for condition in warnings.current()] == ["disk_short"]


def test_what_was_not_in_force_ends_without_news() -> None:
    warnings = Warnings(Clock())
    warnings.end("disk_short")
    warnings.forget_scan(SCAN)
    assert warnings.version == 0


def test_a_condition_that_nobody_documented_is_refused() -> None:
    with pytest.raises(KeyError):
        Warnings().begin("gremlins", "somewhere")


def test_every_condition_stands_in_the_operators_guide() -> None:
    text = OPERATING.read_text(encoding="utf-8").split("<!-- warnings -->")[1]
    table = re.match(r"\n((?:\|.*\|\n)+)", text)
    assert table is not None
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()]
    assert rows[2:] == [[f"`{code}`", *told] for code, told in CONDITIONS.items()]
