"""A hostile peer at a real daemon over a real socket, and a scan beside it that must not notice."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import psutil

from support.daemon import Daemon
from support.flood import BATCH_CASES, RAW_EVERY_BATCHES, Flood
from support.fuzz_campaign import MAX_GROWTH_BYTES, Figures
from support.rowscan import N_ROWS, lost_rows, require_only
from support.witness import Instrument

PAUSE_PER_64_ROWS_S = 0.01
SCAN_TIMEOUT_S = 120.0


class Neighbour:
    """Normal scans beside, one after the other, each by a client in a process of its own."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._must_stop = threading.Event()
        self.files: list[str] = []
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._must_stop.is_set():
                self.files.append(self._scan(len(self.files)))
        except BaseException as error:  # noqa: BLE001  # raised by `stop`
            self._failure = error

    def _scan(self, number: int) -> str:
        order = "random" if number % 2 else "raster"
        with Instrument(
            "client", self._endpoint, f"{number:032x}", order=order, seed=number,
            pause_s=PAUSE_PER_64_ROWS_S,
        ) as instrument:  # fmt: skip
            status, file = instrument.expect("ended", SCAN_TIMEOUT_S)
        assert status == "complete"
        return file

    def stop(self) -> None:
        """Let the scan that runs come to its end."""
        self._must_stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure


def test_messages_to_a_daemon_harm_neither_it_nor_a_scan_beside(
    amount, figures: list[Figures], tmp_path: Path
) -> None:
    found = Figures("messages to a daemon", amount.seed, amount.messages)
    with Daemon(tmp_path / "data", flush_interval_s=0.2, max_layout_mb=1) as daemon:
        process = psutil.Process(daemon.pid)
        neighbour, flood = Neighbour(daemon.endpoint), Flood(daemon.endpoint, amount.seed)
        try:
            begun = time.monotonic()
            for first in range(amount.first, amount.first + amount.messages, BATCH_CASES):
                done = first - amount.first
                batch_begun = time.monotonic()
                flood.batch(first, min(BATCH_CASES, amount.messages - done))
                found.worst_s = max(found.worst_s, time.monotonic() - batch_begun)
                if not first // BATCH_CASES % RAW_EVERY_BATCHES:
                    flood.knock(first)
                if not found.early_bytes and done + BATCH_CASES >= amount.messages // 10:
                    found.early_bytes = process.memory_info().rss
            found.late_bytes = process.memory_info().rss
            found.seconds = time.monotonic() - begun
        finally:
            flood.close()
            neighbour.stop()
        found.outcomes = dict(flood.outcomes)
        figures.append(found)
        assert "Traceback" not in daemon.log
        assert '"level": "error"' not in daemon.log
    assert neighbour.files
    for file in neighbour.files:
        assert lost_rows(file, range(N_ROWS)) == []
        require_only(file, np.arange(N_ROWS))
    assert {"bad_message", "bad_checksum", "unknown_scan"} <= set(found.outcomes)
    growth = found.late_bytes - found.early_bytes
    assert growth <= 2 * MAX_GROWTH_BYTES, f"the daemon has grown by {growth >> 20} MiB"
