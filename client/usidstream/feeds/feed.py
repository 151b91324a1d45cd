"""What every feed offers: a layout, and the value of any element, whenever it is asked for.

Values depend on the seed, the main and the element alone, never on the order in which they were
asked for, so that a file can be compared with its feed long after the scan.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..layout import Dimension, PositionTable, ScanLayout

ALL = slice(None)

Floats = npt.NDArray[np.float32]
Coordinate = npt.NDArray[np.float64]
Rows = npt.NDArray[np.integer[Any]]


class Feed(Protocol):
    """A source of a scan's values."""

    @property
    def layout(self) -> ScanLayout:
        """What the feed's scan is."""
        ...

    def values(self, main: str, rows: Rows, cols: slice = ALL) -> npt.NDArray[Any]:
        """Return a main's values, shape (len(rows), columns), C order, in the main's dtype.

        Parameters
        ----------
        main
            Name of a main of the layout.
        rows
            1-D integer array of positions, in any order.
        cols
            A range of spectroscopic steps with step 1.
        """
        ...


def make_grid(
    size: tuple[int, ...], labels: tuple[str, ...], units: str, extent: float
) -> list[Dimension]:
    """Return position dimensions of ``size`` steps that all have the pitch of the first.

    The first dimension spans ``extent``.
    """
    pitch = extent / size[0]
    return [
        Dimension.regular(label, units, start=0.0, step=pitch, size=steps)
        for label, steps in zip(labels, size, strict=True)
    ]


class UnitSquare:
    """Puts the positions of a layout on a square from 0 to 1, whatever kind of positions it has.

    The first two dimensions (or columns of a table) count; slower dimensions shift both, so that
    each slice of a volume looks different.
    """

    def __init__(self, layout: ScanLayout) -> None:
        self._shape = layout.position_shape
        self._table: npt.NDArray[np.floating[Any]] | None = None
        if isinstance(layout.positions, PositionTable):
            self._table = layout.positions.values
            self._low = self._table.min(axis=0)
            span = self._table.max(axis=0) - self._low
            self._span = np.where(span > 0, span, 1)

    def __call__(self, rows: Rows) -> tuple[Coordinate, Coordinate]:
        """Return x and y of positions, shape (len(rows),) each."""
        if self._table is not None:
            unit = ((self._table[rows] - self._low) / self._span).astype(np.float64)
            return unit[:, 0], unit[:, min(1, unit.shape[1] - 1)]
        indices = np.unravel_index(rows, self._shape, order="F")
        fractions = [index / size for index, size in zip(indices, self._shape, strict=True)]
        flat = np.zeros(len(rows))
        shift = sum(fractions[2:], flat)
        y = fractions[1] if len(fractions) > 1 else flat
        return fractions[0] + shift, y + shift / math.pi
