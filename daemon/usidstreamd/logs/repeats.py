"""How many lines of an event are told in a time: the first ones, then how many more there were.

Two bounds, for a flood has one source or many: lines that say the same of one subject (a scan,
say), and lines of an event with one code whatever they are about. What is over them is counted,
never forgotten: a window that ends gives its count. Pure: who asks gives the time; used from one
thread at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

WINDOW_S = 60.0
MAX_SAME_LINES_COUNT = 5
"""Lines of one event, code and subject in a window."""
MAX_EVENT_LINES_COUNT = 60
"""Lines of one event and code, of all subjects, in a window."""
MAX_WINDOWS_COUNT = 4096
"""Windows that are remembered; the oldest ends early for a new one."""


class Kind(NamedTuple):
    """What lines have in common.

    Parameters
    ----------
    level
        Its number in the standard library.
    event
        The event's name.
    code
        The error's code; empty without one.
    subject
        The scan's id, or what else it is about; empty where lines of all subjects are meant.
    """

    level: int
    event: str
    code: str = ""
    subject: str = ""


@dataclass(slots=True)
class _Window:
    ends_s: float
    told: int = 0
    left_out: int = 0


class Repeats:
    """Counts lines by kind."""

    def __init__(self) -> None:
        self._windows: OrderedDict[Kind, _Window] = OrderedDict()
        self._over: list[tuple[Kind, int]] = []

    def admit(self, kind: Kind, now: float) -> bool:
        """Tell whether a line is to be written; it is counted either way."""
        self._close_until(now)
        same = self._windows.get(kind)
        if same is not None and same.told >= MAX_SAME_LINES_COUNT:
            same.left_out += 1
            return False
        of_event = self._window(kind._replace(subject=""), now)
        if of_event.told >= MAX_EVENT_LINES_COUNT:
            of_event.left_out += 1
            return False
        for counted in {kind, kind._replace(subject="")}:
            self._window(counted, now).told += 1
        return True

    def take_over(self, now: float) -> list[tuple[Kind, int]]:
        """Return the kinds whose windows have ended, and how many lines of each were left out."""
        self._close_until(now)
        over, self._over = self._over, []
        return over

    def take_all(self) -> list[tuple[Kind, int]]:
        """Return what every window left out, and begin anew: the end has come."""
        return self.take_over(float("inf"))

    def due_s(self) -> float | None:
        """Return when there will be something to tell; None while nothing is left out."""
        if self._over:
            return 0.0
        # All windows are as long: they end in the order in which they began.
        return next((w.ends_s for w in self._windows.values() if w.left_out), None)

    def _window(self, kind: Kind, now: float) -> _Window:
        window = self._windows.get(kind)
        if window is None:
            if len(self._windows) >= MAX_WINDOWS_COUNT:
                self._close_oldest()
            window = self._windows[kind] = _Window(now + WINDOW_S)
        return window

    def _close_until(self, now: float) -> None:
        while self._windows and next(iter(self._windows.values())).ends_s <= now:
            self._close_oldest()

    def _close_oldest(self) -> None:
        kind, window = self._windows.popitem(last=False)
        if window.left_out:
            self._over.append((kind, window.left_out))
