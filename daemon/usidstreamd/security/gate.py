"""The gate in front of every listening socket: with keys, only known clients get through.

`Gate.socket` makes the daemon's sockets, so that none can be forgotten. With keys each of them
speaks CURVE and asks the gate about every new connection (ZAP, ZeroMQ RFC 27); libzmq refuses the
connection if the answer is no, and also if nobody answers. ZeroMQ cannot cut a connection that
stands, so the key is looked at again with each message: a client whose key is taken off the list is
refused from then on. Runs in the thread of the server's loop, which polls `fileno`.
"""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from pathlib import Path

import zmq
import zmq.auth

from usidstream.errors import UsidstreamError
from usidstream.keys import KeyPair

from ..aside import Aside
from ..clients import NOBODY, Identity
from ..logs import get_logger
from .allowlist import AllowList, read_allow_list

log = get_logger()

DOMAIN = "usidstream"
HANDSHAKE_TIMEOUT_MS = 5000
"""A connection that has not shown its key by then is cut."""
MAX_HANDSHAKES_PER_TURN_COUNT = 64
CLOSE_TIMEOUT_S = 3.0
"""Longer than any socket lingers."""
REFUSALS_TOLD_INTERVAL_S = 10.0
"""Connections refused are told this often at most, with their number."""


class Gate:
    """The way in, open to all without ``keys``.

    Parameters
    ----------
    keys
        The daemon's own pair, or None: then nobody is asked for a key.
    allowed
        The clients that are admitted.
    keys_dir
        Where their keys are read again.
    """

    def __init__(
        self,
        keys: KeyPair | None = None,
        allowed: AllowList | None = None,
        keys_dir: Path = Path(),
    ) -> None:
        self._keys = keys
        self._allowed = allowed or AllowList()
        self._readings = Aside(partial(read_allow_list, keys_dir), "keys")
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._refusals = Refusals()
        self._loop = asyncio.new_event_loop() if keys is not None else None
        self._authenticator = zmq.auth.Authenticator(self._context)
        if keys is not None:
            self._authenticator.configure_curve_callback(DOMAIN, self)
            self._authenticator.start()

    @property
    def is_locked(self) -> bool:
        """Whether keys are asked for."""
        return self._keys is not None

    def socket(self, kind: int) -> zmq.Socket[bytes]:
        """Make a socket that listens behind the gate; it is the caller's to close, before this."""
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_TIMEOUT_MS)
        if self._keys is not None and self._keys.secret is not None:
            socket.curve_server = True
            socket.curve_publickey = self._keys.public.encode()
            socket.curve_secretkey = self._keys.secret.encode()
            socket.setsockopt_string(zmq.ZAP_DOMAIN, DOMAIN)
            # Else libzmq lets everybody through while nobody answers its questions.
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        return socket

    # -- new connections

    def register(self, poller: zmq.Poller) -> None:
        """Let a poller wake for connections that ask to be let in."""
        if self._loop is not None:
            poller.register(self._authenticator.zap_socket, zmq.POLLIN)

    def answer(self, now: float) -> None:
        """Let in, or refuse, some of the connections that ask."""
        if self._loop is None:
            return
        zap = self._authenticator.zap_socket
        for _ in range(MAX_HANDSHAKES_PER_TURN_COUNT):
            try:
                question = zap.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                break
            self._refusals.address = question[3].decode("ascii", "replace")
            self._loop.run_until_complete(self._authenticator.handle_zap_message(question))
        self._refusals.tell(now)

    def callback(self, domain: str, key: bytes) -> bool:
        """Decide about a connection: the authenticator's question."""
        is_known = domain == DOMAIN and key.decode() in self._allowed.names
        if not is_known:
            self._refusals.note()
        return is_known

    # -- messages

    def identify(self, frame: zmq.Frame) -> Identity:
        """Return whose a message is.

        Raises
        ------
        UsidstreamError
            ``access_denied``: its connection's key is not on the list, or no longer.
        """
        if self._keys is None:
            return NOBODY
        try:
            key = str(frame.get("User-Id"))
        except zmq.ZMQError:  # no such property: nobody has looked at this connection's key
            key = ""
        name = self._allowed.names.get(key)
        if name is None:
            raise UsidstreamError(
                "this client's key is not among those that the daemon admits", code="access_denied"
            )
        return Identity(key, name)

    def admits(self, key: str) -> bool:
        """Tell whether a client with this key is admitted now."""
        return self._keys is None or key in self._allowed.names

    # -- other keys

    def reload(self) -> None:
        """Read the clients' keys again soon, from any thread or a signal handler."""
        if self._keys is not None:
            self._readings.request()

    def take_up(self) -> bool:
        """Admit whom a reading that is done has found; return whether anybody is out by that."""
        outcome = self._readings.take()
        if isinstance(outcome, AllowList):
            return self._replace(outcome)
        if outcome is not None:
            log.error("keys_unreadable", problem=str(outcome))
        return False

    def _replace(self, allowed: AllowList) -> bool:
        former, self._allowed = self._allowed, allowed.after(self._allowed)
        for fault in allowed.faults.values():
            log.error("key_refused", problem=fault)
        come = _names_only_in(self._allowed, former)
        gone = _names_only_in(former, self._allowed)
        if come:
            log.info("keys_admitted", clients=come)
        if gone:
            log.warning("keys_withdrawn", clients=gone)
        if not come and not gone:
            log.info("keys_unchanged")
        return bool(gone)

    def close(self) -> None:
        """Close the gate, once all sockets behind it are closed."""
        self._authenticator.stop()
        if self._loop is not None:
            self._loop.close()
        # Waits for sockets that are still open: one whose thread hangs must not hold up the end.
        ending = threading.Thread(target=self._context.term, name="gate", daemon=True)
        ending.start()
        ending.join(CLOSE_TIMEOUT_S)


def _names_only_in(one: AllowList, other: AllowList) -> str:
    return ", ".join(sorted(one.names[key] for key in one.names.keys() - other.names.keys()))


class Refusals:
    """Counts refused connections and tells of them now and then: a scanner must not fill a log."""

    def __init__(self) -> None:
        self.address = ""
        self._last_address = ""
        self._untold = 0
        self._told_s = -REFUSALS_TOLD_INTERVAL_S

    def note(self) -> None:
        """Count one, from the present address."""
        self._untold += 1
        self._last_address = self.address

    def tell(self, now: float) -> None:
        """Tell of those that were counted, if the last telling is long ago."""
        if not self._untold or now - self._told_s < REFUSALS_TOLD_INTERVAL_S:
            return
        log.warning("connections_refused", count=self._untold, last_address=self._last_address)
        self._untold, self._told_s = 0, now
