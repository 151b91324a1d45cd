"""SIGSTOP for longer than every time-out: daemon, client, both. Then all goes on, nothing twice."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.census import Tally
from support.daemon import Daemon
from support.rawpeer import RawPeer
from support.rowscan import N_ROWS, lost_rows, require_only
from support.witness import Instrument
from usidstream import wire

PEER_SILENCE_S = 0.5
DEAD_AFTER_S = 0.5
STOP_S = 1.5
FORGOTTEN = "client_silent"


@contextmanager
def stopped(*processes: Daemon | Instrument) -> Iterator[None]:
    for process in processes:
        process.send(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send(signal.SIGCONT)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(
        tmp_path_factory.mktemp("stopped") / "data",
        flush_interval_s=0.1,
        memory_budget_mb=1,
        peer_silence_s=PEER_SILENCE_S,
    ) as daemon:
        yield daemon
    assert "Traceback" not in daemon.log


@pytest.mark.parametrize(
    ("who", "dead_after_s"),
    [("daemon", DEAD_AFTER_S), ("client", DEAD_AFTER_S), ("client", 60.0), ("both", DEAD_AFTER_S)],
    ids=["daemon", "client", "client-that-does-not-know-it", "both"],
)
def test_stopped_for_longer_than_every_timeout(
    daemon: Daemon, tally: Tally, who: str, dead_after_s: float
) -> None:
    scan_id = secrets.token_hex(16)
    options = {"order": "random", "seed": 1, "pause_s": 0.02, "wait_every_rows": 512}
    forgotten_before = len(daemon.events(FORGOTTEN))
    with Instrument(
        "client", daemon.endpoint, scan_id, dead_after_s=dead_after_s, **options
    ) as instrument:
        chosen = {"daemon": [daemon], "client": [instrument], "both": [daemon, instrument]}
        instrument.expect("acked")
        with stopped(*chosen[who]):
            time.sleep(STOP_S)
        tally.stops += len(chosen[who])
        instrument.expect("acked")
        assert _blocks_refused(daemon.endpoint) == 0
        assert instrument.expect("skipped") == [0]
        status, file = instrument.expect("ended")
        instrument.end()
    assert status == "complete"
    if who == "client":
        assert len(daemon.events(FORGOTTEN)) > forgotten_before
    tally.judge(instrument.acked, lost_rows(file, instrument.acked))
    require_only(file, range(N_ROWS))


def _blocks_refused(endpoint: str) -> int:
    with RawPeer(endpoint) as peer:
        peer.send(wire.StatusRequest())
        return sum(int(entry["blocks_refused"]) for entry in peer.expect(wire.StatusReport).scans)
