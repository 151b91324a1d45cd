"""What clients were refused: counted by code, and told to the operator where it is news.

A client that is told to ask again later meets what a restart or a full disk brings; a client whose
messages are wrong has a fault that somebody has to mend. It never knows why something was refused.
"""

from __future__ import annotations

from collections import Counter

from usidstream import wire

from .logs import get_logger

log = get_logger()

ORDINARY_CODES = frozenset({"no_session", "not_joined", "recovering", "shutting_down", "no_space"})
"""Clients meet these without any fault of theirs, and go on by themselves."""


class Refusals:
    """The errors that were sent.

    Attributes
    ----------
    counts
        How many of each code, since the daemon's start.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def note(self, error: wire.Error, client: str) -> None:
        """Count an error that is being sent.

        Parameters
        ----------
        client
            What the client calls itself, or the hexadecimal id of its connection.
        """
        self.counts[error.code] += 1
        facts = {
            "code": error.code,
            "operation": error.operation,
            "client": client,
            "problem": error.message,
        }
        facts |= {"scan": error.scan} if error.scan else {}
        if error.code in ORDINARY_CODES:
            log.debug("answered_not_yet", **facts)
        else:
            log.warning("message_refused", **facts)
