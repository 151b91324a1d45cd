"""Shared objects for LD_PRELOAD, made from C when a test needs them.

They stand below every library of a process, where a file's writes can be recorded or made to fail
in their true order. The sources are in ``preload/``. Where there is no compiler, or no Linux, the
tests that need them are skipped and say why.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

SOURCES = Path(__file__).with_name("preload")
FLAGS = ["-O2", "-Wall", "-Wextra", "-Werror", "-std=gnu11", "-fPIC", "-shared", "-pthread"]
COMPILE_TIMEOUT_S = 60.0


@functools.cache
def build(name: str) -> Path:
    """Compile ``preload/<name>.c``; return the shared object, which goes with this process."""
    compiler = shutil.which("cc")
    if not sys.platform.startswith("linux"):
        pytest.skip("LD_PRELOAD below glibc is for Linux only")
    if compiler is None:
        pytest.skip("there is no C compiler (Debian: apt-get install gcc libc6-dev)")
    target = _directory() / f"{name}.so"
    command = [compiler, *FLAGS, "-o", str(target), str(SOURCES / f"{name}.c"), "-ldl"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return target


@functools.cache
def _directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="usidstream-preload-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory
