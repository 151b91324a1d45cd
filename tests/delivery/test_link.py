"""The connection's life, by a clock that the test turns."""

from __future__ import annotations

from usidstream import wire
from usidstream.delivery import Link, LinkState, Step
from usidstream.delivery.link import (
    DEAD_AFTER_S,
    GREETING_TIMEOUT_S,
    HEARTBEAT_INTERVAL_S,
    LONGEST_BACKOFF_S,
    STEADY_AFTER_S,
    TRANSITIONS,
)


def welcome(**limits: int) -> wire.Welcome:
    return wire.Welcome(version=1, daemon="d", instance="i", features=[], limits=limits, ports={})


def up(now: float = 0.0) -> Link:
    link = Link()
    link.dialled(now)
    link.welcomed(welcome(), now)
    return link


def test_it_dials_at_once() -> None:
    link = Link()
    assert link.advance(0.0) is Step.DIAL
    link.dialled(0.0)
    assert link.advance(0.0) is None
    assert not link.up


def test_it_gives_up_on_a_silent_greeting() -> None:
    link = Link()
    link.dialled(10.0)
    assert link.due_at() == 10.0 + GREETING_TIMEOUT_S
    assert link.advance(link.due_at()) is Step.HANG_UP
    assert "no answer to hello" in link.silence(link.due_at())


def test_a_heartbeat_keeps_it_and_silence_ends_it() -> None:
    link = up()
    now = 0.0
    for _ in range(30):
        now = link.due_at()
        assert link.advance(now) is Step.PING
        link.heard(now + 0.1)
    assert now == 30 * HEARTBEAT_INTERVAL_S
    silent_at = now + 0.1 + DEAD_AFTER_S
    steps = []
    while Step.HANG_UP not in steps:
        now = link.due_at()
        steps.append(link.advance(now))
    assert now == silent_at
    assert "silent for 10.0 s" in link.silence(now)


def test_the_backoff_grows_to_its_limit_and_shrinks_after_a_good_time() -> None:
    link = Link()
    now, pauses = 0.0, []
    for _ in range(8):
        link.dialled(now)
        link.lost("refused", now)
        pauses.append(link.due_at() - now)
        now = link.due_at()
        assert link.advance(now) is Step.DIAL
    assert pauses == sorted(pauses)
    assert pauses[0] < 0.1
    assert pauses[-1] == LONGEST_BACKOFF_S
    link.dialled(now)
    link.welcomed(welcome(), now)
    link.lost("cut", now + STEADY_AFTER_S)
    assert link.due_at() - (now + STEADY_AFTER_S) < 0.1
    assert link.trouble == "cut"


def test_a_daemon_that_greets_and_hangs_up_is_not_dialled_in_a_rush() -> None:
    link, now = Link(), 0.0
    for _ in range(8):
        link.dialled(now)
        link.welcomed(welcome(), now)
        link.lost("no_session", now + 0.01)
        now = link.due_at()
    assert now > 2.0


def test_the_largest_block_fits_limit_and_window() -> None:
    link = Link()
    assert link.max_block_bytes == wire.MAX_BLOCK_BYTES
    link.dialled(0.0)
    link.welcomed(welcome(max_block_bytes=1000, credit_window_bytes=600), 0.0)
    assert link.max_block_bytes == 600


def test_every_state_can_be_left() -> None:
    assert {state for state, _ in TRANSITIONS} == set(LinkState)
