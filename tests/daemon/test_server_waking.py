"""How long the loop sleeps, and when it is to stop."""

from __future__ import annotations

from usidstreamd.server.stopping import Stop
from usidstreamd.server.waking import BUSY_TICK_MS, IDLE_TICK_MS, tick_ms

NOW = 100.0


def test_with_nothing_to_commit_it_sleeps_longest() -> None:
    assert tick_ms([], NOW) == tick_ms([None, None], NOW) == IDLE_TICK_MS


def test_it_wakes_for_the_first_commit_that_is_due() -> None:
    assert tick_ms([NOW + 0.5, None, NOW + 0.0041], NOW) == 5  # never a moment too early
    assert tick_ms([NOW - 1.0, NOW + 0.004], NOW) == 0


def test_while_commits_are_to_come_it_sleeps_no_longer_than_a_busy_tick() -> None:
    assert tick_ms([NOW + 60.0], NOW) == BUSY_TICK_MS


def test_a_stop_begins_once_and_its_time_counts_from_there() -> None:
    stop = Stop(30.0)
    assert not stop.begins(NOW)
    assert stop.deadline_s(NOW) == NOW + 30.0
    stop.request()
    assert not stop.has_begun
    assert stop.begins(NOW)
    assert stop.has_begun
    stop.request()
    assert not stop.begins(NOW + 1.0)
    assert stop.deadline_s(NOW + 20.0) == NOW + 30.0
    stop.timeout_s = 10.0  # taken up by a reload
    assert stop.deadline_s(NOW + 20.0) == NOW + 10.0
