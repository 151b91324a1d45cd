"""The models of one page: its boxes, sliders and texts, the columns of figures, and its address.

Knows Bokeh and how things are laid out, and nothing of scans: what the boxes offer, and what
follows from a choice, is told by whoever holds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

from bokeh.document import Document
from bokeh.models import Column, CustomJS, Div, InlineStyleSheet, Select, Slider, TextInput

from . import scaling
from .colours import AUTOMATIC, PALETTES

MAX_ADDRESS_CHARACTERS = 300
NOTHING = ""
NO_FILE = (NOTHING, "open a file …")

_GRID = """
:host { display: grid !important; gap: 4px 10px; width: 100%; min-width: 0; }
:host(.several) { grid-template-columns: repeat(2, minmax(0, 1fr)); }
:host(.one) { grid-template-columns: minmax(0, 1fr); }
@media (max-width: 640px) { :host(.several) { grid-template-columns: minmax(0, 1fr); } }
"""
_WIDE = ":host, .bk-clearfix { display: block !important; width: 100%; }"


class Controls:
    """The models of a page, under the names by which its template places them.

    Parameters
    ----------
    doc
        Bokeh's document; they become its roots.
    """

    def __init__(self, doc: Document) -> None:
        self.status = _div("status")
        self.cards = _div("cards")
        self.health = _div("health")
        self.note = _div("note")
        self.heading = _div("heading")
        self.maps = _figures("maps")
        self.spectra = _figures("spectra", css_classes=["one"])
        self.channels = _select("channels", "Channels", ["-"])
        self.value = _select("value", "Value", ["-"])
        self.colours = _select("colours", "Colours", [AUTOMATIC, *PALETTES])
        self.scale = _select("scale", "Scale", list(scaling.SCALES))
        self.finished = _select("finished", "Files", [NO_FILE])
        self.column = _slider("column", "Column")
        self.planes = _slider("planes", "Plane")
        self.chosen = TextInput(name="chosen", visible=False)
        self.address = TextInput(name="address", visible=False)
        self.address.js_on_change(
            "value", CustomJS(code="history.replaceState(null, '', '?' + cb_obj.value)")
        )
        self._told: dict[Any, str] = {}
        for model in (
            self.status, self.cards, self.health, self.note, self.heading, self.maps, self.spectra,
            self.channels, self.value, self.colours, self.scale, self.finished, self.column,
            self.planes, self.chosen, self.address,
        ):  # fmt: skip
            doc.add_root(model)

    @property
    def looks(self) -> tuple[str, str]:
        """The palette and the scale that are chosen."""
        return self.colours.value, self.scale.value

    def take_looks(self, wanted: Mapping[str, str]) -> None:
        """Choose the palette and the scale that an address asks for, where there are such."""
        for name, box in (("colours", self.colours), ("scale", self.scale)):
            if wanted.get(name) in box.options:
                box.value = wanted[name]

    def say(self, div: Div, text: str) -> None:
        """Set a text, where it is another: focus and selection in it would be lost."""
        if self._told.get(div.name) != text:
            self._told[div.name] = div.text = text

    def write_address(self, chosen: Mapping[str, str]) -> None:
        """Let the page's address ask for what is chosen; what is empty is left out."""
        query = urlencode({key: text for key, text in chosen.items() if text})
        if self.address.value != query:
            self.address.value = query


def address_of(doc: Document) -> dict[str, str]:
    """Return what the page's address asks for; nothing of it is trusted."""
    request = doc.session_context.request if doc.session_context else None
    found = getattr(request, "arguments", {}) or {}
    return {
        key: values[0].decode("utf-8", "replace")[:MAX_ADDRESS_CHARACTERS]
        for key, values in found.items()
        if values
    }


def style_sheet() -> str:
    """Return the page's looks for what stands in a Div, which the page's own sheet cannot reach."""
    return files(__package__).joinpath("pieces.css").read_text("utf-8")


def _div(name: str) -> Div:
    return Div(
        name=name,
        text="",
        disable_math=True,
        margin=0,
        sizing_mode="stretch_width",
        stylesheets=[InlineStyleSheet(css=_WIDE + style_sheet())],
    )


def _figures(name: str, **more: Any) -> Column:
    sheets = [InlineStyleSheet(css=_GRID)]
    return Column(name=name, sizing_mode="stretch_width", stylesheets=sheets, **more)


def _select(name: str, title: str, options: list[Any]) -> Select:
    first = options[0] if isinstance(options[0], str) else options[0][0]
    return Select(name=name, title=title, options=options, value=first, sizing_mode="stretch_width")


def _slider(name: str, title: str) -> Slider:
    return Slider(
        name=name, title=title, start=0, end=1, value=0, step=1, visible=False,
        sizing_mode="stretch_width",
    )  # fmt: skip
