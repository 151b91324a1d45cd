"""Which commit is under way, what it covers, and who waits for which.

A commit covers what had settled when it began. One is under way at a time; whoever comes meanwhile
waits for the next, so that each answer is as new as its request. Nothing here knows states: the
machine begins a commit, through `Commits.begin`, when its state allows one.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from .events import BeginCommit, Committed, PeerId
from .peers import Peer, Roster

PAUSE_PART = 0.5
"""From one commit's end to the next one's beginning at least this part of the interval goes by: a
slow disk is not asked all the time. What comes first after a longer pause is committed at once."""
TRANSIT_S = 0.005
"""A row waits from its write on, and until its client is told: what it spends on the way counts."""
LEAD_DECAY = 0.9
"""A commit that took long is reckoned with, less and less, by those after it."""


class Waiter(NamedTuple):
    """A peer whose request is answered when a commit, with its coverage, is done."""

    peer: PeerId
    request: str
    marker: int


class Commits:
    """The commits of one scan.

    Parameters
    ----------
    roster
        Whose counts a commit carries on.
    commit_interval_s
        What was written is known to be durable about so long after; a commit begins as much
        earlier as it takes, and as the way takes there and back.

    Attributes
    ----------
    is_dirty
        Whether anything has settled that no commit covers yet.
    positions
        The number of positions durable in every main.
    interval_s
        May change at any time.
    """

    def __init__(self, roster: Roster, commit_interval_s: float) -> None:
        self._roster = roster
        self.interval_s = commit_interval_s
        self._began_s = self._ended_s = 0.0
        self._lead_s = 0.0
        self._waiting_since_s: float | None = None
        self._running_since_s: float | None = None
        self._marker = 0
        self._is_running = False
        self._is_wanted = False
        self._wants_coverage = False
        self._waiters: Counter[Waiter] = Counter()
        self.is_dirty = False
        self.positions = 0

    @property
    def is_quiet(self) -> bool:
        """Whether no commit is under way or wanted."""
        return not self._is_running and not self._is_wanted

    @property
    def oldest_s(self) -> float | None:
        """When the oldest of what is not durable was seen, None if all is."""
        if self._running_since_s is not None:
            return self._running_since_s
        return self._waiting_since_s

    def see(self, now: float, *, is_anything_waiting: bool) -> None:
        """Note whether anything that has come is in no commit yet."""
        if not is_anything_waiting:
            self._waiting_since_s = None
        elif self._waiting_since_s is None:
            self._waiting_since_s = now

    def start(self, positions: int, now: float) -> None:
        """Begin with what a file holds already; count the interval from here."""
        self.positions = positions
        self._began_s = self._ended_s = now

    @property
    def due_s(self) -> float | None:
        """When the next commit begins by the clock; None if nothing has settled, or one runs."""
        if self._is_running or not self.is_dirty:
            return None
        pause_over_s = self._ended_s + PAUSE_PART * self.interval_s
        if self._waiting_since_s is not None and self._waiting_since_s >= pause_over_s:
            return self._waiting_since_s  # it came alone: what would it wait for?
        in_time_s = self._began_s + self.interval_s - self._lead_s - TRANSIT_S
        return max(in_time_s, pause_over_s)

    def tells_soon(self, now: float, within_s: float) -> bool:
        """Whether a commit began no longer ago than that, whose end every peer is told of."""
        return self._is_running and now - self._began_s < within_s

    def tick(self, now: float) -> bool:
        """Want a commit if it is due; return whether it is."""
        due_s = self.due_s
        is_due = due_s is not None and now >= due_s
        if is_due:
            self.want()
        return is_due

    def want(self) -> None:
        """Ask for a commit that begins from now on."""
        self._is_wanted = True

    def await_durable(self, peer: Peer, seq: int) -> None:
        """Ask for a commit as soon as ``seq`` has settled."""
        peer.awaited = max(peer.awaited, seq)
        self._want_if_awaited(peer)

    def note_settled(self, peer: Peer) -> None:
        """Note that something of this peer's has settled."""
        self.is_dirty = True
        self._want_if_awaited(peer)

    def _want_if_awaited(self, peer: Peer) -> None:
        if peer.committing < peer.awaited <= peer.settled:
            self.want()

    def answer_after_next(self, peer: PeerId, request: str) -> None:
        """Remember to answer a request from the coverage of the next commit to begin."""
        self._waiters[Waiter(peer, request, self._marker + 1)] += 1
        self._wants_coverage = True
        self.want()

    def begin(self, now: float) -> BeginCommit | None:
        """Return the commit to begin, if one is wanted and none is under way."""
        if self._is_running or not self._is_wanted:
            return None
        self._marker += 1
        for _, peer in self._roster:
            peer.committing = peer.settled
        coverage = self._wants_coverage
        self._running_since_s, self._waiting_since_s = self._waiting_since_s, None
        self._is_running = True
        self._began_s = now
        self._is_wanted = self._wants_coverage = self.is_dirty = False
        return BeginCommit(marker=self._marker, coverage=coverage)

    def finish(self, event: Committed, now: float) -> list[Waiter]:
        """Count what the commit covered as durable; return whom to answer, once a request."""
        if not self._is_running or event.marker != self._marker:
            raise RuntimeError(f"commit {event.marker} ended, {self._marker} was the latest")
        self._is_running = False
        self._running_since_s = None
        self.positions = event.positions
        self._ended_s = now
        self._lead_s = max(now - self._began_s, LEAD_DECAY * self._lead_s)
        for _, peer in self._roster:
            peer.durable = peer.committing
        ready = [waiter for waiter in self._waiters.elements() if waiter.marker <= event.marker]
        for waiter in ready:
            del self._waiters[waiter]
        return ready

    def forget(self, peer: PeerId, *requests: str) -> None:
        """Answer these of a peer's requests no more."""
        for waiter in [w for w in self._waiters if w.peer == peer and w.request in requests]:
            del self._waiters[waiter]

    @property
    def waiting(self) -> list[PeerId]:
        """The peers that wait for an answer."""
        return [waiter.peer for waiter in self._waiters]
