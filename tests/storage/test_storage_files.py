import errno
import os
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usidstream.errors import LayoutError
from usidstreamd.storage import StorageError, SyncError, files

WHEN = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.mark.parametrize("name", ["sample_A", "Probe 7", "a-b", "Größe", "x" * 200, "v1.2"])
def test_plain_names_are_taken_as_they_are(name):
    assert files.safe_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "", "a/b", "..", ".", "../x", ".hidden", "a\\b", "a\0b", "a\nb", "x" * 201, "ö" * 101, "a ",
        "a.", "c:x", "a*", "con", "NUL.dat", "com1", "\ud800",
    ],
)  # fmt: skip
def test_what_is_no_plain_name_is_refused(name):
    with pytest.raises(LayoutError) as caught:
        files.safe_name(name)
    assert caught.value.code == "bad_name"
    assert caught.value.field == "file"


@given(st.text())
def test_a_name_that_is_taken_makes_one_file_in_the_directory(tmp_path_factory, name):
    directory = tmp_path_factory.getbasetemp()
    try:
        path = directory / files.scan_file_name(name, WHEN, "0123456789abcdef" * 2)
    except LayoutError:
        return
    assert path.parent == directory
    assert os.path.normpath(path) == str(path)
    assert len(files.journal_dir(path).name.encode()) <= 255


def test_the_file_name_tells_name_local_time_and_scan():
    local = WHEN.astimezone().strftime("%Y%m%d-%H%M%S")
    assert files.scan_file_name("s", WHEN, "89abcdef" + "0" * 24) == f"s_{local}_89abcdef.h5"


def test_publish_replaces_in_one_step(tmp_path):
    path = tmp_path / "record"
    files.publish(path, [b"one"])
    files.publish(path, [b"t", b"wo"])
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["record"]


def test_a_failed_publish_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "record"
    files.publish(path, [b"old"])

    def fail(_fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "sync_data", fail)
    with pytest.raises(StorageError) as caught:
        files.publish(path, [b"new"])
    assert caught.value.code == "no_space"
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["record"]


@pytest.mark.parametrize("has_hard_links", [True, False])
def test_publish_new_never_overwrites(tmp_path, monkeypatch, has_hard_links):
    if not has_hard_links:

        def refuse(_source, _target):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    fresh, path = tmp_path / "fresh", tmp_path / "final"
    fresh.write_bytes(b"1")
    files.publish_new(fresh, path)
    assert path.read_bytes() == b"1"
    assert not fresh.exists()
    fresh.write_bytes(b"2")
    with pytest.raises(StorageError, match="File exists"):
        files.publish_new(fresh, path)
    assert path.read_bytes() == b"1"
    assert fresh.exists()


def test_a_failed_sync_names_the_file(tmp_path, monkeypatch):
    path = tmp_path / "data"
    path.write_bytes(b"x")

    def fail(_fd):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files, "sync_data", fail)
    with pytest.raises(SyncError, match="data") as caught:
        files.sync_file(path)
    assert caught.value.code == "storage_failed"
    assert caught.value.details == {"file": str(path)}
