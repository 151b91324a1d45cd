"""A thread that waits for room on the disk: told once, when it begins and when it ends.

It knows which error means that waiting helps; never what is waited with.
"""

from __future__ import annotations

from collections.abc import Callable

from usidstream.errors import UsidstreamError

from .messages import SpaceBack, SpaceShort

SPACE_RETRY_S = 0.5
"""What found no room is tried again this often."""


class Shortage:
    """Whether one thread waits for room.

    Parameters
    ----------
    source
        The thread's name for whoever is told.
    post
        Takes the event.
    """

    def __init__(self, source: str, post: Callable[[SpaceShort | SpaceBack], None]) -> None:
        self._source = source
        self._post = post
        self._is_told = False

    def begin(self, error: UsidstreamError) -> None:
        """Tell that the thread waits, unless that is known."""
        if not self._is_told:
            self._is_told = True
            self._post(SpaceShort(source=self._source, error=error))

    def give_up(self) -> None:
        """Wait no longer, for the end has come: there is nothing more to tell."""
        self._is_told = False

    def end(self) -> None:
        """Tell that the thread goes on, if it had waited."""
        if self._is_told:
            self._is_told = False
            self._post(SpaceBack(source=self._source))
