import shutil

import pytest

from support.journalled import JournalledScan, die, in_a_child
from support.storing import SCAN_ID, layout_of, main_of, plans_for, random_data
from usidstreamd.storage import FinishedResult, FinishedScans, StorageError, recovery
from usidstreamd.storage.inspection import inspect
from usidstreamd.storage.ledger import replay
from usidstreamd.storage.record import RECORD_NAME, OpenRecord
from usidstreamd.storage.rescue import recover_path

LAYOUT = layout_of(main_of())
DATA = random_data(LAYOUT, "Raw_Data")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    def in_process(path, journal, ledger, _n_chunks, _timeout_s):
        return inspect(path, OpenRecord.read(journal), replay(ledger).chunks)

    monkeypatch.setattr(recovery, "compare", in_process)


def dead_scan(directory):
    directory.mkdir()
    scan = JournalledScan(directory, LAYOUT, plans_for(LAYOUT))

    def acquire():
        scan.open()
        scan.store("Raw_Data", DATA, 0, 32)
        scan.h5_file.flush()
        die()

    assert not in_a_child(acquire)
    return scan


@pytest.mark.parametrize("named", ["path", "directory"])
def test_a_scan_is_named_by_its_file_or_its_journal(tmp_path, named):
    scan = dead_scan(tmp_path / "d")
    (report,) = recover_path(getattr(scan, named))
    assert (report.how, report.file) == ("in place", str(scan.path))


def test_a_directorys_scans_are_recovered_whatever_one_of_them_meets(tmp_path):
    scan = dead_scan(tmp_path / "d")
    orphan = shutil.copy(scan.path, tmp_path / "d" / "orphan.h5")
    (tmp_path / "d" / "broken.h5.journal").mkdir()
    (tmp_path / "d" / "broken.h5.journal" / "ledger").write_bytes(b"")
    (tmp_path / "d" / "unfinished.h5.journal").mkdir()
    found = list(recover_path(tmp_path / "d"))
    assert isinstance(found[0], StorageError)
    assert [report.how for report in found[1:]] == ["salvaged", "in place"]
    assert found[1].kept == str(orphan)
    again = [getattr(told, "how", "error") for told in recover_path(tmp_path / "d")]
    assert again == ["error", "error", "nothing to do"], "an orphan is salvaged once"


def test_a_scan_that_has_ended_needs_nothing_of_its_journal_but_the_record(tmp_path):
    scan = dead_scan(tmp_path / "d")
    list(recover_path(scan.path))
    FinishedScans(scan.path.parent).remember(
        SCAN_ID, FinishedResult(file=str(scan.path), status="incomplete", missing={})
    )
    for entry in scan.directory.iterdir():  # the power failed while it was removed
        if entry.name != RECORD_NAME:
            entry.unlink()
    for _twice in range(2):
        (report,) = recover_path(tmp_path / "d")
        assert report.how == "nothing to do"
        assert "has ended" in report.reason


def test_another_directory_takes_the_scans(tmp_path):
    scan = dead_scan(tmp_path / "d")
    (report,) = recover_path(scan.path, into=tmp_path / "other")
    assert report.file == str(tmp_path / "other" / "scan.h5")
    assert report.to_dict()["how"] == "rebuilt"


def test_a_closed_file_and_one_that_is_not_there(tmp_path):
    scan = dead_scan(tmp_path / "d")
    list(recover_path(scan.path))
    shutil.rmtree(scan.directory)
    (report,) = recover_path(scan.path)
    assert report.how == "nothing to do"
    (error,) = recover_path(tmp_path / "none.h5")
    assert "missing" in error.message
