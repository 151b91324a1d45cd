"""The limits of the machine, apart from any scan: memory, disk, and the codec by itself."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from usidstream.disk import sync_data

from .. import codecs
from ..assembly import make_grid
from .figures import percentile
from .workloads import WORKLOADS

MEMORY_BYTES = 64 << 20
MEMORY_COPIES = 5
DISK_WRITE_BYTES = 1 << 20
SYNCED_RECORD_BYTES = 4096


def run_memory(_spec: dict[str, Any], tell: Callable[..., None], _wait: Callable[[], None]) -> None:
    """Tell ``done`` with the bytes per second that one thread copies."""
    source = np.ones(MEMORY_BYTES, np.uint8)
    target = np.zeros(MEMORY_BYTES, np.uint8)
    seconds = []
    for _ in range(MEMORY_COPIES):
        began = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - began)
    tell("done", bytes_per_s=MEMORY_BYTES / statistics.median(seconds))


def run_disk(spec: dict[str, Any], tell: Callable[..., None], _wait: Callable[[], None]) -> None:
    """Tell ``done`` with the disk's bytes per second, synced, and how long small syncs take.

    ``nbytes`` are written in pieces of 1 MiB and synced once, and timed with the sync; then
    ``syncs`` records of 4 KiB are appended and each is synced, as a journal is.
    """
    piece = np.random.default_rng(0).bytes(DISK_WRITE_BYTES)  # a disk may compress
    path = Path(spec["file"])
    with path.open("xb", buffering=0) as file:
        began = time.perf_counter()
        for _ in range(max(1, spec["nbytes"] // DISK_WRITE_BYTES)):
            file.write(piece)
        sync_data(file.fileno())
        seconds = time.perf_counter() - began
        nbytes = file.tell()
        syncs = [_synced_write(file.fileno(), piece) for _ in range(spec["syncs"])]
    path.unlink()
    tell("done", bytes_per_s=nbytes / seconds, syncs_s=syncs)


def _synced_write(fd: int, piece: bytes) -> float:
    began = time.perf_counter()
    os.write(fd, piece[:SYNCED_RECORD_BYTES])
    sync_data(fd)
    return time.perf_counter() - began


def sync_summary(seconds: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile of sync times."""
    return {"p50_s": percentile(seconds, 50), "p99_s": percentile(seconds, 99)}


def run_codec(spec: dict[str, Any], tell: Callable[..., None], wait: Callable[[], None]) -> None:
    """Tell ``done`` with the time that the codec threads alone take for a workload's chunks."""
    work = WORKLOADS[spec["workload"]]
    units = work.units_at(spec["scale"])
    data = work.make_data(units)
    jobs: list[Callable[[], bytes]] = []
    sizes: list[int] = []
    layout = work.make_layout(units)
    for main in layout.mains:
        table = np.asarray(data[main.name], main.np_dtype)
        table = table.T if main.order == "columns" else table.reshape(layout.shape(main.name))
        grid = make_grid(main, layout.n_positions, layout.pixel_time_s)
        codec = codecs.choose(spec["compression"], main.shuffle, main.np_dtype)
        shape = (grid.chunk_rows, grid.chunk_cols)
        jobs += [_job(codec, table[rows, cols], shape, cols.start) for rows, cols in _cuts(grid)]
        sizes.append(table.nbytes)
    tell("ready")
    wait()
    cpu, began = time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(spec["threads"]) as pool:
        nbytes = sum(pool.map(lambda job: len(job()), jobs))
    tell(
        "done",
        seconds=time.perf_counter() - began,
        cpu_s=time.process_time() - cpu,
        units=units,
        nbytes=sum(sizes),
        encoded_bytes=nbytes,
    )


def _cuts(grid: Any) -> list[tuple[slice, slice]]:
    return [
        (slice(row, row + grid.chunk_rows), slice(col, col + grid.chunk_cols))
        for row in range(0, grid.n_rows, grid.chunk_rows)
        for col in range(0, grid.n_cols, grid.chunk_cols)
    ]


def _job(
    codec: codecs.Codec, chunk: npt.NDArray[Any], shape: tuple[int, int], col: int
) -> Callable[[], bytes]:
    return lambda: codec.encode(chunk, shape, col)
