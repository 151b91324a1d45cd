"""What the loop sleeps on, and for how long: the sockets, the mailbox, and the next commit.

It knows descriptors and times, never what has come: whoever wakes looks for itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

import zmq

from ..mailbox import Mailbox
from ..router import Router
from ..security import Gate

IDLE_TICK_MS = 100
BUSY_TICK_MS = 20


class Waking:
    """The pollers of the loop.

    Parameters
    ----------
    mailbox, gate
        Always listened to.
    router
        Listened to unless its messages have to wait.
    """

    def __init__(self, mailbox: Mailbox, gate: Gate, router: Router) -> None:
        self._pausing, self._listening = zmq.Poller(), zmq.Poller()
        for poller in (self._pausing, self._listening):
            poller.register(mailbox.fileno(), zmq.POLLIN)
            gate.register(poller)
        self._router = router
        router.register(self._listening)

    def sleep(self, receive_due_s: float, commits_due_s: Iterable[float | None]) -> bool:
        """Sleep until there is something to do; return whether there are messages.

        Parameters
        ----------
        receive_due_s
            Until then no message wakes the loop, on the monotonic clock.
        commits_due_s
            When the commits of the open scans are due; None for those that have none to make.
        """
        now = time.monotonic()
        if receive_due_s > now:
            self._pausing.poll(math.ceil((receive_due_s - now) * 1000.0))
            return False
        return self._router.is_among(self._listening.poll(tick_ms(commits_due_s, now)))


def tick_ms(commits_due_s: Iterable[float | None], now: float) -> int:
    """Return how long to sleep at most: no longer than until a commit is due."""
    due_s = min((due for due in commits_due_s if due is not None), default=None)
    if due_s is None:
        return IDLE_TICK_MS
    return min(BUSY_TICK_MS, max(0, math.ceil(1000 * (due_s - now))))
