"""Readers that hold the file open, with HDF5's locks, while it is ended, killed and recovered.

They are stock h5py in processes of their own. The plain reader got in while the daemon was away,
which is when HDF5 lets one in; the SWMR reader while it ran.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from support.autopsy import damage_index, recoveries_told
from support.census import IN_PLACE, REBUILT, Tally
from support.daemon import Daemon, wait_for
from support.rowscan import MAIN, N_ROWS, PATH, lost_rows, make_layout, require_only, values
from support.witness import durable_rows
from usidstream import connect

FIRST, SECOND = np.arange(N_ROWS // 2), np.arange(N_ROWS // 2, N_ROWS)
_HOLDER = """
import sys, h5py
path, main, swmr = sys.argv[1], sys.argv[2], sys.argv[3] == "swmr"
with h5py.File(path, "r", swmr=swmr, libver="latest", locking=True) as f:
    first = f[main][0]
    print("holds", flush=True)
    sys.stdin.read()
    assert (f[main][0] == first).all()
"""


@contextmanager
def holder(path: Path, how: str) -> Iterator[None]:
    """Hold a file open in another process; it must meet no error."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path), PATH, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "holds\n"
            yield
            process.communicate(timeout=30)
            assert process.returncode == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("how", "is_damaged"),
    [("plain", False), ("swmr", True)],
    ids=["plain-repaired", "swmr-rebuilt"],
)
def test_held_over_recovery_and_the_end(
    tmp_path: Path, tally: Tally, how: str, is_damaged: bool
) -> None:
    with Daemon(tmp_path / "data", flush_interval_s=0.05) as daemon, ExitStack() as held:
        with connect(daemon.endpoint) as client:
            scan = client.open_scan(make_layout())
            scan.write_at(FIRST, values(FIRST))
            scan.wait_durable()
            path = Path(scan.file)
            wait_for(lambda: b"FADB" in path.read_bytes(), "a checkpoint")
            if how == "plain":
                daemon.stop()
                held.enter_context(holder(path, how))
                daemon.start()
            else:
                held.enter_context(holder(path, how))
            scan.write_at(SECOND[::2], values(SECOND[::2]))
            scan.wait_durable()
            daemon.stop(signal.SIGKILL)
            tally.killed("acquiring")
            if is_damaged:
                assert damage_index(path)
            daemon.start()
            durable = durable_rows(daemon.endpoint, scan.scan_id, MAIN)
            assert durable == {*FIRST.tolist(), *SECOND[::2].tolist()}
            scan.write_at(SECOND[1::2], values(SECOND[1::2]))
            result = scan.finish()
        tally.recoveries += recoveries_told(daemon.log)
        assert tally.recoveries[REBUILT if is_damaged else IN_PLACE] == 1
        assert "Traceback" not in daemon.log
    assert result.status == "complete"
    tally.judge(range(N_ROWS), lost_rows(path, range(N_ROWS)))
    require_only(path, range(N_ROWS))
