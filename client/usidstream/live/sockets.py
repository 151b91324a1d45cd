"""The viewer's socket: where it listens, and the one place that makes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from ..client import connect
from ..errors import UsidstreamError
from ..keys import ClientKeys

ASK_TIMEOUT_S = 2.0
CONNECT_TIMEOUT_MS = 2_000
RECEIVE_HIGH_WATER_MESSAGES = 1000
MAX_MESSAGE_BYTES = 64 << 20

_ENDPOINT = re.compile(r"tcp://[^\s/]+:\d{1,5}", re.ASCII)


class NotThereError(UsidstreamError):
    """There is nothing to listen to at present; the message says why."""


def check_endpoint(endpoint: str) -> str:
    """Return an endpoint; raise ValueError for what is none."""
    if not _ENDPOINT.fullmatch(endpoint):
        raise ValueError(f"'{endpoint}' is no endpoint; it looks like tcp://127.0.0.1:5755")
    return endpoint


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """What a daemon that admits known clients only wants to see; as `connect` takes them."""

    server_key: str | Path | None = None
    key_file: str | Path | None = None


def find_telemetry(endpoint: str, key_files: KeyFiles) -> str:
    """Ask a daemon where its telemetry is: on the host that answers, at the port it tells.

    Raises
    ------
    NotThereError
        No daemon answers, it answers what it should not, or its telemetry is off.
    """
    try:
        with connect(
            endpoint,
            timeout_s=ASK_TIMEOUT_S,
            server_key=key_files.server_key,
            key_file=key_files.key_file,
        ) as client:
            port = client.ports.get("telemetry")
    except UsidstreamError as error:
        raise NotThereError(error.message, code=error.code) from error
    if port is None:
        raise NotThereError(f"the daemon at {endpoint} has its telemetry switched off")
    return f"{endpoint.rpartition(':')[0]}:{port}"


def make_socket(context: zmq.Context[Any], key_files: KeyFiles) -> Any:
    """Make a SUB socket of the context's kind, not connected yet."""
    keys = ClientKeys.load(key_files.server_key, key_files.key_file)
    socket = context.socket(zmq.SUB)
    if keys is not None:
        keys.secure(socket)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVHWM, RECEIVE_HIGH_WATER_MESSAGES)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
    socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_TIMEOUT_MS)
    return socket
