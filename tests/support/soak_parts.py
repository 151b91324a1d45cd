"""The parts of a soak: instruments, reader, watcher; processes that run until stdin closes.

Run as ``python -m support.soak_parts PART ENDPOINT SECONDS PIXELS_PER_S DATA_DIR``. Each line on
stdout is a JSON array, a word first: ``scan`` with file and rows when one has ended, ``count`` with
what a part has done at its end.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from support.rowscan import N_COLS, values
from usidstream import Dimension, MainLayout, ScanLayout, connect
from usidstream.feeds.pacing import Pacer
from usidstream.live import watch
from usidstreamd.h5usid.swmr import open_swmr

STEADY_PART = 0.75
"""Of the pixels, from one client that stays; the others come from clients that come and go."""
STEADY_SCAN_S, GUEST_SCAN_S = 120.0, 3.0
GUEST_PAUSE_S = 0.5
PACE_EVERY_ROWS = 16
TIMEOUT_S = 120.0
LOOK_EVERY_S = 0.5
ROWS_LOOKED_AT = 64


def tell(*words: Any) -> None:
    with _TELLING:
        sys.stdout.write(json.dumps(words) + "\n")
        sys.stdout.flush()


_TELLING = threading.Lock()


def layout_of(n_rows: int, rate: float) -> ScanLayout:
    main = MainLayout("Raw", "Current", "nA", "float32", [Dimension("Bias", "V", N_COLS)])
    return ScanLayout(positions=[Dimension("X", "um", n_rows)], mains=[main], pixel_time_s=1 / rate)


# ---------------------------------------------------------------- instruments


class Instruments:
    """A client that stays, and clients that come for a scan and go again, until told to stop."""

    def __init__(self, endpoint: str, seconds: float, rate: float) -> None:
        self._endpoint = endpoint
        self._seconds = seconds
        self._rate = rate
        self.must_stop = threading.Event()
        self._rows = 0
        self._clients = 0
        self._lock = threading.Lock()
        self._failure: BaseException | None = None

    def run(self) -> None:
        begun = time.monotonic()
        steady = threading.Thread(target=self._stay)
        steady.start()
        self._come_and_go()
        steady.join()
        if self._failure is not None:
            raise self._failure
        tell("count", self._rows, self._clients, time.monotonic() - begun)

    def _stay(self) -> None:
        try:
            self._stay_on()
        except BaseException as error:  # noqa: BLE001  # raised by `run`
            self._failure = error
            self.must_stop.set()

    def _stay_on(self) -> None:
        rate = STEADY_PART * self._rate
        n_rows = int(rate * min(STEADY_SCAN_S, self._seconds / 3))
        with connect(self._endpoint, write_timeout_s=TIMEOUT_S) as client:
            self._count(clients=1)
            while not self.must_stop.is_set():
                self._scan(client, n_rows, rate, "steady")

    def _come_and_go(self) -> None:
        rate = (1 - STEADY_PART) * self._rate * (1 + GUEST_PAUSE_S / GUEST_SCAN_S)
        n_rows = int(rate * min(GUEST_SCAN_S, self._seconds / 6))
        while not self.must_stop.is_set():
            with connect(self._endpoint, write_timeout_s=TIMEOUT_S) as client:
                self._count(clients=1)
                self._scan(client, n_rows, rate, "guest")
            self.must_stop.wait(GUEST_PAUSE_S)

    def _scan(self, client: Any, n_rows: int, rate: float, name: str) -> None:
        """Write a scan a pixel at a time; when stopped, what is left comes without pauses."""
        layout, pacer = layout_of(n_rows, rate), Pacer(rate)
        with _opened_patiently(client, layout, name) as scan:
            tell("opened", name, scan.file)
            for start in range(0, n_rows, PACE_EVERY_ROWS):
                rows = np.arange(start, min(start + PACE_EVERY_ROWS, n_rows))
                for row, spectrum in zip(rows.tolist(), values(rows), strict=True):
                    scan.write(row, spectrum)
                self._count(rows=len(rows))
                self.must_stop.wait(pacer.wait_s(start + len(rows)))
            scan.wait_durable(timeout_s=TIMEOUT_S)
            assert scan.retained_bytes == 0, "what is durable is not kept"
        tell("scan", scan.result.file, scan.result.status, n_rows)

    def _count(self, *, rows: int = 0, clients: int = 0) -> None:
        with self._lock:
            self._rows += rows
            self._clients += clients


def _opened_patiently(client: Any, layout: ScanLayout, name: str) -> Any:
    """Open a scan, again while the daemon is away."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return client.open_scan(layout, file=name)
        except (ConnectionError, TimeoutError):
            if time.monotonic() > deadline:
                raise


