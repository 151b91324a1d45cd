"""What the page says in words: how daemon and scans stand, what is selected, what goes wrong.

The words themselves are made by ``markup``; here it is decided which are due.
"""

from __future__ import annotations

import time

from bokeh.document import Document

from . import markup
from .controls import NO_FILE, NOTHING, Controls
from .hub import FILE_PREFIX, Hub
from .spectra import Spectra
from .views import MainView


class Telling:
    """The texts of one page.

    Parameters
    ----------
    doc, controls
        The page.
    hub, spectra
        What is told of.
    """

    def __init__(self, doc: Document, controls: Controls, hub: Hub, spectra: Spectra) -> None:
        self._doc, self._controls, self._hub, self._spectra = doc, controls, hub, spectra
        self.problem = ""

    def title(self, subject: str) -> str:
        """Return a scan's title, or a file's name."""
        scan = self._hub.scan(subject)
        return scan.title if scan else subject.removeprefix(FILE_PREFIX)

    def say(self, subject: str, view: MainView | None) -> None:
        """Bring all texts up to date.

        Parameters
        ----------
        subject
            The scan or file that is shown; empty for none.
        view
            Its first main; None until it is known.
        """
        hub, controls, now = self._hub, self._controls, time.monotonic()
        standing = hub.standing
        is_connected = standing.is_connected(now)
        pill = markup.status_pill(standing, now, hub.endpoint, hub.unreached)
        controls.say(controls.status, pill)
        scans = list(reversed(standing.scans.values()))
        cards = markup.scan_cards(scans, subject, is_connected=is_connected)
        controls.say(controls.cards, cards)
        notes = [*hub.trouble.values(), *([self.problem] if self.problem else [])]
        controls.say(controls.health, markup.health(standing, now, dict.fromkeys(notes)))
        heading = markup.heading(self.title(subject), self._place(view))
        controls.say(controls.heading, heading)
        controls.say(controls.note, markup.note(self._note(subject, view)))
        self._offer_files(subject)
        title = markup.page_title(hub.scan(subject), self.title(subject), is_connected)
        if self._doc.title != title:
            self._doc.title = title

    def _place(self, view: MainView | None) -> str:
        row = self._spectra.row
        if row is None or view is None:
            return ""
        words = view.words_for(row)
        return f"selected: {words} (row {row})" if words else f"row {row}"

    def _note(self, subject: str, view: MainView | None) -> str:
        if not subject:
            has_daemon = self._hub.standing.heartbeat
            return "Waiting for a scan." if has_daemon else "Waiting for the daemon."
        if view is None:
            return self.problem or "Opening …"
        if self._spectra.row is None:
            return "Click the map to see what was measured there."
        if self._spectra.is_waiting:
            return "The selected position is not in the file yet; it appears as soon as it is."
        return ""

    def _offer_files(self, subject: str) -> None:
        finished = self._controls.finished
        found = [(FILE_PREFIX + path.name, path.name) for path in self._hub.finished]
        options = [NO_FILE, *found]
        if options != finished.options:
            finished.options = options
        if not subject.startswith(FILE_PREFIX) and finished.value:
            finished.value = NOTHING
