"""A long scan with missing pixels: its journal stays small, and kill -9 loses nothing."""

from __future__ import annotations

import random
import signal
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from support.daemon import Daemon
from usidstream import Dimension, MainLayout, ScanLayout, connect
from usidstreamd.verify import verify_file

N_ROWS, N_COLS, CHUNK_ROWS = 12288, 1024, 16
WINDOW_ROWS, COMMIT_ROWS = 1024, 128
ROW_BYTES = 4 * N_COLS
SEGMENT_BYTES = 1 << 20
OMITTED_EVERY = 20
"""One pixel is missing in each of so many chunks."""


def make_layout() -> ScanLayout:
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


def values(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the values of rows: from the row number alone, never 0."""
    mixed = (rows[:, None] * np.uint64(2654435761) + np.arange(N_COLS, dtype=np.uint64)) % 100003
    return (mixed + 1).astype(np.float32)


def rows_in_order() -> np.ndarray[Any, np.dtype[np.intp]]:
    """Return rows at random within windows of a few lines, without the missing ones."""
    windows = np.arange(N_ROWS).reshape(-1, WINDOW_ROWS)
    rows = np.random.default_rng(0).permuted(windows, axis=1).ravel()
    return rows[(rows % CHUNK_ROWS != 5) | ((rows // CHUNK_ROWS) % OMITTED_EVERY != 0)]


class Watch(threading.Thread):
    """Looks at the row segments until it is told to stop."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__()
        self.most_bytes = self.latest = 0
        self._data_dir = data_dir
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.01):
            sizes = {}
            for path in self._data_dir.glob("*.journal/rows-*"):
                try:
                    sizes[int(path.name.removeprefix("rows-"))] = path.stat().st_size
                except FileNotFoundError:  # it went just now
                    continue
            self.most_bytes = max(self.most_bytes, sum(sizes.values()))
            self.latest = max(self.latest, *sizes, 0)

    def stop(self) -> None:
        self._ended.set()
        self.join()


@pytest.mark.timeout(600)
def test_missing_pixels_keep_no_segments_and_kills_lose_nothing(tmp_path: Path, kills: int) -> None:
    chance, rows = random.Random("bounded"), rows_in_order()
    steps = range(0, len(rows), COMMIT_ROWS)
    killed_at = set(chance.sample(steps[len(steps) // 3 :], max(1, min(kills // 2, 20))))
    options = {"row_segment_mb": 1, "memory_budget_mb": 2, "flush_interval_s": 0.3}
    with Daemon(tmp_path / "data", **options) as daemon:
        watch = Watch(tmp_path / "data")
        watch.start()
        try:
            with connect(daemon.endpoint, write_timeout_s=120) as client:
                scan = client.open_scan(make_layout())
                for start in steps:
                    some = rows[start : start + COMMIT_ROWS]
                    scan.write_at(some, values(some))
                    if start in killed_at:  # in the middle of a commit, or nearly
                        threading.Event().wait(chance.uniform(0.0, 0.1))
                        daemon.restart(signal.SIGKILL)
                    scan.wait_durable(timeout_s=120)
                result = scan.finish()
        finally:
            watch.stop()
        assert "Traceback" not in daemon.log
    incomplete = (WINDOW_ROWS + N_ROWS // OMITTED_EVERY) * ROW_BYTES
    assert watch.latest > 20, "the scan is long enough"
    assert watch.most_bytes < 4 * incomplete + 6 * SEGMENT_BYTES
    assert watch.most_bytes < 0.7 * N_ROWS * ROW_BYTES
    assert result.status == "incomplete"
    with h5py.File(result.file, "r") as h5_file:
        data = h5_file["Measurement_000/Raw"][...]
    np.testing.assert_array_equal(data[rows], values(rows))
    missing = np.setdiff1d(np.arange(N_ROWS), rows)
    assert not data[missing].any()
    assert verify_file(Path(result.file)).faults == []
