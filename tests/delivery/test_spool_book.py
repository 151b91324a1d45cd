"""The book-keeping of a spool: what is diverted, written, read and dropped, in which order."""

from __future__ import annotations

import numpy as np
import pytest

from usidstream.delivery import MainShape, Payload, Segment, Spool, SpooledForm, as_bytes, scattered
from usidstream.delivery.retention import Entry, Retention
from usidstream.delivery.spool import MAX_MEMORY_ENTRIES_COUNT
from usidstream.framing import FramingError

MAIN = MainShape("Raw", 100_000, 4, np.dtype("<u2"))
FORM = SpooledForm([MainShape("Other", 10, 1, np.dtype("<f8")), MAIN])


def block(row: int) -> Payload:
    return Payload("Raw", row, 1, 0, 4, as_bytes(np.full(4, row, "<u2")))


def hand_in(spool: Spool, kept: Retention, *rows: int) -> list[Entry]:
    entries = []
    for row in rows:
        [entry] = kept.issue([block(row)], again=False)
        kept.last_ticket = entry.ticket
        if spool.diverts(kept, 8):
            spool.pending.append(entry)
            spool.pending_bytes += entry.held
        else:
            kept.take_over(entry)
        entries.append(entry)
    return entries


def write(spool: Spool, kept: Retention, *, away: bool = False) -> Segment:
    """Write one batch; an offset counts records."""
    entries = spool.to_write(kept, away=away)
    segment = spool.place(entries)
    spool.written(entries, segment, segment.nbytes, segment.nbytes + len(entries))
    return segment


def test_what_fits_stays_in_memory_and_nothing_is_written() -> None:
    spool, kept = Spool(100, 1000), Retention()
    hand_in(spool, kept, *range(5))
    assert len(kept.entries) == 5
    assert not spool.to_write(kept, away=False)
    assert spool.idle


def test_beyond_memory_blocks_are_diverted_and_all_after_them() -> None:
    spool, kept = Spool(24, 1000), Retention()
    hand_in(spool, kept, *range(5))
    assert [entry.ticket for entry in spool.pending] == [4, 5]
    kept.credit = 1000
    while kept.take():
        pass
    kept.acknowledge(3, 3, 1000)
    assert spool.diverts(kept, 8), "nothing overtakes what is pending"


def test_what_is_pending_goes_straight_to_memory_while_nothing_waits() -> None:
    spool, kept = Spool(24, 1000), Retention()
    hand_in(spool, kept, *range(5))
    kept.clear()
    assert spool.advance(kept)
    assert [entry.ticket for entry in kept.entries] == [4, 5]
    assert spool.pending_bytes == 0


def test_while_the_daemon_is_away_memory_is_written_and_stays() -> None:
    spool, kept = Spool(100, 1000), Retention()
    entries = hand_in(spool, kept, *range(3))
    segment = write(spool, kept, away=True)
    assert segment.live == 3
    assert segment.waiting == 0
    assert all(entry.content is not None for entry in entries)
    assert not spool.to_write(kept, away=True)


def test_what_follows_in_the_same_segment_is_read_from_where_it_begins() -> None:
    spool, kept = Spool(200, 1000), Retention()
    hand_in(spool, kept, *range(27))
    segment = write(spool, kept, away=True)
    assert segment.nbytes == 25
    assert write(spool, kept, away=True) is segment
    assert (segment.waiting, segment.waiting_at, segment.live) == (2, 25, 27)
    assert spool.oldest_ticket == 26
    kept.clear()
    assert spool.to_load(kept) is segment
    assert list(spool.loaded(segment, 27, 2)) == [26, 27]
    assert spool.idle


def test_a_segment_goes_with_its_last_block() -> None:
    spool, kept = Spool(100, 1000), Retention(credit=1000)
    hand_in(spool, kept, *range(3))
    segment = write(spool, kept, away=True)
    while kept.take():
        pass
    kept.acknowledge(2, 2, 1000)
    assert spool.dead() == []
    kept.acknowledge(3, 3, 1000)
    assert spool.dead() == [segment]
    assert spool.nbytes == 0


