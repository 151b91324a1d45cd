"""Any order of requests, outcomes, losses and failures keeps the session's promises.

A tiny model plays the clients, the pipeline and the disk. It alone decides what is settled and what
is durable, and holds every ack against that.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from support.sessions import Stage, block, coverage_of, layout_of, note
from usidstream import wire
from usidstream.errors import UsidstreamError
from usidstreamd.session import State, events

PEERS = (b"a", b"b", b"c")
DRAIN_ROUNDS = 12
RESUME_TIMEOUT_S = 150.0
peers = st.sampled_from(PEERS)

# The requests that the end of a scan answers.
ENDS_EVERYTHING = frozenset({"open", "join", "leave", "finish", "abort"})


@dataclass
class Client:
    """What a client knows of its part: the part's number, what it sent, what it was told."""

    part: int = 0
    sent: int = 0
    acked: tuple[int, int, int] = (0, 0, 0)
    is_opened: bool = False
    asked: set[str] = field(default_factory=set)

    def begin(self) -> None:
        self.part += 1
        self.sent, self.acked, self.is_opened = 0, (0, 0, 0), False


def is_error(action: events.Action, peer: bytes, operation: str) -> bool:
    if not isinstance(action, events.Send) or action.peer != peer:
        return False
    return isinstance(action.message, wire.Error) and action.message.operation == operation


def is_taken_in(action: events.Action) -> bool:
    """Tell whether this answers something that was next in order: placed, or refused for good."""
    if isinstance(action, events.Place):
        return True
    return (
        isinstance(action, events.Send)
        and isinstance(action.message, wire.Error)
        and action.message.code == "bad_checksum"
    )


class SessionModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(
            credit_window_bytes=1 << 20, join_timeout_s=60.0, resume_timeout_s=RESUME_TIMEOUT_S
        )
        self.last_contact_s = 0.0
        self.clients = {peer: Client() for peer in PEERS}
        self.placing: list[tuple[bytes, int, int]] = []
        self.settled: set[tuple[bytes, int, int]] = set()
        self.durable: set[tuple[bytes, int, int]] = set()
        self.snapshots: dict[int, set[tuple[bytes, int, int]]] = {}
        self.is_ready = False
        self.request(events.OpenRequested(peer=PEERS[0], layout=layout_of()), "open")

    @property
    def state(self) -> State:
        return self.stage.session.state

    # -- everything goes through here

    def do(self, event: events.Event) -> list[events.Action]:
        self.note_contact()
        actions = self.stage.do(event)
        self.note_contact()
        self.keep(actions)
        return actions

    def note_contact(self) -> None:
        if self.stage.session.peers:
            self.last_contact_s = self.stage.now

    def keep(self, actions: list[events.Action]) -> None:
        for action in actions:
            match action:
                case events.Send(peer=peer, message=message):
                    self.on_message(peer, message)
                case events.Place(peer=peer, item=item):
                    self.placing.append((peer, self.clients[peer].part, item.seq))
                case events.BeginCommit(marker=marker):
                    self.snapshots[marker] = set(self.settled)
                case events.Interrupt():
                    assert not self.stage.session.peers
                    assert self.stage.now - self.last_contact_s >= RESUME_TIMEOUT_S

    def on_message(self, peer: bytes, message: wire.Message) -> None:
        client = self.clients[peer]
        match message:
            case wire.Opened(role=role):
                assert not client.is_opened
                client.is_opened = True
                client.asked.discard("open" if role == "opener" else "join")
            case wire.Ack():
                self.on_ack(peer, client, message)
            case wire.Aborted():
                client.asked -= ENDS_EVERYTHING
            case wire.Finished(status=status):
                left = {
                    "leave",
                    "join",
                }  # a leave that comes before the answer to join cancels that
                client.asked -= left if status == "acquiring" else ENDS_EVERYTHING
            case wire.StatusReport():
                client.asked.discard("status")
            case wire.Error():
                self.on_error(peer, client, message)

    def on_ack(self, peer: bytes, client: Client, ack: wire.Ack) -> None:
        assert client.is_opened, "an ack before opened"
        told = (ack.received, ack.durable, ack.credit)
        assert all(new >= old for new, old in zip(told, client.acked, strict=True))
        client.acked = told
        assert ack.durable <= ack.received <= client.sent
        for seq in range(1, ack.received + 1):
            assert (peer, client.part, seq) in self.settled
        for seq in range(1, ack.durable + 1):
            assert (peer, client.part, seq) in self.durable

    def on_error(self, peer: bytes, client: Client, error: wire.Error) -> None:
        if error.operation in ("storage", "suspend"):
            client.asked -= ENDS_EVERYTHING
        if error.operation == "storage":
            client.asked.discard("status")
        if error.code == "superseded":
            client.asked -= {"open", "finish", "abort"}
        client.asked.discard(error.operation)
        if error.operation == "block" and error.code == "bad_checksum":
            assert client.acked[0] < error.seq, "the error comes before the ack"
            self.settled.add((peer, client.part, error.seq))

    def request(self, event: events.Request, operation: str) -> None:
        """Let a peer ask; a part begins unless that is refused or the scan is ending."""
        client = self.clients[event.peer]
        begins = operation in ("open", "join") and self.state not in (
            State.SEALED,
            State.FINALISING,
        )
        before = replace(client)
        client.asked.add(operation)
        if begins:
            client.begin()
        actions = self.do(event)
        if begins and any(is_error(action, event.peer, operation) for action in actions):
            client.part, client.sent = before.part, before.sent
            client.acked, client.is_opened = before.acked, before.is_opened
        elif begins:
            # A new part of the same connection: what the earlier one asked for is void.
            client.asked -= ENDS_EVERYTHING - {operation}

    def takes_part(self, peer: bytes) -> bool:
        return peer in self.stage.session.peers

    # -- what clients do

    @rule(peer=peers)
    def open(self, peer: bytes) -> None:
        self.request(events.OpenRequested(peer=peer, layout=layout_of()), "open")

    @rule(peer=peers)
    def open_another_layout(self, peer: bytes) -> None:
        layout = layout_of(attrs={"other": 1})
        if self.state not in (State.SEALED, State.FINALISING):
            self.request(events.OpenRequested(peer=peer, layout=layout), "open")

    @rule(peer=peers)
    def join(self, peer: bytes) -> None:
        self.request(events.JoinRequested(peer=peer), "join")

    @rule(peer=peers, good=st.booleans())
    def send_next(self, peer: bytes, good: bool) -> None:
        if self.takes_part(peer):
            client = self.clients[peer]
            client.sent += 1
            actions = self.send_block(peer, client.sent, good=good)
            if not any(map(is_taken_in, actions)):
                client.sent -= 1

    def send_block(self, peer: bytes, seq: int, *, good: bool = True) -> list[events.Action]:
        fields: dict[str, Any] = {} if good else {"crc": 0}
        return self.do(events.BlockArrived(peer=peer, block=block(seq, seq % 12, **fields)))

    @rule(peer=peers, skip=st.integers(-3, 3).filter(bool))
    def send_out_of_order(self, peer: bytes, skip: int) -> None:
        seq = max(0, self.clients[peer].sent + 1 + skip)
        placing = len(self.stage.placing)
        self.send_block(peer, seq)
        assert len(self.stage.placing) == placing

    @rule(peer=peers)
    def annotate(self, peer: bytes) -> None:
        client = self.clients[peer]
        client.sent += 1
        annotation = note(client.sent)
        actions = self.do(events.AnnotationArrived(peer=peer, annotation=annotation))
        if not any(map(is_taken_in, actions)):
            client.sent -= 1

    @rule(peer=peers, commit=st.booleans())
    def ping(self, peer: bytes, commit: bool) -> None:
        self.do(events.AckRequested(peer=peer, commit=commit))

    @rule(peer=peers)
    def ask_coverage(self, peer: bytes) -> None:
        self.request(events.CoverageRequested(peer=peer), "status")

    @rule(peer=peers, extra=st.integers(0, 2))
    def leave(self, peer: bytes, extra: int) -> None:
        seq = self.clients[peer].sent + extra
        self.request(events.LeaveRequested(peer=peer, seq=seq), "leave")

    @rule(peer=peers, extra=st.integers(0, 2))
    def finish(self, peer: bytes, extra: int) -> None:
        seq = self.clients[peer].sent + extra
        self.request(events.FinishRequested(peer=peer, seq=seq), "finish")

    @rule(peer=peers)
    def abort(self, peer: bytes) -> None:
        self.request(events.AbortRequested(peer=peer, reason=""), "abort")

    @rule(peer=peers)
    def vanish(self, peer: bytes) -> None:
        self.clients[peer].asked.clear()
        self.do(events.PeerLost(peer=peer))
        assert not self.takes_part(peer)

    # -- what the daemon does

    @rule(seconds=st.sampled_from([0.1, 6.0, 100.0]))
    def tick(self, seconds: float) -> None:
        now = self.stage.now + seconds
        if self.stage.session.peers:
            self.last_contact_s = now
        self.keep(self.stage.tick(now))

    @rule()
    def tell_acks(self) -> None:
        before = len(self.stage.sent)
        self.stage.acks()
        self.keep(self.stage.sent[before:])

    @precondition(lambda self: self.state is State.ACQUIRING)
    @rule(rarely=st.integers(0, 5))
    def suspend(self, rarely: int) -> None:
        if not rarely:
            self.do(events.SuspendRequested())

    @precondition(lambda self: not self.is_ready and self.state is State.OPENING)
    @rule()
    def make_file(self) -> None:
        self.is_ready = True
        coverage = coverage_of()
        self.do(events.StoreReady(file="/data/s.h5", positions=0, coverage=coverage))

    @precondition(lambda self: self.placing)
    @rule(choice=st.integers(0, 2), good=st.booleans())
    def settle(self, choice: int, good: bool) -> None:
        """Finish the oldest placement of any peer: order is kept for each peer alone."""
        waiting = list(dict.fromkeys(peer for peer, _, _ in self.placing))
        peer = waiting[choice % len(waiting)]
        key = next(key for key in self.placing if key[0] == peer)
        place = next(place for place in self.stage.placing if place.peer == peer)
        self.placing.remove(key)
        self.stage.placing.remove(place)
        self.settled.add(key)
        error = None if good else UsidstreamError("held", code="already_covered")
        nbytes = sum(len(frame) for frame in place.item.frames)
        self.do(events.Settled(peer=peer, seq=key[2], nbytes=nbytes, error=error))

    @precondition(lambda self: self.stage.commits)
    @rule()
    def commit(self) -> None:
        begun = self.stage.commits.popleft()
        if self.state is not State.FAILED:
            self.durable |= self.snapshots[begun.marker]
        coverage = {} if begun.coverage else None
        self.do(events.Committed(marker=begun.marker, positions=0, coverage=coverage))

    @precondition(lambda self: self.state is State.FINALISING)
    @rule()
    def finalise(self) -> None:
        end = self.stage.ends[0]
        assert isinstance(end, events.Finalise)
        aborted = end.ending is events.Ending.ABORT
        status = "aborted" if aborted else "complete"
        self.do(events.Finalised(file="/data/s.h5", status=status, missing={}))

    @precondition(lambda self: self.state in (State.CLOSING, State.INTERRUPTING))
    @rule()
    def close(self) -> None:
        self.do(events.StoreClosed())

    @precondition(lambda self: not self.stage.session.is_over)
    @rule(rarely=st.integers(0, 40))
    def fail(self, rarely: int) -> None:
        if not rarely:
            self.do(events.StoreFailed(error=UsidstreamError("broken", code="storage_failed")))

    # -- what always holds

    @invariant()
    def one_commit_at_a_time(self) -> None:
        assert len(self.stage.commits) <= 1

    @invariant()
    def at_most_one_end(self) -> None:
        assert len(self.stage.ends) <= 1
        if self.state in (State.ENDED, State.SUSPENDED, State.INTERRUPTED):
            assert len(self.stage.ends) == 1

    @invariant()
    def an_end_leaves_nothing_under_way(self) -> None:
        if self.stage.ends and self.state is not State.FAILED:
            assert not self.placing
            assert not self.stage.commits
            assert self.settled == self.durable

    @invariant()
    def one_opener_at_most(self) -> None:
        assert list(self.stage.session.peers.values()).count("opener") <= 1

    # -- in the end everything is answered

    def teardown(self) -> None:
        for _ in range(DRAIN_ROUNDS):
            self.drain_once()
        for peer, client in self.clients.items():
            assert not client.asked, (peer, client.asked, self.state)
        assert not self.placing
        assert not self.stage.commits
        if self.state is State.ACQUIRING:
            self.all_is_durable()
        assert self.state not in (State.SEALED, State.FINALISING, State.CLOSING)
        assert self.state is not State.INTERRUPTING
        if self.state is State.ACQUIRING:
            assert self.stage.session.peers, "a scan that nobody takes part in is interrupted"

    def drain_once(self) -> None:
        """Let clients send what was asked for again, and the daemon do all it wants."""
        for peer, client in self.clients.items():
            if self.takes_part(peer) and client.asked & {"leave", "finish"}:
                self.send_next(peer, good=True)
        while self.placing:
            self.settle(0, good=True)
        if not self.is_ready and self.state is State.OPENING:
            self.make_file()
        if self.stage.commits:
            self.commit()
        if self.state is State.FINALISING:
            self.finalise()
        if self.state in (State.CLOSING, State.INTERRUPTING):
            self.close()
        self.tick(100.0)
        self.tell_acks()

    def all_is_durable(self) -> None:
        for peer in self.stage.session.peers:
            self.ping(peer, commit=True)
        while self.stage.commits:
            self.commit()
        self.tell_acks()
        for peer in self.stage.session.peers:
            client = self.clients[peer]
            assert client.acked[:2] == (client.sent, client.sent)


SessionModel.TestCase.settings = settings(
    stateful_step_count=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestSessionModel = SessionModel.TestCase
