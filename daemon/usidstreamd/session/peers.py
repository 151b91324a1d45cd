"""Who takes part in a scan, and how far the blocks of each have come.

A connection's part is a `Peer`: it begins with open or join and ends with leave, takeover, or the
loss of the connection. Opening again over the same connection is a new part, with new numbers; so
what is still being placed is remembered with the part that sent it, never by the connection alone.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from usidstream.errors import UsidstreamError

from .events import Pace, PeerId, Settled

MAX_SUPERSEDED_COUNT = 64

Facts: TypeAlias = tuple[int, int, int, int]


@dataclass(slots=True, eq=False)
class Peer:
    """One connection's part in a scan.

    Four counts of seq follow one another: ``arrived``, ``settled`` (placed or refused),
    ``committing`` (settled when the latest commit began) and ``durable``. ``told`` is what the peer
    knows, None until it has been answered, and ``told_s`` when the last ack was due.
    ``granted_nbytes`` is the credit: it never falls, and rises no quicker than ``pace`` lets it.
    """

    role: str
    name: str = ""
    arrived: int = 0
    settled: int = 0
    committing: int = 0
    durable: int = 0
    arrived_nbytes: int = 0
    settled_nbytes: int = 0
    granted_nbytes: int = 0
    awaited: int = 0
    leaving: int | None = None
    resend_asked: int = 0
    told: Facts | None = None
    told_s: float = 0.0
    early: set[int] = field(default_factory=set)
    pace: Pace | None = None

    @property
    def has_open_gap(self) -> bool:
        """Whether the next seq has been asked for again and has not come yet."""
        return self.resend_asked == self.arrived + 1

    def arrive(self, seq: int, nbytes: int) -> None:
        """Count ``seq``, the next one, as arrived."""
        self.arrived = seq
        self.arrived_nbytes += nbytes

    def settle(self, seq: int, nbytes: int) -> None:
        """Count ``seq`` as settled; refusals may come before what is still being placed."""
        self.early.add(seq)
        self.settled_nbytes += nbytes
        while self.settled + 1 in self.early:
            self.settled += 1
            self.early.remove(self.settled)


class Roster:
    """The parts that connections have in one scan."""

    def __init__(self, scan_id: str) -> None:
        self._scan_id = scan_id
        self._peers: dict[PeerId, Peer] = {}
        self._superseded: OrderedDict[PeerId, None] = OrderedDict()
        self._placing: dict[PeerId, deque[tuple[Peer, str]]] = {}
        self.unplaced = 0

    def __iter__(self) -> Iterator[tuple[PeerId, Peer]]:
        return iter(list(self._peers.items()))

    def __len__(self) -> int:
        return len(self._peers)

    @property
    def opener(self) -> Peer | None:
        """The part of whoever may finish the scan, if it is connected."""
        return next((peer for _, peer in self if peer.role == "opener"), None)

    @property
    def joiners(self) -> list[str]:
        """What joined clients call themselves, or the hexadecimal ids of their connections."""
        return [peer.name or peer_id.hex() for peer_id, peer in self if peer.role == "joiner"]

    def enter(self, peer_id: PeerId, role: str, name: str = "", pace: Pace | None = None) -> Peer:
        """Begin a part; an earlier one of the same connection is over."""
        self._superseded.pop(peer_id, None)
        self._peers[peer_id] = Peer(role, name, pace=pace)
        return self._peers[peer_id]

    def remove(self, peer_id: PeerId) -> None:
        """End a connection's part, if it has one."""
        self._superseded.pop(peer_id, None)
        self._peers.pop(peer_id, None)

    def supersede_opener(self) -> PeerId | None:
        """End the opener's part because another connection resumes the scan; tell whose it was."""
        for peer_id, peer in self:
            if peer.role == "opener":
                del self._peers[peer_id]
                self._superseded[peer_id] = None
                if len(self._superseded) > MAX_SUPERSEDED_COUNT:
                    self._superseded.popitem(last=False)
                return peer_id
        return None

    def find(self, peer_id: PeerId) -> Peer | None:
        """Return the part of a connection, if it has one."""
        return self._peers.get(peer_id)

    def require(self, peer_id: PeerId) -> Peer:
        """Return the part of a connection; raise ``superseded`` or ``not_joined``."""
        peer = self._peers.get(peer_id)
        if peer is not None:
            return peer
        if peer_id in self._superseded:
            raise superseded(self._scan_id)
        raise UsidstreamError(
            f"this connection does not take part in scan {self._scan_id}", code="not_joined"
        )

    def require_opener(self, peer_id: PeerId, operation: str) -> Peer:
        """Return the opener's part; raise ``not_opener`` for a joined client."""
        peer = self.require(peer_id)
        if peer.role != "opener":
            raise UsidstreamError(f"a joined client cannot {operation}", code="not_opener")
        return peer

    def is_current(self, peer_id: PeerId, peer: Peer) -> bool:
        """Tell whether a part is not over yet."""
        return self._peers.get(peer_id) is peer

    def place(self, peer_id: PeerId, operation: str) -> None:
        """Note that the connection's latest block or annotation is being placed."""
        self._placing.setdefault(peer_id, deque()).append((self._peers[peer_id], operation))
        self.unplaced += 1

    def settle(self, event: Settled) -> tuple[Peer, str]:
        """Return the part whose block or annotation settled, and which of both it was.

        What a connection sends settles in order, so that is its oldest one being placed.
        """
        waiting = self._placing.get(event.peer)
        if not waiting:
            raise RuntimeError(
                f"scan {self._scan_id}: nothing of {event.peer.hex()} is being placed"
            )
        settled = waiting.popleft()
        if not waiting:
            del self._placing[event.peer]
        self.unplaced -= 1
        return settled


def superseded(scan_id: str) -> UsidstreamError:
    """Return the error for an opener whose scan another connection resumed."""
    return UsidstreamError(f"another connection resumed scan {scan_id}", code="superseded")
