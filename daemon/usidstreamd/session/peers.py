"""One connection's part in a scan: what it has sent, what has settled, what it has been told."""

from __future__ import annotations

from dataclasses import dataclass, field

from .events import PeerId


@dataclass(slots=True)
class Peer:
    """What one connection has sent, and what it has been told."""

    role: str
    arrived: int = 0
    settled: int = 0
    durable: int = 0
    arrived_nbytes: int = 0
    settled_nbytes: int = 0
    leaving: int | None = None
    told: tuple[int, int, int, int] | None = None
    early: set[int] = field(default_factory=set)

    def settle(self, seq: int, nbytes: int) -> None:
        """Count ``seq`` as settled; refusals may come before what is still being placed."""
        self.early.add(seq)
        self.settled_nbytes += nbytes
        while self.settled + 1 in self.early:
            self.settled += 1
            self.early.remove(self.settled)


@dataclass(frozen=True, slots=True)
class Waiter:
    """A peer that is answered when a commit, with its coverage, is done."""

    peer: PeerId
    marker: int
    kind: str
