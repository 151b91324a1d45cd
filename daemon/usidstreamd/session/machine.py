"""A scan's life as a pure state machine: an event in, actions out.

It knows who takes part in a scan, which of their blocks have arrived, settled (been placed or
refused) and become durable, what credit each may use, and when a commit or the end is due. It never
knows sockets, files, threads or clocks (``now`` is handed in), nor the value of a single pixel:
where data goes is the assembly's affair, and the pipeline tells the outcome by further events.

Three rules carry it:

* `TRANSITIONS` is the whole truth about states: an event that is not in a state's row is refused
  with the code in `REFUSALS` if a peer asked for it, and is a fault of this program otherwise.
* Everything a peer is told is absolute (cumulative seq numbers, a credit total), so that a lost
  message costs nothing.
* A commit covers what had settled when it began. One commit is under way at a time; whoever needs
  another waits for the next.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from usidstream import wire
from usidstream.errors import UsidstreamError
from usidstream.layout import ScanLayout

from .blocks import check_block
from .events import (
    AbortRequested,
    AckRequested,
    Action,
    AnnotationArrived,
    BeginCommit,
    BlockArrived,
    CloseStore,
    Committed,
    Coverage,
    CoverageRequested,
    Drained,
    Ending,
    Event,
    Finalise,
    Finalised,
    FinishRequested,
    JoinersLate,
    JoinRequested,
    LeaveRequested,
    OpenRequested,
    PeerId,
    PeerLost,
    Place,
    Request,
    Send,
    Settled,
    StoreClosed,
    StoreFailed,
    StoreReady,
    SuspendRequested,
)
from .peers import Peer, Waiter
from .replies import error_message, pack_coverage, result_message
from .states import REFUSALS, TRANSITIONS, State

MAX_SUPERSEDED_COUNT = 64


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """The named limits that a session keeps."""

    credit_window_bytes: int = 16 << 20
    flush_interval_s: float = 5.0
    join_timeout_s: float = 60.0


class Session:
    """One scan between its opening and its end.

    Parameters
    ----------
    scan_id
        32 hexadecimal digits, chosen by the client.
    layout
        What the scan is.
    limits
        Credit, flush interval and the time joiners have.
    """

    def __init__(self, scan_id: str, layout: ScanLayout, limits: SessionLimits) -> None:
        self.scan_id = scan_id
        self.layout = layout
        self.limits = limits
        self.state = State.OPENING
        self.file = ""
        self.positions = 0
        self.failure: UsidstreamError | None = None
        self.blocks_refused = 0
        self._peers: dict[PeerId, Peer] = {}
        self._superseded: OrderedDict[PeerId, None] = OrderedDict()
        self._waiters: list[Waiter] = []
        self._result_waiters: dict[PeerId, None] = {}
        self._resumed = False
        self._in_flight: dict[PeerId, int] | None = None
        self._marker = 0
        self._dirty = False
        self._commit_again = False
        self._commit_coverage = False
        self._last_commit_s: float | None = None
        self._unplaced = 0
        self._suspend_wanted = False
        self._closing = False
        self._ending: Ending | None = None
        self._finish_seq = 0
        self._finish_by_s = 0.0
        self._final_attrs: dict[str, Any] = {}

    # -- entry points

    def receive(self, event: Event, now: float) -> list[Action]:
        """Take an event; return what is to be done, in order."""
        target = TRANSITIONS[self.state].get(type(event))
        if target is None:
            return self._refuse(event)
        try:
            actions: list[Action] = _HANDLERS[type(event)](self, event, now)
        except UsidstreamError as error:
            if not isinstance(event, Request):
                raise
            return [self._error(event, error)]
        self.state = target
        return actions + self._progress(now)

    def tick(self, now: float) -> list[Action]:
        """Do what is due by the clock: the periodic commit, the end of waiting for joiners."""
        if self._last_commit_s is None:
            self._last_commit_s = now
        actions: list[Action] = []
        if self.state is State.FINISHING and self._joiners() and now >= self._finish_by_s:
            actions += self.receive(JoinersLate(), now)
        due = now - self._last_commit_s >= self.limits.flush_interval_s
        idle = self._in_flight is None
        if due and idle and self._dirty and self.state in (State.ACQUIRING, State.FINISHING):
            actions += self._want_commit()
        return actions

    def take_acks(self) -> list[Action]:
        """Return an ack for every peer that has not been told the latest yet."""
        actions: list[Action] = []
        for peer_id, peer in self._peers.items():
            if self._facts(peer) != peer.told:
                actions.append(self._ack(peer_id, peer))
        return actions

    @property
    def peers(self) -> dict[PeerId, str]:
        """The connections that take part, with their role."""
        return {peer_id: peer.role for peer_id, peer in self._peers.items()}

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen here."""
        return self.state in (State.ENDED, State.SUSPENDED, State.FAILED)

    # -- opening, joining, leaving

    def _on_open(self, event: OpenRequested, _now: float) -> list[Action]:
        if event.layout != self.layout:
            raise UsidstreamError(
                f"scan {self.scan_id} was opened with another layout", code="layout_differs"
            )
        if self.state in (State.SEALED, State.FINALISING):
            self._result_waiters[event.peer] = None
            return []
        actions = self._supersede(event.peer)
        self._peers[event.peer] = Peer("opener")
        self._ending = None
        if self.state is State.OPENING:
            return actions
        self._resumed = True
        return actions + self._answer_after_commit(event.peer, "open")

    def _supersede(self, newcomer: PeerId) -> list[Action]:
        actions: list[Action] = []
        for peer_id in [p for p, peer in self._peers.items() if peer.role == "opener"]:
            del self._peers[peer_id]
            self._forget_waits(peer_id)
            if peer_id == newcomer:
                continue
            self._superseded[peer_id] = None
            if len(self._superseded) > MAX_SUPERSEDED_COUNT:
                self._superseded.popitem(last=False)
            error = UsidstreamError(
                f"another connection resumed scan {self.scan_id}", code="superseded"
            )
            actions.append(Send(peer=peer_id, message=error_message(error, "open", self.scan_id)))
        return actions

    def _on_join(self, event: JoinRequested, _now: float) -> list[Action]:
        if event.peer in self._peers:
            raise UsidstreamError(
                f"this connection takes part in scan {self.scan_id} already", code="bad_message"
            )
        self._peers[event.peer] = Peer("joiner")
        return self._answer_after_commit(event.peer, "join")

    def _on_leave(self, event: LeaveRequested, _now: float) -> list[Action]:
        peer = self._peer(event.peer)
        if peer.role != "joiner":
            raise UsidstreamError("the opener finishes or aborts", code="not_opener")
        peer.leaving = event.seq
        return self._leave_if_durable() or self._want_commit()

    def _on_peer_lost(self, event: PeerLost, _now: float) -> list[Action]:
        self._forget_waits(event.peer)
        peer = self._peers.pop(event.peer, None)
        if peer is not None and peer.role == "opener" and peer.settled >= self._finish_seq:
            self._finish_seq = 0
        return []

    def _forget_waits(self, peer: PeerId) -> None:
        self._waiters = [w for w in self._waiters if w.peer != peer]
        self._result_waiters.pop(peer, None)

    # -- data

    def _on_block(self, event: BlockArrived, _now: float) -> list[Action]:
        peer, block = self._peer(event.peer), event.block
        self._refuse_late(peer, block.seq)
        answer = self._out_of_order(event.peer, peer, block.seq)
        if answer is not None:
            return answer
        nbytes = sum(len(frame) for frame in block.frames)
        peer.arrived = block.seq
        peer.arrived_nbytes += nbytes
        try:
            self._check_credit(peer)
            check_block(self.layout, block)
        except UsidstreamError as error:
            return self._settle(Settled(peer=event.peer, seq=block.seq, nbytes=nbytes, error=error))
        self._unplaced += 1
        return [Place(peer=event.peer, item=block)]

    def _on_annotation(self, event: AnnotationArrived, _now: float) -> list[Action]:
        peer, note = self._peer(event.peer), event.annotation
        self._refuse_late(peer, note.seq)
        answer = self._out_of_order(event.peer, peer, note.seq)
        if answer is not None:
            return answer
        peer.arrived = note.seq
        self._unplaced += 1
        return [Place(peer=event.peer, item=note)]

    def _refuse_late(self, peer: Peer, seq: int) -> None:
        ended = self._ending is not None and peer.role == "opener"
        if ended and (self._ending is Ending.ABORT or seq > self._finish_seq):
            raise UsidstreamError(
                f"block {seq} came after the end of scan {self.scan_id}", code="scan_finished"
            )

    def _out_of_order(self, peer_id: PeerId, peer: Peer, seq: int) -> list[Action] | None:
        if seq == peer.arrived + 1:
            return None
        if seq <= peer.arrived:
            return [self._ack(peer_id, peer)]
        resend = wire.Resend(scan=self.scan_id, seq=peer.arrived + 1)
        return [Send(peer=peer_id, message=resend)]

    def _check_credit(self, peer: Peer) -> None:
        limit = peer.settled_nbytes + self.limits.credit_window_bytes
        if peer.arrived_nbytes > limit:
            raise UsidstreamError(
                f"{peer.arrived_nbytes} bytes were sent, {limit} were granted",
                code="credit_exceeded",
            )

    def _on_settled(self, event: Settled, _now: float) -> list[Action]:
        self._unplaced -= 1
        return self._settle(event)

    def _settle(self, event: Settled) -> list[Action]:
        peer = self._peers.get(event.peer)
        self._dirty = True
        if peer is not None:
            peer.settle(event.seq, event.nbytes)
        if event.error is None:
            return []
        self.blocks_refused += 1
        message = error_message(event.error, "block", self.scan_id, event.seq)
        return [Send(peer=event.peer, message=message)]

    def _on_ack_requested(self, event: AckRequested, _now: float) -> list[Action]:
        peer = self._peers.get(event.peer)
        if peer is None:
            return []
        actions = [self._ack(event.peer, peer)]
        can_commit = self.state in (State.ACQUIRING, State.FINISHING)
        return actions + (self._want_commit() if event.commit and can_commit else [])

    def _on_coverage_requested(self, event: CoverageRequested, _now: float) -> list[Action]:
        return self._answer_after_commit(event.peer, "status")

    # -- commits

    def _want_commit(self, *, coverage: bool = False) -> list[Action]:
        self._commit_coverage = self._commit_coverage or coverage
        if self._in_flight is not None:
            self._commit_again = True
            return []
        return [self._begin_commit()]

    def _begin_commit(self) -> Action:
        self._marker += 1
        self._in_flight = {peer_id: peer.settled for peer_id, peer in self._peers.items()}
        self._dirty = self._commit_again = False
        coverage, self._commit_coverage = self._commit_coverage, False
        return BeginCommit(marker=self._marker, coverage=coverage)

    def _on_committed(self, event: Committed, now: float) -> list[Action]:
        self.positions = event.positions
        self._last_commit_s = now
        for peer_id, settled in (self._in_flight or {}).items():
            if peer_id in self._peers:
                peer = self._peers[peer_id]
                peer.durable = max(peer.durable, settled)
        self._in_flight = None
        actions = self._answer_waiters(event) + self._leave_if_durable()
        if self._commit_again:
            actions.append(self._begin_commit())
        return actions

    def _answer_after_commit(self, peer: PeerId, kind: str) -> list[Action]:
        actions = self._want_commit(coverage=True)
        marker = self._marker + (1 if self._commit_again else 0)
        self._waiters.append(Waiter(peer, marker, kind))
        return actions

    def _answer_waiters(self, event: Committed) -> list[Action]:
        ready = [w for w in self._waiters if w.marker <= event.marker]
        self._waiters = [w for w in self._waiters if w.marker > event.marker]
        coverage = event.coverage or {}
        return [self._coverage_answer(w.peer, w.kind, coverage) for w in ready]

    def _coverage_answer(self, peer: PeerId, kind: str, coverage: Coverage) -> Action:
        if kind != "status":
            return self._opened(peer, coverage, with_layout=kind == "join")
        frames: list[wire.Frame] = []
        report = wire.StatusReport(
            daemon={},
            scans=[self.describe()],
            coverage=pack_coverage(coverage, frames),
            frames=frames,
        )
        return Send(peer=peer, message=report)

    def _opened(self, peer: PeerId, coverage: Coverage, *, with_layout: bool) -> Action:
        frames: list[wire.Frame] = []
        layout = wire.pack_layout(self.layout.to_dict(), frames) if with_layout else {}
        message = wire.Opened(
            scan=self.scan_id,
            file=self.file,
            role="joiner" if with_layout else "opener",
            resumed=self._resumed,
            credit=self.limits.credit_window_bytes,
            positions=self.positions,
            coverage=pack_coverage(coverage, frames),
            layout=layout,
            frames=frames,
        )
        return Send(peer=peer, message=message)

    def _leave_if_durable(self) -> list[Action]:
        gone = [
            peer_id
            for peer_id, peer in self._peers.items()
            if peer.leaving is not None and peer.durable >= peer.leaving
        ]
        actions: list[Action] = []
        for peer_id in gone:
            del self._peers[peer_id]
            message = wire.Finished(scan=self.scan_id, file=self.file, status="acquiring")
            actions.append(Send(peer=peer_id, message=message))
        return actions

    # -- the file

    def _on_ready(self, event: StoreReady, now: float) -> list[Action]:
        self.file, self.positions, self._last_commit_s = event.file, event.positions, now
        self._resumed = any(len(c.complete) or len(c.partial) for c in event.coverage.values())
        return [self._opened(p, event.coverage, with_layout=False) for p in self._peers]

    def _on_failed(self, event: StoreFailed, _now: float) -> list[Action]:
        if self.failure is not None:
            return []
        self.failure = event.error
        told = dict.fromkeys([*self._peers, *self._result_waiters])
        message = error_message(event.error, "storage", self.scan_id)
        return [Send(peer=peer, message=message) for peer in told]

    def _on_suspend(self, _event: SuspendRequested, _now: float) -> list[Action]:
        self._suspend_wanted = True
        if self.state not in (State.ACQUIRING, State.FINISHING):
            return []
        error = UsidstreamError("the daemon is stopping", code="shutting_down")
        message = error_message(error, "suspend", self.scan_id)
        told: list[Action] = [Send(peer=peer, message=message) for peer in self._peers]
        return told

    def _on_store_closed(self, _event: StoreClosed, _now: float) -> list[Action]:
        return []

    # -- the end

    def _on_finish(self, event: FinishRequested, now: float) -> list[Action]:
        if self._waits_for_result(event.peer):
            return []
        peer = self._opener(event.peer, "finish")
        self._ending, self._finish_seq = Ending.FINISH, event.seq
        self._final_attrs = dict(event.attrs)
        self._finish_by_s = now + self.limits.join_timeout_s
        self._result_waiters[event.peer] = None
        if event.seq > peer.arrived:
            resend = wire.Resend(scan=self.scan_id, seq=peer.arrived + 1)
            return [Send(peer=event.peer, message=resend)]
        return []

    def _on_abort(self, event: AbortRequested, _now: float) -> list[Action]:
        if self._waits_for_result(event.peer):
            return []
        self._opener(event.peer, "abort")
        self._ending = Ending.ABORT
        self._final_attrs = {"abort_reason": event.reason} if event.reason else {}
        self._result_waiters[event.peer] = None
        return []

    def _waits_for_result(self, peer: PeerId) -> bool:
        if self.state not in (State.SEALED, State.FINALISING):
            return False
        self._result_waiters[peer] = None
        return True

    def _on_joiners_late(self, _event: JoinersLate, _now: float) -> list[Action]:
        joiners = self._joiners()
        error = UsidstreamError(
            f"{len(joiners)} joined client(s) did not leave within "
            f"{self.limits.join_timeout_s:g} s: {', '.join(p.hex() for p in joiners)}",
            code="joiners_busy",
        )
        self._ending = None
        waiting, self._result_waiters = self._result_waiters, {}
        message = error_message(error, "finish", self.scan_id)
        return [Send(peer=peer, message=message) for peer in waiting]

    def _on_drained(self, _event: Drained, _now: float) -> list[Action]:
        if self.state is State.FINISHING:
            return self._want_commit()
        return [Finalise(ending=self._ending or Ending.FINISH, attrs=self._final_attrs)]

    def _on_finalised(self, event: Finalised, _now: float) -> list[Action]:
        told = dict.fromkeys([*self._result_waiters, *self._peers])
        message = result_message(self.scan_id, self.file, event.status, event.missing)
        return [Send(peer=peer, message=message) for peer in told]

    def _progress(self, now: float) -> list[Action]:
        """Take the steps that become possible by themselves."""
        if self.state is State.ACQUIRING and self._suspend_wanted:
            return self.receive(SuspendRequested(), now)
        if self.state is State.FINISHING and self._is_drained():
            return self.receive(Drained(), now)
        if self.state is State.SEALED and self._in_flight is None:
            return self.receive(Drained(), now)
        if self.state is State.SUSPENDING and self._in_flight is None and not self._unplaced:
            return self._suspend()
        return []

    def _suspend(self) -> list[Action]:
        if self._dirty:
            return [self._begin_commit()]
        if self._closing:
            return []
        self._closing = True
        return [CloseStore()]

    def _is_drained(self) -> bool:
        if self._unplaced:
            return False
        if self._ending is Ending.ABORT:
            return True
        return not self._joiners() and self._is_opener_done()

    def _is_opener_done(self) -> bool:
        openers = [peer for peer in self._peers.values() if peer.role == "opener"]
        return all(peer.settled >= self._finish_seq for peer in openers) and (
            bool(openers) or self._finish_seq == 0
        )

    # -- small helpers

    def describe(self) -> dict[str, Any]:
        """Tell the scan's standing as plain values, for status."""
        return {
            "scan": self.scan_id,
            "name": self.layout.name,
            "file": self.file,
            "state": self.state.value,
            "positions": self.positions,
            "n_positions": self.layout.n_positions,
            "mains": [main.name for main in self.layout.mains],
            "clients": len(self._peers),
            "failure": str(self.failure) if self.failure else "",
        }

    def _joiners(self) -> list[PeerId]:
        return [peer_id for peer_id, peer in self._peers.items() if peer.role == "joiner"]

    def _peer(self, peer_id: PeerId) -> Peer:
        peer = self._peers.get(peer_id)
        if peer is not None:
            return peer
        if peer_id in self._superseded:
            raise UsidstreamError(
                f"another connection resumed scan {self.scan_id}", code="superseded"
            )
        raise UsidstreamError(
            f"this connection does not take part in scan {self.scan_id}", code="not_joined"
        )

    def _opener(self, peer_id: PeerId, operation: str) -> Peer:
        peer = self._peer(peer_id)
        if peer.role != "opener":
            raise UsidstreamError(f"a joined client cannot {operation}", code="not_opener")
        return peer

    def _facts(self, peer: Peer) -> tuple[int, int, int, int]:
        credit = peer.settled_nbytes + self.limits.credit_window_bytes
        return (peer.settled, peer.durable, credit, self.positions)

    def _ack(self, peer_id: PeerId, peer: Peer) -> Action:
        peer.told = self._facts(peer)
        received, durable, credit, positions = peer.told
        message = wire.Ack(
            scan=self.scan_id,
            received=received,
            durable=durable,
            credit=credit,
            positions=positions,
        )
        return Send(peer=peer_id, message=message)

    def _refuse(self, event: Event) -> list[Action]:
        if not isinstance(event, Request):
            # A peer could not cause this, so there is nobody to refuse it to.
            name = type(event).__name__
            raise RuntimeError(f"scan {self.scan_id}: {name} in state {self.state.value}")  # noqa: TRY004 - a state, not a type, is wrong
        code = REFUSALS[self.state]
        error = self.failure or UsidstreamError(
            f"scan {self.scan_id} is {self.state.value}", code=code
        )
        return [self._error(event, error)]

    def _error(self, event: Request, error: UsidstreamError) -> Action:
        operation, seq = _OPERATIONS[type(event)], 0
        if isinstance(event, BlockArrived):
            seq = event.block.seq
        elif isinstance(event, AnnotationArrived):
            seq = event.annotation.seq
        message = error_message(error, operation, self.scan_id, seq)
        return Send(peer=event.peer, message=message)


