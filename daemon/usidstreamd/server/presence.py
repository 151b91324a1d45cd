"""Who comes and goes: clients that say hello, fall silent, say bye or are shut out.

Whoever goes is gone from all scans. It decides neither what a client may send nor what becomes of
a scan that all have left.
"""

from __future__ import annotations

from dataclasses import asdict

from usidstream import wire

from ..clients import Clients, Identity, check_version
from ..config import Config
from ..logs import get_logger
from ..security import Gate
from ..session import events
from .answers import Answers
from .scans import Scans
from .standing import PROGRAM, Standing

log = get_logger()

MIB = 1 << 20


class Presence:
    """The coming and going of the clients of one daemon.

    Parameters
    ----------
    config
        How many there may be, how long they may be silent, and what a welcome tells.
    standing
        What a welcome tells of the daemon.
    clients
        Who is here; changed here only.
    scans
        What they take part in.
    answers
        How they hear.

    Attributes
    ----------
    config
        May change at any time.
    """

    def __init__(
        self,
        config: Config,
        standing: Standing,
        clients: Clients,
        scans: Scans,
        answers: Answers,
    ) -> None:
        self.config = config
        self._standing = standing
        self._clients = clients
        self._scans = scans
        self._answers = answers

    def greet(self, peer: bytes, who: Identity, message: wire.Hello, now: float) -> None:
        """Take in who says hello, in the place of the same client's earlier connections.

        Raises
        ------
        UsidstreamError
            It speaks another protocol, or there are too many clients.
        """
        check_version(message)
        for other in self._clients.earlier_connections(peer, message.instance, who.key):
            self.forget(other, now)
        limits = self.config.max_clients, self.config.max_connections_per_client
        self._clients.welcome(peer, message, now, limits, who)
        self._answers.send(peer, welcome_message(self.config, self._standing))

    def forget(self, peer: bytes, now: float) -> None:
        """Let a client go, if it is one."""
        if self._clients.forget(peer):
            self._answers.send_all(self._scans.receive(events.PeerLost(peer=peer), now))

    def forget_silent(self, now: float) -> None:
        """Let those go of whom nothing was heard for long."""
        silence_s = self.config.peer_silence_s
        for peer in self._clients.silent(now, silence_s):
            log.warning("client_silent", client=self._clients.describe(peer), after_s=silence_s)
            self.forget(peer, now)

    def forget_shut_out(self, gate: Gate, now: float) -> None:
        """Let those go whose keys are admitted no more."""
        for peer in self._clients.without_key(gate.admits):
            self.forget(peer, now)


def welcome_message(config: Config, standing: Standing) -> wire.Welcome:
    """Make the answer to hello: what the daemon is, and what it takes."""
    return wire.Welcome(
        version=wire.VERSION,
        daemon=PROGRAM,
        instance=standing.instance,
        features=list(wire.FEATURES),
        limits={
            "max_header_bytes": wire.MAX_HEADER_BYTES,
            "max_frames_count": wire.MAX_FRAMES_COUNT,
            "max_layout_bytes": config.max_layout_mb * MIB,
            "max_block_bytes": config.max_block_mb * MIB,
            "credit_window_bytes": config.credit_window_mb * MIB,
            "peer_silence_s": int(config.peer_silence_s) or 1,
        },
        ports=asdict(standing.ports),
    )
