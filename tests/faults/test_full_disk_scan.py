"""Scans that run into a full disk, a real small one: nothing is lost, and they go on by themselves.

The disk is in memory: these tests are about what is told and what goes on, not about durability.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from support.daemon import Daemon, wait_for
from support.small_disk import MIB, SmallDisk, mounted
from usidstream import DeliveryTimeoutError, Dimension, MainLayout, Scan, ScanLayout, connect
from usidstream.errors import UsidstreamError
from usidstreamd.verify import verify_file

DISK_BYTES = 144 * MIB
RESERVE_MB = 52
N_ROWS, N_COLS, BLOCK_ROWS = 3072, 2048, 32  # 24 MiB
RETAIN_LIMIT_BYTES = 2 * MIB
OPTIONS: dict[str, Any] = {
    "disk_reserve_mb": RESERVE_MB,
    "memory_budget_mb": 4,
    "credit_window_mb": 1,
    "max_block_mb": 1,
    "flush_interval_s": 0.2,
}


def make_layout() -> ScanLayout:
    main = MainLayout(
        "Raw",
        "Current",
        "nA",
        "float32",
        spectroscopic=[Dimension("Bias", "V", N_COLS)],
        chunks=(16, N_COLS),
        compression="none",
    )
    return ScanLayout(positions=[Dimension("X", "um", N_ROWS)], mains=[main])


def values(seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).random((N_ROWS, N_COLS), np.float32)


class Instrument(threading.Thread):
    """Writes one scan, from its opening to its end, in a thread.

    With ``rests`` it waits half-way until `go_on` is set.
    """

    def __init__(self, daemon: Daemon, seed: int, *, rests: bool = False) -> None:
        super().__init__(daemon=True)
        self.go_on = threading.Event()
        if not rests:
            self.go_on.set()
        self.data = values(seed)
        self.client = connect(
            daemon.endpoint, write_timeout_s=120, retain_limit_bytes=RETAIN_LIMIT_BYTES
        )
        self.scan = self.client.open_scan(make_layout())
        self.result: Any = None

    def run(self) -> None:
        with self.client, self.scan as scan:
            for row in range(0, N_ROWS, BLOCK_ROWS):
                if row == N_ROWS // 2:
                    self.go_on.wait()
                scan.write_block(row, self.data[row : row + BLOCK_ROWS])
        self.result = scan.result

    def require_whole(self) -> None:
        """Wait for the end, and compare the file with what was measured."""
        self.join(120)
        assert self.result is not None, "the scan finished by itself"
        assert self.result.status == "complete"
        with h5py.File(self.result.file) as h5_file:
            np.testing.assert_array_equal(h5_file["Measurement_000/Raw"][...], self.data)
        assert verify_file(Path(self.result.file)).faults == []


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with mounted(tmp_path / "disk", DISK_BYTES) as disk:
        yield disk


def shortages(daemon: Daemon) -> list[str]:
    with connect(daemon.endpoint) as client:
        report = client.status()
    told = [report["daemon"]["shortage"], *(scan["shortage"] for scan in report["scans"])]
    return [text for text in told if text]


def wait_until_short(daemon: Daemon, n_short: int = 1) -> None:
    """Wait until so many are short of room: the disk itself, and each scan."""
    wait_for(lambda: len(shortages(daemon)) >= n_short, f"{n_short} to be short of room")


def wait_in_vain(scan: Scan) -> None:
    """Wait until all is durable, again and again: what had its credit already still becomes so."""
    for _ in range(N_ROWS // BLOCK_ROWS):
        scan.wait_durable(timeout_s=1.5)


@pytest.mark.timeout(300)
def test_credit_stops_in_time_and_scans_go_on_when_there_is_room(disk: SmallDisk) -> None:
    disk.leave((RESERVE_MB + 12) * MIB)
    with Daemon(disk.path / "data", **OPTIONS) as daemon:
        instruments = [Instrument(daemon, seed) for seed in (1, 2)]
        for instrument in instruments:
            instrument.start()
        wait_until_short(daemon)
        before = sorted(disk.path.rglob("*.h5*"))
        with connect(daemon.endpoint) as client, pytest.raises(UsidstreamError) as refused:
            client.open_scan(make_layout())
        assert (refused.value.code, refused.value.retryable) == ("no_space", True)
        assert sorted(disk.path.rglob("*.h5*")) == before, "nothing of a refused scan stays"
        with pytest.raises(DeliveryTimeoutError, match=r"the daemon says: only \d+ MiB are free"):
            wait_in_vain(instruments[0].scan)
        assert "Free space on the disk of" in instruments[0].scan.notice
        assert all(instrument.is_alive() for instrument in instruments)
        disk.free()
        for instrument in instruments:
            instrument.require_whole()
    assert len(daemon.events("disk_short")) == 1
    assert len(daemon.events("disk_has_room")) == 1
    assert not daemon.events("scan_waits_for_room"), "the reserve was enough for what was granted"
    assert "Traceback" not in daemon.log


@pytest.mark.timeout(300)
@pytest.mark.parametrize("left_mib", [20, 0])
def test_a_disk_that_others_fill_stops_nothing_for_good(disk: SmallDisk, left_mib: int) -> None:
    with Daemon(disk.path / "data", **OPTIONS) as daemon:
        instruments = [Instrument(daemon, seed, rests=True) for seed in (1, 2)]
        for instrument in instruments:
            instrument.start()
        wait_for(lambda: instruments[0].scan.durable > 0, "the first rows to be durable")
        disk.leave(left_mib * MIB)
        for instrument in instruments:
            instrument.go_on.set()
        wait_until_short(daemon, 3)
        durable = [instrument.scan.durable for instrument in instruments]
        disk.free()
        for instrument in instruments:
            instrument.require_whole()
    assert max(durable) < N_ROWS
    assert "Traceback" not in daemon.log


@pytest.mark.timeout(300)
@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGKILL])
def test_a_daemon_that_ends_on_a_full_disk_is_gone_on_with(
    disk: SmallDisk, with_signal: signal.Signals
) -> None:
    with Daemon(disk.path / "data", **OPTIONS) as daemon:
        instrument = Instrument(daemon, 3, rests=True)
        instrument.start()
        wait_for(lambda: instrument.scan.durable > 0, "the first rows to be durable")
        disk.leave(0)
        instrument.go_on.set()
        wait_until_short(daemon, 2)
        code = daemon.stop(with_signal)
        assert code == (0 if with_signal == signal.SIGTERM else -signal.SIGKILL)
        daemon.start()
        wait_until_short(daemon)
        disk.free()
        instrument.require_whole()
    assert "Traceback" not in daemon.log


@pytest.mark.timeout(300)
def test_a_finish_waits_for_room(disk: SmallDisk) -> None:
    data = values(4)[:1024]
    with Daemon(disk.path / "data", **OPTIONS) as daemon, connect(daemon.endpoint) as client:
        scan = client.open_scan(make_layout())
        scan.write_block(0, data)
        scan.wait_durable(timeout_s=60)
        disk.leave(0)
        wait_until_short(daemon)
        with pytest.raises(DeliveryTimeoutError, match="the daemon says: only"):
            scan.finish(timeout_s=2.0)
        disk.free()
        assert scan.finish().status == "incomplete"
        with h5py.File(scan.result.file) as h5_file:
            held = h5_file["Measurement_000/Raw"][...]
        np.testing.assert_array_equal(held[:1024], data)
        assert not held[1024:].any()
        assert verify_file(Path(scan.result.file)).faults == []
    assert "Traceback" not in daemon.log
