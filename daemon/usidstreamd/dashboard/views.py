"""What kind of picture a main needs, and over which axes: told by its layout or by its file.

Pure: knows neither Bokeh nor telemetry. Rows of a grid count with the first dimension fastest; a
picture has the fastest dimension to the right and the next upwards, a plane for each step of those
that are slower still. Dimensions of a single step take no part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from usidstream.layout import Dimension, MainLayout, PositionTable, ScanLayout

Floats = npt.NDArray[np.float64]

MAX_SIDE_PIXELS = 1024
"""Of a picture in the browser; larger ones are thinned out."""

UNEVEN_STEP_FRACTION = 0.01
"""Steps that differ by more than this part of their mean make an axis of step numbers."""

NO_UNITS = "a. u."
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# Values outside of 10^-2 to 10^4 are shown with their power of ten in the label.
_PLAIN_EXPONENTS = range(-2, 5)
_PHASE_WORDS = ("phase", "angle", "azimuth")


class Kind(Enum):
    """How the positions of a scan are drawn."""

    MAP = "map"
    LINE = "line"
    POINT = "point"
    CLOUD = "cloud"


@dataclass(frozen=True)
class Axis:
    """One dimension as it is drawn.

    Parameters
    ----------
    name, units
        As in the layout.
    values
        (n,) float64.
    """

    name: str
    units: str
    values: Floats

    @property
    def is_even(self) -> bool:
        """Whether the steps are of one length and one sign, so that an image can be laid on it."""
        steps = np.diff(self.values)
        if not len(steps) or not steps.mean():
            return len(steps) == 0
        return bool(np.abs(steps / steps.mean() - 1).max() < UNEVEN_STEP_FRACTION)

    @property
    def power(self) -> int:
        """The power of ten that the numbers are divided by; 0 for handy ones."""
        largest = float(np.abs(self.values).max(initial=0.0))
        power = math.floor(math.log10(largest)) if largest > 0 and math.isfinite(largest) else 0
        return 0 if power in _PLAIN_EXPONENTS else 3 * (power // 3)

    @property
    def value_label(self) -> str:
        """Name and units, with the power of ten."""
        units = "" if self.units == NO_UNITS else self.units
        factor = f"10{str(self.power).translate(_SUPERSCRIPTS)}" if self.power else ""
        inside = " ".join(part for part in (factor, units) if part)
        return f"{self.name} ({inside})" if inside else self.name

    @property
    def scaled(self) -> Floats:
        """(n,) the values by the power of ten: where a curve or a point stands."""
        return self.values / 10.0**self.power

    @property
    def label(self) -> str:
        """What stands at an image's axis: as `value_label`, or that steps are counted."""
        return self.value_label if self.is_even else f"{self.name}, step number"

    @property
    def shown(self) -> Floats:
        """(n,) where an image's pixels stand: as `scaled`, or step numbers."""
        return self.scaled if self.is_even else np.arange(len(self.values), dtype=np.float64)

    @property
    def edges(self) -> tuple[float, float]:
        """The outer edges of the first and the last step's pixels, ascending."""
        shown = self.shown
        half = 0.5 * abs(shown[-1] - shown[0]) / (len(shown) - 1) if len(shown) > 1 else 0.5
        return float(shown.min() - half), float(shown.max() + half)

    @property
    def is_descending(self) -> bool:
        """Whether values fall from step to step."""
        return bool(self.is_even and len(self.values) > 1 and self.values[-1] < self.values[0])

    def step_at(self, shown: float) -> int:
        """Return the step whose pixel holds a coordinate, clipped to those there are."""
        low, high = self.edges
        step = int((shown - low) / (high - low) * len(self.values)) if high > low else 0
        step = min(max(step, 0), len(self.values) - 1)
        return len(self.values) - 1 - step if self.is_descending else step


