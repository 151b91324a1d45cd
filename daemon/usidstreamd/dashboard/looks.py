"""The looks that all figures of the page share: type, colours, colour bars, emptiness.

Knows Bokeh, and nothing of scans. Names come from clients: they are set as plain text, never as
HTML or formulas.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy.typing as npt
from bokeh.models import BoxAnnotation, ColorBar, LinearColorMapper, PlainText, Range1d, Title
from bokeh.plotting import figure

from . import scaling
from .colours import palette

TOOLS = "pan,box_zoom,wheel_zoom,reset,save"
TEXT, SOFT, RULE = "#1b222c", "#3b4450", "#d5d9e0"
NEWEST, SELECTED = "#8592a3", "#c2410c"
EMPTY, HATCH = "#f4f5f7", "#d3d8e0"

OnTap = Callable[[float, float], None]
"""Is told the coordinates of a click."""


def plain(text: str) -> PlainText:
    """Return text that is shown as it is, whatever it holds."""
    return PlainText(text=text)


def dressed(title: str, x_label: str, y_label: str, **more: Any) -> Any:
    """Return an empty figure in the page's looks."""
    plot = figure(
        tools=TOOLS,
        active_drag=None,
        active_scroll=None,
        sizing_mode="stretch_width",
        toolbar_location="above",
        title=Title(
            text=plain(title), text_font_size="13px", text_font_style="bold", text_color=TEXT
        ),
        min_border_right=12,
        output_backend="canvas",
        **more,
    )
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    plot.outline_line_color = RULE
    plot.xaxis.axis_label, plot.yaxis.axis_label = plain(x_label), plain(y_label)
    plot.axis.axis_label_text_font_style = "normal"
    plot.axis.axis_label_text_font_size = "12px"
    plot.axis.axis_label_text_color = SOFT
    plot.axis.major_label_text_font_size = "11px"
    plot.axis.major_label_text_color = SOFT
    plot.axis.axis_line_color = None
    plot.axis.major_tick_in, plot.axis.major_tick_out = 0, 4
    plot.axis.major_tick_line_color = "#b3bac5"
    plot.axis.minor_tick_line_color = None
    plot.grid.grid_line_color = None
    return plot


def colour_bar(mapper: LinearColorMapper, label: str) -> tuple[ColorBar, Title]:
    """Return a narrow colour bar, and its label as a title beside it."""
    bar = ColorBar(
        color_mapper=mapper,
        width=10,
        padding=0,
        margin=6,
        location=(7, 0),
        border_line_color=None,
        bar_line_color=None,
        background_fill_color=None,
        major_label_text_font_size="11px",
        major_label_text_color=SOFT,
        major_tick_line_color=None,
        label_standoff=6,
    )
    title = Title(
        text=plain(label),
        align="center",
        text_font_size="12px",
        text_font_style="normal",
        text_color=SOFT,
        standoff=4,
    )
    return bar, title


def colour_mapper() -> LinearColorMapper:
    """Return a mapper that spans nothing yet, and leaves what is not measured clear."""
    return LinearColorMapper(
        palette=list(palette("viridis")), low=0.0, high=1.0, nan_color=(0, 0, 0, 0)
    )


def show_palette(mapper: LinearColorMapper, name: str) -> None:
    """Change a mapper's palette, where it is another."""
    if list(mapper.palette) != list(palette(name)):
        mapper.palette = list(palette(name))


def tooltip_name(text: str) -> str:
    """Return a name without anything that a tooltip would take for HTML or a field."""
    return re.sub(r"[^\w %°µ./()-]", "", text)[:40] or "value"


def hatched(plot: Any) -> None:
    """Make what is not measured visibly empty."""
    plot.add_layout(
        BoxAnnotation(
            level="underlay",
            fill_color=EMPTY,
            fill_alpha=1.0,
            line_color=None,
            hatch_pattern="/",
            hatch_color=HATCH,
            hatch_scale=9,
            hatch_weight=1,
        )
    )


def around(values: npt.NDArray[Any], room: float = 0.04) -> Range1d:
    """Return a range that spans values, and some room on both sides."""
    low, high = scaling.widened(float(values.min()), float(values.max()))
    return Range1d(low - room * (high - low), high + room * (high - low))
