"""Who is connected: the clients that have said hello, and the limits of that.

Pure: it is told what came from which peer and when, and knows neither sockets nor scans. A peer is
the transport's name for a connection; a client is a peer that has said hello. What becomes of the
scans of a client that is gone is the server's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from usidstream import wire
from usidstream.errors import UsidstreamError

MAX_NAME_CHARS = 64
"""Of what a client calls itself; a longer name is cut, it is for people only."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose a message is, as its connection's key tells.

    Parameters
    ----------
    key
        The public key; empty where the daemon asks for none.
    name
        The name that the daemon's list has for it; empty likewise.
    """

    key: str = ""
    name: str = ""


NOBODY = Identity()


@dataclass(slots=True)
class Client:
    """A connection that has said hello.

    Parameters
    ----------
    name
        What its key says it is called; without keys, what it calls itself.
    instance
        What it calls all its connections, or empty.
    last_seen_s
        When it said anything last, on the monotonic clock.
    key
        Its public key, or empty.
    owner
        Whom limits count it for: all connections with one key, or without keys each by itself.
    """

    name: str
    instance: str
    last_seen_s: float
    key: str = ""
    owner: str = ""


class Clients:
    """The clients of a daemon, by their peers."""

    def __init__(self) -> None:
        self._clients: dict[bytes, Client] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def __contains__(self, peer: bytes) -> bool:
        return peer in self._clients

    def __getitem__(self, peer: bytes) -> Client:
        return self._clients[peer]

    def describe(self, peer: bytes) -> str:
        """Return what a peer calls itself, if it does, and the id of its connection."""
        client = self._clients.get(peer)
        return f"{client.name} {peer.hex()}".strip() if client is not None else peer.hex()

    def hear(self, peer: bytes, message: wire.Message, now: float, key: str = "") -> None:
        """Note that a peer said something, or raise if hello should have come first.

        A peer's name may return with another connection; whoever has another key is no client yet.
        """
        client = self._clients.get(peer)
        if client is not None and client.key == key:
            client.last_seen_s = now
        elif not isinstance(message, wire.Hello):
            raise UsidstreamError(f"{message.type} came before hello", code="no_session")

    def earlier_connections(self, peer: bytes, instance: str, key: str = "") -> list[bytes]:
        """Return the other peers of the same instance and key, whose place a new one takes."""
        if not instance:
            return []
        return [
            other
            for other, client in self._clients.items()
            if (client.instance, client.key) == (instance, key) and other != peer
        ]

    def welcome(
        self,
        peer: bytes,
        hello: wire.Hello,
        now: float,
        limits: tuple[int, int],
        who: Identity = NOBODY,
    ) -> None:
        """Take a peer in as a client, under the name that its key has.

        Parameters
        ----------
        peer, hello, now, who
            Who says what, when.
        limits
            The most connections of all clients, and those of one key.

        Raises
        ------
        UsidstreamError
            There are too many already.
        """
        if peer not in self._clients:
            self._check_has_room(who, *limits)
        name = who.name or _printable(hello.client[:MAX_NAME_CHARS])
        owner = owner_of(peer, who)
        self._clients[peer] = Client(name, hello.instance, now, who.key, owner)

    def _check_has_room(self, who: Identity, most: int, most_of_one: int) -> None:
        if len(self._clients) >= most:
            raise UsidstreamError(
                f"{len(self._clients)} clients are connected", code="too_many_clients"
            )
        if not who.key:
            return
        its = sum(client.key == who.key for client in self._clients.values())
        if its >= most_of_one:
            raise UsidstreamError(
                f"{who.name} has {its} connections, as many as one client may",
                code="too_many_clients",
                hint="Close one, give each program its own key, or raise "
                "max_connections_per_client.",
            )

    def owner(self, peer: bytes, who: Identity) -> str:
        """Return whom limits count a peer for; see `Client`."""
        client = self._clients.get(peer)
        return owner_of(peer, who) if client is None else client.owner

    def without_key(self, admits: Callable[[str], bool]) -> Iterator[bytes]:
        """Yield the peers whose keys are admitted no more."""
        for peer, client in list(self._clients.items()):
            if not admits(client.key):
                yield peer

    def owners(self) -> set[str]:
        """Return whom limits count the clients for."""
        return {client.owner for client in self._clients.values()}

    def names(self) -> list[str]:
        """Return what the clients are called."""
        return sorted(client.name for client in self._clients.values())

    def silent(self, now: float, longest_s: float) -> Iterator[bytes]:
        """Yield the peers that have said nothing for longer than that."""
        for peer, client in list(self._clients.items()):
            if now - client.last_seen_s > longest_s:
                yield peer

    def forget(self, peer: bytes) -> bool:
        """Let a client go; return whether there was one."""
        return self._clients.pop(peer, None) is not None


def _printable(name: str) -> str:
    """Return a name that cannot begin a line of its own in a log, nor steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in name)


def owner_of(peer: bytes, who: Identity) -> str:
    """Return whom limits count a peer for: its key, or without keys itself."""
    return who.key or peer.hex()


def check_version(hello: wire.Hello) -> None:
    """Raise unless the client speaks this daemon's version."""
    if wire.VERSION not in hello.versions:
        raise UsidstreamError(
            f"the client speaks {hello.versions}, this daemon {wire.VERSION}",
            code="unsupported_version",
        )
