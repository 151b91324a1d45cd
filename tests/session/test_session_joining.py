"""Who takes part: opening, resuming, taking over, joining, leaving, vanishing."""

from __future__ import annotations

import pytest

from support.sessions import (
    JOINER,
    N_COLS,
    OPENER,
    OTHER,
    SCAN,
    WINDOW_BYTES,
    Stage,
    layout_of,
)
from usidstream import wire
from usidstream.layout import ScanLayout
from usidstreamd.session import State, events

ROW_BYTES = 2 * N_COLS


# ---------------------------------------------------------------- opening


def test_the_opener_is_answered_when_the_file_is_safe() -> None:
    stage = Stage()
    stage.open()
    assert not stage.sent
    stage.ready()
    opened = stage.take(OPENER, wire.Opened)
    assert (opened.scan, opened.file, opened.role) == (SCAN, "/data/s.h5", "opener")
    assert (opened.resumed, opened.credit, opened.positions) == (False, WINDOW_BYTES, 0)
    assert opened.layout == {}
    assert wire.unpack_ranges(opened.coverage["Raw"]["complete"], opened.frames, 2) == []


def test_a_scan_that_waited_on_disk_tells_what_it_holds() -> None:
    stage = Stage()
    stage.open()
    stage.ready((0, 3), (7, 9), positions=5, resumed=True)
    opened = stage.take(OPENER, wire.Opened)
    assert (opened.resumed, opened.positions) == (True, 5)
    held = wire.unpack_ranges(opened.coverage["Raw"]["complete"], opened.frames, 2)
    assert held == [(0, 3), (7, 9)]
    assert stage.acks() == {}, "opened has told it all"


def test_of_two_who_open_at_once_the_later_has_the_scan() -> None:
    stage = Stage()
    stage.open(OPENER)
    stage.open(OTHER)
    assert stage.error(OPENER).code == "superseded"
    stage.ready()
    assert stage.session.peers == {OTHER: "opener"}
    stage.take(OTHER, wire.Opened)
    assert not stage.has(OPENER, wire.Opened)


def test_opening_twice_over_one_connection_is_answered_once() -> None:
    stage = Stage()
    stage.open()
    stage.open()
    stage.ready()
    stage.take(OPENER, wire.Opened)
    assert not stage.sent


def test_an_opener_that_goes_before_the_file_is_ready_leaves_a_scan_to_resume() -> None:
    stage = Stage()
    stage.open()
    stage.lose(OPENER)
    stage.ready()
    assert not stage.sent
    stage.open(OTHER)
    stage.commit()
    assert stage.take(OTHER, wire.Opened).resumed


def test_another_layout_is_refused_in_every_state_that_can_be_opened() -> None:
    other = layout_of(attrs={"a": 1})
    for stage in (Stage(), Stage.acquiring()):
        stage.open(OTHER, other)
        assert stage.error(OTHER).code == "layout_differs"
        assert OTHER not in stage.session.peers
    stage.finish(9)
    stage.open(OTHER, other)
    assert stage.session.state is State.FINISHING, "a refused open changes nothing"


def test_joining_a_scan_that_is_being_opened_is_to_be_tried_again() -> None:
    stage = Stage()
    stage.open()
    stage.join()
    error = stage.error(JOINER)
    assert (error.code, error.retryable, error.operation) == ("recovering", True, "join")


# ---------------------------------------------------------------- resuming and taking over


def test_resuming_is_answered_with_what_a_commit_makes_durable() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.settle()
    stage.lose(OPENER)
    stage.open(OTHER)
    assert not stage.has(OTHER, wire.Opened)
    assert stage.commits[0].coverage
    stage.commit((0, 1), positions=1)
    opened = stage.take(OTHER, wire.Opened)
    assert (opened.resumed, opened.positions, opened.credit) == (True, 1, WINDOW_BYTES)
    assert wire.unpack_ranges(opened.coverage["Raw"]["complete"], opened.frames, 2) == [(0, 1)]


def test_resuming_while_a_commit_is_in_flight_waits_for_the_next() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.settle()
    stage.ping(commit=True)
    stage.send(2, row=1)
    stage.settle()
    stage.lose(OPENER)
    stage.open(OTHER)
    stage.commit((0, 1))
    assert not stage.has(OTHER, wire.Opened), "block 2 is not in that coverage"
    assert stage.commits[0].coverage
    stage.commit((0, 2))
    opened = stage.take(OTHER, wire.Opened)
    assert wire.unpack_ranges(opened.coverage["Raw"]["complete"], opened.frames, 2) == [(0, 2)]
    stage.send(1, peer=OTHER, again=True)
    stage.settle()
    assert stage.ack(OTHER).durable == 0, "the first commits were of another's numbers"


def test_a_takeover_tells_the_old_opener_and_ends_its_part() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.open(OTHER)
    error = stage.error(OPENER)
    assert (error.code, error.scan, error.seq) == ("superseded", SCAN, 0)
    stage.commit()
    for act in (
        lambda: stage.send(2, row=1),
        lambda: stage.annotate(2),
        lambda: stage.finish(1),
        stage.abort,
        stage.ping,
    ):
        act()
        assert stage.error(OPENER).code == "superseded"
    stage.settle()
    assert OPENER not in stage.acks()
    assert stage.session.state is State.ACQUIRING


def test_the_superseded_one_may_take_the_scan_back() -> None:
    stage = Stage.acquiring()
    stage.open(OTHER)
    stage.open(OPENER)
    assert stage.error(OTHER).code == "superseded"
    while stage.commits:
        stage.commit()
    stage.take(OPENER, wire.Opened)
    assert not stage.has(OTHER, wire.Opened)
    stage.send(1)
    assert len(stage.placing) == 1


