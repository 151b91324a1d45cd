"""The queue of what is not durable yet: numbers, credit and memory always add up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from usidstream.delivery import Coverage, Payload, as_bytes
from usidstream.delivery.retention import Retention

CREDIT = 40
BLOCK_BYTES = 12


def block(row: int, rows: int = 1, single: bool = False) -> Payload:
    data = np.full((rows, 3), row, "<f4")
    return Payload("Raw", row, rows, 0, 3, as_bytes(data), single=single)


def filled(*contents: Payload | dict[str, Any], credit: int = 1 << 20) -> Retention:
    kept = Retention(credit=credit)
    for content in contents:
        held = content.nbytes if isinstance(content, Payload) else 5
        kept.append(content, held, again=False)
    return kept


def take_all(kept: Retention) -> list[tuple[int, int]]:
    """Take what there is; return (seq, first row) of each."""
    taken = []
    while (found := kept.take()) is not None:
        seq, entry = found
        taken.append((seq, entry.content.row if isinstance(entry.content, Payload) else -1))
    return taken


def test_it_sends_in_order_and_frees_what_is_durable() -> None:
    kept = filled(block(0), block(1), {"a": 1}, block(2))
    assert take_all(kept) == [(1, 0), (2, 1), (3, -1), (4, 2)]
    assert kept.held_bytes == 3 * BLOCK_BYTES + 5
    assert kept.acknowledge(received=3, durable=1, credit=0)
    assert (kept.held_bytes, kept.received, kept.all_received) == (2 * BLOCK_BYTES + 5, 3, False)
    assert kept.oldest_ticket == 2
    assert kept.acknowledge(4, 4, 0)
    assert (kept.held_bytes, kept.all_received, len(kept.entries)) == (0, True, 0)
    assert kept.oldest_ticket > kept.last_ticket
    assert not kept.acknowledge(4, 4, 0), "nothing new"


def test_credit_is_a_total_and_attributes_cost_none() -> None:
    kept = filled(*[block(row) for row in range(5)], {"a": 1}, credit=CREDIT)
    assert take_all(kept) == [(1, 0), (2, 1), (3, 2)]
    kept.acknowledge(3, 0, CREDIT - 10)
    assert take_all(kept) == [], "an older ack takes nothing back"
    kept.acknowledge(3, 0, CREDIT + BLOCK_BYTES)
    assert take_all(kept) == [(4, 3)]
    kept.acknowledge(3, 0, CREDIT + 2 * BLOCK_BYTES)
    assert take_all(kept) == [(5, 4), (6, -1)]


def test_an_ack_of_what_was_never_sent_is_a_lie() -> None:
    kept = filled(block(0), block(1))
    kept.take()
    for received, durable in ((2, 0), (1, 2)):
        with pytest.raises(ValueError, match="acknowledged message 2 of 1 that were sent"):
            kept.acknowledge(received, durable, 0)
    assert kept.held_bytes == 2 * BLOCK_BYTES


def test_going_back_sends_again_and_gives_the_credit_back() -> None:
    kept = filled(*[block(row) for row in range(4)], credit=CREDIT)
    assert take_all(kept) == [(1, 0), (2, 1), (3, 2)]
    kept.acknowledge(3, 1, CREDIT)
    assert kept.go_back(2)
    assert (kept.received, kept.unsettled_sent) == (1, True)
    assert take_all(kept) == [(2, 1), (3, 2)], "credit still ends there"
    kept.acknowledge(3, 1, CREDIT + BLOCK_BYTES)
    assert take_all(kept) == [(4, 3)]


@pytest.mark.parametrize("seq", [0, 1, 4])
def test_going_back_to_what_is_durable_or_was_not_sent_is_refused(seq: int) -> None:
    kept = filled(block(0), block(1), block(2), block(3))
    for _ in range(3):
        kept.take()
    kept.acknowledge(1, 1, 0)
    assert not kept.go_back(seq)
    assert kept.take() == (4, kept.entries[2])


def test_a_refused_entry_keeps_its_place_but_not_its_bytes() -> None:
    kept = filled(block(0), block(1), block(2))
    take_all(kept)
    entry = kept.find(2)
    assert entry is not None
    kept.drop(entry)
    assert kept.find(2) is None
    assert kept.held_bytes == 2 * BLOCK_BYTES
    kept.go_back(2)
    assert [seq for seq, _ in take_all(kept)] == [2, 3]
    kept.acknowledge(3, 3, 0)
    assert kept.held_bytes == 0


def test_what_is_handed_in_again_keeps_the_ticket_that_somebody_waits_for() -> None:
    kept = filled(block(0), block(1), block(2))
    take_all(kept)
    entry = kept.find(1)
    assert entry is not None
    kept.resubmit(entry, block(0), again=True)
    assert take_all(kept) == [(4, 0)]
    kept.acknowledge(4, 3, 0)
    assert kept.oldest_ticket == 1, "the first is not durable, though its place was"
    kept.acknowledge(4, 4, 0)
    assert kept.oldest_ticket > kept.last_ticket


def test_a_new_connection_renumbers_what_the_daemon_lacks() -> None:
    kept = filled(block(0), block(1), {"a": 1}, block(2), block(3))
    for _ in range(4):
        kept.take()
    refused = kept.find(2)
    assert refused is not None
    kept.drop(refused)
    # Row 3 was never sent: that somebody else has filled it is for the daemon to refuse.
    kept.restart({"Raw": Coverage([(0, 1), (3, 4)])}, credit=1 << 20, max_bytes=1 << 20)
    assert kept.held_bytes == 2 * BLOCK_BYTES + 5
    again = [entry.again for entry in kept.entries]
    assert take_all(kept) == [(1, -1), (2, 2), (3, 3)]
    assert again[1:] == [True, False]
    assert kept.oldest_ticket == 3


def test_a_new_connection_may_take_smaller_blocks_only() -> None:
    kept = filled(block(0, rows=4))
    kept.take()
    kept.restart({}, credit=1 << 20, max_bytes=BLOCK_BYTES)
    assert take_all(kept) == [(1, 0), (2, 1), (3, 2), (4, 3)]
    assert kept.held_bytes == 4 * BLOCK_BYTES
    kept.acknowledge(3, 3, 0)
    assert kept.oldest_ticket == 1, "a part is not the whole"
    kept.acknowledge(4, 4, 0)
    assert kept.oldest_ticket == 2


def test_letting_all_go_leaves_the_numbers_right() -> None:
    kept = filled(block(0), block(1), block(2))
    kept.take()
    kept.clear()
    assert (kept.held_bytes, kept.last_seq, kept.take()) == (0, 1, None)
    assert kept.acknowledge(1, 1, 1)
    kept.append(block(7), BLOCK_BYTES, again=False)
    assert take_all(kept) == [(2, 7)]
