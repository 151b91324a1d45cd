"""Asks a daemon at its data port where its telemetry is: ``hello``, ``welcome``, ``bye``.

Why there is no answer is told in words for the page, with what helps: above all where the daemon
asks for keys that this dashboard was not given.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from types import MappingProxyType

import zmq

from usidstream import __version__, wire
from usidstream.client import transport
from usidstream.keys import ClientKeys

ANSWER_TIMEOUT_S = 2.0
POLL_INTERVAL_S = 0.02
GOODBYE_TIMEOUT_MS = 100

_GIVE_KEYS = (
    "start the dashboard with --server-key and --key-file (usidstreamd keygen makes such files)"
)
_HELP: Mapping[str, str] = MappingProxyType(
    {
        transport.KEYS_WANTED: _GIVE_KEYS,
        transport.GREETING_CUT: _GIVE_KEYS,
        transport.KEY_REFUSED: "have its NAME.key in the daemon's list of keys, then send the "
        "daemon SIGHUP",
        transport.KEYS_DIFFER: "compare --server-key and --key-file with the daemon's keys",
        transport.NO_KEYS_THERE: "start the dashboard without --server-key and --key-file",
    }
)


class NotThereError(Exception):
    """There is nothing to listen to at present; the message says why."""


async def telemetry_endpoint(endpoint: str, keys: ClientKeys | None = None) -> str:
    """Return the endpoint of the telemetry of the daemon at ``endpoint``.

    Raises
    ------
    NotThereError
        Nobody answers in time, or not this dashboard, or telemetry is switched off.
    """
    try:
        connection = transport.Connection(zmq.Context.instance(), endpoint, keys)
    except zmq.ZMQError as error:
        raise NotThereError(f"{endpoint} cannot be connected to: {error}") from error
    try:
        connection.send(wire.encode(_hello()))
        answer = await _answer(connection, endpoint)
        connection.send(wire.encode(wire.Bye()))
    finally:
        connection.close(GOODBYE_TIMEOUT_MS)
    if not isinstance(answer, wire.Welcome):
        raise NotThereError(f"the daemon at {endpoint} does not welcome this dashboard")
    port = answer.ports.get("telemetry")
    if port is None:
        raise NotThereError(f"the daemon at {endpoint} has its telemetry switched off")
    return f"{endpoint.rpartition(':')[0]}:{port}"


def _hello() -> wire.Hello:
    client = f"usidstreamd dashboard {__version__}"
    return wire.Hello(versions=[wire.VERSION], client=client, instance=uuid.uuid4().hex)


async def _answer(connection: transport.Connection, endpoint: str) -> wire.Message:
    """Return what a daemon says first."""
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while time.monotonic() < deadline:
        frames = connection.receive()
        if frames is not None:
            try:
                return wire.decode_daemon(frames)
            except wire.WireError as error:
                raise NotThereError(f"what answers at {endpoint} is no daemon that fits") from error
        broken = connection.broken()
        if broken:
            hint = _HELP.get(broken, "")
            told = f"no daemon answers at {endpoint}: {broken}"
            raise NotThereError(f"{told}; {hint}" if hint else told)
        await asyncio.sleep(POLL_INTERVAL_S)
    raise NotThereError(f"no daemon answers at {endpoint}")
