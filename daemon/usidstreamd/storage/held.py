"""What a scan holds according to its ledger, told as coverage of each main.

Pure numpy on the table of chunks. A position is complete when all chunks of its row of chunks are;
chunks that were written although elements are missing count as far as the last finalising said.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from usidstream.layout import ScanLayout

from .chunktable import FLAG_INCOMPLETE, ChunkTable, Entries
from .coverage import COMPLETE, MISSING, PARTIAL, Coverage, PartialRanges
from .record import MainPlan

_NO_RANGES = np.empty((0, 4), np.int64)


def held_coverage(
    layout: ScanLayout,
    plans: Mapping[str, MainPlan],
    chunks: ChunkTable,
    partial: Mapping[str, PartialRanges] | None = None,
) -> dict[str, Coverage]:
    """Return the coverage of each main.

    Parameters
    ----------
    layout, plans
        The scan as it was opened.
    chunks
        The durable chunks.
    partial
        For each main, (k, 4): what chunks that are not complete hold. Ranges outside such chunks
        say nothing.
    """
    partial = partial or {}
    return {
        main.name: _main_coverage(
            layout.shape(main.name),
            plans[main.name].chunks,
            chunks.of_main(number),
            partial.get(main.name, _NO_RANGES),
        )
        for number, main in enumerate(layout.mains)
    }


def _main_coverage(
    shape: tuple[int, int], chunk: tuple[int, int], entries: Entries, partial: PartialRanges
) -> Coverage:
    n_bands, n_across = -(-shape[0] // chunk[0]), -(-shape[1] // chunk[1])
    is_complete = (entries["flags"] & FLAG_INCOMPLETE) == 0
    band = (entries["row"] // chunk[0]).astype(np.int64)
    n_complete = np.bincount(band[is_complete], minlength=n_bands)
    of_band = np.where(n_complete == n_across, COMPLETE, np.where(n_complete, PARTIAL, MISSING))
    states = np.repeat(of_band.astype(np.uint8), chunk[0])[: shape[0]]
    mixed = np.unique(band[~is_complete]) if len(partial) else np.empty(0, np.int64)
    plain = is_complete & (of_band[band] == PARTIAL) & ~np.isin(band, mixed)
    tables = [_whole_chunks(entries[plain], shape, chunk)]
    for number in mixed.tolist():
        held = _held_elements(entries[band == number], number * chunk[0], shape, chunk, partial)
        rows = slice(number * chunk[0], number * chunk[0] + len(held))
        states[rows] = np.where(held.all(axis=1), COMPLETE, PARTIAL * held.any(axis=1))
        tables.append(_ranges_of(held, rows.start))
    ranges = np.concatenate(tables)
    return Coverage(states, ranges[np.lexsort((ranges[:, 2], ranges[:, 0]))])


def _whole_chunks(
    entries: Entries, shape: tuple[int, int], chunk: tuple[int, int]
) -> PartialRanges:
    """Return the rectangles of complete chunks, those that touch in a row of chunks as one."""
    row, col = entries["row"].astype(np.int64), entries["col"].astype(np.int64)
    if not len(row):
        return _NO_RANGES
    touches = (row[1:] == row[:-1]) & (col[1:] == col[:-1] + chunk[1])
    first = np.flatnonzero(np.concatenate(([True], ~touches)))
    last = np.append(first[1:], len(row)) - 1
    row_end = np.minimum(row[first] + chunk[0], shape[0])
    col_end = np.minimum(col[last] + chunk[1], shape[1])
    return np.stack([row[first], row_end, col[first], col_end], axis=1)


def _held_elements(
    entries: Entries,
    top: int,
    shape: tuple[int, int],
    chunk: tuple[int, int],
    partial: PartialRanges,
) -> npt.NDArray[np.bool_]:
    """Return, for one row of chunks, which of its elements are held."""
    n_rows = min(chunk[0], shape[0] - top)
    held = np.zeros((n_rows, shape[1]), np.bool_)
    for row, row_end, col, col_end in partial[
        (partial[:, 0] < top + n_rows) & (partial[:, 1] > top)
    ].tolist():
        held[max(row - top, 0) : row_end - top, col:col_end] = True
    is_complete = (entries["flags"] & FLAG_INCOMPLETE) == 0
    written = dict(zip(entries["col"].tolist(), is_complete.tolist(), strict=True))
    for col in range(0, shape[1], chunk[1]):
        if col not in written:
            held[:, col : col + chunk[1]] = False
        elif written[col]:
            held[:, col : col + chunk[1]] = True
    return held


def _ranges_of(held: npt.NDArray[np.bool_], top: int) -> PartialRanges:
    """Return the rectangles held of rows that are partial, equal rows together."""
    ranges: list[tuple[int, int, int, int]] = []
    start = 0
    for stop in range(1, len(held) + 1):
        if stop < len(held) and np.array_equal(held[stop], held[start]):
            continue
        edges = np.flatnonzero(np.diff(held[start], prepend=False, append=False)).tolist()
        if not held[start].all():
            ranges += [
                (top + start, top + stop, lo, hi)
                for lo, hi in zip(edges[::2], edges[1::2], strict=True)
            ]
        start = stop
    return np.array(ranges, np.int64).reshape(-1, 4)
