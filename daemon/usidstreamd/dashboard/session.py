"""One browser's page: what it has chosen, its panels, and the tick that keeps them fresh.

What is chosen stands in the page's address as well, so that a page that loads again, by itself
after its server came back or by hand, shows what it did before.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

import numpy as np
import numpy.typing as npt
from bokeh.document import Document
from bokeh.models import (
    Column,
    CustomJS,
    Div,
    InlineStyleSheet,
    Select,
    Slider,
    TextInput,
)

from ..logs import get_logger
from . import markup, scaling
from .colours import AUTOMATIC, PALETTES
from .figures import CurvePanel, FramePanel, MapPanel, frame_of
from .files import FileUnavailableError
from .hub import FILE_PREFIX, Hub
from .maps import MapModel
from .views import Kind, MainView

log = get_logger()

TICK_MS = 500
MAX_PANELS_COUNT = 4
RETRY_INTERVAL_S = 2.0
MAX_ADDRESS_CHARACTERS = 300
NOTHING = ""

_AT_COLUMN = "at a column"
_VALUE_WORDS = {"mean": "mean", "max": "maximum", "at:0": "value"}
_GRID = """
:host { display: grid !important; gap: 4px 10px; width: 100%; min-width: 0; }
:host(.several) { grid-template-columns: repeat(2, minmax(0, 1fr)); }
:host(.one) { grid-template-columns: minmax(0, 1fr); }
@media (max-width: 640px) { :host(.several) { grid-template-columns: minmax(0, 1fr); } }
"""
_WIDE = ":host, .bk-clearfix { display: block !important; width: 100%; }"


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
        self.row: int | None = None
        self.wanted = _arguments(doc)
        self._detail: CurvePanel | FramePanel | None = None
        self._selected: FramePanel | None = None
        self._told: dict[Any, str] = {}
        self._newest_seen: Any = None
        self._spectrum: npt.NDArray[Any] | None = None
        self._spectrum_due_s = 0.0
        self._problem = ""
        self._is_busy = False
        self._is_over = False
        self._make_models()
        doc.on_session_destroyed(self._end)
        doc.add_periodic_callback(self._tick, TICK_MS)
        self._say_standing()

    # -- models

    def _make_models(self) -> None:
        self.status = _div("status")
        self.cards = _div("cards")
        self.health = _div("health")
        self.note = _div("note")
        self.heading = _div("heading")
        self.maps = Column(
            name="maps", sizing_mode="stretch_width", stylesheets=[InlineStyleSheet(css=_GRID)]
        )
        self.spectra = Column(
            name="spectra", sizing_mode="stretch_width", stylesheets=[InlineStyleSheet(css=_GRID)],
            css_classes=["one"],
        )  # fmt: skip
        self.channels = _select("channels", "Channels", ["-"])
        self.value = _select("value", "Value", ["-"])
        self.colours = _select("colours", "Colours", [AUTOMATIC, *PALETTES])
        self.scale = _select("scale", "Scale", list(scaling.SCALES))
        self.finished = _select("finished", "Files", [(NOTHING, "open a file …")])
        self.column = Slider(
            name="column", title="Column", start=0, end=1, value=0, step=1, visible=False,
            sizing_mode="stretch_width",
        )  # fmt: skip
        self.planes = Slider(
            name="planes", title="Plane", start=0, end=1, value=0, step=1, visible=False,
            sizing_mode="stretch_width",
        )  # fmt: skip
        self.chosen = TextInput(name="chosen", visible=False)
        self.address = TextInput(name="address", visible=False)
        self._take_looks()
        for model in (
            self.status, self.cards, self.health, self.note, self.heading, self.maps, self.spectra,
            self.channels, self.value, self.colours, self.scale, self.finished, self.column,
            self.planes, self.chosen, self.address,
        ):  # fmt: skip
            self.doc.add_root(model)
        self._connect()

    def _take_looks(self) -> None:
        """Take palette and scale from the address."""
        if self.wanted.get("colours") in self.colours.options:
            self.colours.value = self.wanted["colours"]
        if self.wanted.get("scale") in self.scale.options:
            self.scale.value = self.wanted["scale"]

    def _connect(self) -> None:
        def later(work: Callable[[], Awaitable[None]]) -> Callable[[str, Any, Any], None]:
            return lambda _attr, _old, _new: self.doc.add_next_tick_callback(work)

        self.chosen.on_change("value", later(self._choose_scan))
        self.finished.on_change("value", later(self._choose_file))
        self.channels.on_change("value", later(self._build))
        self.value.on_change("value", later(self._change_value))
        self.column.on_change("value_throttled", later(self._build_maps))
        self.planes.on_change("value", lambda _attr, _old, new: self._show_plane(int(new)))
        for look in (self.colours, self.scale):
            look.on_change("value", lambda _attr, _old, _new: self._change_looks())
        self.address.js_on_change(
            "value", CustomJS(code="history.replaceState(null, '', '?' + cb_obj.value)")
        )

    # -- choosing

    async def _choose_scan(self) -> None:
        if self.chosen.value and self.chosen.value != self.subject:
            self.wanted = {}
            await self._open(self.chosen.value)

    async def _choose_file(self) -> None:
        if self.finished.value and self.finished.value != self.subject:
            self.wanted = {}
            await self._open(self.finished.value)

    async def _open(self, subject: str) -> None:
        """Show a scan, or a file."""
        try:
            if subject != self.subject:
                self._leave()
                self.subject = subject
                self.hub.watch_scan(subject)
            self.views = await self.hub.views(subject)
        except FileUnavailableError as error:
            self._problem = f"{self._title()}: {error}"
            return
        self._problem = ""
        self._offer_channels()
        await self._build()

    def _leave(self) -> None:
        if self.subject:
            self._drop_panels()
            self.hub.leave_scan(self.subject)
        self.subject, self.views, self.row = NOTHING, [], None
        self._spectrum = None

    def _end(self, _context: Any) -> None:
        self._is_over = True
        self._leave()

    def _offer_channels(self) -> None:
        options = [(f"{number}", view.name) for number, view in enumerate(self.views)]
        if len(self.views) > 1:
            groups = range(0, len(self.views), MAX_PANELS_COUNT)
            sides = [(f"{g}+", self._group_words(g)) for g in groups]
            options = sides + options
        self.channels.options = options
        wanted = self.wanted.get("main", "")
        known = {key for key, _ in options}
        self.channels.value = wanted if wanted in known else options[0][0]

    def _group_words(self, first: int) -> str:
        last = min(first + MAX_PANELS_COUNT, len(self.views))
        return "all" if len(self.views) <= MAX_PANELS_COUNT else f"{first + 1} to {last}"

    @property
    def numbers(self) -> list[int]:
        """The mains that are shown side by side."""
        first = int(self.channels.value.rstrip("+"))
        if not self.channels.value.endswith("+"):
            return [first]
        return list(range(first, min(first + MAX_PANELS_COUNT, len(self.views))))

    # -- building

    async def _build(self) -> None:
        """Make the panels for what is chosen."""
        if not self.views or not self.channels.value.rstrip("+").isdecimal():
            return
        view = self.views[self.numbers[0]]
        words = [(word, _VALUE_WORDS[word]) for word in view.reductions]
        if view.n_columns > 1:
            words.append((_AT_COLUMN, _AT_COLUMN))
        self.column.end = max(view.n_columns - 1, 1)
        wanted = self.wanted.pop("value", "")
        if wanted.startswith("at:") and wanted[3:].isdecimal() and view.n_columns > 1:
            self.column.value = min(int(wanted[3:]), view.n_columns - 1)
            wanted = _AT_COLUMN
        self.value.options = words
        if wanted in dict(words):
            self.value.value = wanted
        elif self.value.value not in dict(words):
            self.value.value = words[0][0]
        await self._build_maps()

    async def _change_value(self) -> None:
        self.column.visible = self.value.value == _AT_COLUMN
        await self._build_maps()

    async def _build_maps(self) -> None:
        if not self.views:
            return
        self._drop_panels()
        self.column.visible = self.value.value == _AT_COLUMN
        several = len(self.numbers) > 1
        ranges: Any = None
        for number in self.numbers:
            view = self.views[number]
            if view.kind is Kind.POINT:
                continue
            try:
                panel = self._make_panel(number, view, ranges)
            except FileUnavailableError as error:
                self._problem = str(error)
                continue
            ranges = ranges or (panel.plot.x_range, panel.plot.y_range)
        self.maps.css_classes = ["several" if several else "one"]
        self.maps.children = [panel.plot for _, _, panel in self.panels]
        self._offer_planes()
        self._build_spectra()
        wanted = self.wanted.pop("row", "")
        if wanted.isdecimal() and int(wanted) < self.views[0].n_positions:
            self.row = int(wanted)
        self._select(self.row)
        self._refresh_panels()
        self._write_address()

    def _make_panel(self, number: int, view: MainView, ranges: Any) -> MapPanel:
        reduction = self.reduction_of(view)
        model = self.hub.watch(self.subject, number, view, reduction)
        title = self._panel_title(view, reduction)
        panel = MapPanel(view, model, title, self._tapped, ranges)
        self.panels.append((number, reduction, panel))
        return panel

    def reduction_of(self, view: MainView) -> str:
        """Return what is shown of a main's spectra: its only value where there is but one."""
        if view.n_columns == 1:
            return "at:0"
        if self.value.value == _AT_COLUMN:
            return f"at:{min(int(self.column.value), view.n_columns - 1)}"
        return str(self.value.value) if self.value.value in view.reductions else "mean"

    def _panel_title(self, view: MainView, reduction: str) -> str:
        if view.n_columns == 1:
            return view.name
        if reduction.startswith("at:"):
            return f"{view.name} at {_column_words(view, int(reduction[3:]))}"
        return f"{view.name}, {_VALUE_WORDS[reduction]}"

    def _drop_panels(self) -> None:
        for number, reduction, _ in self.panels:
            self.hub.leave(self.subject, number, reduction)
        self.panels = []

    def _offer_planes(self) -> None:
        n_planes = self.views[self.numbers[0]].n_planes
        self.planes.visible = n_planes > 1
        if n_planes > 1:
            self.planes.end = n_planes - 1

    def _show_plane(self, plane: int) -> None:
        for _, _, panel in self.panels:
            panel.show_plane(min(plane, panel.view.n_planes - 1))
        self._refresh_panels()

    def _build_spectra(self) -> None:
        view = self.views[self.numbers[0]]
        self._newest_seen, self._selected = None, None
        if len(view.moving_spectrum) > 1:
            self._detail = FramePanel(view, "newest")
            self._selected = FramePanel(view, "selected")
            self.spectra.children = [self._detail.plot, self._selected.plot]
        elif view.moving_spectrum:
            self._detail = CurvePanel(
                "Spectrum", view.moving_spectrum[0], view.label, self._tapped_spectrum
            )
            self.spectra.children = [self._detail.plot]
        elif view.kind is Kind.MAP:
            self._detail = CurvePanel(
                f"{view.name} along {view.moving[0].name}",
                view.moving[0],
                view.label,
                self._tapped_profile,
            )
            self.spectra.children = [self._detail.plot]
        else:
            self._detail = None
            self.spectra.children = []
        if isinstance(self._detail, CurvePanel) and view.moving_spectrum:
            column = self.reduction_of(view).partition(":")[2]
            at = float(view.moving_spectrum[0].scaled[int(column)]) if column else None
            self._detail.show_column(at)

    # -- selecting

    def _tapped(self, x: float, y: float) -> None:
        plane = self.panels[0][2].plane if self.panels else 0
        self._select(self.views[self.numbers[0]].row_at(x, y, plane))
        self._write_address()

    def _tapped_profile(self, x: float, _y: float) -> None:
        """Move the selection along its line."""
        view = self.views[self.numbers[0]]
        _, y = view.place_of(self.row if self.row is not None else 0)
        self._tapped(x, y)

    def _tapped_spectrum(self, x: float, _y: float) -> None:
        """Show the map at the column under a click."""
        axis = self.views[self.numbers[0]].moving_spectrum[0]
        self.column.value = int(np.abs(axis.scaled - x).argmin())
        if self.value.value == _AT_COLUMN:
            self.doc.add_next_tick_callback(self._build_maps)
        else:
            self.value.value = _AT_COLUMN

    def _select(self, row: int | None) -> None:
        self.row = row
        self._spectrum, self._spectrum_due_s = None, 0.0
        for _, _, panel in self.panels:
            panel.mark(row)
        if row is not None:
            self.doc.add_next_tick_callback(self._read_selected)

    async def _read_selected(self) -> None:
        """Read the selected spectrum from the file; again later while it is not there yet."""
        row, subject, number = self.row, self.subject, self.numbers[0]
        view, path = self.views[number], self.hub.path(subject)
        self._spectrum_due_s = time.monotonic() + RETRY_INTERVAL_S
        if row is None or path is None or not view.moving_spectrum:
            return
        try:
            found = await self.hub.files.spectrum(path, number, row)
        except FileUnavailableError as error:
            self._problem = f"{self._title()}: {error}"
            return
        is_current = (row, subject, number) == (self.row, self.subject, self.numbers[0])
        if is_current and np.isfinite(found).any():
            self._spectrum = found
            self._draw_selected()

    def _draw_selected(self) -> None:
        if self.row is None or not self.views:
            return
        view = self.views[self.numbers[0]]
        if isinstance(self._selected, FramePanel):
            frame = None if self._spectrum is None else frame_of(view, self._spectrum)
            title = f"selected: {view.words_for(self.row) or 'the only position'}"
            self._selected.show(frame, title, self.colours.value, self.scale.value)
        elif isinstance(self._detail, CurvePanel) and view.moving_spectrum:
            self._detail.show("selected", self._spectrum)

    # -- keeping up

    async def _tick(self) -> None:
        if self._is_busy or self._is_over:
            return
        self._is_busy = True
        try:
            self._say_standing()
            await self._choose_by_itself()
            self._refresh_panels()
            if self._is_due():
                await self._read_spectra()
        except Exception:
            log.exception("page_failed")
        finally:
            self._is_busy = False

    async def _read_spectra(self) -> None:
        """Read from the file what is to be shown and was not told."""
        self._spectrum_due_s = time.monotonic() + RETRY_INTERVAL_S
        if self.row is not None and self._spectrum is None:
            await self._read_selected()
        if not self.panels:
            return
        number, _, panel = self.panels[0]
        subject, row = self.subject, panel.model.newest_row
        if row >= 0 and panel.view.moving_spectrum and self.hub.newest(subject, number) is None:
            try:
                await self.hub.find_newest(subject, number, row)
            except FileUnavailableError as error:
                self._problem = f"{self._title()}: {error}"

    def _is_due(self) -> bool:
        return time.monotonic() >= self._spectrum_due_s

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

    def _refresh_panels(self) -> None:
        for _, _, panel in self.panels:
            panel.tick(self.colours.value, self.scale.value)
        if self.views:
            self._refresh_newest()

    def _refresh_newest(self) -> None:
        number = self.numbers[0]
        view = self.views[number]
        if not view.moving_spectrum:
            self._refresh_profile(view)
            return
        newest = self.hub.newest(self.subject, number)
        if newest is None or self._newest_seen == newest.version or self._detail is None:
            return
        self._newest_seen = newest.version
        if isinstance(self._detail, FramePanel):
            frame = newest.values.reshape(-1, _fastest_length(view, newest.values.shape))
            title = f"newest: {view.words_for(newest.row) or 'the only position'}"
            self._detail.show(frame, title, self.colours.value, self.scale.value)
        else:
            self._detail.show("newest", newest.values.ravel(), max(newest.steps))
        if (
            newest.row == self.row
            and self._spectrum is None
            and newest.values.size == view.n_columns
        ):
            self._spectrum = newest.values.reshape(-1)
            self._draw_selected()

    def _refresh_profile(self, view: MainView) -> None:
        """Draw the newest line of a map, and the one through the selected position."""
        if not isinstance(self._detail, CurvePanel) or not self.panels:
            return
        panel = self.panels[0][2]
        model, seen = panel.model, (panel.model.version, self.row, panel.plane)
        if seen == self._newest_seen:
            return
        self._newest_seen = seen
        if model.newest_row >= 0:
            self._detail.show("newest", _line_of(view, model, model.newest_row))
        if self.row is not None:
            self._detail.show("selected", _line_of(view, model, self.row))

    def _change_looks(self) -> None:
        self._newest_seen = None
        self._refresh_panels()
        self._draw_selected()
        self._write_address()

    # -- words

    def _say_standing(self) -> None:
        hub, now = self.hub, time.monotonic()
        standing = hub.standing
        is_connected = standing.is_connected(now)
        self._say(self.status, markup.status_pill(standing, now, hub.endpoint))
        scans = list(reversed(standing.scans.values()))
        cards = markup.scan_cards(scans, self.subject, is_connected=is_connected)
        self._say(self.cards, cards)
        notes = [*hub.trouble.values(), *([self._problem] if self._problem else [])]
        self._say(self.health, markup.health(standing, now, dict.fromkeys(notes)))
        self._say(self.heading, markup.heading(self._title(), self._place()))
        self._say(self.note, markup.note(self._note()))
        self._offer_files()
        title = markup.page_title(hub.scan(self.subject), self._title(), is_connected)
        if self.doc.title != title:
            self.doc.title = title

    def _say(self, div: Div, text: str) -> None:
        # a Div's text is only sent where it has changed: focus and selection in it would be lost
        if self._told.get(div.name) != text:
            self._told[div.name] = div.text = text

    def _title(self) -> str:
        scan = self.hub.scan(self.subject)
        return scan.title if scan else self.subject.removeprefix(FILE_PREFIX)

    def _place(self) -> str:
        if self.row is None or not self.views:
            return ""
        words = self.views[0].words_for(self.row)
        return f"selected: {words} (row {self.row})" if words else f"row {self.row}"

    def _note(self) -> str:
        if not self.subject:
            return (
                "Waiting for a scan." if self.hub.standing.heartbeat else "Waiting for the daemon."
            )
        if not self.views:
            return self._problem or "Opening …"
        if self.row is None:
            return "Click the map to see what was measured there."
        view = self.views[self.numbers[0]]
        if self._spectrum is None and view.moving_spectrum:
            return "The selected position is not in the file yet; it appears as soon as it is."
        return ""

    def _offer_files(self) -> None:
        options = [(NOTHING, "open a file …")]
        options += [(FILE_PREFIX + path.name, path.name) for path in self.hub.finished]
        if options != self.finished.options:
            self.finished.options = options
        if not self.subject.startswith(FILE_PREFIX) and self.finished.value:
            self.finished.value = NOTHING

    def _write_address(self) -> None:
        value = self.reduction_of(self.views[self.numbers[0]]) if self.views else ""
        chosen = {
            "scan": self.subject, "main": self.channels.value, "value": value,
            "colours": self.colours.value, "scale": self.scale.value,
            "row": "" if self.row is None else str(self.row),
        }  # fmt: skip
        query = urlencode({key: text for key, text in chosen.items() if text})
        if self.address.value != query:
            self.address.value = query


