"""Who may read metrics, what else they are answered, and that nobody can make it costly."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.registry import Collector

from support.daemon import wait_for
from support.scraping import scrape
from usidstream.errors import UsidstreamError
from usidstreamd.metrics import endpoint as endpoint_module
from usidstreamd.metrics.endpoint import MAX_REQUESTS_COUNT, Endpoint
from usidstreamd.security import read_token

TOKEN = "a token of nobody else".replace(" ", "-")


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("usidstream_things", "Things.", registry=registry).inc(3)
    return registry


@pytest.fixture
def open_to_all(registry: CollectorRegistry) -> Iterator[Endpoint]:
    endpoint = Endpoint(registry, "127.0.0.1", 0, None)
    yield endpoint
    endpoint.close()


def status_of(port: int, path: str = "/metrics", method: str = "GET", **headers: str) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers=headers, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=20.0) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_it_tells_what_is_counted(open_to_all: Endpoint) -> None:
    assert scrape(open_to_all.port).value("things_total") == 3
    assert scrape(open_to_all.port, path="/").value("things_total") == 3


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/metric", "GET", 404), ("/../etc/passwd", "GET", 404), ("/metrics", "POST", 405)],
)
def test_it_tells_nothing_else(open_to_all: Endpoint, path: str, method: str, status: int) -> None:
    assert status_of(open_to_all.port, path, method) == status


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 401),
        (f"Bearer {TOKEN}x", 401),
        ("Bearer \xe4", 401),
        ("", 401),
    ],
)
def test_a_token_keeps_others_out(registry: CollectorRegistry, shown: str, status: int) -> None:
    endpoint = Endpoint(registry, "127.0.0.1", 0, TOKEN)
    try:
        assert status_of(endpoint.port, Authorization=shown) == status
        assert status_of(endpoint.port, "/nowhere") == 401, "a stranger learns no paths"
    finally:
        endpoint.close()


def test_a_port_that_is_taken_is_no_reason_to_be_silent(open_to_all: Endpoint) -> None:
    other = Endpoint(CollectorRegistry(), "127.0.0.1", open_to_all.port, None)
    assert other.port != open_to_all.port
    assert status_of(other.port) == 200
    other.close()


def test_a_host_that_is_not_here_is_an_error() -> None:
    with pytest.raises(UsidstreamError, match="cannot be bound for metrics") as raised:
        Endpoint(CollectorRegistry(), "192.0.2.1", 0, None)
    assert 'metrics = "off"' in raised.value.hint


def test_readers_that_say_nothing_are_few_and_let_go(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_module._Handler, "timeout", 3.0)
    endpoint = Endpoint(registry, "127.0.0.1", 0, None)
    silent = [socket.create_connection(("127.0.0.1", endpoint.port)) for _ in range(10)]
    try:
        wait_for(lambda: request_threads() == MAX_REQUESTS_COUNT, "no thread to be free")
        wait_for(lambda: request_threads() == 0, "those that say nothing to be let go")
        assert scrape(endpoint.port).value("things_total") == 3
    finally:
        for connection in silent:
            connection.close()
        endpoint.close()


def request_threads() -> int:
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def test_no_more_are_answered_at_a_time_than_are_allowed(open_to_all: Endpoint) -> None:
    silent = [socket.create_connection(("127.0.0.1", open_to_all.port)) for _ in range(10)]
    cut = 0
    for connection in silent:
        connection.settimeout(0.5)
        try:
            cut += connection.recv(1) == b""
        except TimeoutError:
            break
    assert request_threads() <= MAX_REQUESTS_COUNT
    for connection in silent:
        connection.close()


def test_a_fault_while_it_is_looked_at_is_told_to_both(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(Collector):
        def collect(self):
            raise RuntimeError("a bug")
            yield

    registry._collector_to_names[Faulty()] = []
    endpoint = Endpoint(registry, "127.0.0.1", 0, None)
    try:
        assert status_of(endpoint.port) == 500
        assert status_of(endpoint.port) == 500, "it goes on to answer"
    finally:
        endpoint.close()
    assert [record.message for record in caplog.records] == ["scrape_failed"] * 2


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 40, b"two words of some length"])
def test_a_token_that_keeps_nobody_out_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(UsidstreamError) as raised:
        read_token(file)
    assert (raised.value.code, str(file) in raised.value.message) == ("bad_config", True)


def test_a_token_file_may_end_with_a_line_feed(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert read_token(tmp_path / "token") == TOKEN
