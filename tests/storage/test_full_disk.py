"""A disk that is full: told, never counted as written, and neither process nor other scans die.

HDF5 itself is driven into the failure in a process of its own, by the largest file size that the
process may write (RLIMIT_FSIZE) and, where a mount is permitted, on a small file system.
"""

import shutil
import subprocess
import sys

import pytest

from support.storing import (
    CREATED,
    SCAN_ID,
    chunks_of,
    complete,
    layout_of,
    main_of,
    plans_for,
    random_data,
)
from usidstreamd.storage import StorageError, live
from usidstreamd.storage.scan import OpenScan

LAYOUT = layout_of(main_of())
PLANS = plans_for(LAYOUT)
CHUNKS = chunks_of(random_data(LAYOUT, "Raw_Data"), PLANS["Raw_Data"])


def create(tmp_path):
    return OpenScan.create(tmp_path, "scan", LAYOUT, PLANS, scan_id=SCAN_ID, created=CREATED)


@pytest.fixture
def disk(monkeypatch):
    """Set how many bytes are free."""
    usage = shutil.disk_usage("/")

    def set_free(nbytes):
        monkeypatch.setattr(live.shutil, "disk_usage", lambda _path: usage._replace(free=nbytes))

    return set_free


def test_chunks_stop_before_the_disk_is_full_and_go_on_with_space(tmp_path, disk):
    scan = create(tmp_path)
    disk(live.CHUNKS_KEEP_FREE_BYTES + 10)
    with pytest.raises(StorageError, match="MiB are free") as caught:
        scan.write("Raw_Data", CHUNKS)
    assert caught.value.code == "no_space"
    assert caught.value.retryable
    scan.commit({}, {"note": "commits still work"})
    scan.close()
    disk(1 << 40)
    (scan.record.journal / "open").stat()
    again = OpenScan.resume(scan.record)
    again.write("Raw_Data", CHUNKS)
    again.commit({"Raw_Data": complete(0, 64)}, {})
    again.close()


def test_commits_stop_while_the_file_can_still_be_closed(tmp_path, disk):
    scan = create(tmp_path)
    scan.write("Raw_Data", CHUNKS)
    disk(live.COMMITS_KEEP_FREE_BYTES - 1)
    with pytest.raises(StorageError) as caught:
        scan.commit({"Raw_Data": complete(0, 64)}, {})
    assert caught.value.code == "no_space"
    disk(1 << 40)
    scan.commit({"Raw_Data": complete(0, 64)}, {})
    scan.close()


def test_no_scan_is_opened_on_a_full_disk(tmp_path, disk):
    disk(0)
    with pytest.raises(StorageError) as caught:
        create(tmp_path)
    assert caught.value.code == "no_space"
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- HDF5 itself on a full disk

_SCENARIO = """
import os, resource, sys
from pathlib import Path
from support.storing import *
from usidstreamd.storage import *
from usidstreamd.storage import live

how, kind, data_dir = sys.argv[1], sys.argv[2], Path(sys.argv[3])
live.CHUNKS_KEEP_FREE_BYTES = live.COMMITS_KEEP_FREE_BYTES = 0
filler = data_dir / "filler"
if how == "tmpfs":
    filler.write_bytes(bytes(400_000))  # of 1 MiB

def fill():
    if how == "limit":
        size = max(path.stat().st_size for path in data_dir.glob("*.h5"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100_000, resource.RLIM_INFINITY))

def free():
    if how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    else:
        filler.unlink()

class Store:
    def __init__(self):
        self.events = Events()
        self.thread = StorageThread(self.events.post, FinishedScans(data_dir))
    def ask(self, command):
        self.thread.submit(command)
        return self.events.next()
    def create(self, file, scan_id):
        command = Create(data_dir=data_dir, file=file, layout=layout, plans=plans,
                         scan_id=scan_id, created=CREATED)
        assert isinstance(self.ask(command), Ready)

layout = layout_of(main_of(n=256, compression="none"), n_positions=100_000)
plans = plans_for(layout, rows=16, cols=256)
raw = np.full((16, 256), 7, "f4").tobytes()

def write(store, number):
    return store.ask(WriteTile(main="Raw_Data", chunks=[(16 * number, 0, raw)]))

def commit(store, lo, hi):
    return store.ask(Commit(updates={"Raw_Data": complete(lo, hi)}))

store, other = Store(), Store()
store.create("scan", "a" * 32)
write(store, 0)
assert isinstance(commit(store, 0, 16), Committed)
fill()
number, event = 1, TileWritten(token=None)
while isinstance(event, TileWritten):
    event = write(store, number)
    number += 1
assert isinstance(event, StorageFailed), event
assert event.error.code == "no_space", event.error
if kind == "commit":
    # as if no write had failed: the commit meets the full disk
    store.thread._failure = None
    ranges = np.array([[row, row + 1, 0, 1] for row in range(20_000, 40_000)])
    update = CoverageUpdate(20_000, np.full(20_000, 2, np.uint8), ranges)
    event = store.ask(Commit(updates={"Raw_Data": update}))
    assert isinstance(event, StorageFailed), event
    assert event.error.code == "storage_failed", event.error
if kind == "freed":
    free()  # before the file is closed, else after
end = store.ask(Close())
assert store.thread.join(30)
if kind != "freed":
    free()
(record,) = find_journals(data_dir)
again = Store()
ready = again.ask(Resume(record=record))
if kind != "commit" and isinstance(end, Closed):
    assert int((ready.coverage["Raw_Data"].states == 1).sum()) == 16
    assert (again.thread.fetch("Raw_Data", 0, 16, 0, 256) == 7).all()
    write(again, 1)
    assert isinstance(commit(again, 16, 32), Committed)
    assert isinstance(again.ask(Finalise(status="incomplete")), Finalised)
else:
    assert kind != "freed" and isinstance(end, StorageFailed), end
    assert isinstance(ready, StorageFailed), ready
    assert ready.error.code == "file_damaged", ready.error
# another scan of the same process is none the worse
other.create("other", "b" * 32)
write(other, 0)
assert isinstance(commit(other, 0, 16), Committed)
assert isinstance(other.ask(Finalise(status="incomplete")), Finalised)
print("passed")
"""


def run_scenario(tmp_path, *command):
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), "PATH": "/usr/bin:/bin:/usr/sbin"},
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "passed\n"), done.stderr[-3000:]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no RLIMIT_FSIZE")
@pytest.mark.parametrize("kind", ["write", "commit", "freed"])
def test_hdf5_meets_the_largest_file_size(tmp_path, kind):
    run_scenario(tmp_path, sys.executable, "-c", _SCENARIO, "limit", kind, str(tmp_path))


@pytest.mark.parametrize("kind", ["write", "commit", "freed"])
def test_hdf5_meets_a_full_file_system(tmp_path, kind):
    unshare = shutil.which("unshare")
    mount = f"mount -t tmpfs -o size=1m tmpfs '{tmp_path}'"
    inside = [unshare, "--user", "--map-root-user", "--mount", "sh", "-c"]
    if unshare is None or subprocess.run([*inside, mount], check=False).returncode:
        pytest.skip("a file system cannot be mounted here, not even in a namespace")
    script = f'{mount} && exec "$0" "$@"'
    run_scenario(
        tmp_path, *inside, script, sys.executable, "-c", _SCENARIO, "tmpfs", kind, str(tmp_path)
    )
