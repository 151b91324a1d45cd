"""The disk model by hand-made operations, and the recorder by a process that does all it may do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from support.disk_model import (
    Disk,
    Image,
    after_power_cut,
    everything,
    read_image,
    write_image,
)
from support.recording import Kind, Operation, environment, read_log

N_SEEDS = 400
FILE, OTHER, FOLDER = 11, 12, 13
OLD, NEW = b"o" * 8192, b"n" * 8192


def do(kind: Kind, inode: int = 0, number: int = 0, name: str = "", **more: object) -> Operation:
    values = {"other": "", "data": b"", "failed": False, "end": 0} | more
    values["data"] = memoryview(values["data"])  # type: ignore[arg-type]
    return Operation(kind, inode, number, name, **values)  # type: ignore[arg-type]


def create(name: str, inode: int = FILE) -> Operation:
    return do(Kind.CREATE, inode, name=name)


def write(data: bytes, offset: int = 0, inode: int = FILE) -> Operation:
    return do(Kind.WRITE, inode, offset, data=data)


def sync(inode: int, token: int = 1, *, failed: bool = False) -> Iterator[Operation]:
    yield do(Kind.SYNC_BEGIN, inode, token)
    yield do(Kind.SYNC_END, inode, token, failed=failed)


ROOT = 99
"""Of the directory itself: no operation made it, so any unknown inode is it."""


def images(*operations: Operation) -> list[Image]:
    disk = Disk().take_all(operations)
    return [after_power_cut(disk, seed) for seed in range(N_SEEDS)]


def named(*operations: Operation) -> list[Operation]:
    """Return the operations behind the making of a file that has OLD in it, all on the disk."""
    return [create("f"), write(OLD), *sync(FILE), *sync(ROOT, 2), *operations]


# ---------------------------------------------------------------- bytes


def test_what_was_synced_is_there_always():
    for image in images(*named()):
        assert image == {"f": OLD}


def test_a_sync_of_the_file_says_nothing_of_its_name_nor_the_other_way_round():
    assert {"f" in image for image in images(create("f"), write(OLD), *sync(FILE))} == {True, False}
    contents = [image["f"] for image in images(create("f"), write(OLD), *sync(ROOT))]
    assert {b"", OLD, bytes(len(OLD))} <= set(contents)


def test_what_was_written_while_a_sync_ran_or_one_that_failed_is_not_covered():
    begun, ended = sync(FILE, 3)
    during = images(*named(begun, write(NEW), ended))
    failed = images(*named(write(NEW), *sync(FILE, 3, failed=True)))
    for found in (during, failed):
        assert {OLD, NEW} <= {image["f"] for image in found}
    for image in images(*named(write(NEW), begun, ended)):
        assert image == {"f": NEW}


def test_a_write_is_torn_between_sectors_and_nowhere_else():
    for unit in (512, 4096):
        found = {image["f"] for image in images(*named(write(NEW)))}
        sectors = [[c[at : at + unit] for at in range(0, len(c), unit)] for c in found if c]
        whole = [all(s in (b"o" * unit, b"n" * unit) for s in one) for one in sectors]
        assert all(whole) if unit == 512 else any(whole)
        torn = [one for one, is_whole in zip(sectors, whole, strict=True) if is_whole]
        assert any(len(set(one)) == 2 for one in torn)


def test_a_later_write_survives_without_an_earlier_one():
    later = write(b"L" * 512, 4096)
    found = [image["f"] for image in images(*named(write(NEW[:512]), later))]
    heads = {(c[:1], c[4096:4097]) for c in found if c}
    assert heads == {(b"o", b"o"), (b"n", b"o"), (b"o", b"L"), (b"n", b"L")}


def test_a_size_and_its_bytes_survive_apart():
    found = {image["f"] for image in images(*named(write(NEW, len(OLD))))}
    assert {OLD, OLD + NEW, OLD + bytes(len(NEW))} <= found
    cut = {image["f"] for image in images(*named(do(Kind.TRUNCATE, FILE, 100)))}
    assert cut == {OLD, OLD[:100]}
    longer = {image["f"] for image in images(*named(do(Kind.EXTEND, FILE, 9000)))}
    assert longer == {OLD, OLD + bytes(9000 - len(OLD))}


# ---------------------------------------------------------------- names


def test_a_rename_happened_as_a_whole_or_not_at_all():
    replace = [create("g", OTHER), write(NEW, 0, OTHER), *sync(OTHER, 3), *sync(ROOT, 4)]
    found = images(*named(*replace, do(Kind.RENAME, name="g", other="f")))
    assert {tuple(image.items()) for image in found} == {
        (("f", OLD), ("g", NEW)),
        (("f", NEW),),
    }


def test_names_change_in_any_order_or_in_theirs():
    gone = [do(Kind.UNLINK, name="f"), create("g", OTHER)]
    found = {tuple(image) for image in images(*named(*gone))}
    assert found == {("f",), (), ("f", "g"), ("g",)}


def test_two_names_of_one_file_hold_the_same():
    for image in images(*named(write(NEW), do(Kind.LINK, name="f", other="g"), *sync(ROOT, 5))):
        assert image["f"] == image["g"]


def test_a_folder_is_gone_with_all_that_is_in_it():
    made = [do(Kind.MKDIR, FOLDER, name="d"), create("d/f"), write(OLD), *sync(FILE)]
    found = images(*made, *sync(FOLDER, 2))
    assert {tuple(image) for image in found} == {(), ("d", "d/f")}
    after = [do(Kind.UNLINK, name="d/f"), do(Kind.RMDIR, name="d")]
    for image in images(*made, *sync(FOLDER, 2), *after, *sync(ROOT, 3)):
        assert image == {}


def test_the_same_seed_makes_the_same_image():
    disk = Disk().take_all(named(write(NEW), write(OLD, 5000), do(Kind.UNLINK, name="f")))
    assert after_power_cut(disk, "a") == after_power_cut(disk, "a")
    assert everything(disk) == {}


def test_a_disk_goes_on_from_an_image(tmp_path):
    write_image({"d": None, "d/f": OLD}, tmp_path / "i")
    image, inodes = read_image(tmp_path / "i")
    disk = Disk(image, inodes).take_all([write(b"x", 3, inodes["d/f"])])
    assert everything(disk) == {"d": None, "d/f": b"ooox" + OLD[4:]}


# ---------------------------------------------------------------- the recorder

BUSY = """
import os, shutil, sys, threading
from pathlib import Path
import h5py, numpy as np
os.chdir(sys.argv[1])
here = Path.cwd()
os.mkdir("d")
(here / "d" / "e").mkdir()
with open("plain", "wb") as f:
    f.write(b"one"); f.flush(); f.seek(1); f.write(b"two" * 9); f.flush(); f.truncate(7)
