"""A real client whose daemon lies: every call ends in time, by an answer or a stable error."""

from __future__ import annotations

import threading
import time

import pytest

from support.fake_daemon import FakeDaemon
from support.fuzz_targets import require_telling, sample_messages, spoil_message
from support.fuzz_worker import chance_of
from support.storing import layout_of, main_of
from usidstream import connect, wire
from usidstream.errors import UsidstreamError

BATCH_CASES = 20
CALL_TIMEOUT_S = 0.5
MOST_PER_CALL_S = 10 * CALL_TIMEOUT_S + 10
LAYOUT = layout_of(main_of("Raw", n=4), n_positions=16)


def attempt(act) -> str:
    """Make a call; fail if it takes too long, or raises anything but our errors."""
    begun = time.monotonic()
    try:
        act()
        return "taken"
    except UsidstreamError as error:
        require_telling(error)
        return error.code
    finally:
        assert time.monotonic() - begun < MOST_PER_CALL_S


def lie_to_a_client(daemon: FakeDaemon, seed: int, first: int) -> set[str]:
    """Send a client some spoilt messages while it writes; return how its calls ended."""
    outcomes = set()
    with connect(
        daemon.endpoint, timeout_s=CALL_TIMEOUT_S, write_timeout_s=CALL_TIMEOUT_S
    ) as client:
        daemon.behave()
        scan = client.open_scan(LAYOUT)
        samples = sample_messages(list(wire.DAEMON_MESSAGES.values()), scan.scan_id)
        for number in range(first, first + BATCH_CASES):
            chance = chance_of("lies", seed, number)
            daemon.say_frames(*spoil_message(chance, chance.choice(samples)))
            row = number % LAYOUT.n_positions
            outcomes.add(attempt(lambda: scan.write(row, [1.0, 2.0, 3.0, 4.0])))  # noqa: B023
        outcomes.add(attempt(client.status))
        outcomes.add(attempt(lambda: scan.wait_durable(timeout_s=CALL_TIMEOUT_S)))
        outcomes.add(attempt(lambda: scan.abort("enough")))
        attempt(scan.detach)
    return outcomes


def test_no_answer_of_a_daemon_harms_a_client(amount, monkeypatch: pytest.MonkeyPatch) -> None:
    deaths: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", deaths.append)
    outcomes: set[str] = set()
    with FakeDaemon() as daemon:
        for first in range(amount.first, amount.first + amount.cases, BATCH_CASES):
            try:
                outcomes |= lie_to_a_client(daemon, amount.seed, first)
            except AssertionError as error:
                error.add_note(f"seed {amount.seed}, cases {first} to {first + BATCH_CASES}")
                raise
            assert not deaths, f"seed {amount.seed}, cases from {first}: {deaths[0]}"
        with connect(daemon.endpoint) as client, client.open_scan(LAYOUT) as scan:
            scan.write(0, [1.0, 2.0, 3.0, 4.0])
        assert scan.result.status == "complete"
    assert "taken" in outcomes
