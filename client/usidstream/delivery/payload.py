"""A block's bytes and address, before they get a place in any connection's sequence.

Knows how a block is cut into smaller ones and how its checksum is made; must never know sequence
numbers, credit or connections.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..wire import Frame, block_crc
from .coverage import Coverage, Rows

NUMBER_NBYTES = 8
"""Bytes of one row number of a scattered block."""


@dataclass(slots=True)
class Payload:
    """Elements of one main that travel in one message.

    Parameters
    ----------
    main
        The main's name.
    row, rows, col, cols
        The address; for scattered rows ``row`` is 0 and ``numbers`` holds them.
    data
        The elements as bytes: rows x cols, C order, little-endian.
    numbers
        Row numbers as u64 LE, or None where rows follow one another.
    single
        The rows were written one by one, so that each stands for itself: if one is refused, the
        others still count.
    wholes
        Spans of rows, counted from the block's first, that were written in one call: if a row of
        such a span is refused, the span is.
    """

    main: str
    row: int
    rows: int
    col: int
    cols: int
    data: memoryview
    numbers: memoryview | None = None
    single: bool = False
    wholes: Sequence[tuple[int, int]] = ()
    crc: int = field(default=-1, repr=False)
    is_handed_in: bool = field(default=False, repr=False, compare=False)
    """Delivery has it, and those that came with it."""

    def __post_init__(self) -> None:
        self.crc = block_crc(self.row, self.rows, self.col, self.cols, self.frames)

    @property
    def frames(self) -> list[Frame]:
        """The raw frames of the message."""
        return [self.data] if self.numbers is None else [self.numbers, self.data]

    @property
    def nbytes(self) -> int:
        """Bytes of the raw frames: what credit and retention count."""
        return self.data.nbytes + (0 if self.numbers is None else self.numbers.nbytes)

    @property
    def row_nbytes(self) -> int:
        """Bytes of one row's elements."""
        return self.data.nbytes // self.rows

    def row_numbers(self) -> Rows:
        """Return the numbers of the rows, int64."""
        if self.numbers is None:
            return np.arange(self.row, self.row + self.rows, dtype=np.int64)
        return np.frombuffer(self.numbers, dtype="<u8").astype(np.int64)

    def held_by(self, coverage: Coverage) -> bool:
        """Tell whether every element is covered."""
        if self.numbers is None:
            return coverage.holds_span(self.row, self.rows, self.col, self.cols)
        return bool(coverage.holds(self.row_numbers(), self.col, self.cols).all())

    def address(self) -> dict[str, Any]:
        """Return the address as an error's details."""
        first = int(self.row_numbers()[0]) if self.numbers is not None else self.row
        return {
            "main": self.main,
            "row": first,
            "rows": self.rows,
            "col": self.col,
            "cols": self.cols,
        }

    def describe(self) -> str:
        """Return the address in words."""
        if self.numbers is not None:
            numbers = self.row_numbers().tolist()
            shown = ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
            rows = f"rows {shown}"
        else:
            last = self.row + self.rows
            rows = f"row {self.row}" if self.rows == 1 else f"rows {self.row} to {last - 1}"
        return f"main {self.main!r}, {rows}, columns {self.col} to {self.col + self.cols - 1}"

    def split(self, max_bytes: int) -> Iterator[Payload]:
        """Cut into blocks of at most ``max_bytes``: by rows, then by columns of one row."""
        if self.nbytes <= max_bytes:
            yield self
        elif self.rows > 1:
            extra = 0 if self.numbers is None else NUMBER_NBYTES
            step = max(1, max_bytes // (self.row_nbytes + extra))
            for start in range(0, self.rows, step):
                yield from self._part(start, min(start + step, self.rows)).split(max_bytes)
        else:
            yield from self._split_row(max_bytes)

    def _part(self, start: int, stop: int) -> Payload:
        size = self.row_nbytes
        if self.numbers is not None:
            numbers = self.numbers[start * NUMBER_NBYTES : stop * NUMBER_NBYTES]
            row = 0
        else:
            numbers, row = None, self.row + start
        data = self.data[start * size : stop * size]
        wholes = [
            (max(a, start) - start, min(b, stop) - start)
            for a, b in self.wholes
            if a < stop and b > start
        ]
        return replace(self, row=row, rows=stop - start, data=data, numbers=numbers, wholes=wholes)

    def _split_row(self, max_bytes: int) -> Iterator[Payload]:
        item = self.data.nbytes // self.cols
        row = self.row if self.numbers is None else int(self.row_numbers()[0])
        step = max(1, max_bytes // item)
        for start in range(0, self.cols, step):
            stop = min(start + step, self.cols)
            yield replace(
                self,
                row=row,
                col=self.col + start,
                cols=stop - start,
                data=self.data[start * item : stop * item],
                numbers=None,
                single=False,
                wholes=(),
            )

    def refused_with(self, hit: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return which rows go when those are refused: with each the span it was written in."""
        refused = hit.copy()
        for start, stop in self.wholes:
            refused[start:stop] = hit[start:stop].any()
        return refused

    def without(self, refused: npt.NDArray[np.bool_]) -> Payload | None:
        """Return what is left when some of its rows go, or None."""
        kept = ~refused
        if not kept.any():
            return None
        table = np.frombuffer(self.data, dtype=np.uint8).reshape(self.rows, -1)
        rest = scattered(
            self.main,
            self.row_numbers()[kept],
            self.col,
            self.cols,
            table[kept],
            single=self.single,
        )
        before = np.concatenate(([0], np.cumsum(kept))).tolist()
        spans = [(before[start], before[stop]) for start, stop in self.wholes]
        rest.wholes = [(start, stop) for start, stop in spans if stop > start]
        return rest

    def only(self, chosen: npt.NDArray[np.bool_]) -> Payload:
        """Return some of its rows; at least one must be chosen."""
        rest = self.without(~chosen)
        if rest is None:
            raise ValueError("no row was chosen")
        return rest


def as_bytes(array: npt.NDArray[Any]) -> memoryview:
    """Return a C-contiguous array's bytes without a copy."""
    return array.reshape(-1).view(np.uint8).data


def scattered(
    main: str,
    rows: Rows | Sequence[int],
    col: int,
    cols: int,
    data: npt.NDArray[Any],
    *,
    single: bool = False,
) -> Payload:
    """Make a block of the given rows; contiguous where they follow one another.

    Parameters
    ----------
    rows
        Row numbers, (n,).
    data
        C-contiguous array whose first axis runs over the rows.
    """
    numbers = np.asarray(rows, dtype="<u8")
    n, first = len(numbers), int(numbers[0])
    if n == 1 or (int(numbers[-1]) == first + n - 1 and bool((np.diff(numbers) == 1).all())):
        return Payload(main, first, n, col, cols, as_bytes(data), single=single)
    return Payload(main, 0, n, col, cols, as_bytes(data), as_bytes(numbers), single=single)
