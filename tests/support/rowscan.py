"""The scan that faults are tried on, and what must be true of its file.

Its only main has more chunks than fit a page of HDF5's chunk index, else the index could not tear.
Every value follows from its row's number, so that a file can be judged by anybody.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from usidstream import Dimension, MainLayout, ScanLayout
from usidstreamd.verify import verify_file

N_ROWS, N_COLS, CHUNK_ROWS = 4096, 32, 2
MAIN, PATH = "Raw", "Measurement_000/Raw"

Rows = npt.NDArray[np.intp]
Values = npt.NDArray[np.float32]


def make_layout() -> ScanLayout:
    main = MainLayout(
        MAIN,
        "Current",
        "nA",
        "float32",
        spectroscopic=[Dimension("Bias", "V", N_COLS)],
        chunks=(CHUNK_ROWS, N_COLS),
    )
    positions = [Dimension("X", "um", 128), Dimension("Y", "um", N_ROWS // 128)]
    return ScanLayout(positions=positions, mains=[main])


def values(rows: Any) -> Values:
    """Return the values of rows: from the row number alone, never 0."""
    rows = np.atleast_1d(rows)
    mixed = (rows[:, None] * np.uint64(2654435761) + np.arange(N_COLS, dtype=np.uint64)) % 100003
    return (mixed + 1).astype(np.float32)


def ordered(order: str, seed: int = 0) -> Rows:
    """Return all rows in ``raster`` or ``random`` order."""
    rows = np.arange(N_ROWS)
    return rows if order == "raster" else np.random.default_rng(seed).permutation(rows)


def read(file: str | Path) -> Values:
    with h5py.File(file, "r") as h5_file:
        data: Values = h5_file[PATH][...]
    return data


def lost_rows(file: str | Path, rows: Iterable[int]) -> list[int]:
    """Return which of the rows are not in a closed file, bit for bit."""
    wanted = np.fromiter(rows, np.intp)
    differs = (read(file)[wanted] != values(wanted)).any(axis=1)
    return [int(row) for row in wanted[differs]]


def require_only(file: str | Path, rows: Iterable[int], *, others_may_show: bool = False) -> None:
    """Fail unless a finished file holds exactly these rows, is sound, and says so.

    With ``others_may_show`` rows that do not count may have their values all the same: chunks that
    HDF5 had flushed when the daemon was killed, a moment before they became durable.
    """
    there = np.zeros(N_ROWS, np.bool_)
    there[np.fromiter(rows, np.intp)] = True
    held, true = read(file), values(np.arange(N_ROWS))
    shows = (held == true).all(axis=1) if others_may_show else there
    np.testing.assert_array_equal(held, np.where((there | shows)[:, None], true, np.float32(0)))
    with h5py.File(file, "r") as h5_file:
        states = h5_file[PATH].parent["completed_positions"][...]
    np.testing.assert_array_equal(states == 1, there)
    assert verify_file(Path(file)).faults == []
