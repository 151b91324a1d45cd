"""The table of states as a whole, and which copies of a block say that they are one."""

from __future__ import annotations

import numpy as np
import pytest

from usidstream import wire
from usidstream.delivery import Delivery, Outbound, Payload, State, as_bytes
from usidstream.delivery.states import OPEN, TRANSITIONS, Event

SCAN = "ab" * 16


def block(row: int) -> Payload:
    return Payload("Raw", row, 1, 0, 2, as_bytes(np.full((1, 2), row, "<u2")))


def blocks(delivery: Delivery) -> list[Outbound]:
    messages = []
    while (message := delivery.take(0.0)) is not None:
        messages.append(message)
    return [message for message in messages if isinstance(message, Outbound)]


def streaming(*payloads: Payload) -> Delivery:
    """Return a delivery on an open scan, with blocks handed in."""
    delivery = Delivery(wire.Open(scan=SCAN, layout={}))
    delivery.link_up(1 << 20, 0.0)
    assert blocks(delivery) == []
    opened = wire.Opened(
        scan=SCAN,
        file="/f.h5",
        role="opener",
        resumed=False,
        credit=1 << 20,
        positions=0,
        coverage={},
    )
    delivery.receive(opened, 0.0)
    for payload in payloads:
        delivery.add_block(payload)
    return delivery


def test_the_table_is_closed() -> None:
    assert set(TRANSITIONS.values()) == set(State), "every state can be reached"
    ends = {State.DONE, State.FAILED}
    assert {state for state, _ in TRANSITIONS} == set(State) - ends
    for state in set(State) - ends:
        assert TRANSITIONS[state, Event.FAIL] is State.FAILED
        if state is not State.DETACHED:
            assert TRANSITIONS[state, Event.LINK_DOWN] is State.DETACHED


@pytest.mark.parametrize("state", [state for state in State if state not in OPEN])
def test_no_block_travels_but_in_an_open_state(state: State) -> None:
    delivery = streaming(block(0))
    delivery.state = state
    assert blocks(delivery) == []
    delivery.receive(wire.Ack(scan=SCAN, received=9, durable=9, credit=1, positions=9), 0.0)
    assert (delivery.state, delivery.durable_positions) == (state, 0)


def damaged(seq: int) -> wire.Error:
    return wire.Error(code="bad_checksum", message="", retryable=True, scan=SCAN, seq=seq)


def test_what_was_damaged_on_its_only_way_comes_as_new() -> None:
    delivery = streaming(block(5))
    assert [(message.seq, message.again) for message in blocks(delivery)] == [(1, False)]
    delivery.receive(damaged(1), 0.0)
    # Were it marked as a resend, a caller's second copy of a pixel would be dropped in silence.
    assert [(message.seq, message.again) for message in blocks(delivery)] == [(2, False)]


def test_of_what_was_sent_twice_and_damaged_once_a_copy_may_be_there() -> None:
    delivery = streaming(block(5))
    assert blocks(delivery)
    delivery.receive(wire.Resend(scan=SCAN, seq=1), 0.0)
    assert [(message.seq, message.again) for message in blocks(delivery)] == [(1, True)]
    delivery.receive(damaged(1), 0.0)
    assert [(message.seq, message.again) for message in blocks(delivery)] == [(2, True)]
