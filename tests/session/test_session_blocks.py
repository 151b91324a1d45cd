"""What peers send: order, credit, and each way to be refused."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from support.sessions import (
    JOINER,
    N_COLS,
    N_POSITIONS,
    OPENER,
    OTHER,
    SCAN,
    WINDOW_BYTES,
    Stage,
    block,
    layout_of,
)
from usidstream import wire
from usidstream.errors import UsidstreamError
from usidstreamd.session import check_block, events

ROW_BYTES = 2 * N_COLS


def scattered(*numbers: int, **fields: Any) -> wire.Block:
    frames = (struct.pack(f"<{len(numbers)}Q", *numbers), bytes(ROW_BYTES * len(numbers)))
    return block(1, rows=len(numbers), **({"frames": frames} | fields))


# ---------------------------------------------------------------- one block


@pytest.mark.parametrize(
    "good",
    [
        block(1),
        block(1, row=N_POSITIONS - 1),
        block(1, rows=N_POSITIONS),
        block(1, row=3, col=N_COLS - 1, cols=1),
        scattered(0),
        scattered(11, 0, 5),
    ],
)
def test_a_block_within_the_main_is_taken(good: wire.Block) -> None:
    check_block(layout_of(), good)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (block(1, main="Nope"), "unknown_main"),
        (block(1, main=""), "unknown_main"),
        (block(1, row=N_POSITIONS), "out_of_bounds"),
        (block(1, row=N_POSITIONS - 1, rows=2), "out_of_bounds"),
        (block(1, row=wire.MAX_INT), "out_of_bounds"),
        (block(1, col=1), "out_of_bounds"),
        (block(1, col=wire.MAX_INT), "out_of_bounds"),
        (block(1, rows=0), "bad_shape"),
        (block(1, cols=0), "bad_shape"),
        (block(1, frames=()), "bad_shape"),
        (block(1, frames=(b"", b"", b"")), "bad_shape"),
        (block(1, frames=(bytes(ROW_BYTES - 1),)), "bad_shape"),
        (block(1, frames=(bytes(ROW_BYTES + 1),)), "bad_shape"),
        (block(1, rows=wire.MAX_INT, frames=(bytes(ROW_BYTES),)), "bad_shape"),
        (scattered(1, N_POSITIONS), "out_of_bounds"),
        (scattered(2**64 - 1), "out_of_bounds"),
        (scattered(1, 1), "bad_shape"),
        (scattered(1, 2, row=1), "bad_shape"),
        (scattered(1, 2, frames=(b"odd", bytes(2 * ROW_BYTES))), "bad_shape"),
        (scattered(1, 2, frames=(bytes(8), bytes(2 * ROW_BYTES))), "bad_shape"),
        (block(1, crc=0), "bad_checksum"),
        (block(1, crc=wire.MAX_INT), "bad_checksum"),
    ],
)
def test_a_block_that_is_not_what_it_claims_is_named(bad: wire.Block, code: str) -> None:
    with pytest.raises(UsidstreamError) as caught:
        check_block(layout_of(), bad)
    assert caught.value.code == code
    address = {key: getattr(bad, key) for key in ("main", "row", "rows", "col", "cols")}
    assert caught.value.details == address
    assert caught.value.message.startswith("block 1 of ")


@pytest.mark.parametrize("damage", [{"row": 1}, {"row": 2**40}, {"cols": 3}, {"col": 1}])
def test_a_damaged_address_is_a_bad_checksum_wherever_it_points(damage: dict[str, int]) -> None:
    sent = block(1)
    damaged = block(1, crc=sent.crc, frames=sent.frames, **damage)
    with pytest.raises(UsidstreamError, match="checksum") as caught:
        check_block(layout_of(), damaged)
    assert caught.value.code == "bad_checksum"


def test_a_damaged_row_number_with_a_good_payload_is_a_bad_checksum() -> None:
    sent = scattered(4, 5)
    frames = (struct.pack("<2Q", 4, 6), sent.frames[1])
    with pytest.raises(UsidstreamError) as caught:
        check_block(layout_of(), scattered(4, 6, crc=sent.crc, frames=frames))
    assert caught.value.code == "bad_checksum"


# ---------------------------------------------------------------- refused in a scan


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        ({"main": "Nope"}, "unknown_main"),
        ({"row": N_POSITIONS}, "out_of_bounds"),
        ({"frames": (b"x",)}, "bad_shape"),
        ({"crc": 1}, "bad_checksum"),
        ({"frames": (bytes(WINDOW_BYTES + 2),)}, "message_too_large"),
    ],
)
def test_a_refused_block_settles_and_its_error_comes_before_the_ack(
    lie: dict[str, Any], code: str
) -> None:
    stage = Stage.acquiring()
    stage.send(1, **lie)
    assert not stage.placing
    error = stage.error()
    assert (error.code, error.scan, error.seq, error.operation) == (code, SCAN, 1, "block")
    assert error.details["main"] == lie.get("main", "Raw")
    ack = stage.ack()
    nbytes = len(lie.get("frames", (bytes(ROW_BYTES),))[0])
    assert (ack.received, ack.durable, ack.credit) == (1, 0, WINDOW_BYTES + nbytes)
    stage.send(2)
    stage.settle()
    stage.ping(commit=True)
    stage.commit()
    assert stage.ack().durable == 2
    assert stage.session.blocks_refused == 1


def test_a_block_refused_when_placed_is_told_with_its_ranges_before_the_ack() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    assert stage.acks() == {}
    held = UsidstreamError("held", code="already_covered", details={"ranges": [[0, 1, 0, 4]]})
    stage.settle(held)
    error = stage.error()
    assert (error.code, error.seq, error.details) == (
        "already_covered",
        1,
        {"ranges": [[0, 1, 0, 4]]},
    )
    assert stage.ack().received == 1


def test_a_refusal_does_not_let_the_ack_pass_what_is_still_being_placed() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.send(2, crc=1)
    assert stage.error().seq == 2
    assert stage.ack().received == 0, "block 1 has not settled"
    stage.settle()
    assert stage.ack().received == 2


def test_an_annotation_shares_the_sequence_and_is_refused_under_its_own_name() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.annotate(2, drift=1.5)
    stage.annotate(3, scan_id="mine")
    stage.settle()
    stage.settle()
    stage.settle(UsidstreamError("reserved", code="bad_attribute"))
    error = stage.error()
    assert (error.code, error.seq, error.operation) == ("bad_attribute", 3, "annotate")
    ack = stage.ack()
    assert (ack.received, ack.credit) == (3, WINDOW_BYTES + ROW_BYTES)


def test_what_a_peer_sent_makes_no_error_too_long_to_send() -> None:
    stage = Stage.acquiring()
    stage.send(1, main="x" * (1 << 20))
    assert len(wire.encode(stage.error())[0]) < 20_000


# ---------------------------------------------------------------- order


def test_blocks_are_taken_in_order_only() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.send(4, row=3)
    assert stage.take(OPENER, wire.Resend) == wire.Resend(scan=SCAN, seq=2)
    assert len(stage.placing) == 1


def test_a_gap_is_asked_for_once_and_again_with_each_ping_until_it_is_filled() -> None:
    stage = Stage.acquiring()
    for seq in (2, 3, 4):
        stage.send(seq, row=seq)
    assert [type(send.message) for send in stage.sent] == [wire.Resend]
    stage.sent.clear()
    stage.ping()
    assert stage.take(OPENER, wire.Resend).seq == 1
    stage.send(1)
    stage.ping()
    assert not stage.has(OPENER, wire.Resend)
    stage.send(3)
    assert stage.take(OPENER, wire.Resend).seq == 2, "a new gap is a new request"


def test_a_repeated_block_is_acked_again_and_not_placed() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.settle()
    stage.sent.clear()
    stage.send(1)
    assert stage.take(OPENER, wire.Ack).received == 1
    assert not stage.placing
    stage.annotate(1)
    assert stage.take(OPENER, wire.Ack).received == 1


def test_seq_0_is_refused_aloud() -> None:
    stage = Stage.acquiring()
    stage.send(0)
    assert (stage.error().code, len(stage.placing)) == ("bad_sequence", 0)
    stage.send(1)
    assert len(stage.placing) == 1


@pytest.mark.parametrize("peer", [OTHER, JOINER])
def test_a_stranger_is_told_to_join(peer: bytes) -> None:
    stage = Stage.acquiring()
    stage.send(1, peer=peer)
    assert (stage.error(peer).code, len(stage.placing)) == ("not_joined", 0)
    stage.ping(peer)
    assert stage.error(peer).code == "not_joined"


def test_each_peer_has_a_sequence_and_a_credit_of_its_own() -> None:
    stage = Stage.acquiring(JOINER)
    stage.send(1)
    stage.send(1, row=1, peer=JOINER)
    stage.send(2, row=2, peer=JOINER)
    stage.settle_all()
    acks = stage.acks()
    assert (acks[OPENER].received, acks[JOINER].received) == (1, 2)
    assert acks[JOINER].credit - acks[OPENER].credit == ROW_BYTES


# ---------------------------------------------------------------- credit and acks


def test_credit_grows_as_blocks_settle_and_more_than_granted_is_refused() -> None:
    stage = Stage.acquiring(credit_window_bytes=2 * ROW_BYTES)
    stage.send(1)
    stage.send(2, row=1)
    stage.send(3, row=2)
    error = stage.error()
    assert (error.code, error.seq, error.retryable) == ("credit_exceeded", 3, True)
    stage.settle_all()
    ack = stage.ack()
    assert (ack.received, ack.credit) == (3, 5 * ROW_BYTES)
    stage.send(4, row=2)
    stage.send(5, row=3)
    assert len(stage.placing) == 2


def test_acks_are_sent_only_when_they_say_something_new() -> None:
    stage = Stage.acquiring()
    assert stage.acks() == {}
    stage.send(1)
    assert stage.acks() == {}
    stage.settle()
    assert stage.ack().received == 1
    assert stage.acks() == {}


def test_a_ping_repeats_the_latest_ack() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.settle()
    first = stage.ack()
    stage.sent.clear()
    stage.ping()
    assert stage.take(OPENER, wire.Ack) == first


def test_no_ack_comes_before_opened() -> None:
    stage = Stage()
    stage.open()
    stage.ping()
    assert stage.acks() == {}
    assert not stage.sent
    stage.ready()
    assert [type(send.message) for send in stage.sent] == [wire.Opened]
    stage.open(OTHER)
    stage.send(1, peer=OTHER)
    stage.settle()
    assert OTHER not in stage.acks()
    stage.commit()
    assert stage.take(OTHER, wire.Opened).resumed
    assert stage.acks()[OTHER].received == 1


def test_what_settles_for_a_peer_that_is_gone_is_nobodys_ack() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.lose(OPENER)
    stage.settle(UsidstreamError("held", code="already_covered"))
    assert not stage.sent
    assert stage.acks() == {}


def test_opening_again_over_one_connection_begins_new_numbers() -> None:
    """What the connection sent before must not be taken for what it sends after."""
    stage = Stage.acquiring()
    for seq in (1, 2, 3):
        stage.send(seq, row=seq)
    stage.settle()
    stage.open()
    stage.settle(UsidstreamError("held", code="already_covered"))
    stage.commit()
    stage.take(OPENER, wire.Opened)
    assert not stage.has(OPENER, wire.Error), "of the earlier numbers"
    stage.settle()
    stage.ping(commit=True)
    assert stage.take(OPENER, wire.Ack) == wire.Ack(
        scan=SCAN, received=0, durable=0, credit=WINDOW_BYTES, positions=0
    )
    stage.send(1, row=5)
    stage.settle()
    ack = stage.ack()
    assert (ack.received, ack.durable, ack.credit) == (1, 0, WINDOW_BYTES + ROW_BYTES)


def test_a_settlement_of_nothing_placed_is_a_fault() -> None:
    stage = Stage.acquiring()
    with pytest.raises(RuntimeError, match="nothing of"):
        stage.do(events.Settled(peer=OPENER, seq=1, nbytes=0))
