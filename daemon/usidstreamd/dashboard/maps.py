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
"""Of a cloud in the browser; more are thinned out."""

MAX_LINE_POINTS_COUNT = 4000
"""Of a line in the browser: more than a screen has columns, and a browser without a graphics card
is busy for a second with four lines of `MAX_POINTS_COUNT`. More become their envelope."""


class MapModel:
    """One value for each position of a main, NaN where there is none yet.

    Parameters
    ----------
    view
        Says which positions make a line of the picture.
    reduction
        ``mean``, ``max``, ``at:<column>`` or ``latest``.

    Attributes
    ----------
    column : int, optional
        That of ``latest``, whose values are shown alone; None before it is known.
    values : (N,) float32
    version : int
        Grows with every change.
    newest_row : int
        The row that changed last; -1 before the first.
    """

    def __init__(self, view: MainView, reduction: str) -> None:
        self.view = view
        self.reduction = reduction
        self.column: int | None = None
        self.values: Values = np.full(view.n_positions, np.nan, np.float32)
        self.version = 0
        self.newest_row = -1
        self._line = view.width if view.kind is Kind.MAP else BLOCK_ROWS_COUNT
        self._columns: npt.NDArray[np.int64] = np.zeros(view.n_positions, np.int64)
        self._line_versions = np.zeros(-(-view.n_positions // self._line), np.int64)

    def apply(
        self, rows: Rows, values: Values, cols: int, n_cols: int, column: int | None = None
    ) -> None:
        """Take in an increment of the telemetry.

        Parameters
        ----------
        rows
            (n,) different row numbers; those outside of the main are passed over.
        values
            (n,) each taken over ``cols`` new columns of ``n_cols``.
        column
            The one that values of ``latest`` are of.
        """
        self._turn_to(column)
        inside = (rows >= 0) & (rows < len(self.values))
        rows, values = rows[inside], values[inside]
        if not len(rows):
            return
        had, has = self._columns[rows], np.minimum(cols, n_cols)
        is_whole = cols >= n_cols or column is not None or self.reduction.startswith("at:")
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

    def _turn_to(self, column: int | None) -> None:
        """Forget the column before, where another one has begun."""
        if column is None or column == self.column:
            return
        self.column = column
        self.values[:], self._columns[:] = np.nan, 0
        self.version += 1
        self._line_versions[:] = self.version

    def fill(
        self, rows: Rows, values: npt.NDArray[Any], n_cols: int, column: int | None = None
    ) -> None:
        """Take in exact values, as read from the file; ``column`` as in `apply`."""
        self._turn_to(column)
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

    def lacking(self, complete: Flags, n_cols: int, most: int, column: int | None = None) -> Rows:
        """Return rows that are complete in the file and not exactly known here, at most so many.

        ``column`` is the one that the file has of ``latest``: of another than ours we know nothing.
        """
        is_ours = column is None or column == self.column
        return np.flatnonzero(complete & (self._columns < n_cols) if is_ours else complete)[:most]

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
    def has_just_turned(self) -> bool:
        """Whether less than half is known of a column that came behind another."""
        return self.column is not None and 2 * self.n_known < len(self.values)

    @property
    def n_known(self) -> int:
        """The number of positions that have a value."""
        return int(np.count_nonzero(~np.isnan(self.values)))


def envelope(values: npt.NDArray[Any], most: int) -> npt.NDArray[Any]:
    """Return the least and the greatest of each so many values, so that no peak is lost.

    Parameters
    ----------
    values
        (n,) NaN where there is none.
    most
        More than this are not returned.

    Returns
    -------
    ``values`` themselves if these are few enough.
    """
    if len(values) <= most:
        return values
    starts = _bins(len(values), most)
    low, high = np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts)
    return np.stack([low, high], axis=1).ravel()


def envelope_places(places: npt.NDArray[Any], most: int) -> npt.NDArray[Any]:
    """Return where the values of `envelope` stand: both of a bin at its first place."""
    return places if len(places) <= most else np.repeat(places[_bins(len(places), most)], 2)


def _bins(n: int, most: int) -> npt.NDArray[np.int64]:
    return np.arange(0, n, -(-2 * n // most))


def runs(flags: Flags) -> list[tuple[int, int]]:
    """Return the half-open ranges in which flags are set."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
