"""How a scan ends: finish, abort, suspension, failure, at every stage of its life."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from support.sessions import JOINER, OPENER, OTHER, SCAN, Stage, layout_of
from usidstream import wire
from usidstream.errors import UsidstreamError
from usidstreamd.session import State, events
from usidstreamd.session.events import Ending


def finalise(stage: Stage) -> events.Finalise:
    assert stage.session.state is State.FINALISING
    assert len(stage.ends) == 1
    end = stage.ends[0]
    assert isinstance(end, events.Finalise)
    return end


# ---------------------------------------------------------------- finish


def test_finish_commits_once_more_then_finalises_then_answers() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.finish(1, note="good")
    assert (stage.session.state, len(stage.commits)) == (State.FINISHING, 0)
    stage.settle()
    assert stage.session.state is State.SEALED
    stage.commit()
    assert finalise(stage).ending is Ending.FINISH
    assert finalise(stage).attrs == {"note": "good"}
    missing = {"Raw": np.array([[1, 12]])}
    stage.do(events.Finalised(file="/data/s.h5", status="incomplete", missing=missing))
    result = stage.take(OPENER, wire.Finished)
    assert (result.scan, result.file, result.status) == (SCAN, "/data/s.h5", "incomplete")
    assert wire.unpack_ranges(result.missing["Raw"], result.frames, 2) == [(1, 12)]
    assert stage.session.state is State.ENDED
    assert stage.acks() == {}


def test_the_last_commit_follows_one_in_flight() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.settle()
    stage.ping(commit=True)
    stage.finish(1)
    stage.commit()
    assert stage.session.state is State.SEALED
    stage.commit()
    finalise(stage)


def test_finish_with_blocks_missing_asks_for_them_and_waits() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.settle()
    stage.finish(3)
    assert stage.take(OPENER, wire.Resend).seq == 2
    stage.send(2, row=1)
    stage.settle()
    assert stage.session.state is State.FINISHING
    stage.send(3, row=2)
    stage.settle()
    assert stage.session.state is State.SEALED


def test_blocks_beyond_the_finish_are_too_late() -> None:
    stage = Stage.acquiring()
    stage.finish(1)
    stage.take(OPENER, wire.Resend)
    stage.send(2)
    error = stage.error()
    assert (error.code, error.seq) == ("scan_finished", 2)
    stage.send(1)
    assert len(stage.placing) == 1


def test_finish_naming_less_than_has_arrived_is_a_mistake() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.settle()
    stage.finish(0)
    assert stage.error().code == "bad_sequence"
    assert stage.session.state is State.ACQUIRING


@pytest.mark.parametrize("state", [State.FINISHING, State.SEALED, State.FINALISING])
def test_a_second_finish_is_answered_with_the_same_result(state: State) -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.finish(1)
    if state is not State.FINISHING:
        stage.settle()
    if state is State.FINALISING:
        stage.commit()
    assert stage.session.state is state
    stage.finish(1)
    stage.settle_all()
    if stage.commits:
        stage.commit()
    finalise(stage)
    stage.finalised()
    assert stage.take(OPENER, wire.Finished).status == "complete"
    assert not stage.has(OPENER, wire.Finished)


@pytest.mark.parametrize("state", [State.SEALED, State.FINALISING])
def test_repeated_blocks_are_no_error_while_the_scan_is_being_finished(state: State) -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.settle()
    stage.finish(1)
    if state is State.FINALISING:
        stage.commit()
    stage.send(1)
    assert stage.take(OPENER, wire.Ack).received == 1
    stage.send(2, row=1)
    assert stage.error().code == "scan_finished"
    stage.send(1, peer=OTHER)
    assert stage.error(OTHER).code == "scan_finished"
    assert not stage.placing
    assert stage.session.state is state


@pytest.mark.parametrize("state", [State.SEALED, State.FINALISING])
def test_one_who_resumes_while_the_scan_is_being_finished_hears_the_result(state: State) -> None:
    stage = Stage.acquiring()
    stage.finish(0)
    stage.lose(OPENER)
    if state is State.FINALISING:
        stage.commit()
    stage.open(OTHER)
    stage.open(JOINER, layout_of(attrs={"other": 1}))
    assert stage.error(JOINER).code == "layout_differs"
    if stage.commits:
        stage.commit()
    stage.finalised()
    assert stage.take(OTHER, wire.Finished).status == "complete"
    assert not stage.sent


def test_opening_a_scan_that_an_earlier_daemon_had_finished_tells_the_result() -> None:
    stage = Stage()
    stage.open()
    stage.finalised("incomplete", Raw=np.array([[1, 12]]))
    result = stage.take(OPENER, wire.Finished)
    assert (result.file, result.status) == ("/data/s.h5", "incomplete")
    assert stage.session.state is State.ENDED
    assert stage.session.file == "/data/s.h5"
    assert not stage.ends


# ---------------------------------------------------------------- joiners


def test_finish_waits_for_joiners_to_leave() -> None:
    stage = Stage.acquiring(JOINER)
    stage.finish(0)
    assert stage.session.state is State.FINISHING
    stage.join(OTHER)
    assert stage.error(OTHER).code == "scan_finished"
    stage.send(1, peer=JOINER)
    stage.settle()
    stage.leave(1)
    stage.commit()
    assert stage.take(JOINER, wire.Finished).status == "acquiring"
    assert stage.session.state is State.SEALED


def test_a_joiner_that_vanishes_is_not_waited_for() -> None:
    stage = Stage.acquiring(JOINER)
    stage.send(1, peer=JOINER)
    stage.finish(0)
    stage.lose(JOINER)
    assert stage.session.state is State.FINISHING, "its block is still being placed"
    stage.settle()
    assert stage.session.state is State.SEALED


def test_joiners_that_do_not_leave_in_time_are_named_and_the_scan_goes_on() -> None:
    stage = Stage(join_timeout_s=60.0)
    stage.open()
    stage.ready()
    stage.do(events.JoinRequested(peer=JOINER, client="phase camera"))
    stage.join(OTHER)
    stage.commit()
    stage.tick(100.0)
    stage.finish(0)
    stage.tick(159.0)
    stage.finish(0)
    assert stage.session.state is State.FINISHING
    stage.tick(160.0)
    error = stage.error()
    assert (error.code, error.operation, error.retryable) == ("joiners_busy", "finish", True)
    assert error.details == {"joiners": ["phase camera", OTHER.hex()]}
    assert "phase camera" in error.message
    assert stage.session.state is State.ACQUIRING
    stage.send(1)
    assert len(stage.placing) == 1
    stage.settle()
    stage.leave(0)
    stage.leave(0, peer=OTHER)
    stage.finish(1)
    assert stage.session.state is State.SEALED


def test_late_joiners_do_not_take_an_abort_back() -> None:
    stage = Stage.acquiring(JOINER)
    stage.send(1)
    stage.abort()
    stage.tick(10_000.0)
    assert stage.session.state is State.FINISHING
    assert not stage.has(OPENER, wire.Error)


# ---------------------------------------------------------------- an opener that vanishes


def test_a_finish_that_lacks_blocks_is_withdrawn_when_its_opener_goes() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.finish(2)
    stage.lose(OPENER)
    assert stage.session.state is State.ACQUIRING
    stage.join(OTHER)
    assert not stage.has(OTHER, wire.Error)
    stage.settle()
    stage.open()
    while stage.commits:
        stage.commit()
    stage.finish(0)
    assert stage.session.state is State.FINISHING, "a joiner takes part"


@pytest.mark.parametrize("settled", [True, False])
def test_a_finish_that_has_all_its_blocks_needs_its_opener_no_more(settled: bool) -> None:
    stage = Stage.acquiring(JOINER)
    stage.send(1)
    if settled:
        stage.settle()
    stage.finish(1)
    stage.lose(OPENER)
    assert stage.session.state is State.FINISHING
    stage.settle_all()
    stage.lose(JOINER)
    assert stage.session.state is State.SEALED
    stage.commit()
    finalise(stage)
    stage.sent.clear()
    stage.finalised()
    assert not stage.sent
    assert stage.session.state is State.ENDED


def test_an_opener_that_goes_while_joiners_are_waited_for_is_told_nothing() -> None:
    stage = Stage.acquiring(JOINER)
    stage.finish(0)
    stage.lose(OPENER)
    stage.sent.clear()
    stage.tick(1000.0)
    assert stage.session.state is State.ACQUIRING
    assert not stage.sent


def test_taking_over_a_finish_goes_on_with_the_scan() -> None:
    stage = Stage.acquiring(JOINER)
    stage.finish(0)
    stage.open(OTHER)
    assert stage.session.state is State.ACQUIRING
    assert stage.error(OPENER).code == "superseded"
    stage.tick(1000.0)
    assert stage.session.state is State.ACQUIRING
    stage.commit()
    stage.send(1, peer=OTHER)
    assert len(stage.placing) == 1


# ---------------------------------------------------------------- abort


def test_abort_keeps_what_has_arrived_and_refuses_everything_after() -> None:
    stage = Stage.acquiring(JOINER)
    stage.send(1)
    stage.send(1, row=1, peer=JOINER)
    stage.abort(reason="tip crash")
    stage.send(2, row=2)
    assert stage.error().code == "scan_finished"
    stage.send(2, row=3, peer=JOINER)
    assert stage.error(JOINER).code == "scan_finished"
    stage.settle()
    assert stage.session.state is State.FINISHING
    stage.settle()
    stage.commit()
    assert finalise(stage).ending is Ending.ABORT
    assert finalise(stage).attrs == {"abort_reason": "tip crash"}
    stage.finalised("aborted")
    for peer in (OPENER, JOINER):
        assert stage.take(peer, wire.Aborted).status == "aborted"


def test_abort_does_not_wait_for_missing_blocks_or_joiners() -> None:
    stage = Stage.acquiring(JOINER)
    stage.finish(5)
    stage.abort()
    assert stage.session.state is State.SEALED
    stage.commit()
    assert finalise(stage).attrs == {}


def test_a_finish_after_an_abort_hears_of_the_abort() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.abort()
    stage.finish(3)
    assert not stage.has(OPENER, wire.Resend)
    stage.settle()
    stage.commit()
    assert finalise(stage).ending is Ending.ABORT


def test_an_abort_whose_opener_goes_is_carried_out() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.abort()
    stage.lose(OPENER)
    stage.settle()
    stage.commit()
    assert finalise(stage).ending is Ending.ABORT


# ---------------------------------------------------------------- suspension


def test_suspending_places_and_commits_what_has_come_then_closes() -> None:
    stage = Stage.acquiring(JOINER)
    stage.send(1)
    stage.suspend()
    for peer in (OPENER, JOINER):
        error = stage.error(peer)
        assert (error.code, error.retryable, error.operation) == ("shutting_down", True, "suspend")
    stage.send(2, row=1)
    assert stage.error().code == "shutting_down"
    stage.settle()
    stage.commit()
    assert stage.ack().durable == 1, "told before the end"
    assert stage.ends == [events.CloseStore()]
    stage.suspend()
    stage.do(events.StoreClosed())
    assert stage.session.state is State.SUSPENDED
    assert len(stage.ends) == 1


def test_suspending_with_a_commit_in_flight_lets_it_end_and_commits_the_rest() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.settle()
    stage.ping(commit=True)
    stage.send(2, row=1)
    stage.suspend()
    stage.commit()
    assert not stage.ends, "block 2 is being placed"
    stage.settle()
    assert not stage.ends
    stage.commit()
    assert stage.ack().durable == 2
    assert stage.ends == [events.CloseStore()]


def test_suspending_with_nothing_to_commit_closes_at_once() -> None:
    stage = Stage.acquiring()
    stage.suspend()
    assert not stage.commits
    assert stage.ends == [events.CloseStore()]


def test_suspending_while_the_file_is_being_made_waits_for_it() -> None:
    stage = Stage()
    stage.open()
    stage.suspend()
    assert (stage.session.state, stage.ends) == (State.OPENING, [])
    stage.ready()
    assert stage.session.state is State.CLOSING
    assert [type(send.message) for send in stage.sent] == [wire.Opened, wire.Error]
    assert stage.ends == [events.CloseStore()]


def test_suspending_a_finish_that_waits_leaves_it_to_be_asked_again() -> None:
    stage = Stage.acquiring(JOINER)
    stage.finish(0)
    stage.suspend()
    assert stage.error().code == "shutting_down"
    assert stage.session.state is State.CLOSING


@pytest.mark.parametrize("state", [State.SEALED, State.FINALISING])
def test_suspending_lets_an_end_that_has_begun_come_to_its_end(state: State) -> None:
    stage = Stage.acquiring()
    stage.finish(0)
    if state is State.FINALISING:
        stage.commit()
    stage.suspend()
    assert not stage.has(OPENER, wire.Error)
    if stage.commits:
        stage.commit()
    finalise(stage)
    stage.finalised()
    stage.take(OPENER, wire.Finished)
    assert stage.session.state is State.ENDED


def test_those_who_wait_to_open_or_join_are_told_once_that_the_daemon_stops() -> None:
    stage = Stage.acquiring()
    stage.open(OTHER)
    stage.join(JOINER)
    stage.ask_coverage(b"watcher")
    stage.suspend()
    while stage.commits:
        stage.commit()
    for peer in (OTHER, JOINER):
        assert stage.error(peer).code == "shutting_down"
        assert not stage.has(peer, wire.Opened)
    stage.take(b"watcher", wire.StatusReport)
    assert stage.ends == [events.CloseStore()]


# ---------------------------------------------------------------- failure


def with_all(stage: Stage) -> Stage:
    """Have an opener, a joiner and a watcher that waits for coverage."""
    stage.join()
    stage.ask_coverage(OTHER)
    return stage


def _finishing() -> Stage:
    stage = with_all(Stage.acquiring())
    stage.finish(9)
    return stage


def _sealed() -> Stage:
    stage = Stage.acquiring()
    stage.ask_coverage(OTHER)
    stage.finish(0)
    return stage


def _suspending() -> Stage:
    stage = with_all(Stage.acquiring())
    stage.send(1)
    stage.suspend()
    stage.sent.clear()
    return stage


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: with_all(Stage.acquiring()), {OPENER, JOINER, OTHER}),
        (_finishing, {OPENER, JOINER, OTHER}),
        (_sealed, {OPENER, OTHER}),
        (_suspending, {OPENER, JOINER, OTHER}),
    ],
)
def test_a_failure_is_told_once_to_everybody_who_takes_part_or_waits(
    make: Callable[[], Stage], told: set[bytes]
) -> None:
    stage = make()
    stage.sent.clear()
    stage.fail("no_space")
    stage.fail("storage_failed")
    assert sorted(send.peer for send in stage.sent) == sorted(told)
    errors = {(send.message.code, send.message.operation) for send in stage.sent}
    assert errors == {("no_space", "storage")}
    stage.sent.clear()
    stage.send(1, peer=JOINER)
    assert stage.error(JOINER).code == "no_space"
    stage.open(OTHER)
    assert stage.error(OTHER).code == "no_space"
    stage.do(events.StoreClosed())
    assert stage.session.is_over
    assert not stage.ends


def test_a_file_that_cannot_be_made_answers_open() -> None:
    stage = Stage()
    stage.open()
    stage.fail()
    error = stage.error()
    assert (error.code, error.operation) == ("storage_failed", "open")


def test_a_failure_while_finalising_or_closing_is_told() -> None:
    finishing = Stage.acquiring()
    finishing.finish(0)
    finishing.commit()
    finishing.fail()
    assert finishing.error().code == "storage_failed"
    closing = Stage.acquiring()
    closing.suspend()
    closing.sent.clear()
    closing.fail()
    assert closing.error().code == "storage_failed"


def test_a_block_still_being_placed_when_the_file_fails_is_nobodys_error() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.fail()
    stage.sent.clear()
    stage.settle(UsidstreamError("held", code="already_covered"))
    assert not stage.sent
    assert stage.acks() == {}
