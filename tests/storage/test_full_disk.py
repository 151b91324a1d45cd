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
    block_of,
    chunks_of,
    complete,
    layout_of,
    main_of,
    plans_for,
    random_data,
    store,
    suspend,
)
from usidstreamd.storage import StorageError, space
from usidstreamd.storage.scan import OpenScan

LAYOUT = layout_of(main_of())
PLANS = plans_for(LAYOUT)
DATA = random_data(LAYOUT, "Raw_Data")
CHUNKS = chunks_of(DATA, PLANS["Raw_Data"])


def create(tmp_path):
    return OpenScan.create(tmp_path, "scan", LAYOUT, PLANS, scan_id=SCAN_ID, created=CREATED)


@pytest.fixture
def disk(monkeypatch):
    """Set how many bytes are free."""
    usage = shutil.disk_usage("/")

    def set_free(nbytes):
        monkeypatch.setattr(space.shutil, "disk_usage", lambda _path: usage._replace(free=nbytes))

    return set_free


def test_chunks_stop_before_the_disk_is_full_and_go_on_with_space(tmp_path, disk):
    scan = create(tmp_path)
    disk(space.CHUNKS_KEEP_FREE_BYTES + 10)
    with pytest.raises(StorageError, match="MiB are free") as caught:
        scan.write("Raw_Data", CHUNKS, is_complete=True)
    assert caught.value.code == "no_space"
    assert caught.value.retryable
    scan.commit({"Raw_Data": complete(0, 0)})
    suspend(scan)
    disk(1 << 40)
    again = OpenScan.resume(scan.record)
    store(again, "Raw_Data", CHUNKS)
    again.commit({"Raw_Data": complete(0, 64)})
    suspend(again)


def test_rows_stop_before_the_disk_is_full_and_the_end_can_be_recorded(tmp_path, disk):
    scan = create(tmp_path)
    block, chunks = block_of(DATA, 0, 7), scan.write("Raw_Data", CHUNKS, is_complete=True)
    disk(space.CHUNKS_KEEP_FREE_BYTES - 1)
    for told in (([], [block], {}), (chunks, [], {})):
        with pytest.raises(StorageError) as caught:
            scan.journal.commit(*told)
        assert caught.value.code == "no_space"
    scan.journal.checkpoint(1)
    disk(1 << 40)
    assert scan.journal.commit(chunks, [block], {}) == 1
    suspend(scan)
    again = OpenScan.resume(scan.record)
    assert again.coverage()["Raw_Data"].states.tolist() == [1] * 64
    assert [bytes(found.data) for found in again.replay()] == [block.data]
    suspend(again)


def test_commits_stop_while_the_file_can_still_be_closed(tmp_path, disk):
    scan = create(tmp_path)
    store(scan, "Raw_Data", CHUNKS)
    disk(space.COMMITS_KEEP_FREE_BYTES - 1)
    with pytest.raises(StorageError) as caught:
        scan.commit({"Raw_Data": complete(0, 64)})
    assert caught.value.code == "no_space"
    disk(1 << 40)
    scan.commit({"Raw_Data": complete(0, 64)})
    suspend(scan)


def test_no_scan_is_opened_on_a_full_disk(tmp_path, disk):
    disk(0)
    with pytest.raises(StorageError) as caught:
        create(tmp_path)
    assert caught.value.code == "no_space"
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- HDF5 itself on a full disk

