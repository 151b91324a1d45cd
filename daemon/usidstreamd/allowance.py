"""What each client may take of what all share: time of the loop, and bytes a second. Pure.

One loop serves all clients. Blocks are paid for by credit, and small messages are served in turn;
but a few messages cost much of the loop's time: opening a large layout, long attributes, answers
with much coverage, or nonsense of a megabyte. Of that each client has an allowance that grows again
with time, its part of `SHARE` of the loop. Who has used it up is served with blocks and other
cheap messages as before; the costly ones are refused until it has grown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SHARE = 0.25
"""Of the loop's time, for the costly messages of all clients together."""
BURST_S = 2.0
"""For all clients together: what may be taken at once, such as by opening large scans."""
FREE_S = 0.001
"""A message that takes no longer costs nothing."""
NONSENSE_FACTOR = 10
"""What cannot be read costs so much more than it took: no client that means well sends it."""
MAX_REFUSED_BYTES_PER_TURN = 2 << 20
REFUSING_PAUSE_S = 0.005
"""So long nothing is received after so much that was refused unread: its sender has to wait, and
who has something to say is still asked in turn before."""
ANSWER_BYTES_PER_S = 100e6
"""An answer costs time by its bytes, too: they wait in memory for who does not read."""
FREE_ANSWER_BYTES = 64 * 1024
OPEN_COST_PER_MAIN_S = 0.001
"""What a new scan costs the disk's threads, for which other scans wait."""
TELL_INTERVAL_S = 1.0
MAX_DEBTORS_COUNT = 4096


@dataclass(slots=True)
class _Debt:
    taken_s: float
    at_s: float
    told_s: float = -math.inf


class Allowances:
    """What each client has taken lately, by its owner; see the module.

    Parameters
    ----------
    share, burst_s
        As `SHARE` and `BURST_S`.
    """

    def __init__(self, share: float = SHARE, burst_s: float = BURST_S) -> None:
        self._share = share
        self._burst_s = burst_s
        self._debts: dict[str, _Debt] = {}

    def charge(self, owner: str, took_s: float, now: float, n_clients: int) -> None:
        """Note that a message took so much of the loop's time."""
        cost_s = took_s - FREE_S
        if cost_s <= 0.0:
            return
        debt = self._settled(owner, now, n_clients)
        if debt is None:
            self._make_room(now, n_clients)
            debt = self._debts[owner] = _Debt(0.0, now)
        debt.taken_s += cost_s

    def charge_answer(self, owner: str, nbytes: int, now: float, n_clients: int) -> None:
        """Note that an answer has so many bytes."""
        if nbytes > FREE_ANSWER_BYTES:
            self.charge(owner, nbytes / ANSWER_BYTES_PER_S, now, n_clients)

    def is_spent(self, owner: str, now: float, n_clients: int) -> bool:
        """Tell whether a client has used up its allowance."""
        debt = self._settled(owner, now, n_clients)
        return debt is not None and debt.taken_s > self._burst_s / max(1, n_clients)

    def has_to_be_told(self, owner: str, now: float) -> bool:
        """Tell, now and then, that a client is to hear of its debt."""
        debt = self._debts.get(owner)
        if debt is None or now - debt.told_s < TELL_INTERVAL_S:
            return False
        debt.told_s = now
        return True

    def _settled(self, owner: str, now: float, n_clients: int) -> _Debt | None:
        debt = self._debts.get(owner)
        if debt is None:
            return None
        debt.taken_s -= (now - debt.at_s) * self._share / max(1, n_clients)
        debt.at_s = now
        if debt.taken_s <= 0.0:
            del self._debts[owner]
            return None
        return debt

    def _make_room(self, now: float, n_clients: int) -> None:
        if len(self._debts) < MAX_DEBTORS_COUNT:
            return
        for owner in list(self._debts):
            self._settled(owner, now, n_clients)
        if len(self._debts) >= MAX_DEBTORS_COUNT:  # forgive whoever owes least
            del self._debts[min(self._debts, key=lambda owner: self._debts[owner].taken_s)]


class Restraint:
    """When to receive nothing for a while: after much had to be refused.

    Attributes
    ----------
    over_s
        Until when, on the clock of ``now``.
    """

    def __init__(self) -> None:
        self.over_s = 0.0
        self._refused_bytes = 0

    def note(self, nbytes: int) -> None:
        """Count what was refused."""
        self._refused_bytes += nbytes

    def begins(self, now: float) -> bool:
        """Begin if too much was refused since the last time; return whether it begins by that."""
        if self._refused_bytes <= MAX_REFUSED_BYTES_PER_TURN:
            return False
        self._refused_bytes = 0
        self.over_s = now + REFUSING_PAUSE_S
        return True


class Pace:
    """How quickly a client gets new credit: a bucket of bytes that fills with time.

    Parameters
    ----------
    bytes_per_s
        0 for as quickly as it may be.
    """

    def __init__(self, bytes_per_s: float) -> None:
        self.bytes_per_s = bytes_per_s
        self._level = bytes_per_s
        self._filled_s: float | None = None

    def fill(self, now: float) -> None:
        """Let time pass; the bucket holds what a second brings."""
        passed_s = 0.0 if self._filled_s is None else now - self._filled_s
        self._filled_s = now
        self._level = min(self.bytes_per_s, self._level + passed_s * self.bytes_per_s)

    def take(self, nbytes: int) -> int:
        """Return how many of these bytes may be granted now."""
        if not self.bytes_per_s:
            return nbytes
        granted = min(nbytes, int(self._level))
        self._level -= granted
        return granted
