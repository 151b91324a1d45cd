"""Whether what a ledger says can be true of its scan at all.

A record that is whole may lie all the same: a disk or a program may have mixed two scans' files up.
Chunks and ranges outside the mains are refused before anybody makes arrays of their size. Pure
numpy; it knows no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from usidstream.layout import ScanLayout

from .chunktable import ChunkTable, Entries
from .coverage import PartialRanges
from .errors import damaged_error
from .ledger import LedgerState
from .record import MainPlan, OpenRecord

MAX_OFFSET = 2**62
"""More than any file has bytes."""


def require_plausible(record: OpenRecord, state: LedgerState, ledger: Path) -> None:
    """Raise unless what a ledger says fits into the mains of its scan.

    Raises
    ------
    StorageError
        ``file_damaged``.
    """
    problem = _misplaced(record.layout, record.plans, state.chunks)
    problem = problem or _outside(record.layout, state.partial)
    if problem:
        raise damaged_error(
            ledger,
            f"says what cannot be of its scan: {problem}",
            "Keep the scan's file and journal, and look whether they belong together; "
            "'usidstreamd recover' on a copy of the file alone saves what HDF5 can read.",
        )


def _misplaced(layout: ScanLayout, plans: Mapping[str, MainPlan], chunks: ChunkTable) -> str:
    """Say which chunk lies in no main; empty if all do."""
    if len(chunks) and int(chunks.entries["main"][-1]) >= len(layout.mains):
        return f"a chunk of main {chunks.entries['main'][-1]} of {len(layout.mains)}"
    for number, main in enumerate(layout.mains):
        entries = chunks.of_main(number)
        is_wrong = _is_off_grid(entries, layout.shape(main.name), plans[main.name].chunks)
        is_wrong |= (entries["offset"] > MAX_OFFSET) | (entries["nbytes"] == 0)
        if is_wrong.any():
            row, col, offset = entries[is_wrong][["row", "col", "offset"]][0].tolist()
            return f"a chunk of {main.name} at row {row}, column {col}, byte {offset}"
    return ""


def _is_off_grid(
    entries: Entries, shape: tuple[int, int], chunk: tuple[int, int]
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    is_off = np.zeros(len(entries), np.bool_)
    for key, size, step in zip(("row", "col"), shape, chunk, strict=True):
        is_off |= (entries[key] >= size) | (entries[key] % step != 0)
    return is_off


def _outside(layout: ScanLayout, partial: Mapping[str, PartialRanges]) -> str:
    """Say which partial range is of no main; empty if all are."""
    names = {main.name for main in layout.mains}
    for name, ranges in partial.items():
        if name not in names:
            return f"elements of a main {name!r}"
        n_rows, n_cols = layout.shape(name)
        row, row_end, col, col_end = ranges.T
        is_in = (row >= 0) & (row <= row_end) & (row_end <= n_rows)
        is_in &= (col >= 0) & (col <= col_end) & (col_end <= n_cols)
        if not is_in.all():
            return f"elements of {name} at {ranges[~is_in][0].tolist()}"
    return ""
