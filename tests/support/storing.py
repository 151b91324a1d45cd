"""What tests of storage share: layouts, encoded chunks, and a reader in a process of its own."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from usidstream.layout import Dimension, MainLayout, ScanLayout
from usidstreamd.storage import (
    CoverageUpdate,
    Event,
    FinishedResult,
    FinishedScans,
    JournalBlock,
    MainPlan,
)
from usidstreamd.storage.chunktable import ChunkAddress, ChunkTable
from usidstreamd.storage.ledger_records import Finalise as Decision
from usidstreamd.storage.scan import OpenScan, let_journal_go

SCAN_ID = "0123456789abcdef" * 2
CREATED = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
GZIP = {"compression": "gzip", "compression_opts": 1, "shuffle": False}
NO_RANGES = np.empty((0, 4), np.int64)
NO_CHUNKS = ChunkTable()
ANSWER_TIMEOUT_S = 30.0


def layout_of(*mains: MainLayout, n_positions: int = 64, **more: Any) -> ScanLayout:
    return ScanLayout(positions=[Dimension("X", "nm", n_positions)], mains=list(mains), **more)


def main_of(name: str = "Raw_Data", dtype: Any = "float32", n: int = 8, **more: Any) -> MainLayout:
    return MainLayout(name, "Current", "nA", dtype, [Dimension("Bias", "V", n)], **more)


def plans_for(layout: ScanLayout, rows: int = 16, cols: int = 4) -> dict[str, MainPlan]:
    """Chunks of rows x cols, gzip unless the main wants none."""
    return {
        main.name: MainPlan(
            (min(rows, layout.n_positions), min(cols, main.n_spectroscopic)),
            {} if main.compression == "none" else GZIP,
        )
        for main in layout.mains
    }


def random_data(layout: ScanLayout, main: str, seed: int = 1) -> npt.NDArray[Any]:
    """Fill a main of any dtype with bytes that make finite numbers."""
    dtype, shape = layout.main(main).np_dtype, layout.shape(main)
    rng = np.random.default_rng(seed)
    data = np.zeros(shape, dtype)
    parts = [data[name] for name in dtype.names] if dtype.names else [data]
    for part in parts:
        part[...] = rng.integers(1, 120, shape)
        if part.dtype.kind == "c":
            part.imag[...] = rng.integers(1, 120, shape)
    return data


def chunks_of(
    data: npt.NDArray[Any], plan: MainPlan, start: int = 0, stop: int | None = None
) -> list[tuple[int, int, bytes]]:
    """Encode the chunks that hold rows start to stop, padded at the edges with zeros."""
    rows, cols = plan.chunks
    stop = len(data) if stop is None else stop
    encoded = []
    for row in range(start - start % rows, stop, rows):
        for col in range(0, data.shape[1], cols):
            chunk = np.zeros((rows, cols), data.dtype)
            part = data[row : row + rows, col : col + cols]
            chunk[: part.shape[0], : part.shape[1]] = part
            raw = chunk.tobytes()
            encoded.append((row, col, zlib.compress(raw, 1) if plan.filters else raw))
    return encoded


def complete(lo: int, hi: int) -> CoverageUpdate:
    return CoverageUpdate(lo, np.ones(hi - lo, np.uint8), NO_RANGES)


def block_of(data: npt.NDArray[Any], row: int, row_end: int, main: int = 0) -> JournalBlock:
    """Return whole rows of a main as they come from a client."""
    rows = np.ascontiguousarray(data[row:row_end])
    return JournalBlock(main, row, row_end - row, 0, data.shape[1], rows.tobytes(), None)


# ---------------------------------------------------------------- a scan, as the daemon drives it


def store(
    scan: OpenScan, main: str, chunks: list[tuple[int, int, bytes]], *, is_complete: bool = True
) -> list[ChunkAddress]:
    """Write chunks and make them durable."""
    addresses = scan.write(main, chunks, is_complete=is_complete)
    scan.journal.commit(addresses, [], {})
    return addresses


def decision(status: str, **attrs: Any) -> Decision:
    return Decision(status=status, ended=CREATED.isoformat(), attrs=attrs)


def end(scan: OpenScan, status: str, finished: FinishedScans, **attrs: Any) -> FinishedResult:
    """End a scan: the decision is recorded before anything is done about it."""
    scan.journal.finalise(decision(status, **attrs))
    scan.journal.close(is_clean=False)
    result = scan.finalise(status, attrs, CREATED, finished)
    if status != "interrupted":
        let_journal_go(scan.record)
    return result


def suspend(scan: OpenScan) -> None:
    """Close a scan so that it can be gone on with."""
    scan.close()
    scan.journal.close(is_clean=True)


class Events:
    """Collects what a storage thread posts."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def post(self, event: Event) -> None:
        self._queue.put(event)

    def next(self) -> Any:
        return self._queue.get(timeout=ANSWER_TIMEOUT_S)

    def expect(self, kind: type[Any]) -> Any:
        event = self.next()
        assert isinstance(event, kind), event
        return event

    def fail(self, message: str) -> None:
        raise ArithmeticError(message)

    def rest(self) -> list[Event]:
        found = []
        while not self._queue.empty():
            found.append(self._queue.get())
        return found


_READER = """
import json, sys
import h5py, numpy as np
path, main = sys.argv[1:]

def look():
    completed.refresh()
    states = completed[:]
    rows = np.flatnonzero(states == 1)
    ranges.refresh()
    data.refresh()  # after the states were read: data may only be ahead of them
    sums = [np.abs(data[int(row)]).sum() for row in rows[:: max(1, len(rows) // 16)]]
    return {
        "complete": len(rows), "partial": int((states == 2).sum()),
        "ranges": ranges[:].tolist(), "empty_rows": sums.count(0),
    }

def watch():
    looks, empty_rows, seen = 0, 0, {"complete": 0}
    while seen["complete"] < len(data):
        seen = look()
        looks, empty_rows = looks + 1, empty_rows + seen["empty_rows"]
    return {"looks": looks, "empty_rows": empty_rows}

def nonzero_rows(lo, n):
    data.refresh()
    return int(np.count_nonzero(data[lo : lo + n].any(axis=1)))

with h5py.File(path, "r", libver="latest", swmr=True) as f:
    data = f[main]
    completed, ranges = (data.parent[n] for n in ("completed_positions", "partial_ranges"))
    print(json.dumps("open"), flush=True)
    for line in sys.stdin:
        name, *args = json.loads(line)
        print(json.dumps(globals()[name](*args)), flush=True)
"""


class Reader:
    """A SWMR reader that holds the file open and looks when asked to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def look(self) -> Mapping[str, Any]:
        self._ask("look")
        return self.line()

    def nonzero_rows(self, lo: int, n: int) -> int:
        self._ask("nonzero_rows", lo, n)
        return self.line()

    def watch(self) -> None:
        """Look without rest until all positions are complete; `line` has the outcome."""
        self._ask("watch")

    def _ask(self, *call: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()

    def line(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the reader has died"
        return json.loads(line)


@contextmanager
def reading(path: Path | str, main: str) -> Iterator[Reader]:
    """Start a reader; at the end it must have met no error."""
    command = [sys.executable, "-c", _READER, str(path), main]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            reader = Reader(process)
            assert reader.line() == "open"
            yield reader
            process.communicate(timeout=ANSWER_TIMEOUT_S)
            assert process.returncode == 0
        finally:
            process.kill()
