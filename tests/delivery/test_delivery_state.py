"""Delivery, message by message."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from usidstream import BlockError, DeliveryError, ScanError, wire
from usidstream.delivery import Delivery, Goal, Outbound, Payload, State, as_bytes, scattered
from usidstream.delivery.state import (
    COMMIT_REPEAT_S,
    MAX_BLOCK_RETRIES,
    MAX_PENDING_ERRORS,
    OPEN_TIMEOUT_S,
    RESEND_QUIET_S,
    STALL_S,
)
from usidstream.delivery.states import TRANSITIONS, Event

SCAN = "5c" * 16
ROW = 8  # bytes
CREDIT_BYTES = 1 << 20


def block(row: int, rows: int = 1) -> Payload:
    return Payload("Raw", row, rows, 0, 4, as_bytes(np.zeros((rows, 4), "<u2")))


def opened(**more: Any) -> wire.Opened:
    values: dict[str, Any] = {
        "resumed": False,
        "credit": CREDIT_BYTES,
        "positions": 0,
        "coverage": {},
    }
    return wire.Opened(scan=SCAN, file="/d/f.h5", role="opener", **(values | more))


def ack(
    received: int, durable: int = 0, positions: int = 0, credit: int = CREDIT_BYTES
) -> wire.Ack:
    return wire.Ack(
        scan=SCAN, received=received, durable=durable, credit=credit, positions=positions
    )


def error(code: str, seq: int = 0, **more: Any) -> wire.Error:
    return wire.Error(code=code, message=f"it is {code}", scan=SCAN, seq=seq, **more)


def finished(status: str = "complete") -> wire.Finished:
    return wire.Finished(scan=SCAN, file="/d/f.h5", status=status)


def start(limit: int = 1000, opening: Any = None) -> Delivery:
    """Return a delivery that is open, with a clock at 0."""
    delivery = Delivery(opening or wire.Open(scan=SCAN, layout={}), retain_limit_bytes=limit)
    delivery.link_up(1 << 20, 0.0)
    assert sent(delivery) == [delivery.opening]
    delivery.receive(opened(), 0.0)
    assert delivery.is_open
    return delivery


def sent(delivery: Delivery, now: float = 0.0) -> list[wire.Message]:
    """Take everything that goes out now."""
    delivery.tick(now)
    messages = []
    while (message := delivery.take(now)) is not None:
        messages.append(message.message() if isinstance(message, Outbound) else message)
    return messages


def seqs(messages: list[wire.Message]) -> list[int]:
    return [m.seq for m in messages if isinstance(m, wire.Block | wire.Annotate)]


def kinds(messages: list[wire.Message]) -> list[str]:
    return [m.type for m in messages]


def write(delivery: Delivery, *rows: int) -> None:
    for row in rows:
        delivery.add_block(block(row))


# ---------------------------------------------------------------- opening


def test_nothing_goes_out_before_the_scan_is_open() -> None:
    delivery = Delivery(wire.Open(scan=SCAN, layout={}))
    write(delivery, 1)
    assert sent(delivery) == []
    delivery.link_up(1 << 20, 0.0)
    assert kinds(sent(delivery)) == ["open"]
    delivery.receive(ack(1, 1), 0.0)
    assert delivery.held_bytes == ROW, "an ack of an earlier session is none of this one"
    delivery.receive(opened(), 0.0)
    assert kinds(sent(delivery)) == ["block"]


def test_an_open_that_never_left_is_not_sent_twice() -> None:
    delivery = Delivery(wire.Open(scan=SCAN, layout={}))
    delivery.link_up(1 << 20, 0.0)
    delivery.link_down()
    delivery.link_up(1 << 20, 1.0)
    assert kinds(sent(delivery, 1.0)) == ["open"]


@pytest.mark.parametrize("code", ["recovering", "shutting_down"])
def test_a_daemon_that_is_not_ready_is_asked_again(code: str) -> None:
    delivery = Delivery(wire.Open(scan=SCAN, layout={}))
    delivery.link_up(1 << 20, 0.0)
    sent(delivery)
    delivery.receive(error(code, operation="open", retryable=True), 0.0)
    if code == "shutting_down":
        assert delivery.reconnect == "it is shutting_down"
        return
    assert delivery.state is State.POSTPONED
    assert sent(delivery, 0.1) == []
    due = delivery.due_at()
    assert due is not None
    assert kinds(sent(delivery, due)) == ["open"]


@pytest.mark.parametrize("code", ["bad_layout", "too_many_scans", "file_damaged", "scan_finished"])
def test_a_refused_open_is_told_at_once(code: str) -> None:
    delivery = Delivery(wire.Open(scan=SCAN, layout={}))
    delivery.link_up(1 << 20, 0.0)
    sent(delivery)
    delivery.receive(error(code, operation="open", hint="Do this."), 0.0)
    assert delivery.state is State.FAILED
    assert delivery.failure is not None
    assert (delivery.failure.code, delivery.failure.hint) == (code, "Do this.")


def test_an_open_that_is_never_answered_costs_the_connection() -> None:
    delivery = Delivery(wire.Open(scan=SCAN, layout={}))
    delivery.link_up(1 << 20, 0.0)
    sent(delivery)
    assert delivery.due_at() == OPEN_TIMEOUT_S
    delivery.tick(OPEN_TIMEOUT_S)
    assert "no answer to open" in delivery.reconnect


def test_once_open_even_a_full_daemon_is_waited_for() -> None:
    delivery = start()
    delivery.link_down()
    delivery.link_up(1 << 20, 1.0)
    sent(delivery, 1.0)
    delivery.receive(error("too_many_scans", operation="open", retryable=True), 1.0)
    assert delivery.state is State.POSTPONED


def test_a_daemon_that_forgot_what_was_durable_is_not_trusted_with_the_rest() -> None:
    delivery = start()
    write(delivery, 0, 1)
    sent(delivery)
    delivery.receive(ack(2, 1, positions=1), 0.0)
    delivery.link_down()
    delivery.link_up(1 << 20, 1.0)
    sent(delivery, 1.0)
    delivery.receive(opened(resumed=False), 1.0)
    assert isinstance(delivery.failure, DeliveryError)
    assert "lacks what it had acknowledged as durable" in delivery.failure.message
    assert "same data directory" in delivery.failure.hint


def test_a_daemon_that_never_promised_anything_may_begin_anew() -> None:
    delivery = start()
    write(delivery, 0)
    sent(delivery)
    delivery.receive(ack(1, 0), 0.0)
    delivery.link_down()
    delivery.link_up(1 << 20, 1.0)
    sent(delivery, 1.0)
    delivery.receive(opened(resumed=False), 1.0)
    assert seqs(sent(delivery, 1.0)) == [1]


# ---------------------------------------------------------------- acks and pings


def test_an_ack_beyond_what_was_sent_ends_the_delivery() -> None:
    delivery = start()
    write(delivery, 0)
    sent(delivery)
    delivery.receive(ack(2), 0.0)
    assert delivery.failure is not None
    assert delivery.failure.code == "delivery_failed"


def test_who_waits_makes_the_daemon_commit() -> None:
    delivery = start()
    write(delivery, 0)
    ticket = delivery.want_durable()
    assert [type(m) for m in sent(delivery)] == [wire.Block, wire.Ping]
    write(delivery, 1)
    assert [m.commit for m in sent(delivery, COMMIT_REPEAT_S) if isinstance(m, wire.Ping)] == [True]
    assert sent(delivery, 1.5 * COMMIT_REPEAT_S) == []
    delivery.receive(ack(2, 1), COMMIT_REPEAT_S)
    assert delivery.is_durable(ticket)
    later = [m.commit for m in sent(delivery, 10.0) if isinstance(m, wire.Ping)]
    assert later == [False], "nobody waits for the second block"


def test_full_memory_makes_the_daemon_commit() -> None:
    delivery = start(limit=4 * ROW)
    write(delivery, 0, 1)
    assert kinds(sent(delivery)) == ["block", "block"]
    write(delivery, 2)
    pings = [m for m in sent(delivery) if isinstance(m, wire.Ping)]
    assert [ping.commit for ping in pings] == [True]


def test_memory_is_bounded_but_one_block_always_fits() -> None:
    delivery = start(limit=2 * ROW)
    assert delivery.has_room(100 * ROW)
    write(delivery, 0)
    assert delivery.has_room(ROW)
    assert not delivery.has_room(ROW + 1)
    delivery.reserved_bytes = ROW
    assert not delivery.has_room(1)


def test_an_ack_that_was_lost_is_asked_for() -> None:
    delivery = start()
    write(delivery, 0)
    sent(delivery)
    due = delivery.due_at()
    assert due is not None
    assert [type(m) for m in sent(delivery, due)] == [wire.Ping]


def test_when_all_is_durable_nothing_is_due() -> None:
    delivery = start()
    write(delivery, 0)
    sent(delivery)
    delivery.receive(ack(1, 1), 0.0)
    assert delivery.due_at() is None
    assert sent(delivery, 100.0) == []


def test_a_stalled_daemon_gets_the_rest_again_ever_more_rarely() -> None:
    delivery = start()
    write(delivery, 0, 1, 2)
    sent(delivery)
    delivery.receive(ack(1), 0.0)
    times = []
    now = 0.0
    while len(times) < 4:
        now += 0.5
        if seqs(sent(delivery, now)) == [2, 3]:
            times.append(now)
    assert times[0] == STALL_S
    pauses = np.diff(times).tolist()
    assert pauses == sorted(pauses)
    assert pauses[0] < pauses[-1]


def test_one_gap_is_answered_once() -> None:
    delivery = start()
    write(delivery, 0, 1, 2)
    sent(delivery)
    for _ in range(5):
        delivery.receive(wire.Resend(scan=SCAN, seq=2), 0.0)
    assert seqs(sent(delivery)) == [2, 3]
    delivery.receive(wire.Resend(scan=SCAN, seq=2), 0.1)
    assert seqs(sent(delivery, 0.1)) == []
    delivery.receive(wire.Resend(scan=SCAN, seq=2), RESEND_QUIET_S)
    assert seqs(sent(delivery, RESEND_QUIET_S)) == [2, 3]


def test_what_a_failed_sync_lost_is_sent_again_at_once() -> None:
    delivery = start()
    write(delivery, 0, 1)
    sent(delivery)
    for _ in range(2):
        delivery.receive(ack(2), 0.0)
        delivery.receive(wire.Resend(scan=SCAN, seq=2), 0.0)
        assert seqs(sent(delivery)) == [2]


# ---------------------------------------------------------------- refusals


def test_a_damaged_block_is_sent_again_in_silence_three_times() -> None:
    delivery = start()
    write(delivery, 0, 1)
    ticket = delivery.want_durable()
    sent(delivery)
    for attempt in range(MAX_BLOCK_RETRIES):
        seq = 1 if attempt == 0 else attempt + 2
        delivery.receive(error("bad_checksum", seq, retryable=True), 0.0)
        assert delivery.take_error() is None
        assert seqs(sent(delivery)) == [attempt + 3]
        delivery.receive(ack(attempt + 3, attempt + 2), 0.0)
        assert not delivery.is_durable(ticket)
    delivery.receive(error("bad_checksum", MAX_BLOCK_RETRIES + 2, retryable=True), 0.0)
    refused = delivery.take_error()
    assert isinstance(refused, BlockError)
    assert refused.code == "bad_checksum"
    assert delivery.take_error() is None
    assert delivery.held_bytes == 0


def test_an_error_names_its_block_and_the_scan_goes_on() -> None:
    delivery = start()
    delivery.add_block(block(3, rows=2))
    sent(delivery)
    delivery.receive(error("out_of_bounds", 1, details={"limit": 4}), 0.0)
    assert delivery.troubled
    refused = delivery.take_error()
    assert isinstance(refused, BlockError)
    assert "main 'Raw', rows 3 to 4, columns 0 to 3" in refused.message
    assert "it is out_of_bounds" in refused.message
    named = {key: refused.details[key] for key in ("main", "row", "rows", "col", "cols", "limit")}
    assert named == {"main": "Raw", "row": 3, "rows": 2, "col": 0, "cols": 4, "limit": 4}
    assert delivery.is_open
    assert not delivery.troubled


def test_of_single_pixels_only_those_that_were_there_are_refused() -> None:
    delivery = start()
    rows = [4, 5, 6, 9]
    delivery.add_block(scattered("Raw", rows, 0, 4, np.zeros((4, 4), "<u2"), single=True))
    sent(delivery)
    ranges = [[5, 6, 0, 4], [9, 10, 2, 3]]
    delivery.receive(error("already_covered", 1, details={"ranges": ranges}), 0.0)
    [rest] = [m for m in sent(delivery) if isinstance(m, wire.Block)]
    assert np.frombuffer(rest.frames[0], "<u8").tolist() == [4, 6]
    refused = delivery.take_error()
    assert refused is not None
    assert "rows 5, 9" in refused.message


def test_of_gathered_blocks_each_is_refused_as_a_whole() -> None:
    delivery = start()
    gathered = block(4, rows=6)
    gathered.single, gathered.wholes = True, [(0, 2), (3, 6)]
    delivery.add_block(gathered)
    sent(delivery)
    delivery.receive(error("already_covered", 1, details={"ranges": [[8, 9, 0, 4]]}), 0.0)
    [rest] = [m for m in sent(delivery) if isinstance(m, wire.Block)]
    assert (rest.row, rest.rows) == (4, 3)
    refused = delivery.take_error()
    assert refused is not None
    assert "rows 7 to 9" in refused.message


def test_a_part_of_gathered_blocks_keeps_what_was_written_as_one() -> None:
    gathered = block(0, rows=8)
    gathered.wholes = [(1, 4), (6, 8)]
    parts = list(gathered.split(gathered.nbytes // 4))
    assert [part.wholes for part in parts] == [[(1, 2)], [(0, 2)], [], [(0, 2)]]


@pytest.mark.parametrize("ranges", [None, "rows", [[1, 2]], [[90, 91, 0, 1]]])
def test_a_refusal_that_names_no_row_concerns_all_of_them(ranges: Any) -> None:
    delivery = start()
    delivery.add_block(scattered("Raw", [4, 6], 0, 4, np.zeros((2, 4), "<u2"), single=True))
    sent(delivery)
    details = {} if ranges is None else {"ranges": ranges}
    delivery.receive(error("already_covered", 1, details=details), 0.0)
    assert [m.type for m in sent(delivery)] == []
    assert delivery.held_bytes == 0
    refused = delivery.take_error()
    assert refused is not None
    assert "rows 4, 6" in refused.message


def test_a_block_is_refused_as_a_whole() -> None:
    delivery = start()
    delivery.add_block(block(4, rows=3))
    sent(delivery)
    delivery.receive(error("already_covered", 1, details={"ranges": [[5, 6, 0, 4]]}), 0.0)
    assert sent(delivery) == []
    refused = delivery.take_error()
    assert refused is not None
    assert "rows 4 to 6" in refused.message


def test_a_refused_annotation_is_told() -> None:
    delivery = start()
    delivery.annotate({"a": 1}, 10)
    assert kinds(sent(delivery)) == ["annotate"]
    delivery.receive(error("bad_attribute", 1), 0.0)
    refused = delivery.take_error()
    assert isinstance(refused, ScanError)
    assert refused.code == "bad_attribute"


def test_errors_that_nobody_fetches_are_counted_not_kept() -> None:
    delivery = start(limit=1 << 20)
    for row in range(MAX_PENDING_ERRORS + 5):
        write(delivery, row)
    sent(delivery)
    for seq in range(1, MAX_PENDING_ERRORS + 6):
        delivery.receive(error("bad_shape", seq), 0.0)
    found = []
    while (refused := delivery.take_error()) is not None:
        found.append(refused)
    assert len(found) == MAX_PENDING_ERRORS + 1
    assert "5 further messages were refused" in found[-1].message


def test_the_same_refusal_twice_is_told_once() -> None:
    delivery = start()
    write(delivery, 0)
    sent(delivery)
    for _ in range(2):
        delivery.receive(error("bad_shape", 1), 0.0)
    assert delivery.take_error() is not None
    assert delivery.take_error() is None


@pytest.mark.parametrize("code", ["superseded", "scan_finished", "unknown_scan", "storage_failed"])
@pytest.mark.parametrize("seq", [0, 1])
def test_fatal_errors_end_it_and_free_the_memory(code: str, seq: int) -> None:
    delivery = start()
    write(delivery, 0)
    sent(delivery)
    delivery.receive(error(code, seq), 0.0)
    assert delivery.failure is not None
    assert delivery.failure.code == code
    assert delivery.held_bytes == 0
    delivery.link_down()
    delivery.link_up(1 << 20, 1.0)
    assert sent(delivery, 1.0) == []


@pytest.mark.parametrize("code", ["not_joined", "no_session", "shutting_down"])
def test_what_only_a_new_connection_mends(code: str) -> None:
    delivery = start()
    delivery.receive(error(code), 0.0)
    assert delivery.reconnect == f"it is {code}"
    delivery.link_down()
    assert delivery.reconnect == ""


@pytest.mark.parametrize("code", ["not_joined", "no_session", "shutting_down"])
def test_no_block_is_to_blame_for_a_connection_that_is_over(code: str) -> None:
    delivery = start()
    delivery.add_block(block(0))
    delivery.add_block(block(1))
    for _ in range(MAX_BLOCK_RETRIES + 2):
        sent(delivery)
        delivery.receive(error(code, seq=1, retryable=True, operation="block"), 0.0)
    assert (delivery.reconnect, delivery.take_error()) == (f"it is {code}", None)
    delivery.link_down()
    delivery.link_up(1 << 20, 1.0)
    delivery.tick(1.0)
    assert sent(delivery, 1.0) == [delivery.opening]
    delivery.receive(opened(resumed=True), 1.0)
    again = sent(delivery, 1.0)
    assert [(m.seq, m.row, m.again) for m in again if isinstance(m, wire.Block)] == [
        (1, 0, True),
        (2, 1, True),
    ]


def test_a_full_disk_is_remembered_for_who_waits() -> None:
    delivery = start()
    told = {"retryable": True, "operation": "space", "hint": "Free space."}
    delivery.receive(error("no_space", **told), 0.0)
    assert delivery.notice == "it is no_space. Free space."
    assert not delivery.troubled
    delivery.receive(ack(0), 0.0)
    assert delivery.notice
    delivery.receive(ack(0, credit=CREDIT_BYTES + 1), 0.0)
    assert delivery.notice == ""


def test_a_full_disk_refuses_a_new_scan() -> None:
    delivery = Delivery(wire.Open(scan=SCAN, layout={}))
    delivery.link_up(1 << 20, 0.0)
    sent(delivery)
    delivery.receive(error("no_space", operation="open", retryable=True), 0.0)
    assert delivery.failure is not None
    assert delivery.failure.code == "no_space"


# ---------------------------------------------------------------- the end


def test_a_finish_waits_until_all_has_arrived() -> None:
    delivery = start()
    write(delivery, 0, 1)
    delivery.aim(Goal.FINISH, {"final": 1})
    assert kinds(sent(delivery)) == ["block", "block", "ping"]
    delivery.receive(ack(1), 0.0)
    assert sent(delivery) == []
    delivery.receive(ack(2), 0.0)
    [finish] = sent(delivery)
    assert isinstance(finish, wire.Finish)
    assert (finish.seq, finish.attrs) == (2, {"final": 1})
    delivery.receive(finished(), 0.0)
    assert delivery.ended
    assert delivery.result is not None
    assert delivery.held_bytes == 0


def test_a_refused_block_holds_the_finish_until_it_is_fetched() -> None:
    delivery = start()
    write(delivery, 0)
    delivery.aim(Goal.FINISH)
    sent(delivery)
    delivery.receive(error("bad_shape", 1), 0.0)
    delivery.receive(ack(1), 0.0)
    assert sent(delivery) == []
    assert delivery.take_error() is not None
    assert kinds(sent(delivery)) == ["finish"]


def test_a_finish_is_asked_for_again_on_a_new_connection() -> None:
    delivery = start()
    write(delivery, 0)
    delivery.aim(Goal.FINISH)
    sent(delivery)
    delivery.receive(ack(1), 0.0)
    assert kinds(sent(delivery)) == ["finish"]
    delivery.link_down()
    delivery.link_up(1 << 20, 1.0)
    sent(delivery, 1.0)
    delivery.receive(opened(resumed=True), 1.0)
    assert kinds(sent(delivery, 1.0)) == ["block", "ping"]
    delivery.receive(ack(1), 1.0)
    assert kinds(sent(delivery, 1.0)) == ["finish"]


def test_the_answer_to_a_lost_finish_comes_with_the_next_open() -> None:
    delivery = start()
    delivery.aim(Goal.FINISH)
    assert kinds(sent(delivery)) == ["finish"]
    delivery.link_down()
    delivery.link_up(1 << 20, 1.0)
    sent(delivery, 1.0)
    delivery.receive(finished(), 1.0)
    assert delivery.ended


def test_a_declined_finish_leaves_the_scan_open() -> None:
    delivery = start()
    delivery.aim(Goal.FINISH)
    sent(delivery)
    delivery.receive(error("joiners_busy", operation="finish", retryable=True), 0.0)
    assert delivery.declined is not None
    assert delivery.declined.code == "joiners_busy"
    assert delivery.is_open
    write(delivery, 0)
    assert kinds(sent(delivery)) == ["block"]


def test_a_joiner_leaves_when_all_it_wrote_is_durable() -> None:
    delivery = start(opening=wire.Join(scan=SCAN))
    write(delivery, 0)
    delivery.aim(Goal.LEAVE)
    assert [m.type for m in sent(delivery)] == ["block", "ping"]
    delivery.receive(ack(1, 0), 0.0)
    assert sent(delivery) == []
    delivery.receive(ack(1, 1), 0.0)
    [leave] = sent(delivery)
    assert isinstance(leave, wire.Leave)
    assert leave.seq == 1
    delivery.receive(finished("acquiring"), 0.0)
    assert delivery.ended


def test_an_abort_overtakes_everything() -> None:
    delivery = start()
    write(delivery, 0, 1)
    delivery.aim(Goal.ABORT, reason="enough")
    [abort] = sent(delivery)
    assert isinstance(abort, wire.Abort)
    assert abort.reason == "enough"
    delivery.receive(wire.Aborted(scan=SCAN, file="/f", status="aborted"), 0.0)
    assert delivery.ended


def test_an_abort_can_follow_a_finish_that_does_not_end() -> None:
    delivery = start()
    delivery.aim(Goal.FINISH)
    sent(delivery)
    delivery.aim(Goal.ABORT)
    assert kinds(sent(delivery)) == ["abort"]


def test_the_end_comes_once() -> None:
    delivery = start()
    delivery.aim(Goal.FINISH)
    sent(delivery)
    delivery.receive(finished("complete"), 0.0)
    delivery.receive(finished("incomplete"), 0.0)
    assert delivery.result is not None
    assert delivery.result.status == "complete"
    delivery.fail(DeliveryError("too late", code="closed"))
    assert delivery.failure is None


def test_every_state_is_in_the_table() -> None:
    reached = {State.DETACHED, *TRANSITIONS.values()}
    assert reached == set(State)
    final = set(State) - {state for state, _ in TRANSITIONS}
    assert final == {State.DONE, State.FAILED}
    assert {event for _, event in TRANSITIONS} == set(Event)
    for state in set(State) - final:
        assert (state, Event.FAIL) in TRANSITIONS, "whatever it does, it can be ended"
        if state is not State.DETACHED:
            assert (state, Event.LINK_DOWN) in TRANSITIONS
