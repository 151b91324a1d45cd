"""The sender's side of one scan: what to send next, what to keep, what to tell the caller.

Pure: messages and the time come in, messages come out of `Delivery.take`. It knows the protocol; it
must never know sockets, threads or clocks. ``states`` holds what there is about states.

Callers may be interrupted (Ctrl-C) between any two steps, and what they had handed in must be there
all the same, once. The interpreter looks for signals where a call ends, a function begins and a
loop turns back, and nowhere else; so what belongs together is done where there is none of these.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import wire
from ..errors import BlockError, DeliveryError, UsidstreamError
from .coverage import Coverage
from .payload import Payload
from .refusal import about_block, forgotten, read_coverage, rows_hit, to_exception
from .retention import Entry, Retention, Segment, cut, is_covered
from .spool import Spool
from .states import GOAL_EVENTS, OPEN, TRANSITIONS, Event, Goal, State

RETAIN_LIMIT_BYTES = 96 << 20
MAX_BLOCK_RETRIES = 3
MAX_PENDING_ERRORS = 64
COMMIT_REPEAT_S = 0.25
ACK_REPEAT_S = 1.0
OPEN_RETRY_S = 0.25
OPEN_TIMEOUT_S = 60.0
STALL_S = 5.0
LONGEST_STALL_S = 60.0
RESEND_QUIET_S = 1.0
"""Every block behind a gap may ask for the same resend; one answer to all of them is enough."""

# Codes after which only a new connection helps.
_RECONNECT_CODES = frozenset({"no_session", "not_joined", "shutting_down"})
# Codes for which the first open is asked again instead of being refused to the caller.
_PATIENT_CODES = frozenset({"recovering", "shutting_down"})
# What tells of the daemon's state and answers no request, by its operation.
_NOTICE_OPERATION = "space"


@dataclass(frozen=True, slots=True)
class Outbound:
    """A block on its way: the message is made outside of any lock."""

    scan: str
    seq: int
    payload: Payload
    again: bool
    retries: int = 0
    """How often it was refused for a reason that a retry can mend."""

    def message(self) -> wire.Block:
        """Return the message."""
        block = self.payload
        return wire.Block(
            scan=self.scan,
            main=block.main,
            seq=self.seq,
            row=block.row,
            rows=block.rows,
            col=block.col,
            cols=block.cols,
            crc=block.crc,
            again=self.again,
            frames=block.frames,
        )


@dataclass
class Delivery:
    """One scan's delivery.

    Parameters
    ----------
    opening
        ``open`` or ``join``: what makes the daemon listen, on every connection.
    retain_limit_bytes
        What may be held until it is durable.
    spool
        Where what has no room in memory goes, if the caller gave one.
    """

    opening: wire.Open | wire.Join
    retain_limit_bytes: int = RETAIN_LIMIT_BYTES
    spool: Spool | None = None
    state: State = State.DETACHED
    goal: Goal = Goal.STREAM
    opened: wire.Opened | None = None
    result: wire.Finished | None = None
    failure: UsidstreamError | None = None
    declined: UsidstreamError | None = None
    notice: str = ""
    """What the daemon waits for at present, in its own words."""
    reconnect: str = ""
    """Why the link must be made anew; the owner of the link clears it."""
    durable_positions: int = 0
    progress: int = 0
    """Rises with every sign that something moved on."""
    again: bool = False
    """Every block may be there already, since the program sends a known scan again."""
    reserved_bytes: int = 0
    """Of the caller's open blocks, which are not handed in yet."""
    max_block_bytes: int = wire.MAX_BLOCK_BYTES
    kept: Retention = field(default_factory=Retention)
    coverage: Mapping[str, Coverage] = field(default_factory=dict)
    """What the daemon held when it was last opened."""
    _outbox: deque[wire.Message] = field(default_factory=deque)
    _pending: deque[UsidstreamError] = field(default_factory=deque)
    _unnamed_errors: int = 0
    _trusted: bool = False
    _attrs: Mapping[str, Any] = field(default_factory=dict)
    _reason: str = ""
    _commit_ticket: int = 0
    _commit_at: float = 0.0
    _quiet_since: float = 0.0
    _opening_since: float = 0.0
    _open_at: float = 0.0
    _gone_back: tuple[int, float] = (0, 0.0)
    _stall_at: float = 0.0
    _stall_s: float = STALL_S

    # ------------------------------------------------------------ from the caller

    @property
    def scan(self) -> str:
        """The scan's id."""
        return self.opening.scan

    @property
    def held_bytes(self) -> int:
        """What counts against the limit: what is in memory."""
        pending = 0 if self.spool is None else self.spool.pending_bytes
        return self.kept.held_bytes + self.reserved_bytes + pending

    @property
    def is_open(self) -> bool:
        """Whether blocks can travel now."""
        return self.state in OPEN

    @property
    def ended(self) -> bool:
        """Whether the daemon has told the result."""
        return self.state is State.DONE

    @property
    def troubled(self) -> bool:
        """Whether the next call has something to raise."""
        return self.failure is not None or bool(self._pending) or self._unnamed_errors > 0

    @property
    def is_behind(self) -> bool:
        """Whether blocks wait to be sent."""
        return self.kept.is_behind

    def has_room(self, nbytes: int) -> bool:
        """Whether so much more may be held; anything may when nothing is.

        With a spool, when nothing is on its way to the disk: what is in memory for sending need
        not go before.
        """
        if self.held_bytes + nbytes <= self.retain_limit_bytes:
            return True
        in_the_way = self.held_bytes - (0 if self.spool is None else self.kept.held_bytes)
        return not in_the_way

    def add_block(self, payload: Payload) -> None:
        """Hand in a block; as `add_blocks`."""
        self.add_blocks([payload])

    def add_blocks(self, payloads: Sequence[Payload]) -> None:
        """Hand in blocks, all or none; the caller has made sure of room.

        Done twice it does no harm, as by a caller whom an interrupt kept from seeing that it was.
        """
        if not payloads[0].is_handed_in:
            limit = self.max_block_bytes
            parts = [part for payload in payloads for part in payload.split(limit)]
            self._hand_in(self.kept.issue(parts, again=self.again), payloads[0])

    def _hand_in(self, entries: list[Entry], payload: Payload | None = None) -> None:
        kept, spool = self.kept, self.spool
        held, last_ticket = sum(entry.held for entry in entries), entries[-1].ticket
        is_diverted = spool is not None and spool.diverts(kept, held)
        # No call from here on, so no interrupt: all of it happens, or nothing.
        kept.last_ticket = last_ticket
        if spool is not None and is_diverted:
            spool.pending += entries
            spool.pending_bytes += held
        else:
            kept.entries += entries
            kept.held_bytes += held
        if payload is not None:
            payload.is_handed_in = True

    def annotation_nbytes(self, attrs: Mapping[str, Any]) -> int:
        """Return the bytes of a message with these attributes; raise if they have no message."""
        message = wire.Annotate(scan=self.scan, seq=wire.MAX_INT, attrs=dict(attrs))
        return sum(len(frame) for frame in wire.encode(message))

    def annotate(self, attrs: Mapping[str, Any], nbytes: int) -> None:
        """Hand in attributes; the caller has made sure of room."""
        self._hand_in([Entry(attrs, 0, nbytes, self.kept.last_ticket + 1)])

    def take_back(self, content: Payload | Mapping[str, Any], ticket: int, place: Segment) -> int:
        """Hand in what comes back from the disk.

        Returns
        -------
        int
            The rows that need not be sent, for the daemon holds them.
        """
        if not isinstance(content, Payload):
            nbytes = self.annotation_nbytes(content)
            self.kept.take_over(Entry(content, 0, nbytes, ticket, place=place))
            return 0
        nbytes, again = content.nbytes, self.again or place.is_inherited
        entry = Entry(content, nbytes, nbytes, ticket, again, place=place)
        if is_covered(entry, self.coverage):
            entry.let_go()
            return content.rows
        for part in cut(entry, self.max_block_bytes):
            self.kept.take_over(part)
        return 0

    def want_durable(self) -> int:
        """Ask for everything handed in to become durable; return the ticket to wait for."""
        self._commit_ticket = self.kept.last_ticket
        self._commit_at = 0.0
        return self._commit_ticket

    def is_durable(self, ticket: int) -> bool:
        """Whether everything up to a ticket is."""
        spooled = None if self.spool is None else self.spool.oldest_ticket
        return self.kept.oldest_ticket > ticket and (spooled is None or spooled > ticket)

    def aim(self, goal: Goal, attrs: Mapping[str, Any] | None = None, reason: str = "") -> None:
        """Set the goal; `take` asks the daemon for it as soon as that is right."""
        self.goal, self._attrs, self._reason = goal, attrs or {}, reason
        self.declined = None
        if goal is Goal.ABORT:
            self.kept.clear()
            if self.spool is not None:
                self.spool.clear()
        else:
            self.want_durable()

    def farewell(self) -> wire.Leave | None:
        """Return what tells the daemon that a joiner waits for nothing more, if it listens."""
        if self.state not in OPEN:
            return None
        return wire.Leave(scan=self.scan, seq=self.kept.highest_sent)

    def take_error(self) -> UsidstreamError | None:
        """Return an error about an earlier block, each once."""
        if self._pending:
            return self._pending.popleft()
        if not self._unnamed_errors:
            return None
        count, self._unnamed_errors = self._unnamed_errors, 0
        return BlockError(
            f"{count} further messages were refused",
            code="already_covered",
            hint="Ask for the missing positions and send those.",
        )

    def fail(self, error: UsidstreamError) -> None:
        """End the delivery for good."""
        if self._move(Event.FAIL):
            self.failure = error
            self.let_go()
            self._outbox.clear()
            self.progress += 1

    def let_go(self) -> None:
        """Hold nothing any more; what has a spool is kept there."""
        if self.spool is not None:
            self.spool.strand(self.kept)
        self.kept.clear()

    # ------------------------------------------------------------ from the link

    def link_up(self, max_block_bytes: int, now: float) -> None:
        """A connection is ready for messages about scans."""
        self.max_block_bytes = max_block_bytes
        if self._move(Event.LINK_UP):
            self._open(now)

    def link_down(self) -> None:
        """The connection is gone, with all that was on its way."""
        self._outbox.clear()
        self.reconnect = ""
        self._move(Event.LINK_DOWN)

    def _open(self, now: float) -> None:
        self._opening_since = now
        self._outbox.append(self.opening)

    def tick(self, now: float) -> None:
        """Let time pass."""
        if self.state is State.POSTPONED and now >= self._open_at:
            self._move(Event.RETRY)
            self._open(now)
        elif self.state is State.OPENING and now >= self._opening_since + OPEN_TIMEOUT_S:
            self.reconnect = f"no answer to {self.opening.type} within {OPEN_TIMEOUT_S:g} s"
        elif self.state in OPEN and self.kept.unsettled_sent and now >= self._stall_at:
            self._stall_at = now + self._stall_s
            self._stall_s = min(2 * self._stall_s, LONGEST_STALL_S)
            self.kept.go_back(self.kept.received + 1)

    def due_at(self) -> float | None:
        """Return when `tick` or `take` has something to do, if time alone brings it."""
        if self.state is State.POSTPONED:
            return self._open_at
        if self.state is State.OPENING:
            return self._opening_since + OPEN_TIMEOUT_S
        if self.state not in OPEN or not self.kept.entries:
            return None
        ping_at = self._ping_at()
        return min(ping_at, self._stall_at) if self.kept.unsettled_sent else ping_at

    def take(self, now: float) -> wire.Message | Outbound | None:
        """Return the next message to send, or None."""
        if self._outbox:
            return self._outbox.popleft()
        if self.state not in OPEN:
            return None
        if self._goal_is_ripe():
            return self._ask_for_goal()
        return self._next_entry(now) or self._next_ping(now)

    def _next_entry(self, now: float) -> wire.Message | Outbound | None:
        idle = not self.kept.unsettled_sent
        taken = self.kept.take()
        if taken is None:
            return None
        if idle:
            self._stall_s = STALL_S
            self._stall_at = now + self._stall_s
            self._quiet_since = now
        seq, entry = taken
        if isinstance(entry.content, Payload):
            return Outbound(self.scan, seq, entry.content, entry.again, entry.retries)
        # A refused entry keeps its place in the sequence with attributes that change nothing.
        return wire.Annotate(scan=self.scan, seq=seq, attrs=dict(entry.content or {}))

    def _wants_commit(self) -> bool:
        """Whether someone waits for durability: a caller, or the memory that it would free."""
        if not self.kept.undurable_sent:
            return False
        crowded = 2 * self.held_bytes > self.retain_limit_bytes
        return crowded or self.kept.oldest_ticket <= self._commit_ticket

    def _ping_at(self) -> float:
        """Return when to ask for the latest ack: while anything is held, one may have been lost."""
        ask_at = self._quiet_since + ACK_REPEAT_S
        return min(ask_at, self._commit_at) if self._wants_commit() else ask_at

    def _next_ping(self, now: float) -> wire.Message | None:
        if not self.kept.entries or now < self._ping_at():
            return None
        commit = self._wants_commit()
        self._quiet_since = now
        if commit:
            self._commit_at = now + COMMIT_REPEAT_S
        return wire.Ping(scan=self.scan, commit=commit)

    def _goal_is_ripe(self) -> bool:
        """Whether the daemon may be asked for the goal.

        A finish waits until everything was received, so that a refused block is known, and can be
        mended, before the scan is closed. A joiner leaves when all of its own is durable.
        """
        if (self.state, GOAL_EVENTS.get(self.goal)) not in TRANSITIONS:
            return False
        if self.goal is Goal.FINISH:
            return self.kept.all_received and self._nothing_spooled and not self._pending
        return self.goal is Goal.ABORT or (not self.kept.entries and self._nothing_spooled)

    @property
    def _nothing_spooled(self) -> bool:
        return self.spool is None or self.spool.idle

    def _ask_for_goal(self) -> wire.Message:
        self._move(GOAL_EVENTS[self.goal])
        if self.goal is Goal.ABORT:
            return wire.Abort(scan=self.scan, reason=self._reason)
        seq = self.kept.last_seq
        if self.goal is Goal.LEAVE:
            return wire.Leave(scan=self.scan, seq=seq)
        return wire.Finish(scan=self.scan, seq=seq, attrs=dict(self._attrs))

    # ------------------------------------------------------------ from the daemon

    def receive(self, message: wire.Message, now: float) -> None:
        """Take a message about this scan."""
        match message:
            case wire.Ack():
                self._on_ack(message, now)
            case wire.Resend():
                self._on_resend(message, now)
            case wire.Opened():
                self._on_opened(message, now)
            case wire.Finished():
                self._on_finished(message)
            case wire.Error():
                self._on_error(message, now)
            case _:
                return

    def _on_opened(self, message: wire.Opened, now: float) -> None:
        if self.state is not State.OPENING:
            return
        try:
            coverage = read_coverage(message)
        except UsidstreamError as error:
            self.fail(error)
            return
        if self._has_forgotten(message):
            self.fail(forgotten(self.scan, self.durable_positions, message.positions))
            return
        self._move(Event.OPENED)
        self.opened = self.opened or message
        self.durable_positions = message.positions
        self.coverage = coverage
        self.kept.restart(coverage, message.credit, self.max_block_bytes)
        self._gone_back = (0, now)
        self._commit_at, self._quiet_since = now, now
        self.notice = ""
        self.progress += 1

    def _has_forgotten(self, message: wire.Opened) -> bool:
        """Whether the daemon lacks what it had acknowledged as durable; nobody else has it now."""
        anew = isinstance(self.opening, wire.Open) and not message.resumed
        return (self._trusted and anew) or message.positions < self.durable_positions

    def _on_ack(self, message: wire.Ack, now: float) -> None:
        if self.state not in OPEN:
            return
        if message.credit > self.kept.credit:
            self.notice = ""
        try:
            moved = self.kept.acknowledge(message.received, message.durable, message.credit)
        except ValueError as error:
            self.fail(DeliveryError(str(error), code="delivery_failed"))
            return
        self.durable_positions = max(self.durable_positions, message.positions)
        self._trusted = self._trusted or message.durable > 0
        if moved:
            self.progress += 1
            self._stall_s = STALL_S
            self._stall_at = now + self._stall_s
        self._quiet_since = now

    def _on_resend(self, message: wire.Resend, now: float) -> None:
        if self.state not in OPEN:
            return
        seq, until = self._gone_back
        if message.seq == seq and now < until and self.kept.received < seq:
            return
        if self.kept.go_back(message.seq):
            self._gone_back = (message.seq, now + RESEND_QUIET_S)

    def _on_finished(self, message: wire.Finished) -> None:
        if self.state is State.DONE or not self._move(Event.ENDED):
            return
        self.result = message
        self.kept.clear()
        self.progress += 1

    def _on_error(self, message: wire.Error, now: float) -> None:
        error = to_exception(message)
        if message.code in _RECONNECT_CODES:  # whatever it answers: a block is not to blame
            self.reconnect = error.message
        elif message.seq:
            self._on_refused(message.seq, error)
        elif message.operation == _NOTICE_OPERATION:
            self.notice = f"{error.message}. {error.hint}"
        elif self.state is State.OPENING and message.operation in ("", self.opening.type):
            self._on_not_opened(error, now)
        elif error.fatal:
            self.fail(error)
        elif self._move(Event.DECLINED):
            self.goal, self.declined = Goal.STREAM, error
            self.progress += 1
        elif self.state is not State.DONE:
            self.remember(error)

    def _on_not_opened(self, error: UsidstreamError, now: float) -> None:
        patient = error.code in _PATIENT_CODES or (self.opened is not None and error.retryable)
        if not patient:
            self.fail(error)
            return
        self._move(Event.NOT_NOW)
        self.notice = error.message
        self._open_at = now + OPEN_RETRY_S

    def _on_refused(self, seq: int, error: UsidstreamError) -> None:
        """Settle a refused entry: silently again, in part, or as an error for the caller."""
        entry = self.kept.find(seq) if self.state in OPEN else None
        if entry is None:
            return
        self.progress += 1
        payload = entry.content
        if error.fatal:
            self.fail(error)
        elif not isinstance(payload, Payload):
            self.kept.drop(entry)
            self.remember(error)
        elif error.retryable and entry.retries < MAX_BLOCK_RETRIES:
            # Nothing of a damaged block was stored, unless another copy of it was sent.
            again = entry.again or error.code != "bad_checksum"
            self.kept.resubmit(entry, payload, again=again)
        else:
            self._on_refused_block(entry, payload, error)

    def _on_refused_block(self, entry: Entry, payload: Payload, error: UsidstreamError) -> None:
        refused = payload
        self.kept.drop(entry)
        if payload.single and error.code == "already_covered":
            hit = payload.refused_with(rows_hit(payload, error.details.get("ranges")))
            rest = payload.without(hit)
            if hit.any() and rest is not None:
                self.kept.resubmit(entry, rest, again=entry.again)
                refused = payload.only(hit)
        self.remember(about_block(error, refused))

    def remember(self, error: UsidstreamError) -> None:
        """Keep an error about an earlier block for the next call."""
        if len(self._pending) < MAX_PENDING_ERRORS:
            self._pending.append(error)
        else:
            self._unnamed_errors += 1

    def _move(self, event: Event) -> bool:
        target = TRANSITIONS.get((self.state, event))
        if target is None:
            return False
        self.state = target
        return True
