"""The sockets under a client: one connection to the daemon, and a bell to wake their thread.

Knows ZeroMQ and nothing of the protocol. A connection is never repaired: when it breaks, whoever
owns it makes a fresh one, since a reconnected ZeroMQ socket would go on in the middle of a session
that the daemon does not know.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence

import zmq
from zmq.utils.monitor import recv_monitor_message

from ..endpoints import host_of, is_loopback
from ..keys import ClientKeys
from ..wire import MAX_LAYOUT_BYTES, Frame

SEND_HIGH_WATER_MESSAGES = 1000
RECEIVE_HIGH_WATER_MESSAGES = 10_000
CLOSE_LINGER_MS = 1000
LOOPBACK_SEND_BUFFER_BYTES = 256 << 10
"""What the kernel holds of a stream to this machine: little enough to be still in the processor's
cache when the daemon reads it, which halves what sending and receiving cost. On a network the
kernel decides, for much may be on its way."""

KEY_REFUSED = "the daemon does not admit this client's key"
KEYS_DIFFER = "the peer broke off the greeting: it expects other keys, or no ZeroMQ that fits"
NO_KEYS_THERE = "the daemon uses no keys"
KEYS_WANTED = "the daemon asks for keys"
GREETING_CUT = "the peer broke off the greeting: it asks for keys, or is no ZeroMQ that fits"
"""What a client without keys learns of a daemon that saw its greeting first."""

_BROKEN = {
    zmq.Event.CLOSED: "connection refused",
    zmq.Event.DISCONNECTED: "the daemon closed the connection",
    zmq.Event.HANDSHAKE_FAILED_NO_DETAIL: KEYS_DIFFER,
    zmq.Event.HANDSHAKE_FAILED_PROTOCOL: "the peer does not speak ZeroMQ",
    zmq.Event.HANDSHAKE_FAILED_AUTH: KEY_REFUSED,
}
_BAD_PROTOCOL = zmq.Event.HANDSHAKE_FAILED_PROTOCOL
_MISMATCH = zmq.Event.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH


class Connection:
    """A fresh DEALER socket and the monitor that tells of its end.

    Parameters
    ----------
    context, endpoint
        Where it lives and connects to.
    keys
        For a daemon that asks for them.

    Raises
    ------
    zmq.ZMQError
        The endpoint cannot be connected to.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        keys: ClientKeys | None = None,
    ) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.monitor: zmq.Socket[bytes] | None = None
        self._has_keys = keys is not None
        try:
            self.socket.setsockopt(zmq.LINGER, 0)
            self.socket.setsockopt(zmq.RECONNECT_IVL, -1)
            self.socket.setsockopt(zmq.SNDHWM, SEND_HIGH_WATER_MESSAGES)
            self.socket.setsockopt(zmq.RCVHWM, RECEIVE_HIGH_WATER_MESSAGES)
            self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_LAYOUT_BYTES)
            if is_loopback(host_of(endpoint)):
                self.socket.setsockopt(zmq.SNDBUF, LOOPBACK_SEND_BUFFER_BYTES)
            if keys is not None:
                keys.secure(self.socket)
            self.monitor = self.socket.get_monitor_socket(sum(_BROKEN))
            self.socket.connect(endpoint)
        except BaseException:
            self.close()
            raise

    def broken(self) -> str:
        """Return why the connection broke, empty while it stands."""
        while self.monitor is not None and self.monitor.poll(0):
            message = recv_monitor_message(self.monitor)
            if message["value"] == _MISMATCH and message["event"] == _BAD_PROTOCOL:
                return NO_KEYS_THERE if self._has_keys else KEYS_WANTED
            event = zmq.Event(message["event"])
            if event == zmq.Event.HANDSHAKE_FAILED_NO_DETAIL and not self._has_keys:
                return GREETING_CUT
            if event in _BROKEN:
                return _BROKEN[event]
        return ""

    def send(self, frames: Sequence[Frame]) -> bool:
        """Send a message without waiting; return False if the socket takes none now."""
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        return True

    def receive(self) -> list[bytes] | None:
        """Return the next message without waiting, or None."""
        try:
            return self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def close(self, linger_ms: int = 0) -> None:
        """Close, giving what was sent so long to go out."""
        if self.monitor is not None:
            self.socket.disable_monitor()
            self.monitor.close(linger=0)
        self.socket.close(linger=linger_ms)


class Bell:
    """Wakes a poller from any thread."""

    def __init__(self) -> None:
        self._outer, self._inner = socket.socketpair()
        self._outer.setblocking(False)
        self._inner.setblocking(False)

    def fileno(self) -> int:
        """Return what a poller waits for."""
        return self._inner.fileno()

    def ring(self) -> None:
        """Wake the poller; ringing often before it looks counts once."""
        with contextlib.suppress(OSError):  # full: it rings already; closed: nobody sleeps
            self._outer.send(b"\0")

    def silence(self) -> None:
        """Take the rings so far."""
        with contextlib.suppress(BlockingIOError):
            self._inner.recv(4096)

    def close(self) -> None:
        """Close both ends."""
        self._outer.close()
        self._inner.close()
