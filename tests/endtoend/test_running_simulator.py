"""While ``usidstream simulate`` runs: others read along, and the daemon may be restarted."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest

from support.daemon import SCRIPTS, Daemon, wait_for
from support.feedfiles import differing_rows
from usidstream import connect
from usidstream.feeds import preset

SIZE = (32, 32)
N = SIZE[0] * SIZE[1]
FINISH_TIMEOUT_S = 60.0


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "data", flush_interval_s=0.1) as daemon:
        yield daemon
    assert "Traceback" not in daemon.log


@contextmanager
def simulator(daemon: Daemon, *words: object) -> Iterator[subprocess.Popen[str]]:
    size = "x".join(map(str, SIZE))
    command = [SCRIPTS / "usidstream", "simulate", "be", "--size", size, "--to", daemon.endpoint]
    command += map(str, words)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def announced_file(process: subprocess.Popen[str]) -> Path:
    assert process.stderr is not None
    return Path(process.stderr.readline().split(" -> ")[1].strip())


def test_another_process_reads_along(daemon: Daemon) -> None:
    wanted = preset("be", size=SIZE).values("Raw_Data", np.arange(N))
    counts = [0]
    with simulator(daemon, "--rate", 500) as process:
        file = announced_file(process)
        with h5py.File(file, "r", libver="latest", swmr=True) as h5_file:
            main = h5_file["Measurement_000/Raw_Data"]
            states = h5_file["Measurement_000/completed_positions"]

            def look() -> bool:
                states.refresh()
                complete = states[...] == 1
                main.refresh()
                if np.count_nonzero(complete) > counts[-1]:
                    counts.append(np.count_nonzero(complete))
                    np.testing.assert_array_equal(main[...][complete], wanted[complete])
                return counts[-1] == N

            wait_for(look, "all rows", FINISH_TIMEOUT_S)
        out, _ = process.communicate(timeout=FINISH_TIMEOUT_S)
        assert process.returncode == 0
    assert out.startswith(f"complete: {file}\n")
    assert len(counts) > 2, "rows appeared before all were there"


def test_a_restart_of_the_daemon_costs_a_running_simulator_only_time(daemon: Daemon) -> None:
    with simulator(daemon, "--rate", 400, "--order", "random", "--json") as process:
        wait_for(lambda: durable_positions(daemon) > 0, "durable positions")
        assert daemon.stop() == 0
        assert process.poll() is None, "the simulator was still at it"
        daemon.start()
        out, err = process.communicate(timeout=FINISH_TIMEOUT_S)
    result = json.loads(out)
    assert (process.returncode, result["status"], err) == (0, "complete", "")
    assert not differing_rows(result["file"], preset("be", size=SIZE))


def durable_positions(daemon: Daemon) -> int:
    with connect(daemon.endpoint) as client:
        scans = client.status()["scans"]
    return int(scans[0]["positions"]) if scans else 0
