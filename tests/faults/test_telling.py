"""What a run tells of itself: its figures, and the file system that they were found on."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import filesystem
from support.census import IN_PLACE, Census

MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
tmpfs /run/a\\040b tmpfs rw 0 0
/dev/sda1 /data xfs rw 0 0
"""


@pytest.mark.parametrize(
    ("directory", "told"),
    [
        ("/somewhere/else", "ext4 on /dev/vda (/)"),
        ("/data/scans", "xfs on /dev/sda1 (/data)"),
        ("/database", "ext4 on /dev/vda (/)"),
        ("/run/a b/c", "tmpfs on tmpfs (/run/a b): in memory, so nothing of this run"),
    ],
)
def test_a_file_system_is_named_and_memory_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: str, told: str
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    monkeypatch.setattr(filesystem, "MOUNTS", mounts)
    assert filesystem.describe_file_system(Path(directory)).startswith(told)


def test_trials_of_a_name_share_a_line_and_all_are_summed() -> None:
    census = Census()
    assert census.table() == []
    for trial, moment in (("a", "acquiring"), ("a", "recovery"), ("b", "recovery")):
        tally = census.tally(trial)
        tally.killed(moment)
        tally.recoveries[IN_PLACE] += 1
        tally.judge(range(10), [])
    headings, _, *lines = census.table()
    cells = [line.split(" | ") for line in (headings, *lines)]
    table = {row[0].strip("| "): dict(zip(cells[0], row, strict=True)) for row in cells[1:]}
    assert list(table) == ["a", "b", "**all**"]
    assert (table["a"]["daemon kills"], table["a"]["recovery"]) == ("2", "1")
    assert table["**all**"]["acked rows compared"] == "30"


def test_a_lost_row_fails_its_trial_and_is_counted() -> None:
    tally = Census().tally("a")
    with pytest.raises(AssertionError, match=r"2 acknowledged rows are lost: \[3, 5\]"):
        tally.judge(range(10), [5, 3])
    assert tally.lost == 2
