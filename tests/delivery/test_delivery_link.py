"""When a connection is dialled, kept alive, and given up."""

from __future__ import annotations

import itertools

import pytest

from usidstream.delivery import Link, LinkState, Step
from usidstream.delivery.link import (
    DEAD_AFTER_S,
    FIRST_BACKOFF_S,
    GREETING_TIMEOUT_S,
    HEARTBEAT_INTERVAL_S,
    LONGEST_BACKOFF_S,
    STEADY_AFTER_S,
    TRANSITIONS,
    LinkEvent,
)
from usidstream.wire import MAX_BLOCK_BYTES, Welcome


def welcome(**limits: int) -> Welcome:
    return Welcome(version=1, daemon="d", instance="1", features=[], limits=limits, ports={})


def linked(now: float = 0.0) -> Link:
    link = Link()
    link.dialled(now)
    link.welcomed(welcome(), now)
    return link


def test_it_dials_at_once_and_greets() -> None:
    link = Link()
    assert (link.advance(0.0), link.up) == (Step.DIAL, False)
    link.dialled(0.0)
    assert link.state is LinkState.GREETING
    assert link.advance(0.0) is None
    link.welcomed(welcome(), 1.0)
    assert (link.up, link.trouble) == (True, "")


def test_an_unanswered_hello_is_given_up() -> None:
    link = Link()
    link.dialled(10.0)
    assert link.due_at() == 10.0 + GREETING_TIMEOUT_S
    assert link.advance(link.due_at() - 0.01) is None
    assert link.advance(link.due_at()) is Step.HANG_UP
    assert link.silence(link.due_at()) == f"no answer to hello within {GREETING_TIMEOUT_S:g} s"


def test_it_pings_while_it_is_up_and_hangs_up_after_silence() -> None:
    link = linked()
    pings = 0
    now = 0.0
    while (step := link.advance(now)) is not Step.HANG_UP:
        pings += step is Step.PING
        assert link.due_at() > now
        now = link.due_at()
    assert now == DEAD_AFTER_S
    assert pings == DEAD_AFTER_S / HEARTBEAT_INTERVAL_S - 1
    assert link.silence(now) == f"the daemon was silent for {DEAD_AFTER_S:.1f} s"


def test_any_word_of_the_daemon_keeps_it_up() -> None:
    link = linked()
    link.heard(DEAD_AFTER_S - 0.1)
    assert link.advance(DEAD_AFTER_S) is Step.PING
    assert link.advance(2 * DEAD_AFTER_S - 0.2) is Step.PING
    assert link.advance(2 * DEAD_AFTER_S) is Step.HANG_UP


def test_it_waits_longer_after_each_loss_up_to_a_limit() -> None:
    link = Link()
    now, waits = 0.0, []
    for _ in range(8):
        link.dialled(now)
        link.lost("refused", now)
        assert link.trouble == "refused"
        assert link.advance(link.due_at() - 0.001) is None
        assert link.advance(link.due_at()) is Step.DIAL
        waits.append(link.due_at() - now)
        now = link.due_at()
    assert waits[:2] == pytest.approx([FIRST_BACKOFF_S, 2 * FIRST_BACKOFF_S])
    assert waits[-1] == pytest.approx(LONGEST_BACKOFF_S)
    assert waits == sorted(waits)


def test_only_a_connection_that_lasted_lets_it_hurry_again() -> None:
    link = Link()
    for _ in range(8):
        link.dialled(0.0)
        link.welcomed(welcome(), 0.0)
        link.lost("cut", STEADY_AFTER_S - 0.1)
    assert link.due_at() == pytest.approx(STEADY_AFTER_S - 0.1 + LONGEST_BACKOFF_S)
    link.dialled(10.0)
    link.welcomed(welcome(), 10.0)
    link.lost("cut", 10.0 + STEADY_AFTER_S)
    assert link.due_at() == pytest.approx(10.0 + STEADY_AFTER_S + FIRST_BACKOFF_S)


def test_a_block_is_never_larger_than_the_window() -> None:
    link = linked()
    assert link.max_block_bytes == MAX_BLOCK_BYTES
    link.welcome = welcome(max_block_bytes=100, credit_window_bytes=50)
    assert link.max_block_bytes == 50
    link.welcome = welcome(max_block_bytes=100)
    assert link.max_block_bytes == 100


def test_what_has_no_place_in_the_table_cannot_happen() -> None:
    for state, event in itertools.product(LinkState, LinkEvent):
        if (state, event) in TRANSITIONS:
            continue
        link = Link(state=state)
        with pytest.raises(KeyError):
            link._move(event, 0.0)
