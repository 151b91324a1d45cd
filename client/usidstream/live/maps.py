"""A live map: increments put together, one value a position. Pure numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .events import PreviewRows


class LiveMap:
    """What is known of one reduction of a main.

    Parameters
    ----------
    n_positions
        N.

    Attributes
    ----------
    values
        Shape (N,), float32; NaN where nothing is known.
    cols
        Shape (N,), uint32: of how many columns each value was made.
    column
        The column that values of ``latest`` are of: the others are forgotten as soon as it changes.
    is_exact
        Whether nothing was left out or lost on the way since the first increment. Where it was, the
        file has the rest.
    """

    def __init__(self, n_positions: int) -> None:
        self.values: npt.NDArray[np.float32] = np.full(n_positions, np.nan, np.float32)
        self.cols: npt.NDArray[np.uint32] = np.zeros(n_positions, np.uint32)
        self.column: int | None = None
        self.is_exact = True
        self._seq: int | None = None

    def add(self, event: PreviewRows) -> None:
        """Take an increment.

        Raises
        ------
        IndexError
            It names a position that the scan does not have.
        """
        is_next = self._seq is None or event.seq == self._seq + 1
        self._seq = event.seq
        self.is_exact = self.is_exact and is_next and not event.skipped
        if event.column is not None and event.column != self.column:
            self.column = event.column
            self.values[:], self.cols[:] = np.nan, 0
        rows = event.rows
        is_single = event.column is not None or event.reduction.startswith("at:")
        if is_single or event.cols == event.n_cols:
            self.values[rows], self.cols[rows] = event.values, event.cols
            return
        held = self.cols[rows]
        self.values[rows] = _combined(self.values[rows], held, event)
        self.cols[rows] = np.minimum(held + event.cols, event.n_cols)

    def fill(self, rows: npt.NDArray[np.int64], values: npt.NDArray[np.float32]) -> None:
        """Take values of whole rows that were read from the file."""
        self.values[rows] = values
        self.cols[rows] = np.iinfo(np.uint32).max


def _combined(
    known: npt.NDArray[np.float32], cols: npt.NDArray[np.uint32], event: PreviewRows
) -> npt.NDArray[np.float32]:
    """Put values over some columns together with what is known of others."""
    if event.reduction == "max":
        combined = np.maximum(known, event.values)
    else:
        share = (event.cols / (cols.astype(np.float64) + event.cols)).astype(np.float32)
        combined = known + (event.values - known) * share
    found: npt.NDArray[np.float32] = np.where(cols == 0, event.values, combined)
    return found
