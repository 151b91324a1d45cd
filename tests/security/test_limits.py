"""Limits of one client: each refused with its code before it costs anything, and others go on."""

from __future__ import annotations

import contextlib
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import psutil
import pytest
import zmq

import usidstream
from support.daemon import Daemon, wait_for
from support.keys import Keys
from support.rawpeer import RawPeer
from usidstream import wire
from usidstream.errors import UsidstreamError
from usidstream.layout import Dimension, MainLayout, ScanLayout

MIB = 1 << 20
PAUSE_S = 0.3
"""Longer than Linux waits before it asks whoever has no room; each word of theirs puts that off."""
LAYOUT = ScanLayout(
    positions=[Dimension("x", "", 4)],
    mains=[MainLayout(name="Raw", quantity="q", units="", dtype="float32")],
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("limits") / "data", max_layout_mb=4) as daemon:
        yield daemon
    assert "Traceback" not in daemon.log


def opening(positions: list[int], *, n_mains: int = 1, **main: Any) -> wire.Open:
    table = {"quantity": "q", "units": "", "dtype": "float32", **main}
    dimensions = [{"name": f"d{i}", "units": "", "size": n} for i, n in enumerate(positions)]
    mains = [{"name": f"m{number}"} | table for number in range(n_mains)]
    return wire.Open(scan=secrets.token_hex(16), layout={"positions": dimensions, "mains": mains})


