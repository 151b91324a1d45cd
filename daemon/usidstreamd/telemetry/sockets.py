"""The telemetry socket, made and bound: the one place that knows its options."""

from __future__ import annotations

import errno
import time
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
REBIND_INTERVAL_S = 0.02

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


def renew(socket: zmq.Socket[bytes], make: SocketMaker) -> zmq.Socket[bytes]:
    """Close a bound socket and return one like it at the same address.

    ZeroMQ cannot cut one connection: so all are, and all who are let in come again by themselves.
    """
    endpoint: str = socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
    socket.close(linger=0)
    fresh = make_socket(make)
    deadline_s = time.monotonic() + REBIND_TIMEOUT_S
    while True:
        try:
            fresh.bind(endpoint)
        except zmq.ZMQError as error:  # ZeroMQ closes the old one in a thread of its own
            if error.errno != errno.EADDRINUSE or time.monotonic() >= deadline_s:
                fresh.close(linger=0)
                raise
            time.sleep(REBIND_INTERVAL_S)
        else:
            return fresh


def _port_of(socket: zmq.Socket[bytes]) -> int:
    endpoint: str = socket.get_string(zmq.LAST_ENDPOINT)
    return int(endpoint.rstrip("\0").rpartition(":")[2])
