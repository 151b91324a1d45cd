"""All or nothing: a call that raises takes back what it had done.

Knows only steps that take something back, in order. Each is registered before what it takes back
is done, and so may find that there is nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any


class Undo:
    """The steps that take back what a call has done so far."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def add(self, step: Callable[[], object]) -> None:
        """Remember a step that takes back what is about to be done."""
        self._steps.append(step)

    def creates(self, h5_group: Any, name: str) -> None:
        """Remember that ``h5_group[name]`` is about to be created."""
        self.add(partial(_unlink, h5_group, name))

    def replaces(self, h5_group: Any, name: str) -> None:
        """Remember that ``h5_group[name]`` is about to give way to something new.

        The handle that is held here keeps the old object in the file, even unlinked.
        """
        self.add(partial(_link_again, h5_group, name, h5_group[name]))

    def take_back(self) -> list[Exception]:
        """Take everything back, the newest first; return what went wrong on the way."""
        failures = []
        for step in reversed(self._steps):
            try:
                step()
            except Exception as failure:  # noqa: BLE001 - the other steps still count
                failures.append(failure)
        return failures


def _unlink(h5_group: Any, name: str) -> None:
    if name in h5_group:
        del h5_group[name]


def _link_again(h5_group: Any, name: str, h5_object: Any) -> None:
    if name in h5_group and h5_group[name] == h5_object:
        return
    _unlink(h5_group, name)
    h5_group[name] = h5_object


@contextmanager
def all_or_nothing() -> Iterator[Undo]:
    """Yield the steps of a call; whatever raises inside takes them all back."""
    undo = Undo()
    try:
        yield undo
    except BaseException as error:
        for failure in undo.take_back():
            error.add_note(f"and not everything could be taken back: {failure}")
        raise
