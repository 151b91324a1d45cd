"""Pictures of main datasets: maps, curves and clouds of points, with names and units on the axes.

Matplotlib is imported only when a picture is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .arrangement import Array
from .dimension import Dimension

_MOST_TICKS = 5
# Values outside of 10^-2 to 10^3 are shown with their power of ten in the label.
_PLAIN_EXPONENTS = range(-2, 4)


def parts_of(values: Array) -> dict[str, Array]:
    """Return what of an array can be drawn: fields, magnitude and phase, or the values."""
    if values.dtype.names:
        return {name: values[name] for name in values.dtype.names}
    if values.dtype.kind == "c":
        return {"Magnitude": np.abs(values), "Phase": np.angle(values)}
    return {"": values}


def draw_values(
    values: Array, dimensions: list[Dimension], title: str, label: str, **style: Any
) -> Any:
    """Draw values over one or two dimensions.

    Parameters
    ----------
    values : array
        One or two axes; complex values become magnitude and phase, compound ones a picture a field.
    dimensions : list of Dimension
        One for each axis: of two, the first runs upwards, the second to the right.
    title, label : str
        The dataset, and its quantity and units.
    **style
        For matplotlib's ``imshow`` or ``plot``.

    Returns
    -------
    figure : matplotlib.figure.Figure
    axes : matplotlib.axes.Axes, or an array of them

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    draw = draw_map if len(dimensions) == 2 else draw_curve
    return _draw_parts(values, title, label, partial(draw, dimensions, style=style))


def draw_points(values: Array, table: list[Dimension], title: str, label: str, **style: Any) -> Any:
    """Draw single values at positions that make no grid.

    Parameters
    ----------
    values : 1-D array
    table : list of Dimension
        The first two hold the coordinates of every value: to the right, and upwards. A single one
        makes a curve.
    title, label : str
        The dataset, and its quantity and units.
    **style
        For matplotlib's ``scatter`` or ``plot``.

    Returns
    -------
    figure : matplotlib.figure.Figure
    axes : matplotlib.axes.Axes, or an array of them
    """
    draw = draw_cloud if len(table) > 1 else draw_curve
    return _draw_parts(values, title, label, partial(draw, table, style=style))


def _draw_parts(
    values: Array, title: str, label: str, draw: Callable[[Any, Array, str], None]
) -> Any:
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install usidstream[plot]") from error
    parts = parts_of(values)
    figure, axes = plt.subplots(
        nrows=len(parts), squeeze=False, figsize=(6, 4.5 * len(parts)), layout="constrained"
    )
    for axis, (name, part) in zip(axes.flat, parts.items(), strict=True):
        draw(axis, part, part_label(name, label))
        axis.set_title(f"{title}\n({name})" if name else title, pad=15)
    return figure, axes[0, 0] if len(parts) == 1 else axes[:, 0]


def part_label(name: str, label: str) -> str:
    """Return the label of a part's values; a phase has a unit of its own."""
    return "Phase (rad)" if name == "Phase" else label


def draw_curve(
    dimensions: list[Dimension], axis: Any, values: Array, label: str, style: dict[str, Any]
) -> None:
    """Draw values over a dimension, on given axes."""
    power = _exponent(dimensions[0].values)
    dots = {"marker": "."} if values.size < 64 else {}
    axis.plot(dimensions[0].values / 10**power, values, **{**dots, **style})
    axis.set_xlabel(_axis_label(dimensions[0], power))
    axis.set_ylabel(label)


def draw_map(
    dimensions: list[Dimension], axis: Any, values: Array, label: str, style: dict[str, Any]
) -> None:
    """Draw values over two dimensions, on given axes; the first runs upwards."""
    upwards, rightwards = dimensions
    shape = {"origin": "lower", "aspect": _aspect(upwards, rightwards)}
    image = axis.imshow(values.astype(np.float64), **{**shape, **style})
    _draw_bar(axis, image, label)
    for dimension, set_ticks, set_label in (
        (rightwards, axis.set_xticks, axis.set_xlabel),
        (upwards, axis.set_yticks, axis.set_ylabel),
    ):
        power = _exponent(dimension.values)
        steps = np.unique(np.linspace(0, len(dimension) - 1, _MOST_TICKS).round().astype(int))
        set_ticks(steps, _tick_texts(dimension.values[steps] / 10**power))
        set_label(_axis_label(dimension, power))


def _tick_texts(values: Array) -> list[str]:
    """Write values with two decimals, or more where they lie closer together."""
    step = np.ptp(values) / _MOST_TICKS
    decimals = max(2, 1 - math.floor(math.log10(step))) if step > 0 else 2
    return [f"{value:g}" for value in values.round(decimals)]


def _aspect(upwards: Dimension, rightwards: Dimension) -> str | float:
    """Return the height of a pixel by its width where both are of one unit, else fill the axes."""
    spans = [np.ptp(dimension.values) / (len(dimension) - 1) for dimension in (upwards, rightwards)]
    same_kind = upwards.units == rightwards.units and upwards.units
    return float(spans[0] / spans[1]) if same_kind and all(spans) else "auto"


def draw_cloud(
    dimensions: list[Dimension], axis: Any, values: Array, label: str, style: dict[str, Any]
) -> None:
    """Draw values at the coordinates that two dimensions hold, on given axes."""
    powers = [_exponent(dimension.values) for dimension in dimensions]
    right, up = (dim.values / 10**power for dim, power in zip(dimensions, powers, strict=True))
    points = axis.scatter(right, up, c=values, **{"s": 12, **style})
    _draw_bar(axis, points, label)
    axis.set_xlabel(_axis_label(dimensions[0], powers[0]))
    axis.set_ylabel(_axis_label(dimensions[1], powers[1]))
    if dimensions[0].units == dimensions[1].units:
        axis.set_aspect("equal")


def _draw_bar(axis: Any, mapped: Any, label: str) -> None:
    """Draw a colour bar just as high as the picture, whatever the picture's aspect."""
    axis.figure.colorbar(mapped, cax=axis.inset_axes([1.03, 0, 0.04, 1]), label=label)


def _exponent(values: Array) -> int:
    """Return the power of ten to divide values by before they are shown; 0 for handy ones."""
    largest = float(np.nanmax(np.abs(values)))
    power = math.floor(math.log10(largest)) if largest > 0 else 0
    return 0 if power in _PLAIN_EXPONENTS else power


def _axis_label(dimension: Dimension, power: int) -> str:
    factor = f" x $10^{{{power}}}$" if power else ""
    return f"{dimension.name} ({dimension.units}){factor}"
