"""The sockets under a client, as they are set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from usidstream.client.transport import LOOPBACK_SEND_BUFFER_BYTES, Connection

BY_THE_KERNEL = -1


@pytest.fixture
def context() -> Iterator[Any]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.mark.parametrize(
    ("host", "nbytes"),
    [
        ("127.0.0.1", LOOPBACK_SEND_BUFFER_BYTES),
        ("127.1.2.3", LOOPBACK_SEND_BUFFER_BYTES),
        ("localhost", LOOPBACK_SEND_BUFFER_BYTES),
        ("192.0.2.1", BY_THE_KERNEL),  # for documentation: nobody is there
        ("localhost.invalid", BY_THE_KERNEL),
    ],
)
def test_only_a_stream_to_this_machine_has_little_on_its_way(
    context: Any, host: str, nbytes: int
) -> None:
    connection = Connection(context, f"tcp://{host}:5755")
    try:
        assert connection.socket.getsockopt(zmq.SNDBUF) == nbytes
    finally:
        connection.close()
