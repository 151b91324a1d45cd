"""A running daemon's configuration, read again when a signal asks for it.

A signal handler may do next to nothing and the loop may wait for no file, so the handler sets a
flag, a thread reads, and the loop takes up what came of it. What may be taken up is decided here;
to do it is the server's affair.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator

from .config import Config, ConfigError
from .config.model import RELOADABLE, show

log = logging.getLogger("usidstreamd")


class Reloads:
    """Readings of the configuration, one at a time.

    Parameters
    ----------
    read
        Returns the configuration as a start would have it now, or raises `ConfigError`.
    """

    def __init__(self, read: Callable[[], Config]) -> None:
        self._read = read
        self._is_wanted = False
        self._is_reading = False
        self._outcomes: queue.SimpleQueue[Config | Exception] = queue.SimpleQueue()

    def request(self) -> None:
        """Ask for a reading, from any thread or a signal handler."""
        self._is_wanted = True

    def take(self, current: Config) -> Config | None:
        """Return what is to hold from now on, once a reading that was asked for is done.

        Tells the operator what has changed, what waits for a restart, and all that is wrong.
        """
        self._begin_if_wanted()
        try:
            outcome = self._outcomes.get_nowait()
        except queue.Empty:
            return None
        self._is_reading = False
        if isinstance(outcome, ConfigError):
            log.error("configuration not reloaded, nothing has changed: %s", outcome.message)
            return None
        if isinstance(outcome, Exception):
            log.error("configuration not reloaded, nothing has changed", exc_info=outcome)
            return None
        _tell(current, outcome)
        return take_up(current, outcome)

    def _begin_if_wanted(self) -> None:
        if not self._is_wanted or self._is_reading:
            return
        self._is_wanted, self._is_reading = False, True
        # A file on a disk that hangs must not hold up the end of the process either.
        threading.Thread(target=self._read_aside, name="reload", daemon=True).start()

    def _read_aside(self) -> None:
        try:
            self._outcomes.put(self._read())
        except Exception as error:  # noqa: BLE001 - told by the loop, which acquires on
            self._outcomes.put(error)


def take_up(current: Config, wanted: Config) -> Config:
    """Return the current configuration with what may change at run time as it is wanted."""
    return current.model_copy(update={name: getattr(wanted, name) for name in RELOADABLE})


def differences(current: Config, wanted: Config) -> Iterator[tuple[str, str, str]]:
    """Yield the name, the current and the wanted value of every option that differs."""
    for name in Config.model_fields:
        old, new = getattr(current, name), getattr(wanted, name)
        if old != new:
            yield name, show(old), show(new)


def _tell(current: Config, wanted: Config) -> None:
    changes = list(differences(current, wanted))
    for name, old, new in changes:
        if name in RELOADABLE:
            log.info("configuration: %s: %s -> %s", name, old, new)
        else:
            log.warning("configuration: %s: %s -> %s waits for a restart", name, old, new)
    if not changes:
        log.info("configuration read again: nothing has changed")
