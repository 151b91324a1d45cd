"""The figure of a main's values over its positions: a map, a line or a cloud of points.

Made for one browser, it draws from a model that all share, and sends the lines that are new.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from bokeh.events import Tap
from bokeh.models import ColumnDataSource, HoverTool, Range1d

from . import scaling
from .colours import AUTOMATIC, CYCLIC
from .looks import (
    HATCH,
    SELECTED,
    OnTap,
    around,
    colour_bar,
    colour_mapper,
    dressed,
    hatched,
    show_palette,
    tooltip_name,
)
from .maps import (
    MAX_LINE_POINTS_COUNT,
    MAX_POINTS_COUNT,
    MapModel,
    envelope,
    envelope_places,
    runs,
)
from .views import Axis, Kind, MainView

FRESH_IMAGE_FRACTION = 0.5
"""Where more than this part of the lines is new, the whole image is sent."""


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
        self.mapper = colour_mapper()
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
        hatched(plot)
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
        x_range, y_range = ranges or (around(x), around(y))
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
        x = envelope_places(axis.scaled, MAX_LINE_POINTS_COUNT)
        x_range = ranges[0] if ranges else around(x)
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
                tooltips=[(tooltip_name(axis.name), "@x{0.000a}"), ("value", "@value{0.000a}")],
            )
        )  # fmt: skip
        return plot

    def _finish(self, plot: Any, renderers: list[Any], right: Axis, up: Axis, field: str) -> None:
        self._bar, label = colour_bar(self.mapper, self.view.label)
        self._bar.major_label_text_alpha = 0.0  # there is nothing to span yet
        plot.add_layout(self._bar, "right")
        plot.add_layout(label, "right")
        tooltips = [
            (tooltip_name(right.name), "$x{0.000a}"),
            (tooltip_name(up.name), "$y{0.000a}"),
            ("value", field + "{0.000a}"),
        ]
        plot.add_tools(HoverTool(renderers=renderers, tooltips=tooltips))

    # -- keeping up

    def retitle(self, title: str) -> None:
        """Say what is shown now."""
        if self.plot.title.text != title:
            self.plot.title.text = title

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
        values = self.model.values if rows is None else self.model.values[rows]
        if self.view.kind is Kind.LINE:
            return envelope(values, MAX_LINE_POINTS_COUNT).copy()
        return self._every(values).copy()

    def _colour(self, colours: str, scale: str) -> None:
        if self._limits is not None and self.model.has_just_turned:
            return  # what little there is of a new image would make the colours flicker
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
        show_palette(self.mapper, name)
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


def _marker_source() -> ColumnDataSource:
    return ColumnDataSource({"x": [], "y": []})


def _draw_marker(plot: Any, source: ColumnDataSource) -> None:
    shape = {"x": "x", "y": "y", "source": source, "fill_color": None}
    for colour, width in (("white", 5), (SELECTED, 2)):
        plot.scatter(marker="circle_cross", size=15, line_color=colour, line_width=width, **shape)
