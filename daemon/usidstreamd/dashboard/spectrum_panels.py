"""The figures of what was measured at one position: curves, or a frame.

Made for one browser. They are told values and thin them out to what a screen can show; where the
values come from is not theirs to know.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from bokeh.events import Tap
from bokeh.models import ColumnDataSource, HoverTool, Legend, Range1d, Span

from . import scaling
from .colours import AUTOMATIC, CYCLIC
from .looks import (
    NEWEST,
    SELECTED,
    SOFT,
    OnTap,
    around,
    colour_bar,
    colour_mapper,
    dressed,
    hatched,
    plain,
    show_palette,
    tooltip_name,
)
from .views import Axis, MainView

MAX_CURVE_POINTS_COUNT = 16_384
MAX_FRAME_PIXELS_COUNT = 65_536


CURVES = ("newest", "selected")
_STROKES = {"newest": (NEWEST, 1.2), "selected": (SELECTED, 1.8)}


class CurvePanel:
    """Curves over one axis.

    Parameters
    ----------
    curves
        Which of `CURVES` there are.
    """

    def __init__(
        self,
        title: str,
        axis: Axis,
        label: str,
        on_tap: OnTap,
        curves: Sequence[str] = CURVES,
    ) -> None:
        self._x = axis.scaled
        self._sources = {name: ColumnDataSource({"x": [], "y": []}) for name in curves}
        self.plot = dressed(
            title, axis.value_label, label, x_range=around(self._x, 0.01), y_range=Range1d(0, 1),
            aspect_ratio=1.6,
        )  # fmt: skip
        self.plot.grid.grid_line_color = "#eceef2"
        items = []
        for name, source in self._sources.items():
            colour, width = _STROKES[name]
            line = self.plot.line(x="x", y="y", source=source, line_color=colour, line_width=width)
            items.append((name, [line]))
            self.plot.add_tools(
                HoverTool(
                    renderers=[line],
                    tooltips=[
                        (tooltip_name(axis.name), "@x{0.000a}"), (name, "@y{0.000a}"),
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
        self.plot.on_event(Tap, lambda event: on_tap(event.x, event.y))

    def show(self, name: str, values: npt.NDArray[Any] | None, step: int = 1) -> None:
        """Draw one of the curves; None for none.

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
        self.mapper = colour_mapper()
        self._limits: tuple[float, float] | None = None
        self._source = ColumnDataSource(
            {"image": [np.full((1, 1), np.nan, np.float32)], "x": [left], "y": [low],
             "dw": [end - left], "dh": [high - low]}
        )  # fmt: skip
        self.plot = dressed(
            title, self._right.label, self._up.label, x_range=Range1d(left, end),
            y_range=Range1d(low, high), aspect_ratio=1.25,
        )  # fmt: skip
        hatched(self.plot)
        image = self.plot.image(
            image="image", x="x", y="y", dw="dw", dh="dh", source=self._source,
            color_mapper=self.mapper,
        )  # fmt: skip
        bar, label = colour_bar(self.mapper, view.label)
        self.plot.add_layout(bar, "right")
        self.plot.add_layout(label, "right")
        tooltips = [
            (tooltip_name(self._right.name), "$x{0.000a}"),
            (tooltip_name(self._up.name), "$y{0.000a}"),
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
        show_palette(self.mapper, name)
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
