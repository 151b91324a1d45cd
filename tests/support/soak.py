"""A daemon for long, killed again and again, and what memory and handles it and others hold.

`Soak` starts the parts of `support.soak_parts` beside a daemon, kills the daemon at intervals,
takes samples of all processes, and judges at the end: flat curves, no row lost, files without
faults.
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil

from support.daemon import Daemon
from support.rowscan import values
from usidstreamd.verify import verify_file

SAMPLE_INTERVAL_S = 0.5
MAX_GROWTH_BYTES = 32 << 20
MAX_MORE_HANDLES_COUNT = 24
"""Scans are open now and not then, each with its file, ledger, segment and lock."""
PART_TIMEOUT_S = 240.0
COMPARE_ROWS = 16384
TESTS = Path(__file__).parents[1]


@dataclass
class Curve:
    """Samples of one process."""

    name: str
    bytes: list[int] = field(default_factory=list)
    handles: list[int] = field(default_factory=list)

    def sample(self, pid: int) -> None:
        try:
            process = psutil.Process(pid)
            nbytes, handles = process.memory_info().rss, process.num_fds()
        except psutil.Error:
            return  # it was killed just now
        self.bytes.append(nbytes)
        self.handles.append(handles)

    def settled(self) -> tuple[int, int]:
        """Return memory and handles of the middle third, by their medians."""
        third = slice(len(self.bytes) // 3, max(1, 2 * len(self.bytes) // 3))
        return int(statistics.median(self.bytes[third])), int(
            statistics.median(self.handles[third])
        )

    def late(self) -> tuple[int, int]:
        """Return those of the last third."""
        last = slice(2 * len(self.bytes) // 3, None)
        return int(statistics.median(self.bytes[last])), int(statistics.median(self.handles[last]))

    def require_flat(self) -> None:
        (early_bytes, early_handles), (late_bytes, late_handles) = self.settled(), self.late()
        grown = late_bytes - early_bytes
        assert grown <= MAX_GROWTH_BYTES, f"{self.name} has grown by {grown >> 20} MiB"
        more = late_handles - early_handles
        assert more <= MAX_MORE_HANDLES_COUNT, f"{self.name} holds {more} more handles"


class Part:
    """A process of `support.soak_parts`, and the lines it tells."""

    def __init__(self, name: str, *arguments: object) -> None:
        self.curve = Curve(name)
        self.lines: list[list[Any]] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.soak_parts", name, *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=TESTS,
        )  # fmt: skip
        self._errors = ""
        self._ears = [
            threading.Thread(target=self._hear),
            threading.Thread(target=self._hear_errors),
        ]
        for ear in self._ears:
            ear.start()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(json.loads(line))

    def _hear_errors(self) -> None:
        assert self._process.stderr is not None
        self._errors = self._process.stderr.read()

    def sample(self) -> None:
        code = self._process.poll()
        assert code is None, f"the {self.curve.name} ended with {code}: {self._errors}"
        self.curve.sample(self._process.pid)

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            code = self._process.wait(PART_TIMEOUT_S)
        finally:
            self._process.kill()
            for ear in self._ears:
                ear.join()
        assert code == 0, f"the {self.curve.name} ended with {code}: {self._errors}"

    def told(self, word: str) -> list[list[Any]]:
        return [line[1:] for line in self.lines if line[0] == word]


class Soak:
    """A soak that is over when constructed; its figures are told by `report`.

    Parameters
    ----------
    data_dir
    seconds
        How long instruments send; ending the last scans comes on top.
    rate
        Pixels a second of all instruments.
    kill_every_s
    """

    def __init__(self, data_dir: Path, seconds: float, rate: float, kill_every_s: float) -> None:
        self.kills = 0
        self.daemon_curves: list[Curve] = []
        self._seconds, self._rate, self._kill_every_s = seconds, rate, kill_every_s
        with Daemon(data_dir, flush_interval_s=1.0) as daemon:
            words = (daemon.endpoint, seconds, rate, data_dir)
            self.parts = {name: Part(name, *words) for name in ("instruments", "reader", "watcher")}
            try:
                self._run(daemon)
            finally:
                for part in self.parts.values():
                    part.stop()
            self.log = daemon.log

    def _run(self, daemon: Daemon) -> None:
        ends = time.monotonic() + self._seconds
        self.daemon_curves.append(Curve("daemon, run 1"))
        kill_at = time.monotonic() + self._kill_every_s
        while (now := time.monotonic()) < ends:
            if now >= kill_at:
                daemon.restart(signal.SIGKILL)
                self.kills += 1
                kill_at = now + self._kill_every_s
                self.daemon_curves.append(Curve(f"daemon, run {self.kills + 1}"))
            self.daemon_curves[-1].sample(daemon.pid)
            for part in self.parts.values():
                part.sample()
            time.sleep(SAMPLE_INTERVAL_S)

    def require_flat(self) -> None:
        """Fail if any process has grown, or the daemon from one run of it to the next."""
        for curve in self.daemon_curves:
            if len(curve.bytes) > 6:
                curve.require_flat()
        for part in self.parts.values():
            part.curve.require_flat()
        runs = Curve("the daemon over its runs")
        for curve in self.daemon_curves:
            if curve.bytes:
                runs.bytes.append(curve.late()[0])
                runs.handles.append(curve.late()[1])
        runs.require_flat()

    def require_every_row(self) -> int:
        """Fail unless every scan that ended holds every row and is sound; count the rows."""
        scans = self.parts["instruments"].told("scan")
        assert scans
        for file, status, n_rows in scans:
            assert status == "complete", file
            with h5py.File(file, "r") as h5_file:
                data = h5_file["Measurement_000/Raw"]
                assert len(data) == n_rows
                for start in range(0, n_rows, COMPARE_ROWS):
                    found = data[start : start + COMPARE_ROWS]
                    rows = np.arange(start, start + len(found))
                    np.testing.assert_array_equal(found, values(rows), file)
            assert verify_file(Path(file)).faults == []
        return sum(n_rows for _, _, n_rows in scans)

    def report(self, n_rows: int) -> list[str]:
        """Return what came of it, in lines of Markdown."""
        (rows, clients, seconds), = self.parts["instruments"].told("count")  # fmt: skip
        (looks, read, refusals), = self.parts["reader"].told("count")  # fmt: skip
        (events,), = self.parts["watcher"].told("count")  # fmt: skip
        scans = self.parts["instruments"].told("scan")
        lines = [
            f"{seconds / 60:.1f} minutes, {rows:,} pixels, {rows / seconds:,.0f} a second; "
            f"{clients:,} clients, {len(scans):,} scans, {self.kills} kills",
            f"{n_rows:,} acknowledged rows compared, 0 lost; verify: 0 faults",
            f"reader: {looks:,} looks, {read:,} rows compared, {refusals} openings refused; "
            f"watcher: {sum(events.values()):,} events, {events.get('Connected', 0)} connections",
            "| process | MiB, middle third | MiB, last third | handles, middle | handles, last |",
            "| --- | ---: | ---: | ---: | ---: |",
        ]
        curves = [curve for curve in self.daemon_curves if len(curve.bytes) > 6]
        some = [curves[0], curves[len(curves) // 2], curves[-1]] if len(curves) > 2 else curves
        for curve in [*some, *(part.curve for part in self.parts.values())]:
            (early_bytes, early), (late_bytes, late) = curve.settled(), curve.late()
            lines.append(
                f"| {curve.name} | {early_bytes / 2**20:.0f} | {late_bytes / 2**20:.0f} | {early} "
                f"| {late} |"
            )
        return lines
