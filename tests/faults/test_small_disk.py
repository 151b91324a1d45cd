"""A small disk goes with whoever mounted it: nothing stays mounted when a run is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.daemon import wait_for
from support.small_disk import MIB, mounted

TESTS = Path(__file__).resolve().parents[1]
MOUNT_AND_WAIT = """
import sys
from pathlib import Path
from support.small_disk import mounted
with mounted(Path(sys.argv[1]), 1 << 20):
    print("mounted", flush=True)
    sys.stdin.read()
"""


def test_it_is_unmounted_though_a_file_on_it_is_open(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with mounted(path, MIB):
        assert path.is_mount()
        file = (path / "open").open("wb")
    assert not path.is_mount()
    file.close()


def test_it_is_unmounted_when_its_owner_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with mounted(tmp_path / "may this be done here", MIB):
        pass
    words = [sys.executable, "-c", MOUNT_AND_WAIT, path]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=TESTS, stdin=pipe, stdout=pipe, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "mounted\n"
        assert path.is_mount()
        owner.kill()
    wait_for(lambda: not path.is_mount(), "the disk to be unmounted")
