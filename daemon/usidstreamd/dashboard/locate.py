"""Asks a daemon at its data port where its telemetry is: ``hello``, ``welcome``, ``bye``."""

from __future__ import annotations

import asyncio
import uuid

import zmq
import zmq.asyncio

from usidstream import __version__, wire
from usidstream.keys import ClientKeys

ANSWER_TIMEOUT_S = 2.0


async def telemetry_endpoint(
    context: zmq.asyncio.Context, endpoint: str, keys: ClientKeys | None = None
) -> str | None:
    """Return the endpoint of the telemetry of the daemon at ``endpoint``.

    Returns
    -------
    str or None
        None if nobody answers in time, or the daemon has switched its telemetry off.
    """
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    try:
        if keys is not None:
            keys.secure(socket)  # type: ignore[arg-type]  # asyncio's kind of socket
        socket.connect(endpoint)
        hello = wire.Hello(
            versions=[wire.VERSION],
            client=f"usidstreamd dashboard {__version__}",
            instance=uuid.uuid4().hex,
        )
        await socket.send_multipart(wire.encode(hello))
        frames = await asyncio.wait_for(socket.recv_multipart(), ANSWER_TIMEOUT_S)
        answer = wire.decode_daemon(frames)
        await socket.send_multipart(wire.encode(wire.Bye()))
    except (TimeoutError, wire.WireError, zmq.ZMQError):
        return None
    finally:
        socket.close(linger=100)
    port = answer.ports.get("telemetry") if isinstance(answer, wire.Welcome) else None
    return f"{endpoint.rpartition(':')[0]}:{port}" if port else None
