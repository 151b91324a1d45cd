"""The values of a map as they come in, and which lines of it are new. Pure numpy.

Previews come in any order, over some or all columns, more than once; the file tells the rest. Each
line has the version at which it last changed, so that any number of browsers can ask what is new
since they looked, and a line is sent once to each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .views import MAX_SIDE_PIXELS, Kind, MainView

Values = npt.NDArray[np.float32]
Rows = npt.NDArray[np.integer[Any]]
Flags = npt.NDArray[np.bool_]

BLOCK_ROWS_COUNT = 4096
"""Rows of a line or a cloud of points that count as one line of a picture."""

MAX_POINTS_COUNT = 20_000
"""Of a line or a cloud in the browser; more are thinned out."""


class MapModel:
    """One value for each position of a main, NaN where there is none yet.

    Parameters
    ----------
    view
        Says which positions make a line of the picture.
    reduction
        ``mean``, ``max`` or ``at:<column>``.

    Attributes
    ----------
    values : (N,) float32
    version : int
        Grows with every change.
    newest_row : int
        The row that changed last; -1 before the first.
    """

    def __init__(self, view: MainView, reduction: str) -> None:
        self.view = view
        self.reduction = reduction
        self.values: Values = np.full(view.n_positions, np.nan, np.float32)
        self.version = 0
        self.newest_row = -1
        self._line = view.width if view.kind is Kind.MAP else BLOCK_ROWS_COUNT
        self._columns: npt.NDArray[np.int64] = np.zeros(view.n_positions, np.int64)
        self._line_versions = np.zeros(-(-view.n_positions // self._line), np.int64)

    def apply(self, rows: Rows, values: Values, cols: int, n_cols: int) -> None:
        """Take in an increment of the telemetry.

        Parameters
        ----------
        rows
            (n,) different row numbers; those outside of the main are passed over.
        values
            (n,) each taken over ``cols`` new columns of ``n_cols``.
        """
        inside = (rows >= 0) & (rows < len(self.values))
        rows, values = rows[inside], values[inside]
        if not len(rows):
            return
        had, has = self._columns[rows], np.minimum(cols, n_cols)
        is_whole = cols >= n_cols or self.reduction.startswith("at:")
        if not is_whole:
            values = self._combined(rows, values, had, int(has))
        self.values[rows] = values
        self._columns[rows] = n_cols if is_whole else np.minimum(had + has, n_cols)
        self._mark(rows)

    def _combined(self, rows: Rows, values: Values, had: npt.NDArray[np.int64], has: int) -> Values:
        known = self.values[rows]
        if self.reduction == "max":
            return np.asarray(np.fmax(known, values), np.float32)
        total = np.where(had > 0, known, 0) * had + values * np.float32(has)
        return np.asarray(total / (had + has), np.float32)

    def fill(self, rows: Rows, values: npt.NDArray[Any], n_cols: int) -> None:
        """Take in exact values, as read from the file."""
        # nothing is said of lines that stay as they are: each would be sent to every browser
        changed = ~np.equal(self.values[rows], values.astype(np.float32))
        self.values[rows] = values
        self._columns[rows] = n_cols
        if changed.any():
            newest = self.newest_row
            self._mark(rows[changed])
            self.newest_row = newest if newest >= 0 else self.newest_row

    def _mark(self, rows: Rows) -> None:
        self.version += 1
        self.newest_row = int(rows[-1])
        if self.view.row_of_cell is not None:
            self._line_versions[:] = self.version
        else:
            self._line_versions[np.unique(rows // self._line)] = self.version

    def lacking(self, complete: Flags, n_cols: int, most: int) -> Rows:
        """Return rows that are complete in the file and not exactly known here, at most so many."""
        return np.flatnonzero(complete & (self._columns < n_cols))[:most]

    def forget_progress(self) -> None:
        """Take no row for exact any more: what came before a restart may have been lost."""
        self._columns[:] = 0

    def lines_since(self, version: int, plane: int = 0) -> Flags:
        """Return for each line of a plane whether it has changed since a version."""
        height = self.view.height if self.view.kind is Kind.MAP else len(self._line_versions)
        return np.asarray(self._line_versions[plane * height :][:height] > version)

    def picture(self, plane: int = 0) -> Values:
        """Return a plane as an image, (height, width), the first line at the lower edge."""
        view = self.view
        cells = slice(plane * view.height * view.width, (plane + 1) * view.height * view.width)
        flat = self.values[cells if view.row_of_cell is None else view.row_of_cell[cells]]
        image = flat.reshape(view.height, view.width)
        right, up = view.moving[:2]
        return image[:: -1 if up.is_descending else 1, :: -1 if right.is_descending else 1]

    @property
    def thinning(self) -> tuple[int, int]:
        """Of how many lines, and pixels in a line, one is drawn."""
        return -(-self.view.height // MAX_SIDE_PIXELS), -(-self.view.width // MAX_SIDE_PIXELS)

    @property
    def n_known(self) -> int:
        """The number of positions that have a value."""
        return int(np.count_nonzero(~np.isnan(self.values)))


def runs(flags: Flags) -> list[tuple[int, int]]:
    """Return the half-open ranges in which flags are set."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
