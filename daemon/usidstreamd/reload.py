"""A running daemon's configuration, read again when a signal asks for it.

It is read aside, and the loop takes up what came of it. What may be taken up is decided here; to do
it is the server's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .aside import Aside
from .config import Config, ConfigError
from .config.model import RELOADABLE, show
from .logs import get_logger

log = get_logger()


class Reloads:
    """Readings of the configuration, one at a time.

    Parameters
    ----------
    read
        Returns the configuration as a start would have it now, or raises `ConfigError`.
    """

    def __init__(self, read: Callable[[], Config]) -> None:
        self._readings = Aside(read, "reload")

    def request(self) -> None:
        """Ask for a reading, from any thread or a signal handler."""
        self._readings.request()

    def take(self, current: Config) -> Config | None:
        """Return what is to hold from now on, once a reading that was asked for is done.

        Tells the operator what has changed, what waits for a restart, and all that is wrong.
        """
        outcome = self._readings.take()
        if outcome is None:
            return None
        if isinstance(outcome, ConfigError):
            log.error("config_refused", problem=outcome.message)
            return None
        if isinstance(outcome, Exception):
            log.error("config_refused", problem=str(outcome), exc_info=outcome)
            return None
        _tell(current, outcome)
        return take_up(current, outcome)


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
            log.info("config_changed", option=name, old=old, new=new)
        else:
            log.warning("config_waits", option=name, old=old, new=new)
    if not changes:
        log.info("config_unchanged")
