"""What stands beside files is told, and nothing is removed that anything could still need."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.daemon import Daemon, command
from support.left_scans import SHORT, leave_a_scan, wait_until_interrupted
from support.storing import CREATED, SCAN_ID, end, layout_of, main_of, plans_for, suspend
from usidstream.errors import UsidstreamError
from usidstreamd.storage import (
    DataDirectory,
    FinishedResult,
    FinishedScans,
    Remainder,
    find_remainders,
    remove_finished,
)
from usidstreamd.storage.recovery import journal_lock
from usidstreamd.storage.scan import OpenScan

LAYOUT = layout_of(main_of())
HOUR_S = 3600.0


def make_scan(data_dir: Path, scan_id: str = SCAN_ID) -> OpenScan:
    return OpenScan.create(
        data_dir, "scan", LAYOUT, plans_for(LAYOUT), scan_id=scan_id, created=CREATED
    )


def leave_finished(data_dir: Path, scan_id: str = SCAN_ID) -> tuple[Path, Path]:
    """End a scan and put its journal back, as if the daemon had died before removing it."""
    scan = make_scan(data_dir, scan_id)
    path, journal = scan.record.path, scan.record.journal
    copy = data_dir.parent / f"copy-{scan_id}"
    shutil.copytree(journal, copy)
    end(scan, "incomplete", FinishedScans(data_dir))
    assert not journal.exists()
    shutil.copytree(copy, journal)
    return path, journal


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def look(data_dir: Path) -> dict[str, Remainder]:
    return {found.kind: found for found in find_remainders(data_dir)}


def snapshot(data_dir: Path) -> dict[str, bytes]:
    """Return every file but the daemon's locks, with its content."""
    return {
        str(path.relative_to(data_dir)): path.read_bytes()
        for path in sorted(data_dir.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def test_the_journal_of_a_scan_that_has_ended_goes_and_nothing_else(data_dir: Path) -> None:
    _path, journal = leave_finished(data_dir)
    suspend(make_scan(data_dir, "cd" * 16))
    before = snapshot(data_dir)
    (removal,) = remove_finished(data_dir)
    assert (removal.path, removal.kept_for) == (str(journal), "")
    assert not journal.exists()
    gone = {name for name in before if name.startswith(f"{journal.name}/")}
    assert snapshot(data_dir) == {k: v for k, v in before.items() if k not in gone}
    assert list(remove_finished(data_dir)) == []


def test_what_removing_had_left_half_done_goes_too(data_dir: Path) -> None:
    _path, journal = leave_finished(data_dir)
    (journal / "ledger").unlink()
    (journal / "template.h5").unlink()
    assert [removal.kept_for for removal in remove_finished(data_dir)] == [""]
    assert not journal.exists()


Temptation = Callable[[Path, Path], object]


def _other_scans_file(path: Path, journal: Path) -> None:
    other, _ = leave_finished(journal.parent, "cd" * 16)
    shutil.rmtree(other.with_name(other.name + ".journal"))
    other.replace(path)


def _complete_after_all(path: Path, journal: Path) -> None:
    result = FinishedResult(file=str(path), status="complete", missing={})
    FinishedScans(journal.parent).remember(SCAN_ID, result)


def _flip_flags(path: Path, _journal: Path) -> None:
    with path.open("r+b") as file:
        file.seek(11)
        file.write(b"\x05")


def _write_in_the_middle(path: Path, _journal: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(range(256)) * 8)


def _torn_ledger(_path: Path, journal: Path) -> None:
    (journal / "ledger").write_bytes(b"torn")


def _moved_result(_path: Path, journal: Path) -> None:
    (journal.parent / ".usidstream" / "finished" / SCAN_ID).write_bytes(b"torn")


def _link(_path: Path, journal: Path) -> None:
    journal.replace(journal.parent.parent / "elsewhere")
    journal.symlink_to(journal.parent.parent / "elsewhere", target_is_directory=True)


@pytest.mark.parametrize(
    ("tempt", "reason"),
    [
        (lambda path, _journal: path.unlink(), "is not beside it"),
        (lambda path, _journal: path.rename(path.with_name("renamed.h5")), "is not beside it"),
        (lambda path, _journal: os.truncate(path, path.stat().st_size // 2), ""),
        (lambda path, _journal: path.write_bytes(b""), "not an HDF5 file"),
        (_flip_flags, "was not closed by its writer"),
        (_write_in_the_middle, ""),
        (_other_scans_file, "is not the scan's file"),
        (_complete_after_all, "its file says incomplete, and complete is remembered"),
        (_torn_ledger, "ledger"),
        (_moved_result, "is damaged"),
        (_link, "it is a link to elsewhere"),
        (lambda _path, journal: (journal / "notes.txt").write_text("mine"), "notes.txt"),
        (lambda _path, journal: (journal / "mine").mkdir(), "mine"),
        (lambda _path, journal: (journal / "manifest").write_bytes(b""), "manifest"),
        (lambda _path, journal: (journal / "suspect").write_bytes(b""), "suspect"),
        (lambda _path, journal: journal.rename(journal.with_name("b.h5.journal")), "is damaged"),
    ],
    ids=[
        "no-file", "renamed", "cut", "emptied", "not-closed", "overwritten", "of-another-scan",
        "other-status", "torn-ledger", "torn-result", "link", "foreign-file", "foreign-directory",
        "manifest", "suspect", "journal-renamed",
    ],
)  # fmt: skip
def test_what_anything_speaks_for_stays(data_dir: Path, tempt: Temptation, reason: str) -> None:
    path, journal = leave_finished(data_dir)
    tempt(path, journal)
    before = snapshot(data_dir)
    removals = list(remove_finished(data_dir))
    assert len(removals) == 1
    assert removals[0].kept_for
    assert reason in removals[0].kept_for
    assert snapshot(data_dir) == before


def test_scans_that_go_on_and_copies_of_data_stay(data_dir: Path) -> None:
    suspend(make_scan(data_dir))
    for name in ("a.h5", "a.h5.damaged", "a.h5.damaged-2", "a.salvaged.h5", "a.h5.rebuilding"):
        (data_dir / name).write_bytes(b"data")
    (data_dir / "made.h5.journal").mkdir()
    before = snapshot(data_dir)
    assert list(remove_finished(data_dir)) == []
    assert snapshot(data_dir) == before
    assert (data_dir / "made.h5.journal").is_dir()
    found = look(data_dir)
    assert set(found) == {"waiting", "damaged copy", "salvaged", "rebuilding", "unfinished"}


def test_one_that_is_in_use_stays(data_dir: Path) -> None:
    _path, journal = leave_finished(data_dir)
    with journal_lock(journal):
        (removal,) = remove_finished(data_dir)
    assert "in use" in removal.kept_for
    assert journal.exists()


def test_while_a_daemon_uses_the_directory_nothing_is_removed(data_dir: Path) -> None:
    _path, journal = leave_finished(data_dir)
    directory = DataDirectory(data_dir)
    try:
        with pytest.raises(UsidstreamError, match="in use by another daemon"):
            list(remove_finished(data_dir))
        assert look(data_dir)["finished"].path == str(journal)
    finally:
        directory.close()
    assert journal.exists()


def test_what_each_needs_is_told(data_dir: Path) -> None:
    scan = make_scan(data_dir)
    found = look(data_dir)["open"]
    assert "if no daemon has it, serve or recover puts it right first" in found.needs
    suspend(scan)
    hour_ago_s = time.time() - HOUR_S
    os.utime(scan.record.journal / "open", (hour_ago_s, hour_ago_s))
    found = look(data_dir)["waiting"]
    assert (found.scan, found.file) == (SCAN_ID, str(scan.record.path))
    assert found.age_s >= HOUR_S
    assert found.nbytes > 1000
    assert f"{scan.record.path.name} beside it" in found.needs
    scan.record.path.unlink()
    assert f"put {scan.record.path.name} back" in look(data_dir)["waiting"].needs
    (scan.record.journal / "open").write_bytes(b"torn")
    assert "is damaged" in look(data_dir)["unreadable"].needs


# ---------------------------------------------------------------- the command, beside a daemon


def test_the_command_tells_of_a_running_daemons_scans_and_refuses_to_remove(
    tmp_path: Path,
) -> None:
    with Daemon(tmp_path / "data", **SHORT) as daemon:
        leave_a_scan(daemon, SCAN_ID)
        wait_until_interrupted(daemon, SCAN_ID)
        told = command("usidstreamd", "journals", daemon.data_dir)
        assert (told.returncode, told.stderr) == (0, "")
        assert ": interrupted: " in told.stdout
        assert f"scan {SCAN_ID}, " in told.stdout
        refused = command("usidstreamd", "journals", daemon.data_dir, "--remove")
        assert refused.returncode == 1
        assert "in use by another daemon" in refused.stderr
        daemon.stop(signal.SIGKILL)
        told = command("usidstreamd", "journals", daemon.data_dir, "--remove", "--json")
        assert told.returncode == 0, told.stderr
        plain = json.loads(told.stdout)
        assert plain["removed"] == []
        (remainder,) = plain["remainders"]
        assert (remainder["kind"], remainder["scan"]) == ("interrupted", SCAN_ID)


def test_the_command_removes_and_says_what_it_kept(data_dir: Path) -> None:
    _path, removable = leave_finished(data_dir)
    _other, kept = leave_finished(data_dir, "cd" * 16)
    (kept / "notes.txt").write_text("mine")
    told = command("usidstreamd", "journals", data_dir, "--remove")
    assert told.returncode == 1, "something was kept that looked finished"
    assert f"{removable.name}: removed" in told.stdout
    assert f"{kept.name}: KEPT: it holds what such a journal does not: notes.txt" in told.stdout
    shutil.rmtree(kept)
    told = command("usidstreamd", "journals", data_dir)
    assert told.stdout == f"{data_dir}: nothing stands beside the files\n"


def test_wrong_use(tmp_path: Path) -> None:
    told = command("usidstreamd", "journals", tmp_path / "nowhere")
    assert told.returncode == 2
