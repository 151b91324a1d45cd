"""Scans on the disk that nobody has opened: when their time has come, whatever clocks do."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from support.storing import CREATED, SCAN_ID, layout_of, main_of, plans_for
from usidstreamd.storage import OpenRecord, contact_age_s
from usidstreamd.storage.ledger import LEDGER_NAME, Ledger
from usidstreamd.storage.ledger_records import Closed, Done, Finalise, Opened
from usidstreamd.storage.record import RECORD_NAME, note_contact
from usidstreamd.waiting import GRACE_S, WaitingScans

DAYS_S = 86400.0
NOW = 5000.0


def left_scan(tmp_path: Path, age_s: float, *, is_interrupted: bool = False) -> OpenRecord:
    """Return a scan on the disk in which a client took part so long ago."""
    layout = layout_of(main_of())
    record = OpenRecord(SCAN_ID, tmp_path / "scan.h5", layout, plans_for(layout), CREATED)
    record.journal.mkdir()
    record.write()
    ending = (
        [Finalise("interrupted", "2025-01-01T00:00:00Z"), Closed(), Done()]
        if is_interrupted
        else []
    )
    Ledger.create(record.journal / LEDGER_NAME, [Opened(), *ending]).close()
    then = time.time() - age_s
    os.utime(record.journal / RECORD_NAME, (then, then))
    return record


def waiting(tmp_path: Path, age_s: float, timeout_s: float = 3 * DAYS_S) -> WaitingScans:
    scans = WaitingScans(timeout_s)
    scans.add_found(left_scan(tmp_path, age_s), NOW)
    return scans


def due_after(scans: WaitingScans) -> float:
    """Return how long it takes until the scan is overdue, to a second."""
    low, high = 0.0, 30 * DAYS_S
    while high - low > 0.5:
        middle = (low + high) / 2
        low, high = (low, middle) if list(scans.overdue(NOW + middle)) else (middle, high)
    return high


@pytest.mark.parametrize(
    ("age_s", "left_s"),
    [
        (0.0, 3 * DAYS_S),
        (DAYS_S, 2 * DAYS_S),
        (3 * DAYS_S - 60.0, GRACE_S),  # it would be due in a minute: its client may be waiting
        (40 * DAYS_S, GRACE_S),  # no daemon ran, or the clock was set forward
        (-5 * DAYS_S, 3 * DAYS_S),  # the clock was set back
    ],
)
def test_time_while_no_daemon_ran_counts_but_leaves_a_grace(
    tmp_path: Path, age_s: float, left_s: float
) -> None:
    assert due_after(waiting(tmp_path, age_s)) == pytest.approx(left_s, abs=5.0)


def test_a_time_out_below_the_grace_is_kept(tmp_path: Path) -> None:
    assert due_after(waiting(tmp_path, DAYS_S, timeout_s=10.0)) == pytest.approx(10.0, abs=1.0)


def test_an_interrupted_scan_is_never_due(tmp_path: Path) -> None:
    scans = WaitingScans(10.0)
    scans.add_found(left_scan(tmp_path, 40 * DAYS_S, is_interrupted=True), NOW)
    assert list(scans.overdue(NOW + 40 * DAYS_S)) == []
    assert scans.resumable() == []
    assert SCAN_ID in scans
    (told,) = scans.describe()
    assert (told["scan"], told["state"]) == (SCAN_ID, "interrupted")


def test_a_scan_that_failed_is_tried_again_after_the_grace(tmp_path: Path) -> None:
    scans = waiting(tmp_path, 40 * DAYS_S)
    record = scans.take(SCAN_ID).record
    assert SCAN_ID not in scans
    scans.add(record, NOW - 40 * DAYS_S, NOW, is_interrupted=False)
    assert due_after(scans) == pytest.approx(GRACE_S, abs=1.0)


def test_a_scan_whose_journal_cannot_be_looked_at_hides_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = left_scan(tmp_path, 0.0)
    (record.journal / LEDGER_NAME).unlink()
    scans = WaitingScans(3 * DAYS_S)
    scans.add_found(record, NOW)
    assert scans.resumable() == [SCAN_ID]
    (told,) = caplog.records
    assert (told.message, told.__dict__["scan"]) == ("journal_unreadable", SCAN_ID)


def test_a_contact_is_noted_without_a_change_to_any_file(tmp_path: Path) -> None:
    record = left_scan(tmp_path, 40 * DAYS_S)
    before = (record.journal / RECORD_NAME).read_bytes()
    assert contact_age_s(record.journal) == pytest.approx(40 * DAYS_S, abs=60.0)
    note_contact(record.journal)
    assert contact_age_s(record.journal) < 60.0
    assert (record.journal / RECORD_NAME).read_bytes() == before
    assert OpenRecord.read(record.journal).scan_id == SCAN_ID
