"""Bokeh figures of maps, lines, clouds of points, spectra and frames, and what they share in looks.

Each panel is made for one browser and draws from models that all share. Names come from clients:
they are set as plain text, never as HTML or formulas.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from bokeh.events import Tap
from bokeh.models import (
    BoxAnnotation,
    ColorBar,
    ColumnDataSource,
    HoverTool,
    Legend,
    LinearColorMapper,
    PlainText,
    Range1d,
    Span,
    Title,
)
from bokeh.plotting import figure

from . import scaling
from .colours import AUTOMATIC, CYCLIC, palette
from .maps import MAX_POINTS_COUNT, MapModel, runs
from .views import Axis, Kind, MainView

TOOLS = "pan,box_zoom,wheel_zoom,reset,save"
TEXT, SOFT, RULE, PAPER = "#1b222c", "#3b4450", "#d5d9e0", "#ffffff"
NEWEST, SELECTED = "#8592a3", "#c2410c"
EMPTY, HATCH = "#f4f5f7", "#d3d8e0"
MAX_CURVE_POINTS_COUNT = 16_384
MAX_FRAME_PIXELS_COUNT = 65_536
FRESH_IMAGE_FRACTION = 0.5
"""Where more than this part of the lines is new, the whole image is sent."""

OnTap = Callable[[float, float], None]


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


def _colour_bar(mapper: LinearColorMapper, label: str) -> tuple[ColorBar, Title]:
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


def _tooltip_name(text: str) -> str:
    """Return a name without anything that a tooltip would take for HTML or a field."""
    return re.sub(r"[^\w %°µ./()-]", "", text)[:40] or "value"


def _hatched(plot: Any) -> None:
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


def _marker_source() -> ColumnDataSource:
    return ColumnDataSource({"x": [], "y": []})


def _draw_marker(plot: Any, source: ColumnDataSource) -> None:
    shape = {"x": "x", "y": "y", "source": source, "fill_color": None}
    for colour, width in (("white", 5), (SELECTED, 2)):
        plot.scatter(marker="circle_cross", size=15, line_color=colour, line_width=width, **shape)


class MapPanel:
    """A map, line or cloud of one main, in one browser.

    Parameters
    ----------
    view, model
        What is drawn.
    title
        The main's name.
    on_tap
        Is told the coordinates of a click.
    ranges
        Axes shared with the other channels.
    """

    def __init__(
        self,
        view: MainView,
        model: MapModel,
        title: str,
        on_tap: OnTap,
        ranges: tuple[Range1d, Range1d] | None = None,
    ) -> None:
        self.view, self.model = view, model
        self.plane = 0
        self._seen = -1
        self._limits: tuple[float, float] | None = None
        self._look = ("", "")
        self._row: int | None = None
        self.mapper = LinearColorMapper(
            palette=list(palette("viridis")), low=0.0, high=1.0, nan_color=(0, 0, 0, 0)
        )
        self._marker = _marker_source()
        make = {Kind.MAP: self._make_map, Kind.CLOUD: self._make_cloud}
        self.plot = make.get(view.kind, self._make_line)(title, ranges)
        _draw_marker(self.plot, self._marker)
        self.plot.on_event(Tap, lambda event: on_tap(event.x, event.y))

    # -- making

    def _make_map(self, title: str, ranges: tuple[Range1d, Range1d] | None) -> Any:
        right, up = self.view.moving[:2]
        (left, end), (low, high) = right.edges, up.edges
        x_range, y_range = ranges or (Range1d(left, end), Range1d(low, high))
        plot = dressed(
            title, right.label, up.label, x_range=x_range, y_range=y_range, aspect_ratio=1.1
        )
        _hatched(plot)
        self._source = ColumnDataSource(
            {"image": [self._thinned()], "x": [left], "y": [low], "dw": [end - left],
             "dh": [high - low]}
        )  # fmt: skip
        image = plot.image(
            image="image", x="x", y="y", dw="dw", dh="dh", source=self._source,
            color_mapper=self.mapper,
        )  # fmt: skip
        self._finish(plot, [image], right, up, "@image")
        return plot

    def _make_cloud(self, title: str, ranges: tuple[Range1d, Range1d] | None) -> Any:
        right, up = self.view.positions[:2]
        x, y = (self._every(axis.scaled) for axis in (right, up))
        x_range, y_range = ranges or (_around(x), _around(y))
        plot = dressed(
            title, right.value_label, up.value_label, x_range=x_range, y_range=y_range,
            aspect_ratio=1.1,
        )  # fmt: skip
        self._source = ColumnDataSource({"x": x, "y": y, "value": self._values()})
        size = float(np.clip(420.0 / math.sqrt(len(x)), 3.0, 18.0))
        # where each point will be: what is not measured is a faint ring
        plot.scatter(x="x", y="y", source=ColumnDataSource({"x": x, "y": y}), size=size * 0.6,
                     fill_color=None, line_color=HATCH)  # fmt: skip
        dots = plot.scatter(
            x="x", y="y", source=self._source, size=size, line_color=None,
            fill_color={"field": "value", "transform": self.mapper},
        )  # fmt: skip
        self._finish(plot, [dots], right, up, "@value")
        return plot

    def _make_line(self, title: str, ranges: tuple[Range1d, Range1d] | None) -> Any:
        axis = self.view.moving[0]
        x = self._every(axis.scaled)
        x_range = ranges[0] if ranges else _around(x)
        plot = dressed(
            title, axis.value_label, self.view.label, x_range=x_range, y_range=Range1d(0, 1),
            aspect_ratio=1.8,
        )  # fmt: skip
        plot.grid.grid_line_color = "#eceef2"
        self._source = ColumnDataSource({"x": x, "value": self._values()})
        line = plot.line(
            x="x", y="value", source=self._source, line_color="#1d4ed8", line_width=1.6
        )
        if len(x) <= 400:
            plot.scatter(x="x", y="value", source=self._source, size=4, color="#1d4ed8")
        plot.add_tools(
            HoverTool(
                renderers=[line], mode="vline",
                tooltips=[(_tooltip_name(axis.name), "@x{0.000a}"), ("value", "@value{0.000a}")],
            )
        )  # fmt: skip
        return plot

    def _finish(self, plot: Any, renderers: list[Any], right: Axis, up: Axis, field: str) -> None:
        self._bar, label = _colour_bar(self.mapper, self.view.label)
        self._bar.major_label_text_alpha = 0.0  # there is nothing to span yet
        plot.add_layout(self._bar, "right")
        plot.add_layout(label, "right")
        tooltips = [
            (_tooltip_name(right.name), "$x{0.000a}"),
            (_tooltip_name(up.name), "$y{0.000a}"),
            ("value", field + "{0.000a}"),
        ]
        plot.add_tools(HoverTool(renderers=renderers, tooltips=tooltips))

    # -- keeping up

    def tick(self, colours: str, scale: str) -> None:
        """Draw what is new, with a palette and a scale."""
        if self.model.version != self._seen:
            seen, self._seen = self._seen, self.model.version
            if self.view.kind is Kind.MAP:
                self._patch_image(seen)
            else:
                self._source.data["value"] = self._values()
            if self.view.kind is Kind.LINE:
                self.mark(self._row)  # at its new height
        elif (colours, scale) == self._look:
            return
        self._look = (colours, scale)
        self._colour(colours, scale)

    def show_plane(self, plane: int) -> None:
        """Show another plane of a grid of more than two dimensions."""
        if plane != self.plane:
            self.plane, self._seen = plane, -1

    def mark(self, row: int | None) -> None:
        """Mark a position as the selected one."""
        self._row = row
        if row is None:
            self._marker.data = {"x": [], "y": []}
            return
        x, y = self.view.place_of(row)
        if self.view.kind is Kind.LINE:
            y = float(self.model.values[row])
            y = y if math.isfinite(y) else 0.0
        self._marker.data = {"x": [x], "y": [y]}

    def _patch_image(self, seen: int) -> None:
        image = self._thinned()
        changed = self.model.lines_since(seen, self.plane)
        step = self.model.thinning[0]
        changed = np.logical_or.reduceat(changed, np.arange(0, len(changed), step))
        if self.view.moving[1].is_descending:
            changed = changed[::-1]
        if seen < 0 or changed.mean() > FRESH_IMAGE_FRACTION:
            self._source.data["image"] = [image]
        elif changed.any():
            patches = [
                ((0, slice(start, stop), slice(None)), image[start:stop].ravel())
                for start, stop in runs(changed)
            ]
            self._source.patch({"image": patches})

    def _thinned(self) -> npt.NDArray[np.float32]:
        lines, pixels = self.model.thinning
        return np.ascontiguousarray(self.model.picture(self.plane)[::lines, ::pixels])

    def _every(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return values[:: -(-len(values) // MAX_POINTS_COUNT)]

    def _values(self) -> npt.NDArray[np.float32]:
        rows = self.view.row_of_cell
        return self._every(self.model.values if rows is None else self.model.values[rows]).copy()

    def _colour(self, colours: str, scale: str) -> None:
        shown = self._shown()
        limits = scaling.limits_of(shown, scale)
        if limits is None:
            return
        if self.view.kind is Kind.LINE:
            self._stretch(shown)
            return
        name = colours
        if colours == AUTOMATIC:
            name = CYCLIC if self.view.is_phase else "viridis"
        if name == CYCLIC:
            limits = scaling.full_turn(shown, self.view.units) or limits
        if list(self.mapper.palette) != list(palette(name)):
            self.mapper.palette = list(palette(name))
        if scaling.has_moved(self._limits, limits):
            self._limits = limits
            self.mapper.update(low=limits[0], high=limits[1])
            self._bar.major_label_text_alpha = 1.0

    def _shown(self) -> npt.NDArray[np.float32]:
        if self.view.kind is Kind.MAP:
            return self.model.picture(self.plane)
        return self.model.values

    def _stretch(self, values: npt.NDArray[Any]) -> None:
        low, high = scaling.limits_of(values, "all values") or (0.0, 1.0)
        room = 0.06 * (high - low)
        if scaling.has_moved(self._limits, (low, high)):
            self._limits = (low, high)
            self.plot.y_range.update(start=low - room, end=high + room)


class CurvePanel:
    """Two curves, newest and selected, over one axis."""

    def __init__(self, title: str, axis: Axis, label: str, on_tap: OnTap | None = None) -> None:
        self._x = axis.scaled
        self._sources = {
            name: ColumnDataSource({"x": [], "y": []}) for name in ("newest", "selected")
        }
        self.plot = dressed(
            title, axis.value_label, label, x_range=_around(self._x, 0.01), y_range=Range1d(0, 1),
            aspect_ratio=1.6,
        )  # fmt: skip
        self.plot.grid.grid_line_color = "#eceef2"
        items = []
        for name, colour, width in (("newest", NEWEST, 1.2), ("selected", SELECTED, 1.8)):
            line = self.plot.line(
                x="x", y="y", source=self._sources[name], line_color=colour, line_width=width
            )
            items.append((name, [line]))
            self.plot.add_tools(
                HoverTool(
                    renderers=[line],
                    tooltips=[
                        (_tooltip_name(axis.name), "@x{0.000a}"), (name, "@y{0.000a}"),
                    ],
                )
            )  # fmt: skip
        self._column = Span(
            dimension="height", line_color="#1d4ed8", line_dash="4 3", location=0, visible=False
        )
        self.plot.add_layout(self._column)
        legend = Legend(
            items=items,
            orientation="horizontal",
            border_line_color=None,
            background_fill_color=None,
            label_text_font_size="12px",
            label_text_color=SOFT,
            padding=0,
            margin=4,
            glyph_width=22,
            spacing=14,
        )
        self.plot.add_layout(legend, "above")
        if on_tap is not None:
            self.plot.on_event(Tap, lambda event: on_tap(event.x, event.y))

    def show(self, name: str, values: npt.NDArray[Any] | None, step: int = 1) -> None:
        """Draw a curve: ``newest`` or ``selected``; None for none.

        Parameters
        ----------
        values
            Every ``step``-th of the axis.
        """
        if values is None:
            self._sources[name].data = {"x": [], "y": []}
        else:
            every = -(-len(values) // MAX_CURVE_POINTS_COUNT)
            y = np.asarray(values, np.float32)[::every]
            x = self._x[:: step * every][: len(y)]
            self._sources[name].data = {"x": x, "y": y[: len(x)]}
        self._stretch()

    def show_column(self, at: float | None) -> None:
        """Mark the column that the map shows."""
        self._column.visible = at is not None
        if at is not None:
            self._column.location = at

    def _stretch(self) -> None:
        drawn = np.concatenate(
            [np.asarray(s.data["y"], np.float32) for s in self._sources.values()]
        )
        low, high = scaling.limits_of(drawn, "all values") or (0.0, 1.0)
        room = 0.06 * (high - low)
        self.plot.y_range.update(start=low - room, end=high + room)


class FramePanel:
    """A frame, or a spectrum over two dimensions and more, as a picture.

    The fastest dimension runs to the right; all slower ones together run upwards.
    """

    def __init__(self, view: MainView, title: str) -> None:
        axes = view.moving_spectrum
        self._right, self._up = axes[0], _together(axes[1:])
        (left, end), (low, high) = self._right.edges, self._up.edges
        self.mapper = LinearColorMapper(
            palette=list(palette("viridis")), low=0.0, high=1.0, nan_color=(0, 0, 0, 0)
        )
        self._limits: tuple[float, float] | None = None
        self._source = ColumnDataSource(
            {"image": [np.full((1, 1), np.nan, np.float32)], "x": [left], "y": [low],
             "dw": [end - left], "dh": [high - low]}
        )  # fmt: skip
        self.plot = dressed(
            title, self._right.label, self._up.label, x_range=Range1d(left, end),
            y_range=Range1d(low, high), aspect_ratio=1.25,
        )  # fmt: skip
        _hatched(self.plot)
        image = self.plot.image(
            image="image", x="x", y="y", dw="dw", dh="dh", source=self._source,
            color_mapper=self.mapper,
        )  # fmt: skip
        bar, label = _colour_bar(self.mapper, view.label)
        self.plot.add_layout(bar, "right")
        self.plot.add_layout(label, "right")
        tooltips = [
            (_tooltip_name(self._right.name), "$x{0.000a}"),
            (_tooltip_name(self._up.name), "$y{0.000a}"),
            ("value", "@image{0.000a}"),
        ]
        self.plot.add_tools(HoverTool(renderers=[image], tooltips=tooltips))

    def show(self, values: npt.NDArray[Any] | None, title: str, colours: str, scale: str) -> None:
        """Draw a frame (slower dimensions together, fastest); None for none."""
        self.plot.title.text = plain(title)
        if values is None:
            values = np.full((1, 1), np.nan, np.float32)
        image = np.asarray(values, np.float32)
        image = image[:: -1 if self._up.is_descending else 1]
        image = image[:, :: -1 if self._right.is_descending else 1]
        self._source.data["image"] = [np.ascontiguousarray(image)]
        name = "viridis" if colours in {AUTOMATIC, CYCLIC} else colours
        if list(self.mapper.palette) != list(palette(name)):
            self.mapper.palette = list(palette(name))
        limits = scaling.limits_of(image, scale)
        if limits is not None:
            self.mapper.update(low=limits[0], high=limits[1])


def frame_of(view: MainView, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a whole spectrum as a frame, thinned out to `MAX_FRAME_PIXELS_COUNT`."""
    width = len(view.moving_spectrum[0].values)
    frame = values.reshape(-1, width)
    every = math.ceil(math.sqrt(max(frame.size / MAX_FRAME_PIXELS_COUNT, 1)))
    return frame[:: every if frame.shape[0] > every else 1, ::every]


def _together(axes: tuple[Axis, ...]) -> Axis:
    if len(axes) == 1:
        return axes[0]
    count = math.prod(len(axis.values) for axis in axes)
    return Axis(" by ".join(axis.name for axis in axes[::-1]), "", np.arange(count, dtype=float))


def _around(values: npt.NDArray[Any], room: float = 0.04) -> Range1d:
    low, high = scaling.widened(float(values.min()), float(values.max()))
    return Range1d(low - room * (high - low), high + room * (high - low))
