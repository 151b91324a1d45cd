"""The telemetry socket, made and bound: the one place that knows its options."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeAlias

import zmq

from usidstream import wire
from usidstream.errors import UsidstreamError

from ..conditions import Warnings
from ..ports import note_taken

MAX_QUEUED_MESSAGES_PER_VIEWER_COUNT = 128
"""What waits for a viewer that does not read; ZeroMQ holds one copy for all viewers."""
MAX_REQUEST_BYTES = 1024
PROBE_INTERVAL_MS = 5_000
PROBE_TIMEOUT_MS = 15_000
"""A viewer whose machine is gone is noticed after this, so that nothing is computed for it."""
REBIND_TIMEOUT_S = 5.0
REBIND_INTERVAL_MS = 20

SocketMaker: TypeAlias = Callable[[int], "zmq.Socket[bytes]"]
"""Makes a socket of a kind that listens: behind the daemon's gate, if it has one."""


def make_socket(make: SocketMaker) -> zmq.Socket[bytes]:
    """Make an XPUB socket that hears every subscription, and drops what a viewer does not take."""
    socket = make(zmq.XPUB)
    socket.setsockopt(zmq.XPUB_VERBOSE, 1)
    socket.setsockopt(zmq.SNDHWM, MAX_QUEUED_MESSAGES_PER_VIEWER_COUNT)
    socket.setsockopt(zmq.RCVHWM, wire.MAX_SUBSCRIPTIONS_COUNT)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_REQUEST_BYTES)
    socket.setsockopt(zmq.HEARTBEAT_IVL, PROBE_INTERVAL_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, PROBE_TIMEOUT_MS)
    return socket


def bind(socket: zmq.Socket[bytes], host: str, port: int, warnings: Warnings) -> int:
    """Bind to a port, or to any free one with a warning if it is taken; return which it is.

    Parameters
    ----------
    host
        Such as ``tcp://127.0.0.1``.
    port
        0 for any.

    Raises
    ------
    UsidstreamError
        The host cannot be bound to at all.
    """
    try:
        socket.bind(f"{host}:{port}")
    except zmq.ZMQError as error:
        if error.errno != errno.EADDRINUSE or not port:
            raise UsidstreamError(
                f"{host}:{port} cannot be bound for telemetry: {error}",
                code="internal_error",
                hint='Choose another port, or telemetry = "off".',
            ) from error
        socket.bind(f"{host}:0")
        found = _port_of(socket)
        note_taken("telemetry", port, found, warnings)
        return found
    return _port_of(socket)


class Renewal:
    """Closes a bound socket, and binds one like it to the same address once that is free.

    ZeroMQ cannot cut one connection: so all are, and all who are let in come again by themselves.
    It closes the old socket in a thread of its own, so the address is free only after a while, for
    which nobody must sleep: `try_bind` is to be called again and again.

    Parameters
    ----------
    socket
        The old one.
    make
        Makes the new one.
    now
        On the monotonic clock.

    Attributes
    ----------
    socket
        The new one; what is sent before it is bound is dropped, for nobody is there.
    """

    def __init__(self, socket: zmq.Socket[bytes], make: SocketMaker, now: float) -> None:
        self._endpoint: str = socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self._late_s = now + REBIND_TIMEOUT_S
        socket.close(linger=0)
        self.socket = make_socket(make)

    def try_bind(self, now: float) -> bool:
        """Bind the new socket if its address is free; return whether it is bound.

        Raises
        ------
        zmq.ZMQError
            It cannot be bound, or the address has not been free for too long.
        """
        try:
            self.socket.bind(self._endpoint)
        except zmq.ZMQError as error:
            if error.errno != errno.EADDRINUSE or now >= self._late_s:
                raise
            return False
        return True


def _port_of(socket: zmq.Socket[bytes]) -> int:
    endpoint: str = socket.get_string(zmq.LAST_ENDPOINT)
    return int(endpoint.rstrip("\0").rpartition(":")[2])