def _arguments(doc: Document) -> dict[str, str]:
    """Return what the page's address asks for; nothing of it is trusted."""
    request = doc.session_context.request if doc.session_context else None
    found = getattr(request, "arguments", {}) or {}
    return {
        key: values[0].decode("utf-8", "replace")[:MAX_ADDRESS_CHARACTERS]
        for key, values in found.items()
        if values
    }


def _div(name: str) -> Div:
    return Div(
        name=name,
        text="",
        disable_math=True,
        margin=0,
        sizing_mode="stretch_width",
        stylesheets=[InlineStyleSheet(css=_WIDE + style_sheet())],
    )


def style_sheet() -> str:
    """Return the page's looks for what stands in a Div, which the page's own sheet cannot reach."""
    from importlib.resources import files

    return files(__package__).joinpath("pieces.css").read_text("utf-8")


def _select(name: str, title: str, options: list[Any]) -> Select:
    first = options[0] if isinstance(options[0], str) else options[0][0]
    return Select(name=name, title=title, options=options, value=first, sizing_mode="stretch_width")


def _column_words(view: MainView, column: int) -> str:
    words, rest = [], column
    for axis in view.spectrum:
        rest, step = divmod(rest, len(axis.values))
        if len(axis.values) > 1:
            words.append(f"{axis.name} {axis.values[step]:.4g} {axis.units}".rstrip())
    return ", ".join(words)


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
