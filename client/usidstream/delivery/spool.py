"""What of a scan is on the client's disk, which part of it only there, and what may go.

Blocks form one queue: first those that `Retention` has in memory, in the order of sending; then
those *waiting*, on the disk alone; last those *pending*, in memory and not written yet. A block is
diverted from memory to the end of that queue as soon as memory is filled to its share, or anything
waits or is pending already; it comes back in order when memory has room and the daemon listens.

What is in memory is written as well, from the moment that the daemon is away or that a block was
diverted: someone who gives a spool expects that a client that dies then loses no more than its last
moments. While all goes well nothing is written, so that a spool that is not needed costs nothing;
the price is that a client killed then loses what the daemon had not made durable, as without one.

The disk holds *segments*: runs of blocks with consecutive tickets, named after the first, so that
their names give the order of all blocks, whenever each was written. A segment goes when no block
in it is needed any more. This module knows entries, tickets and sizes; it must never know files,
threads or messages.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .retention import Entry, Retention, Segment

SPOOL_LIMIT_MB = 10_000
SEGMENT_TARGET_BYTES = 16 << 20
WRITE_BATCH_BYTES = 8 << 20
READ_BATCH_BYTES = 4 << 20
MAX_MEMORY_ENTRIES_COUNT = 20_000
"""Blocks of few bytes cost more memory than they count: beyond so many, the disk takes over."""


@dataclass
class Spool:
    """The book-keeping of one scan's spool.

    Parameters
    ----------
    memory_bytes
        How much may be held in memory before blocks are diverted: two thirds of what the
        caller allowed, so that there is room for what is pending.
    limit_bytes
        How much the disk may hold.
    """

    memory_bytes: int
    limit_bytes: int
    segments: list[Segment] = field(default_factory=list)
    pending: deque[Entry] = field(default_factory=deque)
    pending_bytes: int = 0
    is_stranded: bool = False
    """Nothing is sent any more: what is not on the disk has to get there, and what is stays."""
    _current: Segment | None = None
    _first_waiting: int = 0
    _base: int = 0
    _serial: int = 0

    # ------------------------------------------------------------ the queue

    @property
    def waiting(self) -> int:
        """The number of blocks that are on the disk alone."""
        return sum(segment.waiting for segment in self.segments)

    @property
    def idle(self) -> bool:
        """Whether the queue behind memory is empty."""
        return not self.pending and not any(segment.waiting for segment in self.segments)

    @property
    def live(self) -> int:
        """The number of blocks on the disk that are not known to be durable."""
        return sum(segment.live for segment in self.segments)

    @property
    def nbytes(self) -> int:
        """What the segments take on the disk."""
        return sum(segment.nbytes for segment in self.segments)

    @property
    def room_bytes(self) -> int:
        """What the disk may take yet."""
        return self.limit_bytes - self.nbytes

    @property
    def is_crowded(self) -> bool:
        """Whether what is pending takes so much memory that callers will soon have to wait."""
        return 8 * self.pending_bytes > self.memory_bytes

    @property
    def oldest_ticket(self) -> int | None:
        """The ticket of the first block behind those in memory."""
        if any(segment.waiting for segment in self.segments):
            return self._first_waiting
        return self.pending[0].ticket if self.pending else None

    def diverts(self, kept: Retention, nbytes: int) -> bool:
        """Whether a new block goes to the end of the queue instead of into memory."""
        return self.is_stranded or not self.idle or not self._fits(kept, nbytes)

    def _fits(self, kept: Retention, nbytes: int) -> bool:
        if not kept.entries:
            return True
        has_place = len(kept.entries) < MAX_MEMORY_ENTRIES_COUNT
        return has_place and kept.held_bytes + nbytes <= self.memory_bytes

    def advance(self, kept: Retention) -> bool:
        """Move pending entries straight to memory where nothing waits; return whether any moved."""
        moved = False
        while self.pending and not self.waiting and self._fits(kept, self.pending[0].held):
            entry = self.pending.popleft()
            self.pending_bytes -= entry.held
            kept.take_over(entry)
            moved = True
        return moved

    # ------------------------------------------------------------ to the disk

    def to_write(self, kept: Retention, *, away: bool) -> list[Entry]:
        """Return the entries to write next: a run of consecutive tickets, of bounded size.

        Parameters
        ----------
        away
            The daemon does not listen.
        """
        engaged = away or not self.idle
        late = self.is_stranded or self.is_crowded or not engaged
        unplaced = [] if late else _unplaced(kept)
        return _run(unplaced or self.pending)

    def place(self, entries: Sequence[Entry]) -> Segment:
        """Return the segment for a run of entries; one whose ``nbytes`` is 0 has to be made."""
        first, current = entries[0].ticket, self._current
        if (
            current is not None
            and current.nbytes < SEGMENT_TARGET_BYTES
            and 0 <= first - current.last_ticket <= 1
        ):
            return current
        self._serial += 1
        return Segment(self._base + first, self._serial)

    def written(self, entries: Sequence[Entry], segment: Segment, offset: int, nbytes: int) -> None:
        """Take note that entries are on the disk, safely.

        Parameters
        ----------
        offset
            Where the first one stands in the segment.
        nbytes
            What the segment takes now.
        """
        if segment not in self.segments:
            insort(self.segments, segment)
        self._current = segment
        segment.nbytes, segment.last_ticket = nbytes, entries[-1].ticket
        pending = {id(entry) for entry in self.pending}
        for entry in entries:
            # What became durable, or was given up, meanwhile, left no content.
            if entry.content is None:
                continue
            segment.live += 1
            entry.place = segment
            if id(entry) in pending:
                self._evict(entry, segment, offset)
        self.pending = deque(entry for entry in self.pending if entry.place is None)

    def _evict(self, entry: Entry, segment: Segment, offset: int) -> None:
        if not self.waiting:
            self._first_waiting = entry.ticket
        if not segment.waiting:
            segment.waiting_at = offset
        segment.waiting += 1
        self.pending_bytes -= entry.held
        entry.content = None

    def end_segment(self) -> None:
        """Append nothing more to the present segment: it is not to be trusted with more."""
        self._current = None

    # ------------------------------------------------------------ from the disk

    def to_load(self, kept: Retention) -> Segment | None:
        """Return the segment of the next block that goes to memory, if there is room."""
        for segment in self.segments:
            if segment.waiting:
                return segment if self._fits(kept, self.load_bytes) else None
        return None

    @property
    def load_bytes(self) -> int:
        """How much is read at a time."""
        return min(READ_BATCH_BYTES, self.memory_bytes // 4)

    def loaded(self, segment: Segment, waiting_at: int, count: int) -> range:
        """Take note that the first blocks of those waiting were read, or were found damaged.

        Returns
        -------
        range
            Their tickets. Each still counts as live until its entry, or `forget`, settles it.
        """
        first = self._first_waiting
        segment.waiting -= count
        segment.waiting_at = waiting_at
        self._first_waiting += count
        return range(first, first + count)

    def adopt(self, segments: Iterable[Segment], kept: Retention) -> None:
        """Take over what an earlier process left: it goes first."""
        self.segments = sorted(segments)
        for segment in self.segments:
            segment.live = segment.waiting
            self._serial = max(self._serial, segment.serial)
        if self.segments:
            self._base = self.segments[-1].number
            self._first_waiting = kept.last_ticket + 1
            kept.skip_tickets(self.waiting)

    # ------------------------------------------------------------ the end

    def dead(self) -> list[Segment]:
        """Return the segments that nobody needs, and forget them."""
        dead = [segment for segment in self.segments if not segment.live]
        if dead:
            self.segments = [segment for segment in self.segments if segment.live]
            if self._current in dead:
                self._current = None
        return dead

    def strand(self, kept: Retention) -> None:
        """Nothing is sent any more: keep what is on the disk, and bring the rest there."""
        if not self.is_stranded:
            self.pending = deque([*_unplaced(kept), *self.pending])
            self.pending_bytes = sum(entry.held for entry in self.pending)
            self.is_stranded = True
            kept.forget()

    def clear(self) -> None:
        """Let everything go: it is durable, or was given up."""
        for entry in self.pending:
            entry.content = None
        self.pending.clear()
        self.pending_bytes = 0
        for segment in self.segments:
            segment.waiting = segment.live = 0


def _unplaced(kept: Retention) -> list[Entry]:
    """Return what is in memory alone, by ticket; what was refused and mended is out of order."""
    entries = [e for e in kept.entries if e.content is not None and e.place is None]
    entries.sort(key=lambda entry: entry.ticket)
    return entries


def _run(entries: Iterable[Entry]) -> list[Entry]:
    """Return the first entries, as far as tickets are consecutive and a batch goes."""
    run: list[Entry] = []
    nbytes = 0
    for entry in entries:
        is_next = not run or 0 <= entry.ticket - run[-1].ticket <= 1
        # Parts of one block share its ticket, and stay together.
        is_part = bool(run) and entry.ticket == run[-1].ticket
        if not is_next or (nbytes >= WRITE_BATCH_BYTES and not is_part):
            break
        run.append(entry)
        nbytes += entry.held
    return run