with open("plain", "ab") as f:
    f.write(b"behind")
fd = os.open("d/low", os.O_RDWR | os.O_CREAT)
os.pwrite(fd, b"a" * 5000, 100); os.writev(fd, [b"b", b"", b"cc" * 4]); os.pwritev(fd, [b"d"], 9000)
os.write(os.dup(fd), b"through another descriptor"); os.lseek(fd, 20, os.SEEK_SET)
os.write(fd, b"behind a seek"); os.posix_fallocate(fd, 0, 12000); os.fsync(fd); os.fdatasync(fd)
os.ftruncate(fd, 11000); os.truncate("d/low", 10500)
shutil.copyfile("d/low", "copied")
with open("plain", "rb") as a, open("d/e/range", "wb") as b:
    os.copy_file_range(a.fileno(), b.fileno(), 5)
os.link("copied", "d/linked"); os.unlink("copied"); os.rename("d/linked", "d/named")
Path("d/gone").write_text("x"); os.replace("d/gone", "d/named2"); Path("d/named2").unlink()
os.mkdir("away"); os.rmdir("away"); Path("d/low").open("wb").close()
folder = os.open("d", os.O_RDONLY); os.unlink("named", dir_fd=folder); os.fsync(folder)
def append(number):
    with open("many", "ab", buffering=0) as f:
        for _ in range(200):
            f.write(bytes([number]) * (number + 1))
threads = [threading.Thread(target=append, args=(n,)) for n in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
with h5py.File("data.h5", "w", libver=("v110", "v110")) as f:
    d = f.create_dataset("x", (100, 10), chunks=(1, 10), compression="gzip")
    f.swmr_mode = True
    for row in range(100):
        d[row] = np.arange(10); f.flush()
"""


def run(code: str, folder: Path, log: Path) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    return subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        env=os.environ | environment(folder, log),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_record_gives_the_files_again(tmp_path):
    done = run(BUSY, tmp_path / "d", tmp_path / "log")
    assert done.returncode == 0, done.stderr
    operations = read_log(tmp_path / "log")
    real, _inodes = read_image(tmp_path / "d")
    assert everything(Disk().take_all(operations)) == real
    assert len(real["many"] or b"") == 200 * (1 + 2 + 3 + 4)
    assert {operation.kind for operation in operations} == set(Kind)


def test_a_journal_goes_with_its_record_last(tmp_path):
    """But for the lock, which alone is taken for a creation that never ended, and removed."""
    journal = tmp_path / "d" / "scan.h5.journal"
    code = (
        "import sys; from pathlib import Path;"
        "from usidstreamd.storage.record import remove_journal;"
        "journal = Path(sys.argv[1], 'scan.h5.journal'); journal.mkdir();"
        "[(journal / name).touch() for name in ('ledger', 'lock', 'open', 'rows-00000001')];"
        "remove_journal(journal)"
    )
    done = run(code, tmp_path / "d", tmp_path / "log")
    assert done.returncode == 0, done.stderr
    assert not journal.exists()
    operations = read_log(tmp_path / "log")
    made = 1 + max(n for n, o in enumerate(operations) if o.kind is Kind.CREATE)
    inode = operations[0].inode
    on_disk = [*operations[:made], *sync(inode, 98), *sync(ROOT, 99)]
    for cut in range(made, len(operations) + 1):
        disk = Disk().take_all([*on_disk, *operations[made:cut]])
        for seed in range(50):
            names = set(after_power_cut(disk, seed))
            left = {"scan.h5.journal", "scan.h5.journal/lock"}
            assert "scan.h5.journal/open" in names or names <= left


def test_what_cannot_be_recorded_ends_the_process(tmp_path):
    code = (
        "import mmap, os, sys; fd = os.open(sys.argv[1] + '/f', os.O_RDWR | os.O_CREAT);"
        "os.write(fd, b'x' * 4096); mmap.mmap(fd, 4096)[0] = 1"
    )
    done = run(code, tmp_path / "d", tmp_path / "log")
    assert done.returncode == -signal.SIGABRT
    assert "memory map cannot be recorded" in done.stderr