def test_runs_with_a_gap_go_to_segments_of_their_own_named_in_order() -> None:
    spool, kept = Spool(24, 1000), Retention()
    hand_in(spool, kept, *range(8))
    later = write(spool, kept)  # crowded: what is pending goes first
    assert later.number == 4
    sooner = write(spool, kept)
    assert sooner.number == 1
    assert spool.segments == [sooner, later]
    assert spool.to_load(Retention()) is later


def test_what_became_durable_while_it_was_written_needs_no_disk() -> None:
    spool, kept = Spool(100, 1000), Retention(credit=100)
    hand_in(spool, kept, 0, 1)
    entries = spool.to_write(kept, away=True)
    while kept.take():
        pass
    kept.acknowledge(1, 1, 100)
    segment = spool.place(entries)
    spool.written(entries, segment, 0, 2)
    assert segment.live == 1


def test_what_another_process_left_goes_first_and_new_names_follow() -> None:
    spool, kept = Spool(100, 1000), Retention()
    left = [Segment(7, 1, 2, waiting=2, is_inherited=True), Segment(3, 9, 4, waiting=4)]
    spool.adopt(left, kept)
    assert spool.oldest_ticket == 1
    (entry,) = hand_in(spool, kept, 0)
    assert entry.ticket == 7
    assert spool.to_load(kept).number == 3
    segment = write(spool, kept)
    assert (segment.number, segment.serial) == (14, 10)


def test_stranded_all_goes_to_the_disk_and_stays_there() -> None:
    spool, kept = Spool(24, 1000), Retention()
    hand_in(spool, kept, *range(5))
    spool.strand(kept)
    assert not kept.entries
    segment = write(spool, kept)
    assert segment.live == 5
    assert not spool.pending
    assert not spool.dead()
    assert spool.to_load(kept) is segment


def test_an_abort_needs_nothing_of_it() -> None:
    spool, kept = Spool(24, 1000), Retention()
    hand_in(spool, kept, *range(5))
    segment = write(spool, kept)
    kept.clear()
    spool.clear()
    assert spool.dead() == [segment]
    assert spool.idle


def test_many_tiny_blocks_are_diverted_by_their_number() -> None:
    spool, kept = Spool(1 << 30, 1 << 30), Retention()
    hand_in(spool, kept, *range(MAX_MEMORY_ENTRIES_COUNT + 1))
    assert len(kept.entries) == MAX_MEMORY_ENTRIES_COUNT


# ------------------------------------------------------------ records


@pytest.mark.parametrize(
    "content",
    [
        block(3),
        Payload("Raw", 5, 2, 1, 2, as_bytes(np.arange(4, dtype="<u2")), single=True),
        Payload("Raw", 5, 3, 0, 4, as_bytes(np.zeros(12, "<u2")), wholes=((0, 2), (2, 3))),
        scattered("Raw", [9, 2, 40], 0, 4, np.arange(12, dtype="<u2"), single=True),
        {"drift_nm": 1.3, "names": ["a", "b"]},
    ],
)
def test_records_come_back(content: object) -> None:
    record = b"".join(bytes(part) for part in FORM.encode(content))
    assert FORM.decode(record) == content


@pytest.mark.parametrize("cut", [0, 10, 55, -1])
def test_a_record_of_another_length_is_none(cut: int) -> None:
    record = b"".join(bytes(part) for part in FORM.encode(block(3)))
    with pytest.raises(FramingError):
        FORM.decode(record[:cut])


def test_a_record_of_another_scan_is_none() -> None:
    record = b"".join(bytes(part) for part in FORM.encode(block(3)))
    with pytest.raises(FramingError):
        SpooledForm([MainShape("Raw", 3, 4, np.dtype("<u2"))]).decode(record)
