"""The dashboard's process beside a daemon: found, started again, never in the way, never left."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from support.browser import Dashboard
from support.daemon import Daemon, command, wait_for
from usidstream import Dimension, MainLayout, ScanLayout, connect

EVERYWHERE = "0.0.0.0"  # noqa: S104 - that a token is wanted then is what is tested
LAYOUT = ScanLayout(
    positions=[Dimension("X", "um", 8)], mains=[MainLayout("Raw", "Current", "nA", "f4")]
)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "data", dashboard=0) as daemon:
        yield daemon


def port_of(daemon: Daemon) -> int | None:
    with connect(daemon.endpoint) as client:
        return client.status()["daemon"]["ports"]["dashboard"]


def await_page(daemon: Daemon) -> int:
    wait_for(lambda: port_of(daemon), "the dashboard")
    port = port_of(daemon)
    assert port is not None
    assert get(f"http://127.0.0.1:{port}/ping") == (200, "pong")
    return port


def get(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=20
        ) as got:
            return got.status, got.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def child_of(daemon: Daemon) -> psutil.Process:
    (child,) = psutil.Process(daemon.pid).children()
    return child


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_serve_starts_it_and_tells_where(daemon: Daemon) -> None:
    port = await_page(daemon)
    code, text = get(f"http://127.0.0.1:{port}/")
    assert (code, "usidstream" in text) == (200, True)
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_the_daemon_however_that_ends(daemon: Daemon, how: int) -> None:
    await_page(daemon)
    child = child_of(daemon)
    daemon.stop(how)
    wait_for(lambda: is_gone(child), "the dashboard's end")


def test_its_death_is_mended_and_hurts_no_scan(daemon: Daemon) -> None:
    await_page(daemon)
    first = child_of(daemon)
    with connect(daemon.endpoint) as client, client.open_scan(LAYOUT) as scan:
        scan.write(0, np.float32([1]))
        os.kill(first.pid, signal.SIGKILL)
        wait_for(lambda: port_of(daemon) is None, "its death to be noticed")
        for row in range(1, 8):
            scan.write(row, np.float32([1]))
    assert scan.result.status == "complete"
    await_page(daemon)
    assert child_of(daemon).pid != first.pid


def test_a_daemon_without_it_says_so(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data", dashboard="off") as daemon:
        assert port_of(daemon) is None
        assert psutil.Process(daemon.pid).children() == []


def test_a_taken_port_is_a_warning_and_a_free_one_instead(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = taken.getsockname()[1]
        with Daemon(tmp_path / "data", dashboard=wanted) as daemon:
            assert await_page(daemon) != wanted
            wait_for(lambda: "port_taken" in daemon.log, "the warning")


def test_elsewhere_it_wants_a_token(daemon: Daemon) -> None:
    with Dashboard(daemon.endpoint, "--address", EVERYWHERE) as dashboard:
        url, _, token = dashboard.url.partition("?token=")
        assert len(token) >= 16
        here = f"http://127.0.0.1:{url.rstrip('/').rpartition(':')[2]}/"
        assert get(here)[0] == 403
        assert get(here + "?token=" + token[:-1] + "x")[0] == 403
        assert get(here + "?token=" + token)[0] == 200
        assert get(here, Cookie=f"usidstream_token={token}")[0] == 200
        socket_url = here.replace("http", "ws") + "ws"
        assert asyncio.run(is_refused(socket_url, Origin="http://evil.example"))


async def is_refused(url: str, **headers: str) -> bool:
    request = HTTPRequest(url, headers=headers)
    try:
        await websocket_connect(request, subprotocols=["bokeh", "token"])
    except HTTPClientError as error:
        return error.code == 403
    return False


def test_a_short_token_is_refused(daemon: Daemon, tmp_path: Path) -> None:
    short = tmp_path / "token"
    short.write_text("secret")
    told = command("usidstreamd", "dashboard", "--to", daemon.endpoint, "--token-file", short)
    assert told.returncode == 2
    assert "at least 16" in told.stderr
