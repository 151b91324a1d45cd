"""One number for each row of a block: what a live map shows. Pure numpy, which lets the GIL go.

Of complex elements the magnitude counts, of a compound its first field. A block may hold some of a
main's columns; what is found of a row in several blocks is put together by `combine`, weighted with
the columns that each value stands for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Elements = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
Values = npt.NDArray[np.float32]

MEAN = "mean"
MAX = "max"
AT = "at:"
LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Piece:
    """Values of some rows.

    Parameters
    ----------
    rows
        Distinct row numbers.
    cols
        Columns that each value is taken over.
    values
        One for each row.
    column
        The one that the values are of, where that is not known beforehand.
    """

    rows: Rows
    cols: int
    values: Values
    column: int | None = None


def plain(elements: Elements) -> Elements:
    """Return real numbers: a compound's first field, a complex number's magnitude."""
    names = elements.dtype.names
    if names:
        elements = elements[names[0]]
    return np.abs(elements) if elements.dtype.kind == "c" else elements


def column_of(reduction: str) -> int | None:
    """Return the column of an ``at:`` reduction, None for another."""
    return int(reduction.removeprefix(AT)) if reduction.startswith(AT) else None


def reduce_block(elements: Elements, col: int, reduction: str) -> Values | None:
    """Return a float32 for each row of a block.

    Parameters
    ----------
    elements
        Shape (rows, cols), of the main's dtype.
    col
        The main's column that the first one is.
    reduction
        ``mean``, ``max``, ``at:<column>``, or ``latest`` for the block's last column.

    Returns
    -------
    None if it needs a column that the block does not have.
    """
    column = column_of(reduction)
    with np.errstate(over="ignore", invalid="ignore"):  # float32 may not hold it: an infinity
        if column is not None:
            if not col <= column < col + elements.shape[1]:
                return None
            values = plain(elements[:, column - col])
        elif reduction == LATEST:
            values = plain(elements[:, -1])
        elif reduction == MAX:
            values = plain(elements).max(axis=1)
        else:
            numbers = plain(elements)
            values = numbers.mean(axis=1, dtype=_summed_as(numbers.dtype))
        return values.astype(np.float32)


def _summed_as(dtype: np.dtype[Any]) -> type[np.floating[Any]]:
    """Return what to sum in: numpy sums float32 pairwise, and twice as fast as anything else."""
    return np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64


def combine(pieces: list[Piece], n_cols: int, reduction: str) -> Iterator[Piece]:
    """Put pieces together: each row once at most, and one piece for each number of columns.

    Of ``latest`` only the column that came last counts.

    Parameters
    ----------
    pieces
        Each of elements that no other one has.
    n_cols
        The main's columns.
    """
    if reduction == LATEST:
        pieces = [piece for piece in pieces if piece.column == pieces[-1].column]
    elif column_of(reduction) is None:
        whole = [piece for piece in pieces if piece.cols == n_cols]
        parts = _merge_equal_rows([p for p in pieces if p.cols != n_cols], reduction)
        pieces = whole + (parts if _are_apart(parts) else list(_merge_rows(parts, reduction)))
    for cols in sorted({piece.cols for piece in pieces}):
        alike = [piece for piece in pieces if piece.cols == cols]
        rows = np.concatenate([piece.rows for piece in alike])
        values = np.concatenate([piece.values for piece in alike])
        yield Piece(rows, cols, values, alike[0].column)


def _merge_equal_rows(pieces: list[Piece], reduction: str) -> list[Piece]:
    """Merge pieces of the same rows, as blocks of columns are: quicker than by sorting."""
    merged: dict[tuple[int, int, int], Piece] = {}
    for piece in pieces:
        key = len(piece.rows), int(piece.rows[0]), int(piece.rows[-1])
        other = merged.get(key)
        if other is None:
            merged[key] = piece
        elif np.array_equal(other.rows, piece.rows):
            merged[key] = _add(other, piece, reduction)
        else:
            return pieces
    return list(merged.values())


def _add(one: Piece, other: Piece, reduction: str) -> Piece:
    cols = one.cols + other.cols
    if reduction == MAX:
        return Piece(one.rows, cols, np.maximum(one.values, other.values))
    share = np.float32(other.cols / cols)
    return Piece(one.rows, cols, one.values + (other.values - one.values) * share)


def _are_apart(pieces: list[Piece]) -> bool:
    """Tell, at a glance, that no row stands in two pieces; a false no only costs time."""
    bounds = sorted((int(piece.rows.min()), int(piece.rows.max())) for piece in pieces)
    return all(high < low for (_, high), (low, _) in pairwise(bounds))


def _merge_rows(pieces: list[Piece], reduction: str) -> Iterator[Piece]:
    """Merge values of the same row, whatever pieces they stand in."""
    rows = np.concatenate([piece.rows for piece in pieces])
    values = np.concatenate([piece.values for piece in pieces])
    cols = np.concatenate([np.full(len(piece.rows), piece.cols) for piece in pieces])
    order = np.argsort(rows, kind="stable")
    rows, values, cols = rows[order], values[order], cols[order]
    starts = np.flatnonzero(np.diff(rows, prepend=rows[:1] - 1))
    weights = np.add.reduceat(cols, starts)
    if reduction == MAX:
        found = np.maximum.reduceat(values, starts)
    else:
        found = (np.add.reduceat(values * cols, starts) / weights).astype(np.float32)
    for weight in np.unique(weights).tolist():
        chosen = weights == weight
        yield Piece(rows[starts][chosen], int(weight), found[chosen])
