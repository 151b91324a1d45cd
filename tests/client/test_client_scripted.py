"""The real client against a daemon that withholds, lies, dies or never was there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from support.fake_daemon import Answers, FakeDaemon
from usidstream import Client, Dimension, MainLayout, Scan, ScanLayout, connect, wire
from usidstream.client.io_thread import IoThread
from usidstream.errors import DeliveryError, DeliveryTimeoutError, ScanError, UsidstreamError

N_ROWS = 4096
N_COLS = 32
ROW_BYTES = 4 * N_COLS
LIMIT_BYTES = 64 * 1024
LIMIT_ROWS = LIMIT_BYTES // ROW_BYTES
SPECTRUM = np.arange(N_COLS, dtype="f4")
LAYOUT = ScanLayout(
    positions=[Dimension("X", "um", N_ROWS)],
    mains=[
        MainLayout(
            name="Raw",
            quantity="Current",
            units="nA",
            dtype="float32",
            spectroscopic=[Dimension("Bias", "V", N_COLS)],
        )
    ],
)


@contextmanager
def opened(peer: FakeDaemon, **options: Any) -> Iterator[tuple[Client, Scan]]:
    """Connect and open a scan; at the end close, whatever is still not durable."""
    options = {"timeout_s": 10.0, "write_timeout_s": 0.2, "linger_s": 0.005} | options
    client = connect(peer.endpoint, **options)
    try:
        yield client, client.open_scan(LAYOUT)
    finally:
        client._close(0.0) if not peer.makes_durable else client.close()


def write_until_full(scan: Scan) -> int:
    """Write single pixels until one is refused for want of room; return its row."""
    for row in range(N_ROWS):
        try:
            scan.write(row, SPECTRUM)
        except DeliveryTimeoutError:
            return row
    raise AssertionError("room never ended")


def test_a_write_without_room_takes_nothing_and_can_be_made_again() -> None:
    with FakeDaemon() as peer:
        peer.makes_durable = False
        with opened(peer, retain_limit_bytes=LIMIT_BYTES) as (_, scan):
            refused = write_until_full(scan)
            assert 0 < refused <= LIMIT_ROWS, "memory is bounded"
            for _ in range(2):
                with pytest.raises(DeliveryTimeoutError) as caught:
                    scan.write(refused, SPECTRUM)
                assert f"row {refused} was not taken" in caught.value.message
                assert "wait to become durable" in caught.value.message
            assert scan._channel.undelivered() <= LIMIT_BYTES
            peer.makes_durable = True
            for row in range(refused, N_ROWS):
                scan.write(row, SPECTRUM)
            scan.wait_durable(timeout_s=20)
            assert scan._channel.undelivered() == 0, "what is durable is freed"
    assert peer.taken == list(range(N_ROWS))


def test_a_block_without_room_takes_nothing() -> None:
    block = np.zeros((LIMIT_ROWS // 2, N_COLS), "f4")
    with FakeDaemon() as peer:
        peer.makes_durable = False
        with opened(peer, retain_limit_bytes=LIMIT_BYTES) as (_, scan):
            scan.write_block(0, block)
            scan.write_block(len(block), block)
            with pytest.raises(DeliveryTimeoutError, match="the block was not taken"):
                scan.write_block(2 * len(block), block)
            with pytest.raises(DeliveryTimeoutError, match="the block was not taken"):
                scan.write_at([9, 8, 7], block[:3])
            peer.makes_durable = True
            scan.write_block(2 * len(block), block)
            scan.wait_durable(timeout_s=20)
    assert peer.taken == list(range(3 * len(block)))


def test_of_a_block_over_the_limit_the_error_says_how_much_was_taken() -> None:
    block = np.zeros((N_ROWS, N_COLS), "f4")
    with FakeDaemon() as peer:
        peer.makes_durable = False
        with opened(peer, retain_limit_bytes=LIMIT_BYTES) as (_, scan):
            with pytest.raises(DeliveryTimeoutError) as caught:
                scan.write_block(0, block)
            taken = caught.value.details["rows_taken"]
            assert 0 < taken <= LIMIT_ROWS
            peer.makes_durable = True
            scan.write_block(taken, block[taken:])
            scan.wait_durable(timeout_s=20)
    assert peer.taken == list(range(N_ROWS))


def test_credit_is_never_overdrawn_by_a_silent_daemon() -> None:
    window = 8 * 1024
    with FakeDaemon() as peer:
        peer.credit_window_bytes = peer.max_block_bytes = window
        peer.acks = False
        with opened(peer, retain_limit_bytes=LIMIT_BYTES) as (_, scan):
            write_until_full(scan)
            assert len(peer.taken) * ROW_BYTES <= window
            peer.acks = True
            scan.wait_durable(timeout_s=20)
        assert len(peer.taken) == len(set(peer.taken)) > window // ROW_BYTES


def test_wait_durable_and_finish_time_out_while_nothing_is_durable() -> None:
    with FakeDaemon() as peer:
        peer.makes_durable = False
        with opened(peer) as (_, scan):
            scan.write(0, SPECTRUM)
            with pytest.raises(DeliveryTimeoutError, match="not everything is durable yet"):
                scan.wait_durable(timeout_s=0.1)
            peer.makes_durable = True
            scan.wait_durable(timeout_s=20)
            assert scan.finish().status == "complete"


def test_closing_tells_what_was_not_durable() -> None:
    with FakeDaemon() as peer:
        peer.makes_durable = False
        client = connect(peer.endpoint, timeout_s=0.5)
        scan = client.open_scan(LAYOUT)
        scan.write(0, SPECTRUM)
        with pytest.raises(DeliveryTimeoutError, match=f"{ROW_BYTES} bytes of scan {scan.scan_id}"):
            client.close()
        with pytest.raises(DeliveryError) as caught:
            scan.write(1, SPECTRUM)
        assert caught.value.code == "closed"
        client.close()
        with pytest.raises(DeliveryError, match="closed"):
            client.status()


# -------------------------------------------------------------------- what kills, and what does not


@pytest.mark.parametrize(
    "garbage",
    [[b"\xc1"], [b""], [b"\x93\x01\x02\x03"], [b"\x81\xa4type\xa3ack"]],
    ids=["no msgpack", "empty", "no map", "no fields"],
)
def test_garbage_costs_a_reconnection_and_no_data(garbage: list[bytes]) -> None:
    with FakeDaemon() as peer, opened(peer) as (_, scan):
        peer.answer_once(wire.Block, garbage)
        for row in range(100):
            scan.write(row, SPECTRUM)
        scan.wait_durable(timeout_s=20)
        assert scan.finish().status == "complete"
        assert peer.connections == 2
    assert set(peer.taken) == set(range(100))


def test_what_a_newer_daemon_tells_is_passed_over() -> None:
    news = [b"\x81\xa4type\xa4news"]
    with FakeDaemon() as peer, opened(peer) as (_, scan):
        peer.answer_once(wire.Ping, news)
        peer.makes_durable = False
        scan.write(0, SPECTRUM)
        with pytest.raises(DeliveryTimeoutError):
            scan.wait_durable(timeout_s=0.1)  # asks, and gets the news
        peer.makes_durable = True
        scan.wait_durable(timeout_s=20)
        assert peer.connections == 1


def test_an_ack_of_what_was_never_sent_ends_the_scan() -> None:
    def lie(block: wire.Block) -> Answers:
        return [wire.Ack(scan=block.scan, received=99, durable=99, credit=1 << 20, positions=0)]

    with FakeDaemon() as peer, opened(peer) as (_, scan):
        peer.instead[wire.Block] = lie
        scan.write(0, SPECTRUM)
        with pytest.raises(DeliveryError, match="acknowledged message 99 of 1"):
            scan.wait_durable(timeout_s=20)
        with pytest.raises(DeliveryError) as caught:
            scan.write(1, SPECTRUM)
        assert caught.value.code == "delivery_failed"


def test_the_death_of_the_io_thread_reaches_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeDaemon() as peer:
        client = connect(peer.endpoint, timeout_s=10)
        scan = client.open_scan(LAYOUT)

        def fail(*_: object) -> None:
            raise ZeroDivisionError("planned")

        monkeypatch.setattr(IoThread, "_dispatch", fail)
        calls: list[Callable[[], object]] = [
            lambda: scan.wait_durable(timeout_s=20),
            lambda: scan.write(1, SPECTRUM),
            lambda: scan.write_block(1, SPECTRUM[np.newaxis]),
            lambda: scan.write_at([1], SPECTRUM[np.newaxis]),
            lambda: scan.annotate({"a": 1}),
            scan.finish,
            scan.abort,
            client.status,
            lambda: client.open_scan(LAYOUT),
        ]
        scan.write(0, SPECTRUM)
        for call in calls:
            with pytest.raises(DeliveryError, match=r"I/O thread died.*planned") as caught:
                call()
            assert caught.value.code == "delivery_failed"
            assert isinstance(caught.value.__cause__, ZeroDivisionError)
        client.close()


def test_a_refusal_of_the_client_itself_reaches_connect() -> None:
    refusal = wire.Error(code="unsupported_version", message="speaks 9", hint="Update it.")
    with FakeDaemon() as peer:
        peer.answer_once(wire.Hello, refusal)
        with pytest.raises(DeliveryError, match="speaks 9") as caught:
            connect(peer.endpoint, timeout_s=20)
    assert caught.value.code == "unsupported_version"


def test_a_refused_open_raises_its_code_and_leaves_the_client_usable() -> None:
    def refuse(opening: wire.Open) -> Answers:
        if opening.file != "no":
            return peer.usual(opening)
        return [wire.Error(code="bad_name", message="'no'", operation="open", scan=opening.scan)]

    with FakeDaemon() as peer, opened(peer) as (client, _):
        peer.instead[wire.Open] = refuse
        with pytest.raises(ScanError) as caught:
            client.open_scan(LAYOUT, file="no")
        assert caught.value.code == "bad_name"
        assert client.open_scan(LAYOUT, file="yes").file == "/data/yes.h5"


def test_an_open_that_is_to_be_asked_again_is() -> None:
    def refuse_twice(opening: wire.Open) -> Answers:
        if len(peer.seen(wire.Open)) == 3:
            return peer.usual(opening)
        recovering = wire.Error(
            code="recovering", message="wait", retryable=True, operation="open", scan=opening.scan
        )
        return [recovering]

    with FakeDaemon() as peer:
        peer.instead[wire.Open] = refuse_twice
        with opened(peer) as (_, scan):
            scan.write(0, SPECTRUM)
            scan.wait_durable(timeout_s=20)
        assert len(peer.seen(wire.Open)) == 3


@pytest.mark.parametrize("code", ["superseded", "unknown_scan", "storage_failed", "scan_finished"])
def test_a_fatal_error_is_raised_by_every_later_call(code: str) -> None:
    def refuse(block: wire.Block) -> Answers:
        return [wire.Error(code=code, message="over", operation="block", scan=block.scan)]

    with FakeDaemon() as peer, opened(peer) as (client, scan):
        peer.instead[wire.Block] = refuse
        scan.write(0, SPECTRUM)
        calls: list[Callable[[], object]] = [
            lambda: scan.wait_durable(timeout_s=20),
            lambda: scan.write(1, SPECTRUM),
            lambda: scan.write_block(1, SPECTRUM[np.newaxis]),
            scan.finish,
            scan.abort,
            lambda: scan.write(2, SPECTRUM),
        ]
        for call in calls:
            with pytest.raises(UsidstreamError) as caught:
                call()
            assert (caught.value.code, caught.value.message) == (code, "over")
        assert client.status()["daemon"] == {"name": "d"}, "others are not concerned"


def test_an_error_about_a_block_is_raised_once() -> None:
    def refuse(block: wire.Block) -> Answers:
        if block.row != 7:
            return peer.usual(block)
        refusal = wire.Error(
            code="out_of_bounds", message="no", operation="block", scan=block.scan, seq=block.seq
        )
        return [refusal, *peer.usual(block)]

    with FakeDaemon() as peer, opened(peer) as (_, scan):
        peer.instead[wire.Block] = refuse
        scan.write_block(7, SPECTRUM[np.newaxis])
        with pytest.raises(UsidstreamError) as caught:
            scan.wait_durable(timeout_s=20)
        assert caught.value.code == "out_of_bounds"
        assert caught.value.details["row"] == 7
        scan.write(8, SPECTRUM)
        scan.wait_durable(timeout_s=20)
        assert scan.finish().status == "complete"


# -------------------------------------------------------------------- nobody there


def unused_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def test_a_daemon_that_never_appears_is_named() -> None:
    endpoint = f"tcp://127.0.0.1:{unused_port()}"
    with pytest.raises(DeliveryTimeoutError) as caught:
        connect(endpoint, timeout_s=0.3)
    assert caught.value.message == (
        f"no daemon answered at {endpoint} within 0.3 s (connection refused)"
    )
    assert caught.value.hint == "Is usidstreamd serve running there?"


def test_a_daemon_that_comes_late_is_met() -> None:
    port = unused_port()
    late = threading.Event()

    def come_late() -> None:
        late.wait(0.3)
        with FakeDaemon(port=port) as peer:
            peer.wait_for(wire.Bye)

    daemon = threading.Thread(target=come_late)
    daemon.start()
    with connect(f"tcp://127.0.0.1:{port}", timeout_s=20) as client:
        assert client.status()["scans"] == []
    daemon.join()


def test_a_port_where_something_else_answers_is_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def greet() -> None:
            server.settimeout(0.05)
            while not stop.is_set():
                try:
                    stranger, _ = server.accept()
                except TimeoutError:
                    continue
                with stranger:
                    stranger.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 64)

        thread = threading.Thread(target=greet)
        thread.start()
        try:
            with pytest.raises(DeliveryTimeoutError) as caught:
                connect(f"tcp://127.0.0.1:{server.getsockname()[1]}", timeout_s=0.5)
        finally:
            stop.set()
            thread.join()
    assert any(
        words in caught.value.message
        for words in ("does not speak ZeroMQ", "closed the connection", "no ZeroMQ that fits")
    )


def test_a_port_where_nobody_speaks_times_out() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(DeliveryTimeoutError, match="no daemon answered at"),
    ):
        connect(f"tcp://127.0.0.1:{server.getsockname()[1]}", timeout_s=0.3)


@pytest.mark.parametrize("endpoint", ["nonsense", "tcp://", "tcp://127.0.0.1:port", ""])
def test_what_is_no_endpoint_is_told_at_once(endpoint: str) -> None:
    with pytest.raises(DeliveryError, match=r"cannot be connected to") as caught:
        connect(endpoint, timeout_s=20)
    assert "tcp://127.0.0.1:5755" in caught.value.hint
