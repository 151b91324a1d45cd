"""What a long scan costs: opening it, its millionth chunk, and the time until a reader sees a row.

A real daemon with default options, written to through the client. Not collected by pytest:

    python tests/benchmarks/bench_long_scans.py                    # 1,000,000 chunks: two minutes
    python tests/benchmarks/bench_long_scans.py --chunks 100000 --json
"""

# ruff: noqa: T201 - a script prints

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path

import h5py
import numpy as np

from usidstream import Dimension, MainLayout, ScanLayout, connect
from usidstreamd.bench.kernel import CpuTracker, peak_memory_bytes
from usidstreamd.bench.processes import serving

PARTS = 10
GRID_SIDE = 4096
CHUNK_COLS = 256
BLOCK_ROWS = 200
LARGE_SCAN_BYTES = 300e9
USUAL_CHUNK_BYTES = 256 << 10
SEEN_ROWS = 4000
SEEN_RATE_HZ = 1000
FLUSH_INTERVAL_S = 1.0


def rss_bytes(pid):
    """Return the resident memory of a process (proc(5), statm)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def opening(directory):
    """Open and abort a scan of 4096 x 4096 positions."""
    positions = [Dimension(name, "um", np.linspace(0, 1, GRID_SIDE)) for name in ("X", "Y")]
    layout = ScanLayout(
        positions=positions, mains=[MainLayout("Raw_Data", "Height", "m", "float32")]
    )
    with serving(directory, {}) as (daemon, endpoint), connect(endpoint) as client:
        before = peak_memory_bytes(daemon.pid)
        began = time.perf_counter()
        scan = client.open_scan(layout, file="large")
        took = time.perf_counter() - began
        grown = peak_memory_bytes(daemon.pid) - before
        scan.abort()
    return {"open_s": took, "peak_growth_bytes": grown}


def many_chunks(directory, n_chunks):
    """Write chunks of 256 bytes; return cost and memory for each tenth of them."""
    main = MainLayout(
        "Raw_Data",
        "Counts",
        "",
        "uint8",
        spectroscopic=[Dimension("Step", "", CHUNK_COLS)],
        chunks=(1, CHUNK_COLS),
    )
    layout = ScanLayout(positions=[Dimension("X", "", n_chunks)], mains=[main])
    block = np.random.default_rng(1).integers(0, 4, (BLOCK_ROWS, CHUNK_COLS), dtype=np.uint8)
    parts = []
    with serving(directory, {}) as (daemon, endpoint), connect(endpoint) as client:
        scan = client.open_scan(layout, file="chunks")
        for part in np.array_split(np.arange(0, n_chunks, BLOCK_ROWS), PARTS):
            tracker = CpuTracker(daemon.pid)
            for row in part.tolist():
                scan.write_block(row, block[: n_chunks - row])
            scan.wait_durable()
            cpu_s = sum(tracker.spent().values())
            parts.append(
                {
                    "chunks": min(n_chunks, int(part[-1]) + BLOCK_ROWS),
                    "cpu_us_each": cpu_s / (len(part) * BLOCK_ROWS) * 1e6,
                    "rss_bytes": rss_bytes(daemon.pid),
                }
            )
        began = time.perf_counter()
        scan.finish(timeout_s=600)
        finish_s = time.perf_counter() - began
        peak = peak_memory_bytes(daemon.pid)
    return {"parts": parts, "finish_s": finish_s, "peak_bytes": peak}


def visible(directory):
    """Write rows at 1 kHz; return how long after its write a reader sees a row at the latest."""
    main = MainLayout(
        "Raw_Data",
        "Current",
        "nA",
        "float32",
        spectroscopic=[Dimension("Bias", "V", CHUNK_COLS)],
    )
    layout = ScanLayout(
        positions=[Dimension("X", "", SEEN_ROWS)], mains=[main], pixel_time_s=1 / SEEN_RATE_HZ
    )
    config = {"flush_interval_s": FLUSH_INTERVAL_S}
    spectrum = np.ones(CHUNK_COLS, np.float32)
    with serving(directory, config) as (_, endpoint), connect(endpoint) as client:
        scan = client.open_scan(layout, file="seen")
        watcher = Reader(Path(scan.file))
        began = time.perf_counter()
        for row in range(SEEN_ROWS):
            threading.Event().wait(max(0.0, began + row / SEEN_RATE_HZ - time.perf_counter()))
            scan.write(row, spectrum)
        seen_s, chunk_rows = watcher.stop()
        scan.finish()
    return waited(seen_s, began) | {"fill_s": chunk_rows / SEEN_RATE_HZ}


def waited(seen_s, began):
    """Return the longest wait of a row that was seen."""
    rows = np.flatnonzero(np.isfinite(seen_s))
    waits = seen_s[rows] - (began + rows / SEEN_RATE_HZ)
    return {"rows_seen": len(rows), "longest_s": float(waits.max())}


class Reader:
    """Looks every few milliseconds, by SWMR, which rows are complete in the file."""

    def __init__(self, path):
        self._path = path
        self._stop = threading.Event()
        self._seen_s = np.full(SEEN_ROWS, np.inf)
        self._chunk_rows = 0
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def stop(self):
        """Return when each row was seen, and the rows of a chunk."""
        self._stop.set()
        self._thread.join()
        return self._seen_s, self._chunk_rows

    def _look(self):
        with h5py.File(self._path, "r", swmr=True, locking=False) as file:
            group = file["Measurement_000"]
            self._chunk_rows = group["Raw_Data"].chunks[0]
            states = group["completed_positions"]
            while not self._stop.wait(0.005):
                states.refresh()
                is_new = (states[()] == 1) & np.isinf(self._seen_s)
                self._seen_s[is_new] = time.perf_counter()


def in_words(told):
    """Yield lines for a person."""
    grid = told["opening"]
    yield (
        f"A scan of {GRID_SIDE} x {GRID_SIDE} positions opens in {grid['open_s']:.2f} s;"
        f" the daemon's peak memory grows by {grid['peak_growth_bytes'] / 1e6:.0f} MB."
    )
    chunks = told["many_chunks"]
    for part in chunks["parts"]:
        yield (
            f"{part['chunks']:>9,} chunks: {part['cpu_us_each']:.0f} us of processor each,"
            f" {part['rss_bytes'] / 1e6:.0f} MB"
        )
    first, last = chunks["parts"][0], chunks["parts"][-1]
    n_more = last["chunks"] - first["chunks"]
    running = max(0.0, (last["rss_bytes"] - first["rss_bytes"]) / n_more)
    ending = (chunks["peak_bytes"] - last["rss_bytes"]) / last["chunks"]
    n_large = LARGE_SCAN_BYTES / USUAL_CHUNK_BYTES
    yield (
        f"A chunk's book-keeping is {running:.0f} bytes of memory while the scan runs, and"
        f" {ending:.0f} more while it ends, which takes {chunks['finish_s']:.1f} s:"
        f" {running * n_large / 1e6:.0f} and {ending * n_large / 1e6:.0f} MB for the"
        f" {n_large:,.0f} chunks of a scan of 300 GB."
    )
    seen = told["visible"]
    yield (
        f"At {SEEN_RATE_HZ} rows/s a reader saw {seen['rows_seen']} rows at most"
        f" {seen['longest_s']:.2f} s after their write; a chunk takes {seen['fill_s']:.2f} s to"
        f" fill, flush_interval_s is {FLUSH_INTERVAL_S:g}."
    )


def main():
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chunks", type=int, default=1_000_000)
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.data_dir) as directory:
        top = Path(directory)
        told = {
            "opening": opening(top / "opening"),
            "many_chunks": many_chunks(top / "chunks", options.chunks),
            "visible": visible(top / "visible"),
        }
    print(json.dumps(told, indent=2) if options.json else "\n".join(in_words(told)))


if __name__ == "__main__":
    main()
