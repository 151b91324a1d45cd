"""The thread behind the telemetry socket, with real sockets and no daemon."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest
import zmq

from support.daemon import wait_for
from support.wire_samples import SCAN
from usidstream import wire
from usidstreamd.conditions import Warnings
from usidstreamd.telemetry import sockets
from usidstreamd.telemetry.publisher import Publisher, Tell

MIB = 1 << 20
FLOOD_MESSAGES = 1500
MESSAGE_BYTES = 256 << 10


class Stand:
    """A publisher and where it listens."""

    def __init__(self) -> None:
        make = zmq.Context.instance().socket
        socket = sockets.make_socket(make)
        self.port = sockets.bind(socket, "tcp://127.0.0.1", 0, Warnings())
        self.publisher = Publisher(socket, make)
        self._viewers: list[zmq.Socket[bytes]] = []

    def viewer(self, topic: str, **options: int) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        for name, value in options.items():
            socket.setsockopt(getattr(zmq, name), value)
        socket.connect(f"tcp://127.0.0.1:{self.port}")
        socket.subscribe(topic)
        self._viewers.append(socket)
        return socket

    def close(self) -> None:
        for socket in self._viewers:
            socket.close(linger=0)
        self.publisher.close(10.0)


@pytest.fixture
def stand() -> Iterator[Stand]:
    made = Stand()
    yield made
    made.close()


def layout_of(text: str) -> Tell:
    message = wire.LayoutTold(scan=SCAN, file=text, layout={}, frames=(bytes(MESSAGE_BYTES),))
    return Tell(wire.layout_topic(SCAN), message)


def test_a_deaf_viewer_costs_some_memory_and_no_time(stand: Stand) -> None:
    """Of 375 MiB for a viewer that reads nothing, no more is kept than its queue may hold."""
    stand.viewer("layout/", RCVHWM=1, RCVBUF=4096)
    good = stand.viewer("layout/")
    for _ in range(2):
        stand.publisher.asked.get(timeout=10.0)
    before = psutil.Process().memory_info().rss
    for number in range(FLOOD_MESSAGES):
        stand.publisher.post(layout_of(f"flood {number}"))
        good.poll(0) and good.recv_multipart()
    told = ""
    while told != "last":
        stand.publisher.post(layout_of("last"))
        while good.poll(50):
            _, message = wire.decode_telemetry(good.recv_multipart())
            assert isinstance(message, wire.LayoutTold)
            told = message.file
    grown = psutil.Process().memory_info().rss - before
    bound = 4 * sockets.MAX_QUEUED_MESSAGES_PER_VIEWER_COUNT * MESSAGE_BYTES
    assert bound < FLOOD_MESSAGES * MESSAGE_BYTES / 2
    assert grown < bound


def test_the_last_viewer_to_go_is_noticed(stand: Stand) -> None:
    assert not stand.publisher.is_heard
    viewers = [stand.viewer("daemon") for _ in range(2)]
    wait_for(lambda: stand.publisher.is_heard, "a viewer")
    viewers[0].close(linger=0)
    viewers[1].unsubscribe("daemon")
    wait_for(lambda: not stand.publisher.is_heard, "the last to go")
    assert stand.publisher.subscriptions.prefixes == frozenset()


def test_what_was_posted_is_told_before_the_end(stand: Stand) -> None:
    viewer = stand.viewer("layout/")
    stand.publisher.asked.get(timeout=10.0)
    stand.publisher.post(layout_of("the last word"))
    stand.publisher.close(10.0)
    _, message = wire.decode_telemetry(viewer.recv_multipart())
    assert isinstance(message, wire.LayoutTold)
    assert message.file == "the last word"


def test_a_message_that_cannot_be_encoded_is_named_in_the_log(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    viewer = stand.viewer("layout/")
    stand.publisher.asked.get(timeout=10.0)
    stand.publisher.post(layout_of("x" * 2 * wire.MAX_HEADER_BYTES))
    stand.publisher.post(layout_of("after it"))
    _, message = wire.decode_telemetry(viewer.recv_multipart())
    assert isinstance(message, wire.LayoutTold)
    assert message.file == "after it"
    assert "telemetry_untold" in caplog.text
