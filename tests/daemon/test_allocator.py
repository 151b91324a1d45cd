"""The daemon's memory: whether it is started with the allocator's settings, and only then."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.daemon import Daemon
from usidstreamd.allocator import SETTINGS, TUNABLES, WORKING_BYTES

needs_glibc = pytest.mark.skipif(
    not hasattr(os, "confstr") or "CS_GNU_LIBC_VERSION" not in os.confstr_names,
    reason="the C library is not glibc",
)
START = """
import os, sys
from usidstreamd.allocator import start_anew
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), flush=True)
start_anew()
print("at last", os.environ.get("GLIBC_TUNABLES"), sys.argv[1:], flush=True)
"""


def started(environ=None, code=START):
    told = subprocess.run(
        [sys.executable, "-c", code, "serve", "--bind", "a b"],
        env={name: v for name, v in os.environ.items() if name != TUNABLES} | (environ or {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [line.split(" ", 1) for line in told.stdout.splitlines()]


@needs_glibc
def test_a_command_starts_itself_anew_once_in_the_same_process():
    (pid, before), (again, settings), (_, last) = started()
    assert (pid, before, settings) == (again, "None", SETTINGS)
    assert last == "last None ['serve', '--bind', 'a b']"


@pytest.mark.parametrize(
    "environ", [{TUNABLES: "glibc.malloc.arena_max=4"}, {"MALLOC_ARENA_MAX": "2"}]
)
def test_an_operators_own_settings_stand(environ):
    (_pid, before), (_, last) = started(environ)
    assert before == environ.get(TUNABLES, "None")
    assert last.startswith(f"last {before} ")


def test_a_command_within_another_program_leaves_that_alone():
    code = START.replace("start_anew()", "sys.argv = ['usidstreamd', 'serve']; start_anew()")
    (_pid, _), (_, last) = started(code=code)
    assert last == "last None ['serve']"


@needs_glibc
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_the_daemon_runs_with_the_settings(tmp_path, monkeypatch):
    for name in [TUNABLES, *(name for name in os.environ if name.startswith("MALLOC_"))]:
        monkeypatch.delenv(name, raising=False)
    with Daemon(tmp_path / "data") as daemon:
        environ = Path(f"/proc/{daemon.pid}/environ").read_text()
        n_pages = int(Path(f"/proc/{daemon.pid}/statm").read_text().split()[1])
    # glibc takes the settings apart where they stand.
    assert f"{TUNABLES}={SETTINGS}" in environ.replace("\0", ":")
    assert n_pages * os.sysconf("SC_PAGE_SIZE") > WORKING_BYTES + (40 << 20), "it was touched"


@needs_glibc
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_memory_that_was_touched_is_what_is_taken_next():
    """Blocks of the usual sizes, half of what there is: no page of it is asked for again."""
    code = START + TAKES_BLOCKS
    (_, told) = started(code=code)[-1]
    grown_bytes = int(told)
    assert grown_bytes < WORKING_BYTES // 8


TAKES_BLOCKS = """
from pathlib import Path
from usidstreamd.allocator import WORKING_BYTES, touch_working_memory
import numpy as np
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
touch_working_memory()
before = resident()
blocks = [np.ones(1 << 20, np.uint8) for _ in range(WORKING_BYTES >> 21)]
print("grown", resident() - before)
"""
