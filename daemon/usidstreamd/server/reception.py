"""Messages come in here: whose they are, whether they may be read, and what reading them costs.

Hello comes first; who has taken more than its share is served with what is cheap only, and who
sends much that is refused is made to wait. A message that cannot be read costs its sender an error,
never the daemon. What it asks for is not known here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import zmq

from usidstream import wire
from usidstream.errors import UsidstreamError

from ..allowance import NONSENSE_FACTOR, Allowances, Restraint
from ..clients import Clients, Identity
from ..logs import get_logger
from ..router import Router
from ..security import Gate
from ..session import error_message
from .answers import Answers
from .presence import Presence
from .requests import Requests

log = get_logger()

MAX_HELLO_BYTES = 4096
"""Nothing longer is read of who has not said hello."""
MAX_CHEAP_HEADER_BYTES = 1024
MAX_RECEIVING_S = 0.01
"""What receiving may take of a turn, so that one client's messages do not delay others' acks."""

Received = list[wire.Frame] | wire.WireError
"""A message's frames, or why it has none."""


class Reception:
    """The way in.

    Parameters
    ----------
    router, gate
        Where messages come from, and whose they are.
    clients, presence
        Who has said hello, and who does.
    requests
        What they ask for.
    allowances, restraint
        What each has taken, and what of all was refused: by that the loop receives or pauses.
    answers
        How they hear.
    """

    def __init__(
        self,
        router: Router,
        gate: Gate,
        *,
        clients: Clients,
        presence: Presence,
        requests: Requests,
        allowances: Allowances,
        restraint: Restraint,
        answers: Answers,
    ) -> None:
        self._router = router
        self._gate = gate
        self._clients = clients
        self._presence = presence
        self._requests = requests
        self._allowances = allowances
        self._restraint = restraint
        self._answers = answers

    def receive(self) -> None:
        """Take some of the messages that are there, as many as a turn has time for."""
        began_s = time.monotonic()
        for sender, frames in self._router.receive():
            self._take(sender, frames)
            now = time.monotonic()
            # Acks are due, without which nobody sends; or much of this was not worth reading.
            if now - began_s > MAX_RECEIVING_S or self._restraint.begins(now):
                return

    def _take(self, sender: zmq.Frame, frames: Received) -> None:
        peer, began_s = sender.bytes, time.thread_time()
        owner = ""  # of all who have no key and should
        try:
            who = self._gate.identify(sender)
            owner = self._clients.owner(peer, who)
            self._read(peer, who, owner, frames)
            factor = 1
        except UsidstreamError as error:
            self._answers.send(peer, error_message(error, "read"))
            factor = NONSENSE_FACTOR
            self._restraint.note(_nbytes(frames))
        took_s = factor * (time.thread_time() - began_s)
        self._allowances.charge(owner, took_s, time.monotonic(), len(self._clients))

    def _read(self, peer: bytes, who: Identity, owner: str, frames: Received) -> None:
        if isinstance(frames, wire.WireError):
            raise frames
        now = time.monotonic()
        n_header_bytes = len(frames[0]) if frames else 0
        if peer not in self._clients and n_header_bytes > MAX_HELLO_BYTES:
            raise UsidstreamError("this is no hello", code="no_session")
        is_spent = self._allowances.is_spent(owner, now, len(self._clients))
        is_unread = is_spent and n_header_bytes > MAX_CHEAP_HEADER_BYTES
        message = None if is_unread else wire.decode_client(frames)
        if message is None or (is_spent and isinstance(message, _COSTLY)):
            self._restraint.note(_nbytes(frames))
            self._refuse_costly(peer, owner, message)
        elif (error := self._try(peer, who, message, now)) is not None:
            self._restraint.note(_nbytes(frames))
            self._answers.send(peer, error)

    def _try(
        self, peer: bytes, who: Identity, message: wire.Message, now: float
    ) -> wire.Error | None:
        """Do what a message asks for; return what is wrong with that, None if nothing is."""
        try:
            self._clients.hear(peer, message, now, who.key)
            if isinstance(message, wire.Hello):
                self._presence.greet(peer, who, message, now)
            else:
                self._requests.carry_out(peer, message, now)
        except UsidstreamError as error:
            scan = getattr(message, "scan", "")
            seq = message.seq if isinstance(message, wire.Block | wire.Annotate) else 0
            return error_message(error, message.type, scan, seq)
        return None

    def _refuse_costly(self, peer: bytes, owner: str, message: wire.Message | None) -> None:
        """Tell who asks for too much so; now and then, for an answer to each would cost as much."""
        if not self._allowances.has_to_be_told(owner, time.monotonic()):
            return
        operation = "read" if message is None else message.type
        log.warning("client_overloading", client=self._clients.describe(peer), operation=operation)
        error = UsidstreamError("this client asks for more than its share", code="overloading")
        self._answers.send(peer, error_message(error, operation, getattr(message, "scan", "")))


def _nbytes(frames: Sequence[wire.Frame] | wire.WireError) -> int:
    return 0 if isinstance(frames, wire.WireError) else sum(map(len, frames))


_COSTLY = (wire.Open, wire.Join, wire.Annotate, wire.StatusRequest)
"""What is refused to clients that have used up their allowance; all else that is short is cheap."""
