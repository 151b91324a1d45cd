"""Work for which the loop must not wait, done aside in a thread when it is asked for.

A signal handler may do next to nothing and the loop may wait for no file, so a request is a flag, a
thread works, and the loop takes what came of it. It knows nothing of the work.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Aside(Generic[T]):
    """A function that is called in a thread of its own, one call at a time.

    Parameters
    ----------
    work
        What it raises is its outcome.
    name
        The thread's.
    """

    def __init__(self, work: Callable[[], T], name: str) -> None:
        self._work = work
        self._name = name
        self._is_wanted = False
        self._is_running = False
        self._outcomes: queue.SimpleQueue[T | Exception] = queue.SimpleQueue()

    def request(self) -> None:
        """Ask for a call, from any thread or a signal handler."""
        self._is_wanted = True

    def take(self) -> T | Exception | None:
        """Begin a call that was asked for; return what came of one that is done, else None."""
        self._begin_if_wanted()
        try:
            outcome = self._outcomes.get_nowait()
        except queue.Empty:
            return None
        self._is_running = False
        return outcome

    def _begin_if_wanted(self) -> None:
        if not self._is_wanted or self._is_running:
            return
        self._is_wanted, self._is_running = False, True
        # A file on a disk that hangs must not hold up the end of the process either.
        threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def _run(self) -> None:
        try:
            self._outcomes.put(self._work())
        except Exception as error:  # noqa: BLE001 - taken by the loop, which tells of it
            self._outcomes.put(error)
