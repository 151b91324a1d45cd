"""The thread behind the telemetry socket, with real sockets and no daemon."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import psutil
import pytest
import zmq

from support.daemon import wait_for
from support.wire_samples import SCAN
from usidstream import wire
from usidstreamd.conditions import Warnings
from usidstreamd.telemetry import sockets
from usidstreamd.telemetry.publisher import Publisher, Renew, Tell

MIB = 1 << 20
FLOOD_MESSAGES = 1500
MESSAGE_BYTES = 256 << 10


class Stand:
    """A publisher and where it listens."""

    def __init__(self, make: sockets.SocketMaker) -> None:
        bound = sockets.make_socket(make)
        self.port = sockets.bind(bound, "tcp://127.0.0.1", 0, Warnings())
        self.publisher = Publisher(bound, make)
        self._viewers: list[zmq.Socket[bytes]] = []

    def viewer(self, topic: str, **options: int) -> zmq.Socket[bytes]:
        viewer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        for name, value in options.items():
            viewer.setsockopt(getattr(zmq, name), value)
        viewer.connect(f"tcp://127.0.0.1:{self.port}")
        viewer.subscribe(topic)
        self._viewers.append(viewer)
        return viewer

    def close(self) -> None:
        for viewer in self._viewers:
            viewer.close(linger=0)
        self.publisher.close(10.0)


@pytest.fixture
def stand() -> Iterator[Stand]:
    made = Stand(zmq.Context.instance().socket)
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


class Usurper:
    """Makes sockets, and takes the port of the first before there is a second."""

    def __init__(self) -> None:
        self.port = 0
        self.held: socket.socket | None = None

    def make(self, kind: int) -> zmq.Socket[bytes]:
        if self.port and self.held is None:
            wait_for(self._take, "the port to be free")
        return zmq.Context.instance().socket(kind)

    def _take(self) -> bool:
        taker = socket.socket()
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taker.bind(("127.0.0.1", self.port))
            taker.listen()
        except OSError:
            taker.close()
            return False
        self.held = taker
        return True


def test_while_its_port_is_not_free_again_everything_else_goes_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "REBIND_TIMEOUT_S", 60.0)  # longer than a busy machine takes
    usurper = Usurper()
    stand = Stand(usurper.make)
    usurper.port = stand.port
    viewer = stand.viewer("layout/")
    stand.publisher.asked.get(timeout=10.0)
    stand.publisher.post(Renew())
    stand.publisher.post(Renew())  # while the first is under way
    stand.publisher.post(layout_of("x" * 2 * wire.MAX_HEADER_BYTES))
    wait_for(lambda: "telemetry_untold" in caplog.text, "what was posted to be seen to")
    assert usurper.held is not None
    assert not stand.publisher.subscriptions.prefixes
    usurper.held.close()
    # It comes again by itself; a viewer says again what it wants once it looks for news.
    wait_for(lambda: viewer.poll(10) or not stand.publisher.asked.empty(), "the viewer to be back")
    stand.publisher.post(layout_of("back"))
    _, message = wire.decode_telemetry(viewer.recv_multipart())
    assert isinstance(message, wire.LayoutTold)
    assert message.file == "back"
    stand.close()


def test_a_port_that_stays_taken_is_given_up() -> None:
    usurper = Usurper()
    bound = sockets.make_socket(usurper.make)
    usurper.port = sockets.bind(bound, "tcp://127.0.0.1", 0, Warnings())
    now = time.monotonic()
    renewal = sockets.Renewal(bound, usurper.make, now)
    assert not renewal.try_bind(now)
    with pytest.raises(zmq.ZMQError, match="in use"):
        renewal.try_bind(now + sockets.REBIND_TIMEOUT_S)
    renewal.socket.close(linger=0)
    assert usurper.held is not None
    usurper.held.close()