# ---------------------------------------------------------------- a reader, and a watcher


class Reader:
    """Reads the newest file of the client that stays, while it grows, and tries its rows."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self.must_stop = threading.Event()
        self._looks = self._rows = self._refusals = 0
        self._chance = np.random.default_rng(0)

    def run(self) -> None:
        while not self.must_stop.wait(LOOK_EVERY_S):
            files = sorted(self._data_dir.glob("steady_*.h5"), key=_age)
            if not files:
                continue
            try:
                with open_swmr(files[-1]) as h5_file:
                    self._follow(h5_file["Measurement_000/Raw"], files[-1])
            except (OSError, KeyError, RuntimeError):
                self._refusals += 1  # it has just ended, or its writer was killed
        tell("count", self._looks, self._rows, self._refusals)

    def _follow(self, data: h5py.Dataset, path: Path) -> None:
        """Look at a file until it has another writer, or none, or there is a newer one."""
        states = data.parent["completed_positions"]
        inode, seen = path.stat().st_ino, -1
        while not self.must_stop.wait(LOOK_EVERY_S):
            states.refresh()
            complete = np.flatnonzero(states[...] == 1)
            data.refresh()
            self._require(data, complete)
            self._looks += 1
            is_still = len(complete) == seen
            if is_still or len(complete) == len(states) or path.stat().st_ino != inode:
                return
            seen = len(complete)

    def _require(self, data: h5py.Dataset, complete: npt.NDArray[np.intp]) -> None:
        """Fail unless rows that are called complete hold what was sent."""
        if not len(complete):
            return
        some = np.unique(self._chance.choice(complete, ROWS_LOOKED_AT))
        found = data[int(some[0]) : int(some[0]) + 1], data[int(some[-1]) : int(some[-1]) + 1]
        expected = values(some[[0, -1]])
        np.testing.assert_array_equal(np.concatenate(found), expected)
        self._rows += 2


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


class Watcher:
    """Takes every event that the daemon tells, from whichever process of it is there."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self.must_stop = threading.Event()

    def run(self) -> None:
        counts: dict[str, int] = {}
        with watch(self._endpoint) as events:
            while not self.must_stop.is_set():
                event = events.next_event(LOOK_EVERY_S)
                if event is not None:
                    word = type(event).__name__
                    counts[word] = counts.get(word, 0) + 1
        tell("count", counts)


def main(part: str, endpoint: str, seconds: str, rate: str, data_dir: str) -> None:
    runner: Instruments | Reader | Watcher
    if part == "instruments":
        runner = Instruments(endpoint, float(seconds), float(rate))
    elif part == "reader":
        runner = Reader(Path(data_dir))
    else:
        runner = Watcher(endpoint)
    thread = threading.Thread(target=_stop_with_stdin, args=(runner,), daemon=True)
    thread.start()
    runner.run()


def _stop_with_stdin(runner: Instruments | Reader | Watcher) -> None:
    sys.stdin.read()
    runner.must_stop.set()


if __name__ == "__main__":
    main(*sys.argv[1:])
