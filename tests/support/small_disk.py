"""A small real file system, for what happens when it is full."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

MIB = 1 << 20


class SmallDisk:
    """A mounted file system, and a file of somebody else's that takes its space.

    Attributes
    ----------
    path : Path
        Where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def leave(self, free_bytes: int) -> None:
        """Let somebody else's file take all but so much, or give it back."""
        self.free()
        with self._ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            # In pieces, for others write meanwhile; the disk may be full before it seems so.
            while (excess := shutil.disk_usage(self.path).free - free_bytes) > 0:
                file.write(bytes(min(excess, MIB)))

    def free(self) -> None:
        """Take somebody else's file away."""
        self._ballast.unlink(missing_ok=True)


# Unmounts when its input ends: however a run ends, a kill included, nothing stays mounted. At once,
# and not only when the last file is closed: whoever failed may have one open still.
_KEEPER = """
mount -t tmpfs -o "size=$2" tmpfs "$1" || exit
echo mounted
cat >/dev/null
umount -l "$1"
"""


@contextlib.contextmanager
def mounted(path: Path, nbytes: int) -> Iterator[SmallDisk]:
    """Mount a file system of a size; skip the test where that is not permitted."""
    if not sys.platform.startswith("linux") or shutil.which("mount") is None:
        pytest.skip("a small file system is mounted on Linux only")
    path.mkdir()
    with subprocess.Popen(
        ["sh", "-c", _KEEPER, "sh", str(path), str(nbytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for pytest alone
    ) as keeper:
        assert keeper.stdout is not None
        assert keeper.stderr is not None
        if not keeper.stdout.readline():
            pytest.skip(f"a small file system cannot be mounted here: {keeper.stderr.read()}")
        yield SmallDisk(path)
    assert keeper.returncode == 0, "it was unmounted"
