"""A disk that runs short: credit stands still, all else goes on, and whoever waits is told."""

from __future__ import annotations

import pytest

from support.sessions import JOINER, OPENER, OTHER, WINDOW_BYTES, Stage
from usidstream import wire
from usidstream.errors import UsidstreamError
from usidstreamd.session import TRANSITIONS, State, events

BLOCK_BYTES = 8
SHORT = UsidstreamError("only 3 MiB are free", code="no_space", hint="Free space on /data.")


def begin(stage: Stage, source: str = "disk") -> None:
    stage.sent += stage.session.note_shortage(source, SHORT)


def end(stage: Stage, source: str = "disk") -> None:
    stage.now += 1.0  # so that news of credit need not wait for more
    stage.sent += stage.session.note_shortage(source, None)


def test_credit_stands_still_while_acks_go_on() -> None:
    stage = Stage.acquiring()
    begin(stage)
    stage.send(1)
    stage.settle()
    ack = stage.ack()
    assert (ack.received, ack.credit) == (1, WINDOW_BYTES)
    stage.ping(commit=True)
    stage.commit(positions=1)
    assert stage.ack().durable == 1
    end(stage)
    assert stage.ack().credit == WINDOW_BYTES + BLOCK_BYTES


def test_what_was_granted_is_taken_and_no_more() -> None:
    stage = Stage.acquiring()
    begin(stage)
    rows = WINDOW_BYTES // BLOCK_BYTES
    for seq in range(1, rows + 1):
        stage.send(seq)
        stage.settle()
    stage.sent.clear()
    stage.send(rows + 1)
    assert stage.error().code == "credit_exceeded"
    end(stage)
    stage.send(rows + 2)
    assert stage.placing


def test_everybody_is_told_once_and_again_when_asking() -> None:
    stage = Stage.acquiring(JOINER)
    begin(stage)
    for peer in (OPENER, JOINER):
        error = stage.error(peer)
        assert (error.code, error.operation, error.seq) == ("no_space", "space", 0)
        assert (error.message, error.hint, error.retryable) == (SHORT.message, SHORT.hint, True)
    begin(stage)
    begin(stage, "journal")
    assert not stage.has(OPENER, wire.Error)
    stage.ping()
    assert stage.error().operation == "space"
    end(stage)
    end(stage, "journal")
    stage.ping()
    assert not stage.has(OPENER, wire.Error)


def test_credit_is_held_until_nothing_is_short() -> None:
    stage = Stage.acquiring()
    begin(stage)
    begin(stage, "journal")
    end(stage)
    stage.send(1)
    stage.settle()
    assert stage.ack().credit == WINDOW_BYTES
    assert stage.session.describe()["shortage"] == SHORT.message
    end(stage, "journal")
    assert stage.ack().credit == WINDOW_BYTES + BLOCK_BYTES
    assert stage.session.describe()["shortage"] == ""


def test_who_comes_meanwhile_begins_without_credit() -> None:
    stage = Stage.acquiring()
    begin(stage)
    stage.join(JOINER)
    stage.commit()
    stage.open(OTHER)
    stage.commit()
    assert stage.take(JOINER, wire.Opened).credit == 0
    assert stage.take(OTHER, wire.Opened).credit == 0
    assert stage.session.promised_nbytes == 0
    end(stage)
    assert {ack.credit for ack in stage.acks().values()} == {WINDOW_BYTES}


@pytest.mark.parametrize("is_short", [False, True])
def test_what_may_still_come_is_counted(is_short: bool) -> None:
    stage = Stage.acquiring(JOINER)
    if is_short:
        begin(stage)
    stage.send(1)
    assert stage.session.promised_nbytes == 2 * WINDOW_BYTES
    stage.settle()
    stage.acks()
    assert stage.session.promised_nbytes == 2 * WINDOW_BYTES - BLOCK_BYTES * is_short
    stage.lose(OPENER)
    assert stage.session.promised_nbytes == WINDOW_BYTES


def test_a_scan_that_is_short_is_finished_as_any_other() -> None:
    stage = Stage.acquiring()
    begin(stage)
    stage.send(1)
    stage.finish(1)
    stage.settle()
    stage.commit()
    stage.finalised()
    assert stage.take(OPENER, wire.Finished).status == "complete"
    end(stage)


# ---------------------------------------------------------------- the daemon stops meanwhile


def test_a_stop_does_not_wait_for_room_where_something_is_stuck() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.settle()
    begin(stage, "journal")
    stage.sent.clear()
    stage.suspend()
    assert stage.session.state is State.SUSPENDING
    stage.tick(1.0)
    assert stage.session.state is State.FAILED
    assert {send.message.code for send in stage.sent} == {"shutting_down"}
    stage.tick(2.0)
    assert len(stage.sent) == 2


def test_a_stop_in_the_middle_of_the_end_does_not_wait_for_room() -> None:
    stage = Stage.acquiring()
    stage.finish(0)
    stage.commit()
    assert stage.session.state is State.FINALISING
    stage.suspend()
    stage.tick(1.0)
    assert stage.session.state is State.FINALISING
    begin(stage, "file")
    stage.tick(2.0)
    assert stage.session.state is State.FAILED


def test_a_stop_carries_all_to_the_disk_where_it_only_runs_short() -> None:
    stage = Stage.acquiring()
    begin(stage)
    stage.send(1)
    stage.settle()
    stage.suspend()
    stage.tick(1.0)
    assert stage.session.state is State.SUSPENDING
    stage.commit()
    assert stage.session.state is State.CLOSING


def test_every_state_that_goes_on_can_be_given_up() -> None:
    over = {State.ENDED, State.SUSPENDED, State.INTERRUPTED}
    assert all(events.StoreFailed in TRANSITIONS[state] for state in State if state not in over)