_HANDLERS: Mapping[type[Event], Any] = MappingProxyType(
    {
        OpenRequested: Session._on_open,
        JoinRequested: Session._on_join,
        LeaveRequested: Session._on_leave,
        BlockArrived: Session._on_block,
        AnnotationArrived: Session._on_annotation,
        AckRequested: Session._on_ack_requested,
        CoverageRequested: Session._on_coverage_requested,
        FinishRequested: Session._on_finish,
        AbortRequested: Session._on_abort,
        PeerLost: Session._on_peer_lost,
        StoreReady: Session._on_ready,
        Settled: Session._on_settled,
        Committed: Session._on_committed,
        JoinersLate: Session._on_joiners_late,
        Drained: Session._on_drained,
        Finalised: Session._on_finalised,
        SuspendRequested: Session._on_suspend,
        StoreClosed: Session._on_store_closed,
        StoreFailed: Session._on_failed,
    }
)

_OPERATIONS: Mapping[type[Request], str] = MappingProxyType(
    {
        OpenRequested: "open",
        JoinRequested: "join",
        LeaveRequested: "leave",
        BlockArrived: "block",
        AnnotationArrived: "annotate",
        FinishRequested: "finish",
        AbortRequested: "abort",
        AckRequested: "ping",
        CoverageRequested: "status",
    }
)
