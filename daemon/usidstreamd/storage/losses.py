"""Which rows are lost when chunks of a file are not as they were written.

Such chunks were synced before anybody was told; the disk did not keep them. Rows of them that the
row journal still holds come back from there. Pure numpy; it knows no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .chunktable import Entries
from .record import OpenRecord
from .segments import JournalBlock

MAX_LOST_TOLD_COUNT = 100
"""Losses that are told in words; the rest is counted."""

_Held = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Lost:
    """Elements that were durable, and that neither file nor journal has any more.

    Parameters
    ----------
    main
        The main's name.
    row, row_end, col, col_end
        Half-open.
    """

    main: str
    row: int
    row_end: int
    col: int
    col_end: int

    def __str__(self) -> str:
        """Say what is lost, and why."""
        return (
            f"{self.main}: rows {self.row} to {self.row_end}, columns {self.col} to {self.col_end} "
            "were durable and are LOST: the disk did not keep what it had synced"
        )


def find_lost(record: OpenRecord, chunks: Entries, blocks: Iterable[JournalBlock]) -> list[Lost]:
    """Return what of some chunks is in no journalled block.

    Parameters
    ----------
    chunks
        Those that are not as they were written.
    blocks
        What the row journal holds; one is in memory at a time.
    """
    names = [main.name for main in record.layout.mains]
    rects = {
        (main, row, col): _rect(record, names[main], row, col)
        for main, row, col in chunks[["main", "row", "col"]].tolist()
    }
    steps = [record.plans[name].chunks for name in names]
    held: dict[tuple[int, int, int], _Held] = {}
    for block in blocks:
        for key in _chunks_of(block, steps[block.main]):
            if key in rects:
                _mark(held.setdefault(key, _nothing(rects[key])), rects[key], block)
    lost = (part for key, rect in sorted(rects.items()) for part in _rest(rect, held.get(key)))
    return list(_joined(sorted(lost, key=lambda part: (part.main, part.col, part.row))))


def in_words(lost: list[Lost]) -> list[str]:
    """Return a sentence for each loss, as far as they are told."""
    told = [str(part) for part in lost[:MAX_LOST_TOLD_COUNT]]
    if len(lost) > len(told):
        told.append(f"and {len(lost) - len(told)} more such parts are LOST")
    return told


def count_by_main(record: OpenRecord, chunks: Entries) -> Mapping[str, int]:
    """Return how many of some chunks each main has."""
    counts = np.bincount(chunks["main"], minlength=len(record.layout.mains))
    return {main.name: int(n) for main, n in zip(record.layout.mains, counts, strict=True)}


def _rect(record: OpenRecord, main: str, row: int, col: int) -> Lost:
    (rows, cols), shape = record.plans[main].chunks, record.layout.shape(main)
    return Lost(main, row, min(row + rows, shape[0]), col, min(col + cols, shape[1]))


def _rows_of(block: JournalBlock) -> npt.NDArray[np.int64]:
    if block.numbers is None:
        return np.arange(block.row, block.row + block.rows)
    return np.frombuffer(block.numbers, "<u8").astype(np.int64)


def _chunks_of(block: JournalBlock, step: tuple[int, int]) -> Iterator[tuple[int, int, int]]:
    bands = np.unique(_rows_of(block) // step[0]) * step[0]
    first_col = block.col - block.col % step[1]
    for row in bands.tolist():
        for col in range(first_col, block.col + block.cols, step[1]):
            yield block.main, row, col


def _nothing(rect: Lost) -> _Held:
    return np.zeros((rect.row_end - rect.row, rect.col_end - rect.col), np.bool_)


def _mark(held: _Held, rect: Lost, block: JournalBlock) -> None:
    rows = _rows_of(block)
    rows = rows[(rows >= rect.row) & (rows < rect.row_end)] - rect.row
    held[rows, max(block.col - rect.col, 0) : max(block.col + block.cols - rect.col, 0)] = True


def _rest(rect: Lost, held: _Held | None) -> Iterator[Lost]:
    """Yield the rows of a chunk that are not wholly held."""
    if held is None:
        yield rect
        return
    edges = np.flatnonzero(np.diff(~held.all(axis=1), prepend=False, append=False))
    for start, stop in edges.reshape(-1, 2).tolist():
        yield replace(rect, row=rect.row + start, row_end=rect.row + stop)


def _joined(parts: Iterable[Lost]) -> Iterator[Lost]:
    """Join parts of the same columns whose rows follow each other."""
    last: Lost | None = None
    for part in parts:
        if last is not None and part == replace(
            part, main=last.main, row=last.row_end, col=last.col, col_end=last.col_end
        ):
            last = replace(last, row_end=part.row_end)
            continue
        if last is not None:
            yield last
        last = part
    if last is not None:
        yield last