@dataclass(frozen=True)
class MainView:
    """What is needed to draw one main.

    Parameters
    ----------
    name, quantity, units
        As in the layout.
    n_positions, n_columns
        N and M.
    positions
        The axes of a grid, fastest first; of a table of positions its coordinates, each (N,).
    spectrum
        The spectroscopic axes, fastest first.
    is_table
        Positions are a table and make no grid.
    row_of_cell
        For a grid whose rows stand in another order, the row of each cell; else None.
    is_stack
        Images come one after another, each a column of the main.
    """

    name: str
    quantity: str
    units: str
    n_positions: int
    n_columns: int
    positions: tuple[Axis, ...]
    spectrum: tuple[Axis, ...]
    is_table: bool = False
    row_of_cell: npt.NDArray[np.integer[Any]] | None = None
    is_stack: bool = False

    @property
    def label(self) -> str:
        """Quantity and units."""
        has_units = self.units and self.units != NO_UNITS
        return f"{self.quantity} ({self.units})" if has_units else self.quantity

    @property
    def is_phase(self) -> bool:
        """Whether values are angles, so that a cyclic palette suits them."""
        words = f"{self.name} {self.quantity}".lower()
        return self.units.lower() in {"rad", "deg", "°", "degrees"} and any(
            word in words for word in _PHASE_WORDS
        )

    @property
    def kind(self) -> Kind:
        """How the positions are drawn."""
        if self.n_positions == 1:
            return Kind.POINT
        if self.is_table:
            return Kind.CLOUD if len(self.positions) > 1 else Kind.LINE
        return Kind.MAP if len(self.moving) > 1 else Kind.LINE

    @property
    def moving(self) -> tuple[Axis, ...]:
        """The position axes of more than one step, fastest first."""
        found = tuple(axis for axis in self.positions if len(axis.values) > 1)
        return found or self.positions[:1]

    @property
    def width(self) -> int:
        """The number of positions in one line of the picture."""
        return len(self.moving[0].values) if self.kind is Kind.MAP else self.n_positions

    @property
    def height(self) -> int:
        """The number of lines of a picture."""
        return len(self.moving[1].values) if self.kind is Kind.MAP else 1

    @property
    def n_planes(self) -> int:
        """The number of pictures: steps of the dimensions beyond the second."""
        return self.n_positions // (self.width * self.height)

    @property
    def reductions(self) -> tuple[str, ...]:
        """What can be shown of each spectrum, besides the value at a column; the best first."""
        if self.n_columns == 1:
            return ("at:0",)
        return ("latest", "mean", "max") if self.is_stack else ("mean", "max")

    @property
    def moving_spectrum(self) -> tuple[Axis, ...]:
        """The spectroscopic axes of more than one step, fastest first."""
        return tuple(axis for axis in self.spectrum if len(axis.values) > 1)

    def plane_of(self, row: int) -> int:
        """Return the number of the plane that holds a row."""
        return self.cell_of(row) // (self.width * self.height)

    def cell_of(self, row: int) -> int:
        """Return where in the grid a row stands."""
        if self.row_of_cell is None:
            return row
        return int(np.flatnonzero(self.row_of_cell == row)[0])

    def row_of(self, cell: int) -> int:
        """Return the row that stands at a cell of the grid."""
        return cell if self.row_of_cell is None else int(self.row_of_cell[cell])

    def row_at(self, x: float, y: float, plane: int = 0) -> int:
        """Return the row whose pixel or point is at, or nearest to, shown coordinates."""
        if self.kind is Kind.POINT:
            return 0
        if self.is_table:
            return _nearest(self.positions[:2], (x, y))
        if self.kind is Kind.LINE:
            return self.row_of(int(np.abs(self.moving[0].scaled - x).argmin()))
        right, up = self.moving[:2]
        line = plane * self.height + up.step_at(y)
        return self.row_of(line * self.width + right.step_at(x))

    def place_of(self, row: int) -> tuple[float, float]:
        """Return the shown coordinates of a row; of a line the second is 0."""
        if self.is_table:
            found = [float(axis.scaled[row]) for axis in self.positions[:2]]
            return found[0], found[1] if len(found) > 1 else 0.0
        cell = self.cell_of(row)
        if self.kind is not Kind.MAP:
            return float(self.moving[0].scaled[cell % len(self.moving[0].values)]), 0.0
        right, up = self.moving[:2]
        return (
            float(right.shown[cell % self.width]),
            float(up.shown[cell // self.width % self.height]),
        )

    def words_for(self, row: int) -> str:
        """Say where a row is, by the values of its dimensions."""
        if self.is_table:
            found = [(axis, row) for axis in self.positions]
        else:
            cell, found = self.cell_of(row), []
            for axis in self.positions:
                cell, step = divmod(cell, len(axis.values))
                found.append((axis, step))
        return ", ".join(
            f"{axis.name} {axis.values[step]:.4g} {'' if axis.units == NO_UNITS else axis.units}"
            .rstrip()
            for axis, step in found
            if len(axis.values) > 1
        )  # fmt: skip


def _nearest(axes: Sequence[Axis], place: tuple[float, float]) -> int:
    """Return the row nearest to a place, by the extents of the axes."""
    distance = np.zeros(len(axes[0].values))
    for axis, at in zip(axes, place, strict=False):
        distance += ((axis.scaled - at) / (np.ptp(axis.scaled) or 1.0)) ** 2
    return int(distance.argmin())


def views_of_layout(layout: ScanLayout) -> list[MainView]:
    """Return what is needed to draw each main of a scan."""
    positions = layout.positions
    if isinstance(positions, PositionTable):
        table = np.asarray(positions.values, np.float64)
        columns = zip(positions.labels, positions.units, table.T, strict=True)
        axes = tuple(Axis(label, units, column) for label, units, column in columns)
    else:
        axes = tuple(map(_axis_of, positions))
    is_table = isinstance(positions, PositionTable)
    return [_view_of_main(layout, main, axes, is_table) for main in layout.mains]


def _view_of_main(
    layout: ScanLayout, main: MainLayout, axes: tuple[Axis, ...], is_table: bool
) -> MainView:
    return MainView(
        name=main.name,
        quantity=main.quantity,
        units=main.units,
        n_positions=layout.n_positions,
        n_columns=main.n_spectroscopic,
        positions=axes,
        spectrum=tuple(map(_axis_of, main.spectroscopic)),
        is_table=is_table,
        is_stack=main.order == "columns" and main.n_spectroscopic > 1,
    )


def _axis_of(dimension: Dimension) -> Axis:
    return Axis(dimension.name, dimension.units, np.asarray(dimension.values, np.float64))
