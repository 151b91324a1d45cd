"""A disk that does not keep what it synced, and a recovery by hand beside a daemon."""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from support.daemon import Daemon, command, wait_for
from usidstream import Dimension, MainLayout, ScanLayout, connect
from usidstreamd.storage.ledger import LEDGER_NAME, Finalise, Ledger, replay

N, N_BIAS, HALF = 256, 32, 128
BIAS = Dimension("Bias", "V", np.linspace(-1, 1, N_BIAS))
MAIN = MainLayout(
    "Raw", "Current", "nA", "float32", spectroscopic=[BIAS], chunks=(32, 32), compression="none"
)
LAYOUT = ScanLayout(positions=[Dimension("X", "um", N)], mains=[MAIN])
DATA = np.random.default_rng(0).random((N, N_BIAS)).astype(np.float32)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "data", flush_interval_s=0.2) as daemon:
        yield daemon
    assert "Traceback" not in daemon.log


def half_a_scan(daemon: Daemon, scan_id: str) -> Path:
    """Send half of a scan, see it durable, and leave it; return its file."""
    with connect(daemon.endpoint) as client:
        scan = client.open_scan(LAYOUT, scan_id=scan_id)
        scan.write_block(0, DATA[:HALF])
        scan.wait_durable(timeout_s=20)
        scan.detach()
    return Path(scan.file)


def the_whole_scan(daemon: Daemon, scan_id: str) -> Any:
    with connect(daemon.endpoint) as client:
        scan = client.open_scan(LAYOUT, scan_id=scan_id)
        scan.write_block(0, DATA)
        return scan.finish()


def test_rows_that_the_disk_lost_are_told_and_asked_for(daemon: Daemon) -> None:
    scan_id = secrets.token_hex(16)
    file = half_a_scan(daemon, scan_id)
    daemon.stop(signal.SIGKILL)
    chunk = list(replay(file.with_name(file.name + ".journal") / LEDGER_NAME).chunks)[2]
    with file.open("r+b") as raw:
        raw.seek(chunk.offset + 100)
        raw.write(b"\xff")
    daemon.start()
    with connect(daemon.endpoint) as client:
        scan = client.open_scan(LAYOUT, scan_id=scan_id)
        assert scan.durable == HALF - 32
        scan.detach()
    result = the_whole_scan(daemon, scan_id)
    assert (result.status, result.missing) == ("complete", {})
    with h5py.File(file) as h5_file:
        assert np.array_equal(h5_file["Measurement_000/Raw"][:], DATA)
    told = json.loads(command("usidstreamd", "verify", "--json", file).stdout)
    assert (told["faults"], told["mains"][0]["checksums"]) == ([], N // 32)
    daemon.stop()
    assert "Raw: rows 64 to 96, columns 0 to 32 were durable and are LOST" in daemon.log


def test_a_scan_that_a_daemon_has_open_is_recovered_by_nobody_else(daemon: Daemon) -> None:
    scan_id = secrets.token_hex(16)
    file = half_a_scan(daemon, scan_id)
    for named in (file, file.with_name(file.name + ".journal"), file.parent):
        refused = command("usidstreamd", "recover", named)
        assert refused.returncode == 1
        assert "in use by another process" in refused.stdout
        assert "has the scan open" in refused.stdout
        (told,) = json.loads(command("usidstreamd", "recover", "--json", named).stdout)
        assert told["error"] == "recovering"
    assert the_whole_scan(daemon, scan_id).status == "complete"
    assert command("usidstreamd", "verify", file).returncode == 0


def test_an_end_that_is_carried_out_later_has_the_time_at_which_it_was_decided(
    daemon: Daemon,
) -> None:
    scan_id = secrets.token_hex(16)
    file = half_a_scan(daemon, scan_id)
    journal = file.with_name(file.name + ".journal")
    daemon.stop()
    ledger, _state = Ledger.open(journal / LEDGER_NAME)
    ledger.append([Finalise(status="incomplete", ended="2026-01-02T03:04:05.678901+00:00")])
    ledger.sync()
    ledger.close()
    daemon.start()
    wait_for(lambda: not journal.exists(), "the end")
    with h5py.File(file) as h5_file:
        attrs = h5_file["Measurement_000"].attrs
        assert attrs["acquisition_end"].decode() == "2026-01-02T03:04:05.678+00:00"
        assert attrs["acquisition_status"].decode() == "incomplete"