STEPS = {"name": "s", "units": "", "size": 2**31}
BOMBS = {
    "positions": (opening([2**32 - 1]), "layout_too_large"),
    "product": (opening([2**16, 2**16, 2**10]), "layout_too_large"),
    "overflow": (opening([2**32 - 1] * 3), "bad_layout"),
    "spectrum": (opening([4], spectroscopic=[STEPS]), "layout_too_large"),
    "mains": (opening([10**7], n_mains=1000), "layout_too_large"),
    "more mains": (opening([4], n_mains=12_000), "bad_layout"),
    "attributes": (opening([4], attrs={f"{i}": i for i in range(50_000)}), "bad_attribute"),
    "attributes of all": (
        opening([4], n_mains=5, attrs={f"{i}": i for i in range(4000)}),
        "bad_attribute",
    ),
    "a long text": (opening([4], attrs={"a": "x" * 900_000}), "bad_attribute"),
    "chunks": (opening([4], chunks=[2**40, 2**20]), "bad_layout"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_layout_that_asks_for_too_much_is_refused_and_costs_nothing(
    daemon: Daemon, name: str
) -> None:
    message, code = BOMBS[name]
    process = psutil.Process(daemon.pid)
    before = process.memory_info().rss
    files = set(daemon.data_dir.rglob("*"))
    with RawPeer(daemon.endpoint) as peer:
        peer.send(message)
        error = peer.expect(wire.Error)
    assert error.code == code
    assert process.memory_info().rss - before < 64 * MIB
    assert set(daemon.data_dir.rglob("*")) == files


def header(**fields: Any) -> bytes:
    packed: bytes = msgpack.packb(fields)
    return packed


DEEP = header(type="ping", x=None)[:-1] + b"\x91" * 900_000 + b"\x01"
CLAIMS = b"\x82\xa4type\xa4ping\xa1x\xdd\xff\xff\xff\xff"  # an array of 2^32 - 1 that is not there


@pytest.mark.parametrize("frame", [DEEP, CLAIMS], ids=["deep", "claims"])
def test_a_header_that_is_a_bomb_is_refused(daemon: Daemon, frame: bytes) -> None:
    with RawPeer(daemon.endpoint) as peer:
        peer.send_frames([frame])
        assert peer.expect(wire.Error).code == "bad_message"


def test_too_many_frames_are_refused(daemon: Daemon) -> None:
    with RawPeer(daemon.endpoint) as peer:
        peer.send_frames([*wire.encode(wire.Ping()), *[b"x"] * 5000])
        assert peer.expect(wire.Error).code == "message_too_large"


def test_nothing_long_is_read_of_who_has_not_said_hello(daemon: Daemon) -> None:
    peer = RawPeer(daemon.endpoint, hello=False)
    peer.send_frames([header(type="hello", versions=[1], client="x" * 10_000)])
    error = peer.expect(wire.Error)
    assert (error.code, error.operation) == ("no_session", "read")
    peer.vanish()


def test_a_client_has_so_many_scans_connected_or_not(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "k", "afm", "raman")
    with Daemon(
        tmp_path / "data", server_key_file=keys.server_key_file, max_scans_per_client=2
    ) as daemon:
        for number in range(2):  # each by a program that vanishes in mid-scan
            with usidstream.connect(daemon.endpoint, **keys.of("afm")) as client:
                client.open_scan(LAYOUT, f"left{number}")
        with usidstream.connect(daemon.endpoint, **keys.of("afm")) as client:
            with pytest.raises(UsidstreamError, match="max_scans_per_client") as raised:
                client.open_scan(LAYOUT, "third")
            assert raised.value.code == "too_many_scans"
            left = client.status()["scans"][0]["scan"]
            with client.open_scan(LAYOUT, scan_id=left) as scan:  # its own it may go on with
                scan.write_block(0, np.zeros((4, 1), "f4"))
            client.open_scan(LAYOUT, "third").abort()
        with usidstream.connect(daemon.endpoint, **keys.of("raman")) as other:
            other.open_scan(LAYOUT, "others").abort()


def test_a_key_has_so_many_connections(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "k", "afm", "raman")
    with Daemon(
        tmp_path / "data", server_key_file=keys.server_key_file, max_connections_per_client=2
    ) as daemon:
        clients = [usidstream.connect(daemon.endpoint, **keys.of("afm")) for _ in range(2)]
        with pytest.raises(UsidstreamError, match="afm has 2 connections"):
            usidstream.connect(daemon.endpoint, timeout_s=1.0, **keys.of("afm"))
        clients.append(usidstream.connect(daemon.endpoint, **keys.of("raman")))
        for client in clients:
            client.close()


def test_credit_comes_no_faster_than_the_operator_allows(tmp_path: Path) -> None:
    """4 MiB at 2 MiB/s, of which a second's worth comes at once; nothing is dropped."""
    layout = ScanLayout(
        positions=[Dimension("x", "", 64)],
        mains=[
            MainLayout(
                name="Raw",
                quantity="q",
                units="",
                dtype="float32",
                spectroscopic=[Dimension("s", "", 16_384)],
            )
        ],
    )
    with (
        Daemon(tmp_path / "data", client_rate_mb_per_s=2.0) as daemon,
        RawPeer(daemon.endpoint) as peer,
    ):
        opened = peer.open(layout)
        assert opened.credit <= 2 * MIB + MIB // 2
        credit = opened.credit
        while credit < 4 * MIB:  # it comes by itself, in many small steps
            ack = peer.expect(wire.Ack)
            assert credit < ack.credit <= credit + MIB
            credit = ack.credit


@pytest.mark.skipif(sys.platform != "linux", reason="sees the daemon's connections in /proc")
def test_who_reads_nothing_is_cut_and_what_waits_for_it_is_let_go(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data", peer_silence_s=2.0, telemetry="off") as daemon:
        process = psutil.Process(daemon.pid)
        socket = zmq.Context.instance().socket(zmq.DEALER)
        socket.setsockopt(zmq.RCVHWM, 1)
        socket.setsockopt(zmq.RCVBUF, 4096)
        socket.setsockopt(zmq.RECONNECT_IVL, -1)
        socket.connect(daemon.endpoint)
        socket.send_multipart(wire.encode(wire.Hello(versions=[1], client="deaf")))
        ask = wire.encode(wire.Ping())
        before = process.memory_info().rss

        def is_cut() -> bool:
            for _ in range(2000):
                with contextlib.suppress(zmq.Again):  # the daemon reads slower than we ask
                    socket.send_multipart(ask, zmq.DONTWAIT)
            time.sleep(PAUSE_S)
            states = [connection.status for connection in process.net_connections("tcp")]
            return psutil.CONN_ESTABLISHED not in states

        try:
            wait_for(lambda: not is_cut(), "the connection")
            wait_for(is_cut, "the connection to be cut", 60.0)
        finally:
            socket.close(linger=0)
        assert process.memory_info().rss - before < 64 * MIB
        with usidstream.connect(daemon.endpoint) as client:
            assert client.status()["daemon"]["client_names"]
