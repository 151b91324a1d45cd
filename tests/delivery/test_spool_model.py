"""Delivery with a spool, against the same daemon: whatever is diverted comes back in its order.

The client dies too, with everything on its disk; the next one sends it, and nobody writes again.
"""

from __future__ import annotations

import random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from support.delivery_trial import MAX_TURNS_COUNT, Trial
from support.model_daemon import SCAN
from usidstream import wire
from usidstream.delivery import Delivery, Goal, Segment, Spool

LOADED_BYTES = 4 * 70
"""What the test reads at a time, at most: four blocks of five scattered rows."""
LIMIT_RECORDS = 1 << 20


class Disk:
    """Segments as lists; an offset is an index."""

    def __init__(self) -> None:
        self.records: dict[Segment, list[Any]] = {}
        self.order: dict[Segment, list[tuple[int, int]]] = {}
        self.clients = 0

    def write(self, delivery: Delivery, away: bool) -> bool:
        spool = delivery.spool
        entries = spool.to_write(delivery.kept, away=away)
        if not entries:
            return False
        segment = spool.place(entries)
        held = self.records.setdefault(segment, [])
        held += [entry.content for entry in entries]
        order = self.order.setdefault(segment, [])
        order += [(self.clients, entry.ticket) for entry in entries]
        spool.written(entries, segment, len(held) - len(entries), len(held))
        return True

    def read(self, delivery: Delivery, count: int) -> bool:
        spool = delivery.spool
        segment = spool.to_load(delivery.kept)
        if segment is None:
            return False
        at = segment.waiting_at
        contents = self.records[segment][at : at + min(count, segment.waiting)]
        tickets = spool.loaded(segment, at + len(contents), len(contents))
        for ticket, content in zip(tickets, contents, strict=True):
            delivery.take_back(content, ticket, segment)
        return True

    def inherit(self) -> list[Segment]:
        """Return what another process finds: by its names all blocks in their order."""
        former = sorted(self.records)
        order = [each for segment in former for each in self.order[segment]]
        assert order == sorted(order)
        found = [
            Segment(s.number, s.serial, len(self.records[s]), is_inherited=True) for s in former
        ]
        for segment in found:
            segment.waiting = segment.nbytes
        self.records = {new: self.records[old] for new, old in zip(found, former, strict=True)}
        self.order = {new: self.order[old] for new, old in zip(found, former, strict=True)}
        self.clients += 1
        return found


class SpoolTrial(Trial):
    @initialize(memory_bytes=st.sampled_from([40, 400]))
    def begin(self, memory_bytes: int) -> None:
        super().begin()
        self.disk = Disk()
        self.memory_bytes = memory_bytes
        self.delivery.spool = Spool(memory_bytes, LIMIT_RECORDS)

    def annotate(self, rng: random.Random) -> None:
        """With a name of its own: attributes may be told twice, for no coverage tells of them."""
        self.counter += 1
        name = f"b{self.counter}-{rng.randint(0, 9)}"
        self.attrs[name] = self.counter
        self.delivery.annotate({name: self.counter}, 8)

    @rule(seed=st.integers(0, 2**32), count=st.integers(1, 6))
    def work_on_the_disk(self, seed: int, count: int) -> None:
        rng = random.Random(seed)
        for _ in range(count):
            self.step(rng)

    def step(self, rng: random.Random) -> bool:
        delivery = self.delivery
        for segment in delivery.spool.dead():
            self.disk.records.pop(segment, None)
        if rng.random() < 0.1:
            delivery.spool.end_segment()
        moved = False
        if delivery.is_open:
            moved = delivery.spool.advance(delivery.kept)
            moved = self.disk.read(delivery, rng.randint(1, 4)) or moved
        return self.disk.write(delivery, not delivery.is_open) or moved

    @precondition(lambda self: not self.provoked)
    @rule(seed=st.integers(0, 2**32))
    def kill_the_client(self, seed: int) -> None:
        """While the daemon is away, with all of it on the disk."""
        rng = random.Random(seed)
        self.wire.clear()
        self.daemon.connect()
        self.delivery.link_down()
        while self.step(rng):
            pass
        self.delivery = Delivery(wire.Open(scan=SCAN, layout={}), retain_limit_bytes=1 << 20)
        self.delivery.spool = Spool(self.memory_bytes, LIMIT_RECORDS)
        self.delivery.spool.adopt(self.disk.inherit(), self.delivery.kept)
        self.delivery.again = True
        self.delivery.link_up(48, self.now)

    @invariant()
    def tickets_rise_from_memory_to_the_end(self) -> None:
        spool, kept = self.delivery.spool, self.delivery.kept
        if not kept.entries or spool.oldest_ticket is None:
            return
        assert max(entry.ticket for entry in kept.entries) < spool.oldest_ticket
        assert spool.pending_bytes == sum(entry.held for entry in spool.pending)

    @invariant()
    def memory_is_bounded(self) -> None:
        kept = self.delivery.kept
        assert kept.held_bytes <= self.memory_bytes + LOADED_BYTES

    def teardown(self) -> None:
        if not hasattr(self, "daemon"):
            return
        self.delivery.aim(Goal.FINISH)
        for turn in range(MAX_TURNS_COUNT):
            if self.delivery.ended:
                break
            self.now += 0.3
            self.step(random.Random(turn))
            self.flow_on(3)
        super().teardown()
        for segment in self.delivery.spool.dead():
            del self.disk.records[segment]
        assert not self.disk.records, "nothing stays"


SpoolTrial.TestCase.settings = settings(stateful_step_count=40)
TestSpoolModel = SpoolTrial.TestCase