def test_taking_over_without_end_takes_no_memory_without_end() -> None:
    stage = Stage.acquiring()
    for number in range(500):
        stage.open(b"%d" % number)
    assert len(stage.session.peers) == 1
    stage.sent.clear()
    stage.send(1, peer=b"0")
    assert stage.error(b"0").code == "not_joined", "forgotten, and refused all the same"


# ---------------------------------------------------------------- joining


def test_a_joiner_gets_the_layout_and_the_coverage() -> None:
    stage = Stage(layout_of("Raw", "Phase", attrs={"x": 1}))
    stage.open()
    stage.ready()
    stage.join()
    stage.commit((0, 2))
    opened = stage.take(JOINER, wire.Opened)
    assert (opened.role, opened.resumed) == ("joiner", True)
    layout = ScanLayout.from_dict(wire.unpack_layout(opened.layout, opened.frames))
    assert layout == stage.layout
    assert wire.unpack_ranges(opened.coverage["Raw"]["complete"], opened.frames, 2) == [(0, 2)]


def test_two_clients_fill_one_scan_and_only_the_opener_ends_it() -> None:
    stage = Stage.acquiring(JOINER)
    stage.send(1)
    stage.send(1, row=1, peer=JOINER)
    stage.settle_all()
    for act in (lambda: stage.finish(1, peer=JOINER), lambda: stage.abort(peer=JOINER)):
        act()
        assert stage.error(JOINER).code == "not_opener"
    stage.leave(1)
    stage.commit()
    stage.take(JOINER, wire.Finished)
    stage.finish(1)
    stage.commit()
    stage.finalised()
    assert stage.take(OPENER, wire.Finished).status == "complete"
    assert not stage.has(JOINER, wire.Finished)


@pytest.mark.parametrize("peer", [OPENER, JOINER])
def test_who_takes_part_cannot_join_again(peer: bytes) -> None:
    stage = Stage.acquiring(JOINER)
    stage.join(peer)
    assert stage.error(peer).code == "already_joined"
    assert stage.session.peers == {OPENER: "opener", JOINER: "joiner"}


def test_a_joiner_that_opens_takes_the_scan_over_with_new_numbers() -> None:
    stage = Stage.acquiring(JOINER)
    stage.send(1, peer=JOINER)
    stage.open(JOINER)
    assert stage.error(OPENER).code == "superseded"
    stage.settle()
    stage.commit()
    assert stage.take(JOINER, wire.Opened).role == "opener"
    assert stage.session.peers == {JOINER: "opener"}
    stage.send(1, row=1, peer=JOINER)
    stage.settle()
    assert stage.ack(JOINER).received == 1


# ---------------------------------------------------------------- leaving


def test_leaving_is_answered_when_everything_sent_is_durable() -> None:
    stage = Stage.acquiring(JOINER)
    stage.send(1, peer=JOINER)
    stage.leave(1)
    assert not stage.commits, "block 1 is still being placed"
    stage.settle()
    stage.commit()
    left = stage.take(JOINER, wire.Finished)
    assert (left.status, left.scan, left.file) == ("acquiring", SCAN, "/data/s.h5")
    assert stage.session.peers == {OPENER: "opener"}


def test_leaving_with_nothing_sent_is_answered_at_once() -> None:
    stage = Stage.acquiring(JOINER)
    stage.leave(0)
    stage.take(JOINER, wire.Finished)
    assert not stage.commits


def test_leaving_before_the_answer_to_join_cancels_that() -> None:
    stage = Stage.acquiring()
    stage.join()
    stage.leave(0)
    stage.take(JOINER, wire.Finished)
    stage.commit()
    assert not stage.has(JOINER, wire.Opened)


def test_leaving_with_blocks_missing_asks_for_them() -> None:
    stage = Stage.acquiring(JOINER)
    stage.send(1, peer=JOINER)
    stage.leave(3)
    assert stage.take(JOINER, wire.Resend).seq == 2
    stage.send(2, row=1, peer=JOINER)
    stage.send(3, row=2, peer=JOINER)
    stage.settle_all()
    stage.commit()
    assert stage.take(JOINER, wire.Finished).status == "acquiring"


def test_leaving_with_less_than_arrived_is_a_mistake() -> None:
    stage = Stage.acquiring(JOINER)
    stage.send(1, peer=JOINER)
    stage.leave(0)
    error = stage.error(JOINER)
    assert (error.code, error.operation) == ("bad_sequence", "leave")
    assert JOINER in stage.session.peers


def test_the_opener_does_not_leave() -> None:
    stage = Stage.acquiring()
    stage.leave(0, peer=OPENER)
    assert stage.error().code == "not_joiner"


def test_one_who_left_may_join_again_with_new_numbers() -> None:
    stage = Stage.acquiring(JOINER)
    stage.leave(0)
    stage.send(1, peer=JOINER)
    assert stage.error(JOINER).code == "not_joined"
    stage.join()
    stage.commit()
    stage.take(JOINER, wire.Opened)
    stage.send(1, peer=JOINER)
    stage.settle()
    assert stage.ack(JOINER).received == 1


def test_a_leave_is_not_held_up_by_anothers() -> None:
    stage = Stage.acquiring(JOINER, OTHER)
    stage.send(1, peer=JOINER)
    stage.settle()
    stage.leave(1)
    stage.leave(0, peer=OTHER)
    stage.take(OTHER, wire.Finished)
    stage.commit()
    stage.take(JOINER, wire.Finished)


def test_what_a_peer_sent_before_it_vanished_is_stored() -> None:
    stage = Stage.acquiring(JOINER)
    stage.send(1, peer=JOINER)
    stage.lose(JOINER)
    stage.settle()
    stage.finish(0)
    assert stage.session.state is State.SEALED
    assert isinstance(stage.commits[0], events.BeginCommit)
