"""What a finished file costs to read, and how large plain h5py makes the same data."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..h5usid import get_all_main
from .references import Blocks
from .workloads import WORKLOADS

REPEATS = 5
COLD_SPECTRA = 64


def run_read(spec: dict[str, Any], tell: Callable[..., None], _wait: Callable[[], None]) -> None:
    """Tell ``done`` with the seconds of a map and of 64 consecutive spectra, each from a cold file.

    ``is_cold`` is False where the system cannot be asked to forget a file's pages.
    """
    path = Path(spec["file"])
    with h5py.File(path, "r", locking=False) as file:
        main = get_all_main(file)[0]
        name, shape, chunks = main.name, main.shape, main.chunks
    is_cold = _drop_cache(path)
    parts = [(repeat + 1) / (REPEATS + 1) for repeat in range(REPEATS)]
    maps = [_read_map(path, name, int(part * shape[1])) for part in parts]
    first_rows = [int(part * max(0, shape[0] - COLD_SPECTRA)) for part in parts]
    tell(
        "done",
        map_s=statistics.median(maps),
        spectra_s=statistics.median(_read_spectra(path, name, row) for row in first_rows),
        is_cold=is_cold,
        chunks=list(chunks),
    )


def _read_map(path: Path, name: str, col: int) -> float:
    _drop_cache(path)
    with h5py.File(path, "r", locking=False) as file:
        dataset, began = file[name], time.perf_counter()
        dataset[:, col]
        return time.perf_counter() - began


def _read_spectra(path: Path, name: str, first: int) -> float:
    _drop_cache(path)
    with h5py.File(path, "r", locking=False) as file:
        dataset, began = file[name], time.perf_counter()
        for row in range(first, min(first + COLD_SPECTRA, len(dataset))):
            dataset[row]
        return time.perf_counter() - began


def stored_bytes(path: Path) -> int:
    """Return the encoded bytes of all mains of a finished file; nothing else of it counts."""
    with h5py.File(path, "r", locking=False) as file:
        return sum(main.id.get_storage_size() for main in get_all_main(file))


def _drop_cache(path: Path) -> bool:
    """Let the system forget a file's pages; return whether it does that on request."""
    if not hasattr(os, "posix_fadvise"):
        return False
    with path.open("rb+") as file:
        os.fsync(file.fileno())  # only clean pages are dropped
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def run_reference_file(
    spec: dict[str, Any], tell: Callable[..., None], _wait: Callable[[], None]
) -> None:
    """Tell ``done`` with the bytes of the workload's data as h5py stores it: gzip 4, shuffle."""
    work = WORKLOADS[spec["workload"]]
    units = work.units_at(spec["scale"])
    data, layout = work.make_data(units), work.make_layout(units)
    path = Path(spec["file"])
    blocks = Blocks(path, layout)
    for main in layout.mains:
        table = np.asarray(data[main.name], main.np_dtype)
        blocks.take(main.name, 0, 0, table.T if main.order == "columns" else _rows(table))
    blocks.close()
    with h5py.File(path) as file:
        stored = sum(dataset.id.get_storage_size() for dataset in file.values())
    path.unlink()
    tell("done", data_bytes=stored)


def _rows(table: Any) -> Any:
    return table.reshape(len(table), -1)
