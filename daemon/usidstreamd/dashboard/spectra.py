"""What stands under the maps: the newest spectrum and the selected one, or the line through them.

The newest comes by telemetry, or from the file where it was not told; the selected one is read from
the file, again and again while it is not whole there. Of a stack, whose positions all become whole
with the last image, only the selected one is shown, as far as images have come.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .choices import column_of
from .controls import Controls
from .files import FileUnavailableError
from .hub import Hub, Newest
from .looks import OnTap
from .map_panel import MapPanel
from .maps import MapModel
from .spectrum_panels import CURVES, CurvePanel, FramePanel, frame_of
from .views import Kind, MainView

RETRY_INTERVAL_S = 2.0


@dataclass(frozen=True)
class Shown:
    """Whose spectra are shown.

    Parameters
    ----------
    subject
        A scan, or a file.
    number, view
        The main.
    reduction
        What its map shows.
    panel
        The first map; None where there is none.
    """

    subject: str
    number: int
    view: MainView
    reduction: str
    panel: MapPanel | None


class Spectra:
    """The figures under the maps, and the selected position.

    Parameters
    ----------
    hub, controls
        What all browsers share, and this page's models.
    on_spectrum_tap, on_profile_tap
        Are told of clicks on a spectrum, and on the line through the selection.
    on_trouble
        Is told of a file that cannot be read.
    """

    def __init__(
        self,
        hub: Hub,
        controls: Controls,
        *,
        on_spectrum_tap: OnTap,
        on_profile_tap: OnTap,
        on_trouble: Callable[[FileUnavailableError], None],
    ) -> None:
        self.row: int | None = None
        self._hub, self._controls = hub, controls
        self._on_spectrum_tap, self._on_profile_tap = on_spectrum_tap, on_profile_tap
        self._on_trouble = on_trouble
        self._shown: Shown | None = None
        self._detail: CurvePanel | FramePanel | None = None
        self._selected: FramePanel | None = None
        self._newest_seen: Any = None
        self._values: npt.NDArray[Any] | None = None
        self._is_whole = False
        self._due_s = 0.0

    @property
    def is_waiting(self) -> bool:
        """Whether the selected position is not known yet."""
        shown = self._shown
        is_read = shown is not None and bool(shown.view.moving_spectrum)
        return is_read and self.row is not None and self._values is None

    def clear(self) -> None:
        """Follow nothing; what was drawn stays until others are built."""
        self._shown = None
        self.select(None)

    def build(self, shown: Shown) -> None:
        """Make the figures for a main."""
        view = shown.view
        self._shown = shown
        self._newest_seen, self._detail, self._selected = None, None, None
        if len(view.moving_spectrum) > 1:
            self._detail = None if view.is_stack else FramePanel(view, "newest")
            self._selected = FramePanel(view, "selected")
        elif view.moving_spectrum:
            axis, tap = view.moving_spectrum[0], self._on_spectrum_tap
            curves = ("selected",) if view.is_stack else CURVES
            title = f"{view.name} along {axis.name}" if view.is_stack else "Spectrum"
            self._detail = CurvePanel(title, axis, view.label, tap, curves)
            column = column_of(shown.reduction)
            self._detail.show_column(None if column is None else float(axis.scaled[column]))
        elif view.kind is Kind.MAP:
            axis = view.moving[0]
            title = f"{view.name} along {axis.name}"
            self._detail = CurvePanel(title, axis, view.label, self._on_profile_tap)
        made = (self._detail, self._selected)
        self._controls.spectra.children = [panel.plot for panel in made if panel is not None]

    def select(self, row: int | None) -> None:
        """Select a position; `read_selected` is to follow."""
        self.row, self._values, self._is_whole, self._due_s = row, None, False, 0.0

    # -- reading

    async def read_due(self) -> None:
        """Read from the file what is to be shown and was not told, if it is time to try again."""
        if time.monotonic() < self._due_s:
            return
        self._due_s = time.monotonic() + RETRY_INTERVAL_S
        if self.row is not None and not self._is_whole:
            await self.read_selected()
        shown = self._shown
        if shown is None or shown.panel is None or not _has_newest(shown.view):
            return
        row = shown.panel.model.newest_row
        if row >= 0 and self._hub.newest(shown.subject, shown.number) is None:
            try:
                await self._hub.find_newest(shown.subject, shown.number, row)
            except FileUnavailableError as error:
                self._on_trouble(error)

    async def read_selected(self) -> None:
        """Read the selected spectrum from the file; again later while it is not whole."""
        self._due_s = time.monotonic() + RETRY_INTERVAL_S
        row, shown = self.row, self._shown
        path = None if shown is None else self._hub.path(shown.subject)
        if row is None or shown is None or path is None or not shown.view.moving_spectrum:
            return
        try:
            found = await self._hub.files.spectrum(path, shown.number, row)
        except FileUnavailableError as error:
            self._on_trouble(error)
            return
        if self.row == row and self._is_shown(shown) and np.isfinite(found.values).any():
            self._values, self._is_whole = found.values, found.is_whole
            self._draw_selected()

    def _is_shown(self, asked: Shown) -> bool:
        """Tell whether the main that was read from is still the one to be shown."""
        shown = self._shown
        return shown is not None and (shown.subject, shown.number) == (asked.subject, asked.number)

    # -- drawing

    def redraw(self) -> None:
        """Draw in looks that have changed."""
        self._newest_seen = None
        self.refresh()
        self._draw_selected()

    def refresh(self) -> None:
        """Draw what is new."""
        shown = self._shown
        if shown is None:
            return
        if not shown.view.moving_spectrum:
            self._refresh_profile(shown.view, shown.panel)
            return
        newest = self._hub.newest(shown.subject, shown.number) if _has_newest(shown.view) else None
        if newest is None or self._newest_seen == newest.version or self._detail is None:
            return
        self._newest_seen = newest.version
        self._draw_newest(shown.view, newest)
        is_whole = newest.values.size == shown.view.n_columns
        if newest.row == self.row and not self._is_whole and is_whole:
            self._values, self._is_whole = newest.values.reshape(-1), True
            self._draw_selected()

    def _draw_newest(self, view: MainView, newest: Newest) -> None:
        if isinstance(self._detail, FramePanel):
            frame = newest.values.reshape(-1, _fastest_length(view, newest.values.shape))
            title = f"newest: {view.words_for(newest.row) or 'the only position'}"
            self._detail.show(frame, title, *self._controls.looks)
        elif self._detail is not None:
            self._detail.show("newest", newest.values.ravel(), max(newest.steps))

    def _draw_selected(self) -> None:
        if self.row is None or self._shown is None:
            return
        view = self._shown.view
        if isinstance(self._selected, FramePanel):
            frame = None if self._values is None else frame_of(view, self._values)
            title = f"selected: {view.words_for(self.row) or 'the only position'}"
            self._selected.show(frame, title, *self._controls.looks)
        elif isinstance(self._detail, CurvePanel) and view.moving_spectrum:
            self._detail.show("selected", self._values)

    def _refresh_profile(self, view: MainView, panel: MapPanel | None) -> None:
        """Draw the newest line of a map, and the one through the selected position."""
        if not isinstance(self._detail, CurvePanel) or panel is None:
            return
        model, seen = panel.model, (panel.model.version, self.row, panel.plane)
        if seen == self._newest_seen:
            return
        self._newest_seen = seen
        if model.newest_row >= 0:
            self._detail.show("newest", _line_of(view, model, model.newest_row))
        if self.row is not None:
            self._detail.show("selected", _line_of(view, model, self.row))


def _has_newest(view: MainView) -> bool:
    """Tell whether one position's spectrum is the newest: not one by one do a stack's come."""
    return bool(view.moving_spectrum) and not view.is_stack


def _fastest_length(view: MainView, shape: tuple[int, ...]) -> int:
    """Return the length of the fastest dimension of more than one step in a newest row."""
    lengths = [
        n for n, axis in zip(shape[::-1], view.spectrum, strict=False) if len(axis.values) > 1
    ]
    return lengths[0] if lengths else 1


def _line_of(view: MainView, model: MapModel, row: int) -> npt.NDArray[np.float32]:
    """Return the values of the line of a map that holds a row."""
    start = view.cell_of(row) // view.width * view.width
    cells = np.arange(start, start + view.width)
    rows = cells if view.row_of_cell is None else view.row_of_cell[cells]
    return model.values[rows]
