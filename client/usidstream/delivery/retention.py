"""What was handed in and is not durable yet, in the order of its sequence numbers.

Knows sequence numbers, credit and memory of one scan on one connection; must never know messages,
clocks or why something is sent again. Sequence numbers are places in the queue, so that a new
connection renumbers everything by starting from 1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .coverage import Coverage
from .payload import Payload


@dataclass(slots=True, eq=False)
class Segment:
    """A run of blocks on the disk; see `spool`.

    Parameters
    ----------
    number, serial
        Its name, and its place among the others.
    nbytes
        What it takes on the disk.
    last_ticket
        Of the block at its end.
    waiting, waiting_at
        How many blocks at its end are on the disk alone, and where the first of them stands.
    live
        How many of its blocks are needed: those waiting, and those of entries in memory.
    is_inherited
        An earlier process wrote it.
    is_damaged
        Something in it could not be read.
    """

    number: int
    serial: int
    nbytes: int = 0
    last_ticket: int = 0
    waiting: int = 0
    waiting_at: int = 0
    live: int = 0
    is_inherited: bool = False
    is_damaged: bool = False

    def __lt__(self, other: Segment) -> bool:
        return (self.number, self.serial) < (other.number, other.serial)


@dataclass(slots=True, eq=False)
class Entry:
    """One place in the sequence: a block, or attributes.

    Parameters
    ----------
    content
        A block's payload, or the attributes of an annotation; None once the daemon has refused the
        entry: its place stays, for others have later numbers.
    nbytes
        What it counts in credit.
    held
        What it counts in memory.
    ticket
        Rises with every entry and never changes, unlike the sequence number.
    again
        The daemon may hold it, or part of it, already.
    sent
        It has been on the wire, in this or an earlier session.
    retries
        How often it was refused for a reason that a retry can mend.
    place
        The segment on the disk that holds the content as well, if one does.
    """

    content: Payload | Mapping[str, Any] | None
    nbytes: int
    held: int
    ticket: int
    again: bool = False
    sent: bool = False
    retries: int = 0
    place: Segment | None = None

    def let_go(self) -> None:
        """Forget the content; the disk need not keep it either."""
        self.content = None
        if self.place is not None:
            self.place.live -= 1
            self.place = None


@dataclass
class Retention:
    """The queue from the first entry that is not durable to the last that was handed in."""

    entries: deque[Entry] = field(default_factory=deque)
    first_seq: int = 1
    held_bytes: int = 0
    credit: int = 0
    _next: int = 0
    _highest: int = 0
    _received: int = 0
    _sent_bytes: int = 0
    last_ticket: int = 0
    """The ticket of the entry handed in last."""
    _out_of_order: bool = False

    @property
    def last_seq(self) -> int:
        """The sequence number of the last entry handed in; 0 if there was none."""
        return self.first_seq + len(self.entries) - 1

    @property
    def highest_sent(self) -> int:
        """The highest sequence number that was on this connection."""
        return self._highest

    @property
    def received(self) -> int:
        """The sequence number up to which the daemon has everything."""
        return self._received

    @property
    def all_received(self) -> bool:
        """Whether the daemon has everything that was handed in."""
        return self._received >= self.last_seq

    @property
    def oldest_ticket(self) -> int:
        """The lowest ticket that is not durable; above `last_ticket` if all are."""
        if not self.entries:
            return self.last_ticket + 1
        if not self._out_of_order:
            return self.entries[0].ticket
        return min(entry.ticket for entry in self.entries)

    @property
    def is_behind(self) -> bool:
        """Whether something waits to be sent."""
        return self._next < len(self.entries)

    @property
    def unsettled_sent(self) -> bool:
        """Whether something is on its way that the daemon has not received."""
        return self._received < self._highest

    @property
    def undurable_sent(self) -> bool:
        """Whether something was sent that is not durable."""
        return self._highest >= self.first_seq

    def issue(self, parts: Sequence[Payload], *, again: bool) -> list[Entry]:
        """Return entries with the next tickets, which count once somebody has put them in a queue.

        Whoever does so sets ``last_ticket`` to that of the last one.
        """
        tickets = enumerate(parts, self.last_ticket + 1)
        return [Entry(part, part.nbytes, part.nbytes, n, again=again) for n, part in tickets]

    def skip_tickets(self, count: int) -> None:
        """Leave out tickets, for entries that come from elsewhere."""
        self.last_ticket += count

    def take_over(self, entry: Entry) -> None:
        """Put an entry at the end of the sequence."""
        self.entries += (entry,)
        self.held_bytes += entry.held

    def take(self) -> tuple[int, Entry] | None:
        """Return the next entry to send with its sequence number, if there is one and credit."""
        if not self.is_behind:
            return None
        entry = self.entries[self._next]
        if self._sent_bytes + entry.nbytes > self.credit:
            return None
        seq = self.first_seq + self._next
        self._next += 1
        self._sent_bytes += entry.nbytes
        self._highest = max(self._highest, seq)
        entry.again = entry.again or entry.sent
        entry.sent = True
        return seq, entry

    def acknowledge(self, received: int, durable: int, credit: int) -> bool:
        """Take an ack; return whether anything moved on.

        Raises
        ------
        ValueError
            The ack covers what was never sent.
        """
        if max(received, durable) > self._highest:
            raise ValueError(
                f"the daemon acknowledged message {max(received, durable)}"
                f" of {self._highest} that were sent"
            )
        moved = received > self._received or durable >= self.first_seq or credit > self.credit
        self.credit = max(self.credit, credit)
        self._received = max(self._received, received, durable)
        while self.first_seq + self._next <= self._received:
            self._sent_bytes += self.entries[self._next].nbytes
            self._next += 1
        while self.first_seq <= durable:
            self._free_first()
        return moved

    def _free_first(self) -> None:
        entry = self.entries.popleft()
        self.first_seq += 1
        self._next -= 1
        self.held_bytes -= entry.held
        entry.let_go()
        self._out_of_order = self._out_of_order and bool(self.entries)

    def go_back(self, seq: int) -> bool:
        """Send again from ``seq`` on; return False where that asks for nothing that can be sent."""
        if not self.first_seq <= seq <= self._highest:
            return False
        self._received = min(self._received, seq - 1)
        while self.first_seq + self._next > seq:
            self._next -= 1
            self._sent_bytes -= self.entries[self._next].nbytes
        return True

    def find(self, seq: int) -> Entry | None:
        """Return the entry at a sequence number, if it is retained and was not refused."""
        if not self.first_seq <= seq <= self.last_seq:
            return None
        entry = self.entries[seq - self.first_seq]
        return None if entry.content is None else entry

    def drop(self, entry: Entry) -> None:
        """Let the content of a refused entry go; its place in the sequence stays."""
        entry.let_go()
        self.held_bytes -= entry.held
        entry.held = 0

    def resubmit(self, entry: Entry, content: Payload, *, again: bool) -> None:
        """Hand in once more what a refused entry held, or a part, at the end of the sequence."""
        place, entry.place = entry.place, None
        self.drop(entry)
        self._out_of_order = True
        nbytes, retries = content.nbytes, entry.retries + 1
        again_entry = Entry(content, nbytes, nbytes, entry.ticket, again, retries=retries)
        again_entry.place = place
        self.take_over(again_entry)

    def restart(self, coverage: Mapping[str, Coverage], credit: int, max_bytes: int) -> None:
        """Begin a new connection: drop what is covered, renumber the rest.

        What was never sent is kept even where it is covered: that someone else has filled its place
        is for the daemon to refuse and for the caller to know.
        """
        kept: deque[Entry] = deque()
        for entry in self.entries:
            if entry.content is None:
                continue
            if is_covered(entry, coverage):
                entry.let_go()
                continue
            entry.again = entry.again or entry.sent
            kept.extend(cut(entry, max_bytes))
        self.entries = kept
        self.held_bytes = sum(entry.held for entry in kept)
        self.first_seq, self._next, self._highest = 1, 0, 0
        self._received, self._sent_bytes = 0, 0
        self.credit = credit

    def clear(self) -> None:
        """Let everything go."""
        for entry in self.entries:
            entry.let_go()
        self.forget()

    def forget(self) -> None:
        """Hold nothing any more, whatever becomes of it."""
        self.entries.clear()
        self.first_seq, self._next, self.held_bytes = self._highest + 1, 0, 0


def is_covered(entry: Entry, coverage: Mapping[str, Coverage]) -> bool:
    """Tell whether the daemon has it already, and from this client."""
    content = entry.content
    if not isinstance(content, Payload) or not (entry.sent or entry.again):
        return False
    held = coverage.get(content.main)
    return held is not None and content.held_by(held)


def cut(entry: Entry, max_bytes: int) -> Iterator[Entry]:
    """Cut an entry that another daemon's smaller limit refuses."""
    content = entry.content
    if not isinstance(content, Payload) or content.nbytes <= max_bytes:
        yield entry
        return
    for part in content.split(max_bytes):
        nbytes = part.nbytes
        if entry.place is not None:
            entry.place.live += 1
        yield replace(entry, content=part, nbytes=nbytes, held=nbytes)
    entry.let_go()
