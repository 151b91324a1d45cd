"""One browser's page: what it has chosen, its maps, and the tick that keeps them fresh.

What is chosen stands in the page's address as well, so that a page that loads again, by itself
after its server came back or by hand, shows what it did before. Its models are ``controls``', what
the boxes mean is ``choices``', the figures under the maps ``spectra``'s, the words ``telling``'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from bokeh.document import Document

from ..logs import get_logger
from .choices import (
    AT_COLUMN,
    LATEST,
    channels_offered,
    column_wanted,
    is_channel,
    mains_shown,
    panel_title,
    reduction_of,
    values_offered,
)
from .controls import NOTHING, Controls, address_of
from .files import FileUnavailableError
from .hub import FILE_PREFIX, Hub
from .map_panel import MapPanel
from .spectra import Shown, Spectra
from .telling import Telling
from .views import Kind, MainView

log = get_logger()

TICK_MS = 500


class Session:
    """The page of one browser.

    Parameters
    ----------
    doc
        Bokeh's document.
    hub
        Everything that is shared.
    """

    def __init__(self, doc: Document, hub: Hub) -> None:
        self.doc, self.hub = doc, hub
        self.subject = NOTHING
        self.views: list[MainView] = []
        self.panels: list[tuple[int, str, MapPanel]] = []
        self.wanted = address_of(doc)
        self.controls = Controls(doc)
        self.spectra = Spectra(
            hub,
            self.controls,
            on_spectrum_tap=self._tapped_spectrum,
            on_profile_tap=self._tapped_profile,
            on_trouble=self._note_trouble,
        )
        self.telling = Telling(doc, self.controls, hub, self.spectra)
        self._is_busy = False
        self._is_over = False
        self.controls.take_looks(self.wanted)
        self._connect()
        doc.on_session_destroyed(self._end)
        doc.add_periodic_callback(self._tick, TICK_MS)
        self._say_standing()

    def _connect(self) -> None:
        def later(work: Callable[[], Awaitable[None]]) -> Callable[[str, Any, Any], None]:
            return lambda _attr, _old, _new: self.doc.add_next_tick_callback(work)

        controls = self.controls
        controls.chosen.on_change("value", later(self._choose_scan))
        controls.finished.on_change("value", later(self._choose_file))
        controls.channels.on_change("value", later(self._build))
        controls.value.on_change("value", later(self._build_maps))
        controls.column.on_change("value_throttled", later(self._build_maps))
        controls.planes.on_change("value", lambda _attr, _old, new: self._show_plane(int(new)))
        for look in (controls.colours, controls.scale):
            look.on_change("value", lambda _attr, _old, _new: self._change_looks())

    # -- choosing

    async def _choose_scan(self) -> None:
        await self._choose(self.controls.chosen.value)

    async def _choose_file(self) -> None:
        await self._choose(self.controls.finished.value)

    async def _choose(self, subject: str) -> None:
        if subject and subject != self.subject:
            self.wanted = {}
            await self._open(subject)

    async def _open(self, subject: str) -> None:
        """Show a scan, or a file."""
        try:
            if subject != self.subject:
                self._leave()
                self.subject = subject
                self.hub.watch_scan(subject)
            self.views = await self.hub.views(subject)
        except FileUnavailableError as error:
            self._note_trouble(error)
            return
        self.telling.problem = ""
        self._offer_channels()
        if self.first_view.is_stack:
            self.wanted.setdefault("value", LATEST)
        await self._build()

    def _leave(self) -> None:
        if self.subject:
            self._drop_panels()
            self.hub.leave_scan(self.subject)
        self.subject, self.views = NOTHING, []
        self.spectra.clear()

    def _end(self, _context: Any) -> None:
        self._is_over = True
        self._leave()

    def _offer_channels(self) -> None:
        options = channels_offered(self.views)
        wanted, known = self.wanted.get("main", ""), {key for key, _ in options}
        self.controls.channels.options = options
        self.controls.channels.value = wanted if wanted in known else options[0][0]

    @property
    def numbers(self) -> list[int]:
        """The mains that are shown side by side."""
        return mains_shown(self.controls.channels.value, len(self.views))

    @property
    def first_view(self) -> MainView:
        """The first of the mains that are shown."""
        return self.views[self.numbers[0]]

    # -- building

    async def _build(self) -> None:
        """Make the figures for what is chosen."""
        if not self.views or not is_channel(self.controls.channels.value):
            return
        self._offer_values(self.first_view)
        await self._build_maps()

    def _offer_values(self, view: MainView) -> None:
        value, column = self.controls.value, self.controls.column
        column.end = max(view.n_columns - 1, 1)
        wanted, offered = self.wanted.pop("value", ""), values_offered(view)
        wanted_column = column_wanted(wanted, view)
        if wanted_column is not None:
            column.value, wanted = wanted_column, AT_COLUMN
        value.options = offered
        if wanted in dict(offered):
            value.value = wanted
        elif value.value not in dict(offered):
            value.value = offered[0][0]

    async def _build_maps(self) -> None:
        self.controls.column.visible = self.controls.value.value == AT_COLUMN
        if not self.views:
            return
        self._drop_panels()
        self._make_panels()
        self._offer_planes()
        self._build_spectra()
        wanted = self.wanted.pop("row", "")
        is_row = wanted.isdecimal() and int(wanted) < self.views[0].n_positions
        self._select(int(wanted) if is_row else self.spectra.row)
        self._refresh()
        self._write_address()

    def _make_panels(self) -> None:
        ranges: Any = None
        for number in self.numbers:
            view = self.views[number]
            if view.kind is Kind.POINT:
                continue
            try:
                panel = self._make_panel(number, view, ranges)
            except FileUnavailableError as error:
                self.telling.problem = str(error)
                continue
            ranges = ranges or (panel.plot.x_range, panel.plot.y_range)
        self.controls.maps.css_classes = ["several" if len(self.numbers) > 1 else "one"]
        self.controls.maps.children = [panel.plot for _, _, panel in self.panels]

    def _make_panel(self, number: int, view: MainView, ranges: Any) -> MapPanel:
        reduction = self._reduction_of(view)
        model = self.hub.watch(self.subject, number, view, reduction)
        panel = MapPanel(view, model, panel_title(view, reduction), self._tapped, ranges)
        self.panels.append((number, reduction, panel))
        return panel

    def _reduction_of(self, view: MainView) -> str:
        return reduction_of(view, self.controls.value.value, int(self.controls.column.value))

    def _drop_panels(self) -> None:
        for number, reduction, _ in self.panels:
            self.hub.leave(self.subject, number, reduction)
        self.panels = []

    def _offer_planes(self) -> None:
        planes, n_planes = self.controls.planes, self.first_view.n_planes
        planes.visible = n_planes > 1
        if n_planes > 1:
            planes.end = n_planes - 1

    def _show_plane(self, plane: int) -> None:
        for _, _, panel in self.panels:
            panel.show_plane(min(plane, panel.view.n_planes - 1))
        self._refresh()

    def _build_spectra(self) -> None:
        view, panel = self.first_view, self.panels[0][2] if self.panels else None
        reduction = self._reduction_of(view)
        self.spectra.build(Shown(self.subject, self.numbers[0], view, reduction, panel))

    # -- selecting

    def _tapped(self, x: float, y: float) -> None:
        plane = self.panels[0][2].plane if self.panels else 0
        self._select(self.first_view.row_at(x, y, plane))
        self._write_address()

    def _tapped_profile(self, x: float, _y: float) -> None:
        """Move the selection along its line."""
        _, y = self.first_view.place_of(self.spectra.row if self.spectra.row is not None else 0)
        self._tapped(x, y)

    def _tapped_spectrum(self, x: float, _y: float) -> None:
        """Show the map at the column under a click."""
        axis = self.first_view.moving_spectrum[0]
        self.controls.column.value = int(np.abs(axis.scaled - x).argmin())
        if self.controls.value.value == AT_COLUMN:
            self.doc.add_next_tick_callback(self._build_maps)
        else:
            self.controls.value.value = AT_COLUMN

    def _select(self, row: int | None) -> None:
        self.spectra.select(row)
        for _, _, panel in self.panels:
            panel.mark(row)
        if row is not None:
            self.doc.add_next_tick_callback(self.spectra.read_selected)

    # -- keeping up

    async def _tick(self) -> None:
        if self._is_busy or self._is_over:
            return
        self._is_busy = True
        try:
            self._say_standing()
            await self._choose_by_itself()
            self._refresh()
            await self.spectra.read_due()
        except Exception:
            log.exception("page_failed")
        finally:
            self._is_busy = False

    async def _choose_by_itself(self) -> None:
        """Choose what the address asks for, else the newest scan; try again what did not open."""
        if self.subject:
            if not self.views:
                await self._open(self.subject)
            return
        wanted = self.wanted.get("scan", "")
        is_file = wanted.startswith(FILE_PREFIX) and self.hub.directory is not None
        if is_file or wanted in self.hub.standing.scans:
            await self._open(wanted)
        elif self.hub.standing.scans and not wanted:
            await self._open(next(reversed(self.hub.standing.scans)))
        elif self.hub.standing.scans and self.hub.standing.heartbeat:
            self.wanted = {}

    def _refresh(self) -> None:
        """Draw what is new."""
        self._refresh_maps()
        self.spectra.refresh()

    def _refresh_maps(self) -> None:
        for _, reduction, panel in self.panels:
            panel.tick(*self.controls.looks)
            panel.retitle(panel_title(panel.view, reduction, panel.model.column))

    def _change_looks(self) -> None:
        self._refresh_maps()
        self.spectra.redraw()
        self._write_address()

    def _say_standing(self) -> None:
        self.telling.say(self.subject, self.views[0] if self.views else None)

    def _note_trouble(self, error: FileUnavailableError) -> None:
        self.telling.problem = f"{self.telling.title(self.subject)}: {error}"

    def _write_address(self) -> None:
        row, (colours, scale) = self.spectra.row, self.controls.looks
        self.controls.write_address(
            {
                "scan": self.subject,
                "main": self.controls.channels.value,
                "value": self._reduction_of(self.first_view) if self.views else "",
                "colours": colours,
                "scale": scale,
                "row": "" if row is None else str(row),
            }
        )