_SCENARIO = """
import os, resource, shutil, sys
from pathlib import Path
from support.storing import *
from usidstreamd.storage import *
from usidstreamd.storage import live, rebuild, recovery, scan

how, kind, data_dir = sys.argv[1], sys.argv[2], Path(sys.argv[3])
for module in (live, rebuild, recovery, scan):
    module.CHUNKS_KEEP_FREE_BYTES = module.COMMITS_KEEP_FREE_BYTES = 0
filler = data_dir / "filler"

def fill():
    if how == "limit":
        size = max(path.stat().st_size for path in data_dir.glob("*.h5"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100_000, resource.RLIM_INFINITY))
    else:
        filler.write_bytes(bytes(shutil.disk_usage(data_dir).free - 100_000))

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
        ready = self.ask(command)
        assert isinstance(ready, Ready)
        self.journal = ready.journal

layout = layout_of(main_of(n=256, compression="none"), n_positions=100_000)
plans = plans_for(layout, rows=16, cols=256)
raw = np.full((16, 256), 7, "f4").tobytes()

def write(store, number):
    event = store.ask(WriteTile(main="Raw_Data", chunks=[(16 * number, 0, raw)]))
    if isinstance(event, TileWritten):
        store.journal.commit(event.chunks, [], {})
    return event

def finalise(store):
    store.journal.finalise(decision("incomplete"))
    store.journal.close(is_clean=False)
    assert isinstance(store.ask(Finalise(status="incomplete", ended=CREATED)), Finalised)

def commit(store, lo, hi):
    return store.ask(Commit(updates={"Raw_Data": complete(lo, hi)}))

store, other = Store(), Store()
store.create("scan", "a" * 32)
write(store, 0)
assert isinstance(commit(store, 0, 16), Committed)
fill()
n_durable = 1
if kind != "commit":
    while isinstance(event := write(store, n_durable), TileWritten):
        n_durable += 1
    assert isinstance(event, SpaceShort), event
    assert event.error.code == "no_space", event.error
else:
    ranges = np.array([[row, row + 1, 0, 1] for row in range(20_000, 40_000)])
    update = CoverageUpdate(20_000, np.full(20_000, 2, np.uint8), ranges)
    event = store.ask(Commit(updates={"Raw_Data": update}))
    assert isinstance(event, StorageFailed), event
    assert event.error.code == "storage_failed", event.error
if kind == "freed":
    free()  # before the file is closed, else after
    assert isinstance(store.events.next(), SpaceBack)
    event = store.events.next()
    assert isinstance(event, TileWritten), event
    store.journal.commit(event.chunks, [], {})
    n_durable += 1
    while n_durable < 60:
        assert isinstance(write(store, n_durable), TileWritten)
        n_durable += 1
store.thread.submit(Close())
while not isinstance(end := store.events.next(), Closed):
    if isinstance(end, TileWritten):  # a little room was left after all
        store.journal.commit(end.chunks, [], {})
        n_durable += 1
    elif isinstance(end, StorageFailed) and end.operation == "close":
        break
assert store.thread.join(30)
assert isinstance(end, StorageFailed if kind == "commit" else (Closed, StorageFailed)), end
store.journal.close(is_clean=isinstance(end, Closed))
if kind != "freed":
    free()
(record,) = find_journals(data_dir)
again = Store()
ready = again.ask(Resume(record=record))
assert isinstance(ready, Ready), ready
again.journal = ready.journal
# whatever became of the file, it holds exactly what was durable
n_rows = 16 * n_durable
assert ready.coverage["Raw_Data"].states.tolist() == [1] * n_rows + [0] * (100_000 - n_rows)
assert (again.thread.fetch("Raw_Data", 0, n_rows, 0, 256) == 7).all()
assert isinstance(write(again, n_durable), TileWritten)
assert isinstance(commit(again, 0, n_rows + 16), Committed)
finalise(again)
# another scan of the same process is none the worse
other.create("other", "b" * 32)
write(other, 0)
assert isinstance(commit(other, 0, 16), Committed)
finalise(other)
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
    mount = f"mount -t tmpfs -o size=4m tmpfs '{tmp_path}'"
    inside = [unshare, "--user", "--map-root-user", "--mount", "sh", "-c"]
    if unshare is None or subprocess.run([*inside, mount], check=False).returncode:
        pytest.skip("a file system cannot be mounted here, not even in a namespace")
    script = f'{mount} && exec "$0" "$@"'
    run_scenario(
        tmp_path, *inside, script, sys.executable, "-c", _SCENARIO, "tmpfs", kind, str(tmp_path)
    )
