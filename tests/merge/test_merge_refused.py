"""Whatever is refused or fails: the session is what it was, and nothing is left beside it."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest

from support.daemon import SCRIPTS
from support.failing_disk import FailingDisk
from support.merge_files import everything, finished, open_scan, scan_id, two_channels
from support.storing import suspend
from usidstreamd import merging
from usidstreamd.merging import MergeError, copying, merge
from usidstreamd.storage.errors import StorageError
from usidstreamd.storage.structure import set_text

NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(scope="module")
def one_scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one_scan")
    merge(folder / "day.h5", [finished(folder, scan_id(9))])
    return folder / "day.h5"


@pytest.fixture(params=["new", "grows"])
def session(request: pytest.FixtureRequest, tmp_path: Path, one_scan: Path) -> Path:
    path = tmp_path / "day.h5"
    if request.param == "grows":
        shutil.copyfile(one_scan, path)
    return path


def refused(session: Path, *sources: Path) -> Any:
    """Merge; return the error after a look at whether anything was changed."""
    before = everything(session.parent)
    with pytest.raises((MergeError, StorageError)) as caught:
        merge(session, sources)
    assert everything(session.parent) == before
    return caught.value


# ---------------------------------------------------------------- sources and sessions


def test_a_scan_that_goes_on_is_refused(tmp_path: Path, session: Path) -> None:
    whole = finished(tmp_path / "s", scan_id(0))
    scan = open_scan(tmp_path / "s", two_channels(), scan_id(1))
    path = scan.record.path
    try:
        error = refused(session, whole, path)
        assert f"{path} is not finished: its journal {path.name}.journal" in error.message
        assert f"usidstreamd recover {path}" in error.hint
    finally:
        suspend(scan)
    assert f"usidstreamd recover {path}" in refused(session, whole, path).hint


def test_a_scan_that_calls_itself_acquiring_is_refused(tmp_path: Path, session: Path) -> None:
    path = finished(tmp_path / "s", scan_id(0))
    with h5py.File(path, "r+") as h5_file:
        set_text(h5_file["Measurement_000"], "acquisition_status", "acquiring")
    error = refused(session, path)
    assert "acquisition_status of /Measurement_000 is acquiring" in error.message
    assert f"usidstreamd recover {path}" in error.hint


def test_a_file_whose_writer_was_killed_is_refused(tmp_path: Path, session: Path) -> None:
    path = finished(tmp_path / "s", scan_id(0))
    with path.open("r+b") as raw:
        raw.seek(11)
        raw.write(b"\x05")
    error = refused(session, path)
    assert "was not closed" in error.message
    assert "usidstreamd recover" in error.hint


def damage(path: Path) -> None:
    with h5py.File(path) as h5_file:
        chunk = h5_file["Measurement_000/Channel_001/B"].id.get_chunk_info(1)
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset + 5)
        raw.write(b"\xff\xff")


def test_a_damaged_scan_is_refused_with_what_is_wrong(tmp_path: Path, session: Path) -> None:
    paths = [finished(tmp_path / "s", scan_id(n)) for n in range(2)]
    damage(paths[1])
    error = refused(session, *paths)
    assert error.code == "file_damaged"
    assert "/Measurement_000/Channel_001/B: the chunk at row " in error.message


def test_a_damaged_session_is_refused(tmp_path: Path) -> None:
    session = tmp_path / "day.h5"
    merge(session, [finished(tmp_path / "s", scan_id(0))])
    damage(session)
    assert "day.h5 has faults" in refused(session, finished(tmp_path / "s", scan_id(1))).message


def test_what_is_no_hdf5_file_is_refused(tmp_path: Path, session: Path) -> None:
    (tmp_path / "text.h5").write_text("no HDF5, but longer than its signature")
    assert "is not an HDF5 file" in refused(session, tmp_path / "text.h5").message


def test_two_merges_into_one_session_are_not_mixed(tmp_path: Path, session: Path) -> None:
    path = finished(tmp_path / "s", scan_id(0))
    (tmp_path / "day.h5.merge").write_bytes(b"of another merge")
    assert "day.h5.merge exists: another merge" in refused(session, path).message


# ---------------------------------------------------------------- failures on the way


def fails_at(count: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, raising at its count-th call."""
    calls = [0]

    def call(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == count:
            raise NO_SPACE
        return function(*args, **kwargs)

    return call


@pytest.mark.parametrize(
    ("where", "name", "count"),
    [
        (copying.SourceCopy, "_copy_group", 1),
        (copying.SourceCopy, "_copy_chunks", 1),
        (copying.SourceCopy, "_copy_chunks", 9),
        (copying.SourceCopy, "_copy_whole", 3),
        (copying.SourceCopy, "_link", 4),
        (copying.SourceCopy, "_tell", 2),
        (merging, "_require_sound_work", 1),
        (merging, "sync_file", 1),
        (merging, "publish", 1),
    ],
)
def test_a_failure_at_any_step_changes_nothing(
    tmp_path: Path,
    session: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    name: str,
    count: int,
) -> None:
    if name == "publish":
        where, name = (Path, "replace") if session.exists() else (merging, "publish_new")
    paths = [finished(tmp_path / "s", scan_id(n)) for n in range(2)]
    with monkeypatch.context() as patched:
        patched.setattr(where, name, fails_at(count, getattr(where, name)))
        assert refused(session, *paths).code == "no_space"
    assert len(merge(session, paths).merged) == 2


def test_a_fault_in_what_was_made_keeps_the_session(
    tmp_path: Path, session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = finished(tmp_path / "s", scan_id(0))
    add = merging._add

    def add_damaged(work: Path, *rest: Any) -> None:
        add(work, *rest)
        damage(work)

    monkeypatch.setattr(merging, "_add", add_damaged)
    assert "would have faults with these scans merged" in refused(session, path).message


def test_an_interruption_leaves_nothing(tmp_path: Path, session: Path) -> None:
    path = finished(tmp_path / "s", scan_id(0))
    before = everything(tmp_path)

    class Interrupted:
        def __init__(self, label: str, _unit: str) -> None:
            self._label = label

        def __enter__(self) -> Callable[[int, int], None]:
            return self._advance

        def __exit__(self, *_: object) -> None:
            pass

        def _advance(self, done: int, _total: int) -> None:
            if (self._label, done) == ("merge", 5):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(session, [path], Interrupted)
    assert everything(tmp_path) == before


def test_a_session_that_somebody_changed_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, path = tmp_path / "day.h5", finished(tmp_path / "s", scan_id(0))
    merge(session, [path])
    sync = merging.sync_file

    def change_and_sync(work: Path) -> None:
        with h5py.File(session, "r+") as h5_file:
            h5_file["Measurement_000"].attrs["remark"] = "of somebody else"
        sync(work)

    monkeypatch.setattr(merging, "sync_file", change_and_sync)
    with pytest.raises(MergeError, match="was changed by somebody else"):
        merge(session, [finished(tmp_path / "s", scan_id(1))])
    assert not (tmp_path / "day.h5.merge").exists()
    with h5py.File(session) as h5_file:
        assert list(h5_file) == ["Measurement_000"]
        assert h5_file["Measurement_000"].attrs["remark"] == "of somebody else"


def test_room_is_looked_at_before_anything_is_read(
    tmp_path: Path, session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = finished(tmp_path / "s", scan_id(0))
    wanted = path.stat().st_size + (session.stat().st_size if session.exists() else 0)
    monkeypatch.setattr(merging, "free_bytes", lambda _path: wanted)
    monkeypatch.setattr(merging, "require_sound", None)
    error = refused(session, path)
    assert (error.code, error.details["free_bytes"]) == ("no_space", wanted)
    assert error.details["needed_bytes"] > wanted


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_a_disk_that_fails_below_hdf5_changes_nothing(
    tmp_path: Path, session: Path, operation: str
) -> None:
    path = finished(tmp_path / "s", scan_id(0))
    disk = FailingDisk(tmp_path / "rules")
    before = everything(tmp_path)
    with disk.rule(operation, "ENOSPC", "day.h5.merge"):
        rules = everything(tmp_path)["rules"]
        done = subprocess.run(
            [SCRIPTS / "usidstreamd", "merge", session, path],
            env=os.environ | disk.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("usidstreamd: could not "), done.stderr
    assert "Traceback" not in done.stderr
    assert rules != before["rules"]
    assert everything(tmp_path) == before


@pytest.mark.skipif(sys.platform == "win32", reason="there, a process is terminated unheard")
def test_a_terminated_merge_leaves_nothing(tmp_path: Path, session: Path) -> None:
    path = finished(tmp_path / "s", scan_id(0))
    disk = FailingDisk(tmp_path / "rules")
    before = everything(tmp_path)
    words = [SCRIPTS / "usidstreamd", "merge", session, path]
    with disk.rule("sync", "hold", "day.h5.merge"):
        process = subprocess.Popen(
            words, env=os.environ | disk.environment, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("verify what was merged: "):
                break
        process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "Traceback" not in told
    assert everything(tmp_path) == before
