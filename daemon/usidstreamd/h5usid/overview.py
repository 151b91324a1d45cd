"""One figure that shows a main dataset: its map, and the mean of its spectra.

A grid makes a map of its two fastest dimensions, averaged over others; a line, a curve; a table of
positions, a cloud of points. Spectra of two dimensions, such as frames, make a picture. Positions
that were not measured stay empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .arrangement import Array
from .dimension import Dimension
from .plotting import draw_cloud, draw_curve, draw_map, part_label
from .reductions import Reduction
from .sides import Side

if TYPE_CHECKING:
    from .live import LiveMain

PANEL_INCHES = (5.2, 4.2)
PERCENTILES = (1.0, 99.0)
EMPTY_COLOUR = "#e6e8ec"
DPI = 110


def draw_overview(main: LiveMain, reduction: Reduction) -> Any:
    """Draw the map of a main, and its mean spectrum.

    Parameters
    ----------
    main : LiveMain
    reduction
        What the map shows of each spectrum; see `LiveMain.reduced`.

    Returns
    -------
    matplotlib.figure.Figure
        A row for each part of complex or compound values.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install usidstream[plot]") from error
    maps, spectra = main.reduced(reduction), main.mean_spectrum()
    has = (main.shape[0] > 1, main.shape[1] > 1)
    n_columns = max(sum(has), 1)
    size = (PANEL_INCHES[0] * n_columns, PANEL_INCHES[1] * len(maps) + 0.4)
    figure = Figure(figsize=size, layout="constrained", dpi=DPI)
    axes = figure.subplots(len(maps), n_columns, squeeze=False)
    dataset = main.dataset
    for line, name in enumerate(maps):
        label = part_label(name, dataset.data_descriptor)
        if has[0] or not has[1]:
            axis = axes[line, 0]
            _draw_positions(axis, main, maps[name], label)
            axis.set_title(_map_title(main, reduction, name), fontsize="medium")
        if has[1]:
            axis = axes[line, -1]
            _draw_side(axis, dataset._spectra, dataset.h5_spec_vals, spectra[name], label)
            axis.set_title(_mean_title(main), fontsize="medium")
    figure.suptitle(_heading(main), fontsize="large")
    return figure


def _heading(main: LiveMain) -> str:
    held = f"{main.n_complete} of {main.shape[0]} positions"
    return main.name if main.n_complete == main.shape[0] else f"{main.name}  ({held})"


def _map_title(main: LiveMain, reduction: Reduction, part: str) -> str:
    words = reduction if isinstance(reduction, str) else f"column {reduction}"
    shown = [words] if main.shape[1] > 1 else []
    return " of ".join([*shown, part or main.dataset.data_descriptor.partition(" (")[0]])


def _mean_title(main: LiveMain) -> str:
    return "mean of all measured positions" if main.shape[0] > 1 else "the only position"


def _draw_positions(axis: Any, main: LiveMain, values: Array, label: str) -> None:
    side, h5_vals = main.dataset._positions, main.dataset.h5_pos_vals
    if side.arrangement.is_grid:
        _draw_side(axis, side, h5_vals, values, label)
        return
    points = side.coordinates(h5_vals, np.arange(len(values)))
    if len(points) > 1:
        draw_cloud(points, axis, values, label, _scaled(values, {"s": _dot_size(len(values))}))
    else:
        draw_curve(points, axis, values, label, {})


def _draw_side(axis: Any, side: Side, h5_vals: Any, values: Array, label: str) -> None:
    """Draw values along one side of a main: over its two fastest dimensions of several steps."""
    grid, dimensions = _nested(side, h5_vals, values)
    if grid.ndim == 2:
        draw_map(dimensions, axis, grid, label, _scaled(grid, {}))
        axis.set_facecolor(EMPTY_COLOUR)
    else:
        draw_curve(dimensions, axis, grid, label, {})
    axis.tick_params(labelsize="small")


def _nested(side: Side, h5_vals: Any, values: Array) -> tuple[Array, list[Dimension]]:
    """Return values with an axis for each of at most two dimensions, the slower one first."""
    if not side.arrangement.is_grid:
        return values, [Dimension("Column", "", len(values))]
    if side.arrangement.rows is not None:
        values = values[side.arrangement.rows]
    grid = values.reshape(side.sorted_sizes)
    moving = [axis for axis, size in enumerate(grid.shape) if size > 1] or [grid.ndim - 1]
    kept = moving[-2:]
    others = tuple(axis for axis in range(grid.ndim) if axis not in kept)
    with np.errstate(invalid="ignore"):
        counts = np.isfinite(grid).sum(axis=others)
        means = np.where(counts, np.nansum(grid, axis=others) / np.maximum(counts, 1), np.nan)
    return means, [_dimension(side, h5_vals, axis) for axis in kept]


def _dimension(side: Side, h5_vals: Any, axis: int) -> Dimension:
    column = side.slow_to_fast[axis]
    return Dimension(
        side.labels[column], side.units[column], side.values(h5_vals, side.labels[column])
    )


def _scaled(values: Array, style: dict[str, Any]) -> dict[str, Any]:
    """Let colours span what most values span, so that a single spike hides nothing."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return style
    low, high = np.percentile(finite, PERCENTILES)
    if low == high:
        low, high = finite.min(), finite.max()
    return {**style, "vmin": float(low), "vmax": float(high)}


def _dot_size(n_points: int) -> float:
    """Return the area of a marker, in square points, so that n of them just fill the axes."""
    width, height = (72 * inches * 0.7 for inches in PANEL_INCHES)
    return float(np.clip(width * height / max(n_points, 1), 2.0, 120.0))
