"""Whether the daemon is to stop, since when it does, and how long that may take. Pure.

A request is a flag and nothing more: the signal handler that makes it may interrupt the loop
itself, while that holds a lock.
"""

from __future__ import annotations

STOP_MARGIN_S = 15.0
"""What a stop may take beside closing scans, before a service manager kills the daemon."""


class Stop:
    """The stop of one daemon.

    Parameters
    ----------
    timeout_s
        What closing the scans may take.

    Attributes
    ----------
    timeout_s
        May change at any time.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._is_wanted = False
        self._since_s: float | None = None

    def request(self) -> None:
        """Ask for it, from any thread or a signal handler."""
        self._is_wanted = True

    def begins(self, now: float) -> bool:
        """Begin if it was asked for; return whether it begins by that."""
        if not self._is_wanted or self._since_s is not None:
            return False
        self._since_s = now
        return True

    @property
    def has_begun(self) -> bool:
        """Whether the scans are being closed."""
        return self._since_s is not None

    def deadline_s(self, now: float) -> float:
        """Return by when the scans are to be closed; counted from now if it has not begun."""
        return (now if self._since_s is None else self._since_s) + self.timeout_s
