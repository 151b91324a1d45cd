import errno

import pytest

from support.storing import SCAN_ID
from usidstreamd.storage import FinishedResult, FinishedScans, StorageError, files

RESULT = FinishedResult("/data/s.h5", "incomplete", {"Raw_Data": [(0, 3), (7, 1 << 40)]})


def test_a_result_is_known_to_the_next_daemon(tmp_path):
    FinishedScans(tmp_path).remember(SCAN_ID, RESULT)
    assert FinishedScans(tmp_path).get(SCAN_ID) == RESULT


def test_an_unknown_id_is_none(tmp_path):
    assert FinishedScans(tmp_path).get(SCAN_ID) is None


def test_remembering_again_replaces(tmp_path):
    finished = FinishedScans(tmp_path)
    finished.remember(SCAN_ID, RESULT)
    whole = FinishedResult("/data/s.h5", "complete", {})
    finished.remember(SCAN_ID, whole)
    assert finished.get(SCAN_ID) == whole


@pytest.mark.parametrize("content", [b"", b"garbage", b"\0" * 40])
def test_a_damaged_result_is_told(tmp_path, content):
    finished = FinishedScans(tmp_path)
    finished.remember(SCAN_ID, RESULT)
    (tmp_path / ".usidstream" / "finished" / SCAN_ID).write_bytes(content)
    with pytest.raises(StorageError, match="is damaged") as caught:
        finished.get(SCAN_ID)
    assert caught.value.code == "file_damaged"


def test_a_directory_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / ".usidstream").write_bytes(b"a file in the way")
    with pytest.raises(StorageError, match="could not make"):
        FinishedScans(tmp_path).remember(SCAN_ID, RESULT)


def no_sync_of(monkeypatch, name):
    """Let no sync of a directory of this name succeed; return those that were tried."""
    tried = []

    def sync_names(directory):
        tried.append(directory.name)
        if directory.name == name:
            raise OSError(errno.EIO, "injected")

    monkeypatch.setattr(files, "sync_names", sync_names)
    return tried


def test_a_result_whose_name_is_not_synced_is_not_told(tmp_path, monkeypatch):
    finished = FinishedScans(tmp_path)
    with monkeypatch.context() as failing:
        no_sync_of(failing, "finished")
        with pytest.raises(StorageError, match="could not sync"):
            finished.remember(SCAN_ID, RESULT)
    assert finished.get(SCAN_ID) is None
    finished.remember(SCAN_ID, RESULT)
    assert finished.get(SCAN_ID) == RESULT


def test_a_result_that_another_daemon_left_is_synced_before_it_is_told(tmp_path, monkeypatch):
    FinishedScans(tmp_path).remember(SCAN_ID, RESULT)
    finished = FinishedScans(tmp_path)
    with monkeypatch.context() as failing:
        no_sync_of(failing, "finished")
        with pytest.raises(StorageError, match="could not sync"):
            finished.get(SCAN_ID)
    tried = no_sync_of(monkeypatch, "none")
    assert [finished.get(SCAN_ID) for _twice in range(2)] == [RESULT] * 2
    assert tried == ["finished"], "once is enough"
