"""kill -9, at random moments: every acknowledged row is in the file, bit for bit, afterwards.

In one kind of trial the client lives on and resends; in the other it dies with the daemon, nothing
is resent, and the file is judged by the acks that this process heard of. Files have more chunks
than fit a page of HDF5's chunk index, else their index could not tear.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from support.daemon import Daemon
from usidstream import Dimension, MainLayout, ScanLayout, connect
from usidstreamd.verify import verify_file

N_ROWS, N_COLS, CHUNK_ROWS = 8192, 32, 2
WRITE_PAUSE_EVERY_ROWS = 64


def make_layout(order: str = "rows") -> ScanLayout:
    main = MainLayout(
        "Raw",
        "Current",
        "nA",
        "float32",
        spectroscopic=[Dimension("Bias", "V", N_COLS)],
        chunks=(CHUNK_ROWS, N_COLS),
    )
    positions = [Dimension("X", "um", 128), Dimension("Y", "um", N_ROWS // 128)]
    return ScanLayout(positions=positions, mains=[main])


def values(rows: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the values of rows: from the row number alone, never 0."""
    rows = np.atleast_1d(rows)
    mixed = (rows[:, None] * np.uint64(2654435761) + np.arange(N_COLS, dtype=np.uint64)) % 100003
    return (mixed + 1).astype(np.float32)


def read(file: str) -> np.ndarray[Any, Any]:
    with h5py.File(file, "r") as h5_file:
        data: np.ndarray[Any, Any] = h5_file["Measurement_000/Raw"][...]
    return data


@pytest.mark.timeout(600)
@pytest.mark.parametrize("order", ["raster", "random"])
def test_the_client_lives_on(tmp_path: Path, kills: int, order: str) -> None:
    chance = random.Random(f"lives {order}")
    rows = np.arange(N_ROWS)
    if order == "random":
        rows = np.random.default_rng(0).permutation(rows)
    with Daemon(tmp_path / "data", flush_interval_s=0.2, memory_budget_mb=1) as daemon:
        done = threading.Event()
        results: list[Any] = []

        def acquire() -> None:
            pause_s = 0.25 * kills * WRITE_PAUSE_EVERY_ROWS / N_ROWS
            with connect(daemon.endpoint, write_timeout_s=120) as client:
                with client.open_scan(make_layout()) as scan:
                    for count, row in enumerate(rows.tolist()):
                        scan.write(row, values(row)[0])
                        if count % WRITE_PAUSE_EVERY_ROWS == 0:
                            time.sleep(pause_s)
                results.append(scan.result)
            done.set()

        instrument = threading.Thread(target=acquire)
        instrument.start()
        for _ in range(kills):
            if done.wait(chance.uniform(0.02, 0.4)):
                break
            daemon.restart(signal.SIGKILL)
        instrument.join(300)
        assert results, "the client finished by itself"
        assert results[0].status == "complete"
        np.testing.assert_array_equal(read(results[0].file), values(rows[np.argsort(rows)]))
        assert verify_file(Path(results[0].file)).faults == []
        assert "Traceback" not in daemon.log


@pytest.mark.timeout(600)
def test_the_daemon_dies_while_it_ends_the_scan(tmp_path: Path, kills: int) -> None:
    chance = random.Random("ends")
    rows = np.arange(N_ROWS)
    with Daemon(tmp_path / "data", memory_budget_mb=1) as daemon:
        for _ in range(kills):
            results: list[Any] = []
            with connect(daemon.endpoint, write_timeout_s=120) as client:
                scan = client.open_scan(make_layout())
                scan.write_at(rows[1::2], values(rows[1::2]))
                scan.wait_durable(timeout_s=60)
                finisher = threading.Thread(target=lambda: results.append(scan.finish()))  # noqa: B023 - joined before the next turn
                finisher.start()
                finisher.join(chance.uniform(0.0, 0.4))
                daemon.restart(signal.SIGKILL)
                finisher.join(120)
            assert [result.status for result in results] == ["incomplete"]
            held = read(results[0].file)
            np.testing.assert_array_equal(held[1::2], values(rows[1::2]))
            assert not held[::2].any()
            assert verify_file(Path(results[0].file)).faults == []
        assert "Traceback" not in daemon.log


INSTRUMENT = """
import sys, numpy as np
sys.path[:0] = sys.argv[4:]
from usidstream import connect
from test_kills_worker import make_layout, values, N_ROWS
endpoint, scan_id, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
rows = np.random.default_rng(seed).permutation(N_ROWS)
with connect(endpoint) as client:
    scan = client.open_scan(make_layout(), scan_id=scan_id)
    for start in range(0, N_ROWS, 16):
        some = rows[start:start + 16]
        for row in some.tolist():
            scan.write(row, values(row)[0])
        scan.wait_durable(timeout_s=60)
        print(" ".join(map(str, some.tolist())), flush=True)
"""


@pytest.mark.timeout(600)
def test_the_client_dies_too(tmp_path: Path, kills: int) -> None:
    chance = random.Random("dies too")
    worker = tmp_path / "test_kills_worker.py"
    worker.write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    scan_id, acked = secrets.token_hex(16), set[int]()
    layout = make_layout()
    with Daemon(tmp_path / "data", flush_interval_s=0.2, memory_budget_mb=1) as daemon:
        for trial in range(kills):
            acked |= _acquire_until_killed(daemon, scan_id, trial, chance, tmp_path)
            daemon.start()
            with connect(daemon.endpoint) as client:
                scan = client.open_scan(layout, scan_id=scan_id)
                held = {row for a, b in scan.durable_ranges() for row in range(a, b)}
                assert acked <= held, f"lost after kill {trial}: {sorted(acked - held)[:10]}"
                scan.detach()
        with connect(daemon.endpoint) as client:
            scan = client.open_scan(layout, scan_id=scan_id)
            result = scan.finish()
        rows = np.array(sorted(acked))
        assert len(rows) > 0
        np.testing.assert_array_equal(read(result.file)[rows], values(rows))
        assert verify_file(Path(result.file)).faults == []
        assert "Traceback" not in daemon.log


def _acquire_until_killed(
    daemon: Daemon, scan_id: str, seed: int, chance: random.Random, folder: Path
) -> set[int]:
    """Let an instrument run, kill it and the daemon, and return the rows it had acks for."""
    tests = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", INSTRUMENT, daemon.endpoint, scan_id, str(seed)]
    with subprocess.Popen(
        [*command, str(folder), str(tests)], stdout=subprocess.PIPE, text=True
    ) as instrument:
        assert instrument.stdout is not None
        first = instrument.stdout.readline()
        with contextlib.suppress(subprocess.TimeoutExpired):
            instrument.wait(chance.uniform(0.01, 0.8))
        daemon.stop(signal.SIGKILL)
        instrument.kill()
        heard = first + instrument.stdout.read()
    whole = heard[: heard.rfind("\n") + 1]  # the last line may be cut off
    return {int(word) for word in whole.split()}
