"""The previews of one main: blocks go in, messages for its viewers come out. No socket, no thread.

Reductions become increments for live maps; the row that came last is kept on a canvas, decimated to
what a screen can show. What was left out is counted, so that viewers know to read it from the file.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from usidstream import wire
from usidstream.layout import MainLayout

from ..storage import JournalBlock
from .reductions import LATEST, Elements, Piece, Rows, column_of, combine, plain, reduce_block
from .subscriptions import NEWEST

Published = tuple[str, wire.Message]


class MainFeed:
    """What viewers see of one main.

    Parameters
    ----------
    scan, number
        The scan's id, and the main's number in its layout.
    main
        The main.
    """

    def __init__(self, scan: str, number: int, main: MainLayout) -> None:
        self._scan = scan
        self._number = number
        self._main = main
        self._reductions: tuple[str, ...] = ()
        self._pieces: dict[str, list[Piece]] = {}
        self._skipped: Counter[str] = Counter()
        self._seq: Counter[str] = Counter()
        self._canvas = Canvas(main)
        self._has_newest = False

    def watch(self, wanted: Sequence[str]) -> None:
        """Serve these from now on: reductions, of columns that exist, and ``newest``."""
        n_cols = self._main.n_spectroscopic
        self._has_newest = NEWEST in wanted
        self._reductions = tuple(
            name
            for name in wanted
            if name != NEWEST and ((column := column_of(name)) is None or column < n_cols)
        )
        self._pieces = {name: self._pieces.get(name, []) for name in self._reductions}
        for name in self._skipped.keys() - set(self._reductions):
            del self._skipped[name]

    def skip(self, rows: int) -> None:
        """Count rows that are left out."""
        for name in self._reductions:
            self._skipped[name] += rows

    def reduce(self, block: JournalBlock) -> None:
        """Take a block for the maps."""
        elements, rows = self._elements(block), rows_of(block)
        for name in self._reductions:
            values = reduce_block(elements, block.col, name)
            if values is not None:
                is_single = column_of(name) is not None or name == LATEST
                cols = 1 if is_single else block.cols
                column = block.col + block.cols - 1 if name == LATEST else None
                self._pieces[name].append(Piece(rows, cols, values, column))

    def show(self, blocks: Sequence[JournalBlock]) -> None:
        """Take the blocks of this main, in order, for the newest row."""
        if not self._has_newest or not blocks:
            return
        row = _last_row(blocks[-1])
        for block in blocks:
            line = _line_of(block, row)
            if line is not None:
                self._canvas.draw(row, block.col, self._elements(block)[line])

    def messages(self) -> Iterator[Published]:
        """Return what there is to tell, and count from here."""
        for name in self._reductions:
            yield from self._increments(name)
        newest = self._canvas.take() if self._has_newest else None
        if newest is not None:
            row, values = newest
            yield (
                self._topic(NEWEST),
                wire.Newest(
                    scan=self._scan,
                    main=self._number,
                    name=self._main.name,
                    row=row,
                    shape=self._canvas.shape,
                    steps=self._canvas.steps,
                    frames=(values.astype("<f4").tobytes(),),
                ),
            )

    def _increments(self, name: str) -> Iterator[Published]:
        pieces, self._pieces[name] = self._pieces[name], []
        most = wire.MAX_INCREMENT_ROWS_COUNT
        for piece in combine(pieces, self._main.n_spectroscopic, name):
            for start in range(0, len(piece.rows), most):
                part = slice(start, start + most)
                taken = Piece(piece.rows[part], piece.cols, piece.values[part], piece.column)
                yield self._increment(name, taken)
        if self._skipped[name]:
            yield self._increment(name, Piece(np.empty(0, np.int64), 0, np.empty(0, np.float32)))

    def _increment(self, name: str, piece: Piece) -> Published:
        self._seq[name] += 1
        form, packed = wire.pack_rows(piece.rows)
        return self._topic(name), wire.Increment(
            scan=self._scan,
            main=self._number,
            name=self._main.name,
            reduction=name,
            seq=self._seq[name],
            rows=form,
            cols=piece.cols,
            column=piece.column,
            n_cols=self._main.n_spectroscopic,
            skipped=self._skipped.pop(name, 0),
            frames=(packed, piece.values.astype("<f4").tobytes()),
        )

    def _topic(self, reduction: str) -> str:
        return wire.preview_topic(self._scan, self._number, reduction)

    def _elements(self, block: JournalBlock) -> Elements:
        flat = np.frombuffer(block.data, self._main.np_dtype)
        return flat.reshape(block.rows, block.cols)


class Canvas:
    """The newest row of a main, decimated.

    Attributes
    ----------
    shape, steps
        By spectroscopic dimension, fastest first: how many elements are shown, and that every
        how-manyth of the main's is.
    """

    def __init__(self, main: MainLayout) -> None:
        sizes = [dimension.size for dimension in main.spectroscopic] or [1]
        if len(sizes) > wire.MAX_NEWEST_DIMENSIONS:
            sizes = [math.prod(sizes)]
        self.steps = choose_steps(sizes, wire.MAX_NEWEST_POINTS_COUNT)
        self.shape = _shown(sizes, self.steps)
        self._columns = _columns(sizes, self.steps)
        self._row = -1
        self._is_new = False
        self._values = np.full(len(self._columns), np.nan, np.float32)

    def draw(self, row: int, col: int, elements: npt.NDArray[Any]) -> None:
        """Take elements of a row, from column ``col`` on; another row clears the canvas."""
        if row != self._row:
            self._row = row
            self._values.fill(np.nan)
        first, last = np.searchsorted(self._columns, (col, col + len(elements)))
        chosen = elements[self._columns[first:last] - col]
        with np.errstate(over="ignore"):
            self._values[first:last] = plain(chosen)
        self._is_new = True

    def take(self) -> tuple[int, npt.NDArray[np.float32]] | None:
        """Return row number and values, or None if nothing was drawn since the last call."""
        if not self._is_new:
            return None
        self._is_new = False
        return self._row, self._values


def choose_steps(sizes: Sequence[int], most: int) -> list[int]:
    """Return the step in each dimension so that at most ``most`` elements are shown.

    Whichever dimension shows most is halved first.
    """
    steps = [1] * len(sizes)
    while math.prod(shown := _shown(sizes, steps)) > most:
        steps[shown.index(max(shown))] *= 2
    return steps


def _shown(sizes: Sequence[int], steps: Sequence[int]) -> list[int]:
    return [-(-size // step) for size, step in zip(sizes, steps, strict=True)]


def _columns(sizes: Sequence[int], steps: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return the numbers of the columns that are shown, rising."""
    columns = np.zeros(1, np.int64)
    stride = math.prod(sizes)
    for size, step in zip(reversed(sizes), reversed(steps), strict=True):
        stride //= size
        columns = np.add.outer(columns, np.arange(0, size, step) * stride).ravel()
    return columns


def rows_of(block: JournalBlock) -> Rows:
    """Return a block's row numbers, in the order of its elements."""
    if block.numbers is None:
        return np.arange(block.row, block.row + block.rows)
    return np.frombuffer(block.numbers, "<u8").astype(np.int64)


def _last_row(block: JournalBlock) -> int:
    if block.numbers is None:
        return block.row + block.rows - 1
    return int(rows_of(block)[-1])


def _line_of(block: JournalBlock, row: int) -> int | None:
    """Return where in a block a row stands, None if it does not."""
    if block.numbers is None:
        return row - block.row if block.row <= row < block.row + block.rows else None
    found = np.flatnonzero(rows_of(block) == row)
    return int(found[0]) if len(found) else None
