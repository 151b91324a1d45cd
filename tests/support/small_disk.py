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


@contextlib.contextmanager
def mounted(path: Path, nbytes: int) -> Iterator[SmallDisk]:
    """Mount a file system of a size; skip the test where that is not permitted."""
    if not sys.platform.startswith("linux") or shutil.which("mount") is None:
        pytest.skip("a small file system is mounted on Linux only")
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={nbytes}", "tmpfs", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", str(path)], check=True)
