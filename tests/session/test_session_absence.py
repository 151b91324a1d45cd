"""A scan whose clients stay away: when it is interrupted, when never, and what is noted of it."""

from __future__ import annotations

import pytest

from support.sessions import JOINER, OPENER, OTHER, SCAN, Stage, layout_of
from usidstream import wire
from usidstreamd.session import Session, SessionLimits, State, events

TIMEOUT_S = 100.0


def acquiring(*joiners: bytes) -> Stage:
    return Stage.acquiring(*joiners, resume_timeout_s=TIMEOUT_S)


def notes(actions: list[events.Action]) -> int:
    return sum(isinstance(action, events.NoteContact) for action in actions)


def is_interrupting(stage: Stage) -> bool:
    interrupts = [end for end in stage.ends if isinstance(end, events.Interrupt)]
    assert bool(interrupts) == (stage.session.state is State.INTERRUPTING)
    return bool(interrupts)


def test_a_scan_is_interrupted_when_its_opener_has_been_gone_for_the_time_out() -> None:
    stage = acquiring()
    stage.tick(500.0)
    stage.lose(OPENER)
    stage.tick(599.9)
    assert not is_interrupting(stage)
    stage.tick(600.0)
    assert is_interrupting(stage)
    stage.do(events.StoreClosed())
    assert stage.session.is_over
    assert stage.session.state is State.INTERRUPTED
    assert stage.session.last_contact_s == 500.0


def test_a_silent_client_keeps_its_scan() -> None:
    stage = acquiring()
    for now in (99.0, 101.0, 1e6):
        stage.tick(now)
    assert stage.session.state is State.ACQUIRING


def test_any_client_that_takes_part_counts() -> None:
    stage = acquiring(JOINER)
    stage.lose(OPENER)
    stage.tick(1000.0)
    assert not is_interrupting(stage)
    stage.leave(0)
    stage.tick(1099.0)
    assert not is_interrupting(stage)
    stage.tick(1100.0)
    assert is_interrupting(stage)


def test_who_only_asks_takes_no_part() -> None:
    stage = acquiring()
    stage.lose(OPENER)
    stage.tick(99.0)
    stage.ask_coverage(OTHER)
    stage.commit()
    stage.ping(OTHER)
    stage.tick(100.0)
    assert is_interrupting(stage)


def test_a_client_that_comes_back_in_time_starts_the_time_anew() -> None:
    stage = acquiring()
    stage.lose(OPENER)
    stage.tick(99.0)
    stage.open(OTHER)
    stage.commit()
    stage.lose(OTHER)
    stage.tick(198.0)
    assert not is_interrupting(stage)
    stage.tick(199.0)
    assert is_interrupting(stage)


def test_what_was_sent_is_durable_before_the_scan_is_interrupted() -> None:
    stage = acquiring()
    stage.send(1)
    stage.lose(OPENER)
    stage.tick(200.0)
    assert not is_interrupting(stage)  # it is being placed
    stage.settle()
    stage.tick(201.0)
    assert not is_interrupting(stage)  # it is being committed
    stage.commit()
    stage.tick(202.0)
    assert is_interrupting(stage)


def test_a_finish_that_everything_has_arrived_for_is_carried_out_all_the_same() -> None:
    stage = acquiring()
    stage.finish(0)
    stage.lose(OPENER)
    stage.tick(1000.0)
    assert stage.session.state is State.SEALED


@pytest.mark.parametrize("is_closed", [False, True])
def test_who_comes_while_the_scan_is_closed_may_ask_again(is_closed: bool) -> None:
    stage = Stage.left()
    if is_closed:
        stage.do(events.StoreClosed())
    stage.open()
    stage.join()
    stage.finish(0)
    stage.send(1)
    for peer in (OPENER, JOINER):
        error = stage.error(peer)
        assert (error.code, error.retryable, error.scan) == ("recovering", True, SCAN)
    assert not stage.placing


def test_a_stop_waits_until_the_interrupted_file_is_closed() -> None:
    stage = Stage.left()
    stage.suspend()
    assert not stage.session.is_over
    stage.do(events.StoreClosed())
    assert stage.session.state is State.INTERRUPTED


def test_a_file_that_cannot_be_closed_fails_the_scan() -> None:
    stage = Stage.left()
    stage.fail()
    assert stage.session.state is State.FAILED


# ---------------------------------------------------------------- over restarts


def test_time_before_the_restart_counts() -> None:
    session = Session(SCAN, layout_of(), SessionLimits(resume_timeout_s=TIMEOUT_S), -60.0)
    ready = events.StoreReady(file="/s.h5", positions=0, coverage={}, resumed=True)
    session.receive(ready, 5.0)
    assert session.tick(39.0) == []
    assert session.tick(40.0) == [events.Interrupt()]


def test_a_scan_without_an_earlier_contact_counts_from_its_opening() -> None:
    session = Session(SCAN, layout_of(), SessionLimits(resume_timeout_s=TIMEOUT_S))
    session.receive(events.StoreReady(file="/s.h5", positions=0, coverage={}), 5.0)
    assert session.tick(104.0) == [events.NoteContact()]
    assert session.tick(105.0) == [events.Interrupt()]


def test_a_contact_is_noted_at_once_then_each_minute_then_at_its_end() -> None:
    stage = acquiring()
    assert [notes(stage.tick(now)) for now in (0.1, 0.2, 60.0, 60.2, 60.3, 119.0)] == [
        1, 0, 0, 1, 0, 0,
    ]  # fmt: skip
    stage.lose(OPENER)
    assert [notes(stage.tick(now)) for now in (119.1, 119.2, 200.0)] == [1, 0, 0]
    stage.open(OTHER)
    assert notes(stage.tick(201.0)) == 1


def test_nobody_is_noted_who_was_not_there() -> None:
    session = Session(SCAN, layout_of(), SessionLimits(resume_timeout_s=TIMEOUT_S), -60.0)
    session.receive(events.StoreReady(file="/s.h5", positions=0, coverage={}), 5.0)
    assert session.tick(6.0) == []
    peer = events.OpenRequested(peer=OPENER, layout=layout_of())
    session.receive(peer, 7.0)
    session.receive(events.PeerLost(peer=OPENER), 8.0)
    assert notes(session.tick(8.1)) == 1
    assert notes(session.tick(8.2)) == 0


def test_a_takeover_leaves_no_gap() -> None:
    stage = acquiring()
    stage.open(OTHER)
    assert stage.take(OPENER, wire.Error).code == "superseded"
    stage.tick(1e6)
    assert not is_interrupting(stage)
