"""What goes out to clients: encoded, counted, and paid for by whoever asked.

It knows nothing of what an answer means, nor why it is sent.
"""

from __future__ import annotations

import time

from usidstream import wire

from ..allowance import Allowances
from ..clients import Clients
from ..refusals import Refusals
from ..router import Router
from ..scan import Sends
from ..session import error_message


class Answers:
    """The way out.

    Parameters
    ----------
    router
        Where they go.
    clients, allowances
        Whose they are, and what long ones cost.
    refusals
        Counts the errors among them.
    """

    def __init__(
        self, router: Router, clients: Clients, allowances: Allowances, refusals: Refusals
    ) -> None:
        self._router = router
        self._clients = clients
        self._allowances = allowances
        self._refusals = refusals

    def send_all(self, sends: Sends) -> None:
        """Send what a scan wants sent."""
        for send in sends:
            self.send(send.peer, send.message)

    def send(self, peer: bytes, message: wire.Message) -> None:
        """Send a message, or the error for one that cannot be encoded."""
        if isinstance(message, wire.Error):
            self._refusals.note(message, self._clients.describe(peer))
        try:
            frames = wire.encode(message)
        except wire.WireError as error:
            # Such as the layout of a scan for a joiner, if its names and attributes are huge.
            scan = getattr(message, "scan", "")
            frames = wire.encode(error_message(error, message.type, scan))
        if len(frames) > 1 and peer in self._clients:
            nbytes = sum(len(frame) for frame in frames)
            owner = self._clients[peer].owner
            self._allowances.charge_answer(owner, nbytes, time.monotonic(), len(self._clients))
        self._router.send(peer, frames)
