"""The queue of what is not durable: numbers, credit, memory."""

from __future__ import annotations

import numpy as np
import pytest

from usidstream.delivery import Coverage, Payload, as_bytes
from usidstream.delivery.retention import Retention

NBYTES = 8


def block(row: int) -> Payload:
    return Payload("Raw", row, 1, 0, 4, as_bytes(np.full(4, row, "<u2")))


def hand_in(kept: Retention, payload: Payload) -> None:
    [entry] = kept.issue([payload], again=False)
    kept.last_ticket = entry.ticket
    kept.take_over(entry)


def filled(count: int, credit: int = 1000, sent: int = 0) -> Retention:
    kept = Retention(credit=credit)
    for row in range(count):
        hand_in(kept, block(row))
    for _ in range(sent):
        assert kept.take() is not None
    return kept


def taken(kept: Retention) -> list[tuple[int, int]]:
    """Take all that may be sent: (seq, row)."""
    found = []
    while (item := kept.take()) is not None:
        assert isinstance(item[1].content, Payload)
        found.append((item[0], item[1].content.row))
    return found


def test_numbers_are_places() -> None:
    assert taken(filled(3)) == [(1, 0), (2, 1), (3, 2)]


def test_credit_is_a_total_and_used_to_the_last_byte() -> None:
    kept = filled(5, credit=2 * NBYTES)
    assert taken(kept) == [(1, 0), (2, 1)]
    assert kept.acknowledge(0, 0, 3 * NBYTES)
    assert taken(kept) == [(3, 2)]
    kept.acknowledge(3, 3, 2 * NBYTES)
    assert taken(kept) == [], "an ack that was overtaken takes no credit back"


def test_going_back_costs_no_credit_twice() -> None:
    kept = filled(4, credit=4 * NBYTES, sent=4)
    assert kept.go_back(2)
    assert taken(kept) == [(2, 1), (3, 2), (4, 3)]
    assert kept.go_back(1)
    assert taken(kept) == [(1, 0), (2, 1), (3, 2), (4, 3)]


def test_memory_is_freed_as_soon_as_it_is_durable() -> None:
    kept = filled(4, sent=3)
    assert kept.held_bytes == 4 * NBYTES
    kept.acknowledge(3, 0, 1000)
    assert kept.held_bytes == 4 * NBYTES, "received is not durable"
    kept.acknowledge(3, 2, 1000)
    assert (kept.held_bytes, kept.first_seq) == (2 * NBYTES, 3)
    assert taken(kept) == [(4, 3)]
    kept.acknowledge(4, 4, 1000)
    assert (kept.held_bytes, len(kept.entries), kept.last_seq) == (0, 0, 4)


def test_what_was_never_sent_cannot_be_acknowledged() -> None:
    kept = filled(4, sent=2)
    with pytest.raises(ValueError, match="message 3 of 2"):
        kept.acknowledge(3, 0, 1000)
    with pytest.raises(ValueError, match="message 3 of 2"):
        kept.acknowledge(0, 3, 1000)


def test_an_ack_says_whether_it_brought_news() -> None:
    kept = filled(3, credit=100, sent=2)
    assert kept.acknowledge(1, 0, 100)
    assert not kept.acknowledge(1, 0, 100)
    assert kept.acknowledge(1, 1, 100)
    assert kept.acknowledge(1, 1, 101)


def test_what_arrived_meanwhile_is_not_sent_again() -> None:
    kept = filled(5, sent=5)
    kept.go_back(2)
    kept.acknowledge(4, 0, 1000)
    assert taken(kept) == [(5, 4)]


def test_what_the_daemon_lost_again_is_sent_again() -> None:
    kept = filled(3, sent=3)
    kept.acknowledge(3, 1, 1000)
    assert kept.go_back(2)
    assert kept.received == 1
    kept.acknowledge(1, 1, 1000)
    assert taken(kept) == [(2, 1), (3, 2)]


def test_a_resend_of_what_is_durable_or_unsent_changes_nothing() -> None:
    kept = filled(4, sent=3)
    kept.acknowledge(2, 2, 1000)
    assert not kept.go_back(2)
    assert not kept.go_back(4)
    assert taken(kept) == [(4, 3)]


def test_whatever_is_sent_a_second_time_says_so() -> None:
    kept = filled(2, sent=1)
    kept.go_back(1)
    items = [kept.take(), kept.take()]
    assert [item[1].again for item in items if item] == [True, False]


def test_a_refused_entry_keeps_its_number_and_loses_its_memory() -> None:
    kept = filled(3, sent=3)
    entry = kept.find(2)
    assert entry is not None
    kept.drop(entry)
    assert kept.held_bytes == 2 * NBYTES
    assert kept.find(2) is None
    kept.go_back(1)
    contents = [item[1].content for _ in range(3) if (item := kept.take())]
    assert contents[1] is None
    assert kept.find(9) is None


def test_waiting_counts_what_was_handed_in_again_under_its_old_ticket() -> None:
    kept = filled(2, sent=2)
    ticket = kept.last_ticket
    entry = kept.find(1)
    assert entry is not None
    assert isinstance(entry.content, Payload)
    kept.resubmit(entry, entry.content, again=True)
    hand_in(kept, block(7))
    assert taken(kept) == [(3, 0), (4, 7)]
    kept.acknowledge(2, 2, 1000)
    assert kept.oldest_ticket == 1, "block 3 still holds what was handed in first"
    kept.acknowledge(3, 3, 1000)
    assert kept.oldest_ticket == ticket + 1


def test_a_new_connection_sends_the_rest_from_one() -> None:
    kept = filled(5, sent=4)
    kept.acknowledge(2, 1, 1000)
    kept.restart({"Raw": Coverage([(1, 3)])}, 100, 1000)
    assert kept.held_bytes == 2 * NBYTES
    items = [kept.take(), kept.take(), kept.take()]
    assert [(i[0], i[1].content.row, i[1].again) for i in items if i] == [  # type: ignore[union-attr]
        (1, 3, True), (2, 4, False),
    ]  # fmt: skip
    assert kept.received == 0


def test_what_was_never_sent_is_kept_although_it_is_covered() -> None:
    """Somebody else has filled its place: that is for the caller to know."""
    kept = filled(1)
    kept.restart({"Raw": Coverage([(0, 9)])}, 100, 1000)
    assert taken(kept) == [(1, 0)]


def test_a_new_daemon_may_take_smaller_blocks() -> None:
    kept = filled(2, sent=2)
    kept.restart({}, 1000, 4)
    assert taken(kept) == [(1, 0), (2, 0), (3, 1), (4, 1)]
    assert kept.held_bytes == 2 * NBYTES
