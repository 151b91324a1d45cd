"""A daemon that asks for keys may see the greeting first and cut, before its own has gone out."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from support.daemon import wait_for
from support.keys import Keys
from usidstream import connect
from usidstream.client.transport import GREETING_CUT, KEYS_DIFFER, Connection
from usidstream.errors import DeliveryError
from usidstream.keys import ClientKeys

SIGNATURE_BYTES = 10


@pytest.fixture
def cutter() -> Iterator[str]:
    """The endpoint of a peer that reads how a greeting begins, and cuts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_cut_all, args=(listener,))
        thread.start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _cut_all(listener: socket.socket) -> None:
    while True:
        try:
            peer, _address = listener.accept()
        except OSError:
            return
        with peer:
            peer.recv(SIGNATURE_BYTES)


def reason(endpoint: str, keys: ClientKeys | None) -> str:
    told = [""]
    with zmq.Context() as context:
        connection = Connection(context, endpoint, keys)
        try:
            wait_for(lambda: told.append(connection.broken()) or told[-1], "the end")
        finally:
            connection.close()
    return told[-1]


def test_a_client_without_keys_learns_that_they_may_be_asked_for(cutter: str) -> None:
    assert reason(cutter, None) == GREETING_CUT


def test_one_with_keys_learns_that_others_may_be(cutter: str, tmp_path: Path) -> None:
    keys = ClientKeys.load(**Keys(tmp_path / "keys", "afm").of("afm"))
    assert reason(cutter, keys) == KEYS_DIFFER


def test_a_program_is_told_what_to_give(cutter: str) -> None:
    with pytest.raises(DeliveryError, match="asks for keys") as raised:
        connect(cutter, timeout_s=1.0)
    assert "server_key" in raised.value.hint
