"""Ports that stay free while what listened there is restarted.

The system gives ports from its ephemeral range to every connection that is made, so one that was
closed a moment ago may be somebody else's by then. These lie below that range, and each process
that runs tests has some of its own.
"""

from __future__ import annotations

import itertools
import os
import socket

FIRST = 20_000
SHARES_COUNT = 8
SHARE_PORTS_COUNT = 1_400
STEP = 4
"""A daemon's telemetry, metrics and dashboard stand on the ports after its own."""

_worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
_share = (int(_worker) if _worker else os.getpid()) % SHARES_COUNT
_places = itertools.cycle(range(0, SHARE_PORTS_COUNT, STEP))


def steady_port() -> int:
    """Return a port that nobody listens on, and that this process was not given lately."""
    for place in itertools.islice(_places, SHARE_PORTS_COUNT // STEP):
        port = FIRST + _share * SHARE_PORTS_COUNT + place
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
