"""A daemon that does as a test says, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.fake_daemon import FakeDaemon
from usidstream import Client, connect


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with FakeDaemon() as daemon:
        yield daemon


@pytest.fixture
def client(daemon: FakeDaemon) -> Iterator[Client]:
    client = connect(daemon.endpoint, timeout_s=5, write_timeout_s=5)
    yield client
    daemon.behave()
    client.close()
