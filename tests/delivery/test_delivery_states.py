"""The sender's rules, one by one: what it says when, and what it makes of what it is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from usidstream import wire
from usidstream.delivery import Delivery, Goal, Outbound, Payload, State, as_bytes, scattered
from usidstream.delivery.state import (
    ACK_REPEAT_S,
    COMMIT_REPEAT_S,
    MAX_BLOCK_RETRIES,
    MAX_PENDING_ERRORS,
    OPEN_RETRY_S,
    OPEN_TIMEOUT_S,
    RESEND_QUIET_S,
    STALL_S,
)
from usidstream.delivery.states import OPEN, TRANSITIONS, Event
from usidstream.errors import UsidstreamError

SCAN = "ab" * 16
CREDIT = 1 << 20


def opened(**fields: Any) -> wire.Opened:
    values = {
        "file": "/f.h5",
        "role": "opener",
        "resumed": False,
        "credit": CREDIT,
        "positions": 0,
        "coverage": {},
    }
    return wire.Opened(scan=SCAN, **(values | fields))


def held(*ranges: tuple[int, int], positions: int = 0) -> wire.Opened:
    """Return the answer of a daemon that holds these rows."""
    frames: list[wire.Frame] = []
    indices = {
        "complete": wire.pack_ranges(ranges, frames),
        "partial": wire.pack_ranges([], frames),
    }
    return opened(resumed=True, coverage={"Raw": indices}, positions=positions, frames=frames)


def ack(received: int, durable: int = 0, **fields: Any) -> wire.Ack:
    values = {"credit": CREDIT, "positions": 0} | fields
    return wire.Ack(scan=SCAN, received=received, durable=durable, **values)


def error(code: str, seq: int = 0, **fields: Any) -> wire.Error:
    return wire.Error(code=code, message=f"{code}!", scan=SCAN, seq=seq, **fields)


def block(row: int, rows: int = 1, *, single: bool = False) -> Payload:
    return Payload("Raw", row, rows, 0, 2, as_bytes(np.full((rows, 2), row, "<u2")), single=single)


def taken(delivery: Delivery, now: float = 0.0) -> list[Any]:
    messages = []
    while (message := delivery.take(now)) is not None:
        messages.append(message)
    return messages


def blocks(delivery: Delivery, now: float = 0.0) -> list[Outbound]:
    return [message for message in taken(delivery, now) if isinstance(message, Outbound)]


def streaming(**options: Any) -> Delivery:
    delivery = Delivery(wire.Open(scan=SCAN, layout={}), **options)
    delivery.link_up(1 << 20, 0.0)
    assert taken(delivery) == [delivery.opening]
    delivery.receive(opened(), 0.0)
    assert delivery.state is State.STREAMING
    return delivery


def sent(delivery: Delivery, *payloads: Payload, now: float = 0.0) -> list[int]:
    """Hand blocks in and take them; return their sequence numbers."""
    for payload in payloads:
        delivery.add_block(payload)
    return [message.seq for message in blocks(delivery, now)]


# -------------------------------------------------------------------- the table


def test_the_table_is_closed() -> None:
    targets = set(TRANSITIONS.values())
    assert targets == set(State), "every state can be reached"
    ends = {State.DONE, State.FAILED}
    assert {state for state, _ in TRANSITIONS} == set(State) - ends
    for state in set(State) - ends:
        assert TRANSITIONS[state, Event.FAIL] is State.FAILED
        if state is not State.DETACHED:
            assert TRANSITIONS[state, Event.LINK_DOWN] is State.DETACHED


@pytest.mark.parametrize("state", [state for state in State if state not in OPEN])
def test_no_block_travels_but_in_an_open_state(state: State) -> None:
    delivery = streaming()
    delivery.add_block(block(0))
    delivery.state = state
    assert blocks(delivery) == []
    delivery.receive(ack(0, 0, credit=1), 0.0)
    assert delivery.state is state


# -------------------------------------------------------------------- opening


def test_an_open_without_an_answer_asks_for_a_new_connection() -> None:
    delivery = Delivery(wire.Open(scan=SCAN, layout={}))
    delivery.link_up(100, 5.0)
    taken(delivery)
    assert delivery.due_at() == 5.0 + OPEN_TIMEOUT_S
    delivery.tick(5.0 + OPEN_TIMEOUT_S)
    assert "no answer to open" in delivery.reconnect
    delivery.link_down()
    assert (delivery.reconnect, delivery.state) == ("", State.DETACHED)


def test_a_daemon_that_is_not_ready_is_asked_again() -> None:
    delivery = Delivery(wire.Open(scan=SCAN, layout={}))
    delivery.link_up(100, 0.0)
    taken(delivery)
    delivery.receive(error("recovering", operation="open", retryable=True), 0.0)
    assert (delivery.state, delivery.notice) == (State.POSTPONED, "recovering!")
    assert delivery.due_at() == OPEN_RETRY_S
    delivery.tick(OPEN_RETRY_S)
    assert taken(delivery, OPEN_RETRY_S) == [delivery.opening]


def test_a_refused_first_open_fails_though_a_retry_could_help() -> None:
    delivery = Delivery(wire.Open(scan=SCAN, layout={}))
    delivery.link_up(100, 0.0)
    delivery.receive(error("too_many_scans", operation="open", retryable=True), 0.0)
    assert delivery.failure is not None
    assert delivery.failure.code == "too_many_scans"


def test_a_scan_that_was_open_waits_for_whatever_a_retry_can_mend() -> None:
    delivery = streaming()
    delivery.link_down()
    delivery.link_up(100, 1.0)
    delivery.receive(error("too_many_scans", operation="open", retryable=True), 1.0)
    assert delivery.state is State.POSTPONED


@pytest.mark.parametrize("answer", [opened(), held((0, 1), positions=1)])
def test_a_daemon_that_has_forgotten_what_was_durable_is_not_believed(answer: wire.Opened) -> None:
    delivery = streaming()
    sent(delivery, block(0), block(1))
    delivery.receive(ack(2, 2, positions=2), 0.0)
    delivery.link_down()
    delivery.link_up(100, 1.0)
    delivery.receive(answer, 1.0)
    assert delivery.failure is not None
    assert "lacks what it had acknowledged as durable" in delivery.failure.message
    assert "had 2" in delivery.failure.message


def test_a_daemon_that_promised_nothing_may_begin_anew() -> None:
    delivery = streaming()
    assert sent(delivery, block(0), block(1)) == [1, 2]
    delivery.receive(ack(2), 0.0)
    delivery.link_down()
    delivery.link_up(100, 1.0)
    taken(delivery, 1.0)
    delivery.receive(opened(), 1.0)
    again = blocks(delivery, 1.0)
    assert [(message.seq, message.payload.row, message.again) for message in again] == [
        (1, 0, True),
        (2, 1, True),
    ]


def test_after_a_restart_only_what_is_not_durable_is_sent() -> None:
    delivery = streaming()
    sent(delivery, *[block(row) for row in range(4)])
    delivery.link_down()
    delivery.link_up(100, 1.0)
    taken(delivery, 1.0)
    delivery.receive(held((0, 2), (3, 4)), 1.0)
    assert [message.payload.row for message in taken(delivery, 1.0)] == [2]


# -------------------------------------------------------------------- acks, pings, resends


def test_while_anything_is_held_an_ack_is_asked_for_now_and_then() -> None:
    delivery = streaming()
    assert delivery.due_at() is None
    sent(delivery, block(0), now=1.0)
    assert delivery.due_at() == 1.0 + ACK_REPEAT_S
    assert taken(delivery, 1.0 + ACK_REPEAT_S) == [wire.Ping(scan=SCAN)]
    delivery.receive(ack(1, 1), 3.0)
    assert delivery.due_at() is None


def test_who_waits_for_durability_lets_the_daemon_commit() -> None:
    delivery = streaming()
    sent(delivery, block(0), now=1.0)
    ticket = delivery.want_durable()
    assert taken(delivery, 1.0) == [wire.Ping(scan=SCAN, commit=True)]
    assert taken(delivery, 1.0) == []
    assert taken(delivery, 1.0 + COMMIT_REPEAT_S) == [wire.Ping(scan=SCAN, commit=True)]
    assert not delivery.is_durable(ticket)
    delivery.receive(ack(1, 1), 2.0)
    assert delivery.is_durable(ticket)


def test_half_full_memory_asks_for_a_commit_by_itself() -> None:
    delivery = streaming(retain_limit_bytes=12)
    delivery.add_block(block(0))
    assert [m for m in taken(delivery, 1.0) if isinstance(m, wire.Ping)] == []
    delivery.add_block(block(1))
    assert taken(delivery, 1.0)[-1] == wire.Ping(scan=SCAN, commit=True)
    assert not delivery.has_room(8)
    assert delivery.has_room(4)


def test_one_answer_to_many_requests_for_the_same_resend() -> None:
    delivery = streaming()
    assert sent(delivery, block(0), block(1), block(2)) == [1, 2, 3]
    for _ in range(2):
        delivery.receive(wire.Resend(scan=SCAN, seq=1), 0.0)
    assert [m.seq for m in taken(delivery)] == [1, 2, 3]
    delivery.receive(wire.Resend(scan=SCAN, seq=1), 0.1)
    assert taken(delivery, 0.1) == [], "every block behind the gap asks for the same"
    delivery.receive(wire.Resend(scan=SCAN, seq=1), RESEND_QUIET_S)
    assert [m.seq for m in blocks(delivery, RESEND_QUIET_S)] == [1, 2, 3]


def test_a_stall_sends_again_ever_more_rarely() -> None:
    delivery = streaming()
    sent(delivery, block(0), block(1))
    delivery.receive(ack(1), 1.0)
    now, waits = 1.0, []
    for _ in range(6):
        last = now
        while not blocks(delivery, now):
            due = delivery.due_at()
            assert due is not None
            now = max(due, now)
            delivery.tick(now)
        waits.append(now - last)
    assert waits[0] == pytest.approx(STALL_S)
    assert waits == sorted(waits)
    assert waits[-1] > 4 * STALL_S


# -------------------------------------------------------------------- refusals


def test_a_damaged_block_is_sent_again_in_silence_and_not_for_ever() -> None:
    delivery = streaming()
    (seq,) = sent(delivery, block(5))
    for _ in range(MAX_BLOCK_RETRIES):
        delivery.receive(error("bad_checksum", seq, retryable=True), 0.0)
        assert not delivery.troubled
        (message,) = blocks(delivery)
        assert message.seq == seq + 1
        seq = message.seq
    delivery.receive(error("bad_checksum", seq, retryable=True), 0.0)
    found = delivery.take_error()
    assert found is not None
    assert (found.code, found.details["row"]) == ("bad_checksum", 5)
    assert delivery.take_error() is None
    assert delivery.held_bytes == 0


def test_of_single_pixels_only_those_that_were_hit_are_refused() -> None:
    delivery = streaming()
    data = np.arange(8, dtype="<u2").reshape(4, 2)
    delivery.add_block(scattered("Raw", [3, 9, 4, 7], 0, 2, data, single=True))
    taken(delivery)
    details = {"ranges": [[4, 5, 0, 2], [9, 10, 0, 1]]}
    delivery.receive(error("already_covered", 1, details=details), 0.0)
    found = delivery.take_error()
    assert found is not None
    assert "rows 9, 4" in found.message
    (rest,) = blocks(delivery)
    assert rest.payload.row_numbers().tolist() == [3, 7]
    assert np.frombuffer(rest.payload.data, "<u2").tolist() == [0, 1, 6, 7]


def test_a_block_written_as_one_is_refused_as_one() -> None:
    delivery = streaming()
    sent(delivery, block(0, rows=3))
    delivery.receive(error("already_covered", 1, details={"ranges": [[1, 2, 0, 2]]}), 0.0)
    assert blocks(delivery) == []
    found = delivery.take_error()
    assert found is not None
    assert (found.details["row"], found.details["rows"]) == (0, 3)


def test_errors_are_kept_up_to_a_number_and_counted_beyond() -> None:
    delivery = streaming()
    sent(delivery, *[block(row) for row in range(MAX_PENDING_ERRORS + 5)])
    for seq in range(1, MAX_PENDING_ERRORS + 6):
        delivery.receive(error("out_of_bounds", seq), 0.0)
    told: list[UsidstreamError] = []
    while delivery.troubled:
        found = delivery.take_error()
        assert found is not None
        told.append(found)
    assert len(told) == MAX_PENDING_ERRORS + 1
    assert told[-1].message == "5 further messages were refused"


def test_refused_attributes_are_told() -> None:
    delivery = streaming()
    delivery.annotate({"quantity": "mine"}, 10)
    taken(delivery)
    delivery.receive(error("bad_attribute", 1), 0.0)
    found = delivery.take_error()
    assert found is not None
    assert found.code == "bad_attribute"
    assert delivery.held_bytes == 0


@pytest.mark.parametrize("code", ["no_session", "not_joined", "shutting_down"])
def test_some_errors_are_mended_by_a_new_connection(code: str) -> None:
    delivery = streaming()
    delivery.receive(error(code, operation="ping"), 0.0)
    assert delivery.reconnect == f"{code}!"
    assert not delivery.troubled


def test_a_full_disk_is_news_and_no_error() -> None:
    delivery = streaming()
    delivery.receive(error("no_space"), 0.0)
    assert (delivery.notice, delivery.troubled, delivery.state) == (
        "no_space!",
        False,
        State.STREAMING,
    )


# -------------------------------------------------------------------- ends


def test_a_finish_waits_until_everything_was_received() -> None:
    delivery = streaming()
    sent(delivery, block(0), block(1))
    delivery.aim(Goal.FINISH, {"operator": "me"})
    assert [m for m in taken(delivery) if isinstance(m, wire.Finish)] == []
    delivery.receive(ack(2), 0.0)
    assert taken(delivery)[0] == wire.Finish(scan=SCAN, seq=2, attrs={"operator": "me"})
    delivery.receive(wire.Finished(scan=SCAN, file="/f.h5", status="complete"), 0.0)
    assert (delivery.ended, delivery.held_bytes) == (True, 0)


def test_a_finish_does_not_go_out_while_an_error_is_unread() -> None:
    delivery = streaming()
    sent(delivery, block(0))
    delivery.aim(Goal.FINISH)
    delivery.receive(error("out_of_bounds", 1), 0.0)
    delivery.receive(ack(1), 0.0)
    assert [m for m in taken(delivery) if isinstance(m, wire.Finish)] == []
    assert delivery.take_error() is not None
    assert [m for m in taken(delivery) if isinstance(m, wire.Finish)]


def test_a_finish_is_asked_for_again_on_the_next_connection() -> None:
    delivery = streaming()
    sent(delivery, block(0))
    delivery.receive(ack(1), 0.0)
    delivery.aim(Goal.FINISH)
    assert isinstance(taken(delivery)[0], wire.Finish)
    delivery.link_down()
    delivery.link_up(100, 1.0)
    taken(delivery, 1.0)
    delivery.receive(held((0, 1), positions=1), 1.0)
    assert taken(delivery, 1.0)[0] == wire.Finish(scan=SCAN, seq=0)


def test_a_scan_that_ended_while_nobody_listened_is_done_by_its_open() -> None:
    delivery = streaming()
    sent(delivery, block(0))
    delivery.aim(Goal.FINISH)
    delivery.link_down()
    delivery.link_up(100, 1.0)
    taken(delivery, 1.0)
    delivery.receive(wire.Finished(scan=SCAN, file="/f.h5", status="complete"), 1.0)
    assert delivery.ended


def test_a_declined_finish_leaves_a_scan_that_goes_on() -> None:
    delivery = streaming()
    delivery.aim(Goal.FINISH)
    taken(delivery)
    delivery.receive(error("joiners_busy", operation="finish", retryable=True), 0.0)
    assert delivery.state is State.STREAMING
    assert delivery.declined is not None
    assert sent(delivery, block(0)) == [1]
    assert not delivery.troubled


def test_a_joiner_leaves_when_all_of_its_own_is_durable() -> None:
    delivery = streaming()
    sent(delivery, block(0))
    delivery.aim(Goal.LEAVE)
    delivery.receive(ack(1), 0.0)
    assert [m for m in taken(delivery) if isinstance(m, wire.Leave)] == []
    delivery.receive(ack(1, 1), 0.0)
    assert taken(delivery) == [wire.Leave(scan=SCAN, seq=1)]


def test_an_abort_lets_everything_go() -> None:
    delivery = streaming()
    sent(delivery, block(0), block(1))
    delivery.aim(Goal.ABORT, reason="enough")
    assert taken(delivery) == [wire.Abort(scan=SCAN, reason="enough")]
    assert delivery.held_bytes == 0


def test_a_fatal_error_ends_it_for_good() -> None:
    delivery = streaming()
    sent(delivery, block(0))
    delivery.receive(error("superseded"), 0.0)
    assert delivery.failure is not None
    assert delivery.held_bytes == 0
    delivery.receive(opened(), 0.0)
    delivery.link_up(100, 1.0)
    assert (delivery.state, taken(delivery, 1.0)) == (State.FAILED, [])


def test_a_damaged_copy_of_what_is_there_already_is_still_refused_when_it_comes_whole() -> None:
    delivery = streaming()
    (seq,) = sent(delivery, block(5))
    delivery.receive(error("bad_checksum", seq, retryable=True), 0.0)
    assert [message.again for message in blocks(delivery)] == [False]


def test_of_a_damaged_block_that_was_sent_twice_a_copy_may_be_there() -> None:
    delivery = streaming()
    (seq,) = sent(delivery, block(5))
    delivery.receive(wire.Resend(scan=SCAN, seq=seq), 0.0)
    assert [message.again for message in blocks(delivery)] == [True]
    delivery.receive(error("bad_checksum", seq, retryable=True), 0.0)
    assert [message.again for message in blocks(delivery)] == [True]
