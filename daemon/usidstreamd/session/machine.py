"""A scan's life as a pure state machine: an event in, actions out.

It knows who takes part in a scan, which of their blocks have arrived, settled (been placed or
refused) and become durable, what credit each may use, and when a commit or the end is due. It never
knows sockets, files, threads or clocks (``now`` is handed in), nor the value of a single pixel:
where data goes is the assembly's affair, and the pipeline tells the outcome by further events.

Four rules carry it:

* `TRANSITIONS` is the whole truth about states: an event that is not in a state's row is refused
  with the code in `REFUSALS` if a peer asked for it, and is a fault of this program otherwise.
* Everything a peer is told is absolute (cumulative seq numbers, a credit total), so that a lost
  message costs nothing.
* A handler changes what is known and answers; what becomes possible by that (a commit, the end) is
  found in one place, after each event: `Steps` says what, `Session._progress` does it.
* A peer hears of its scan only after `opened`: an ack before it would speak of other numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from usidstream import wire
from usidstream.errors import UsidstreamError
from usidstream.layout import ScanLayout

from .absence import Absence
from .commits import Commits, Waiter
from .conclusion import Conclusion
from .events import (
    AbortRequested,
    AckRequested,
    Action,
    AnnotationArrived,
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
    FinishWithdrawn,
    Interrupt,
    JoinersLate,
    JoinRequested,
    LeaveRequested,
    NoteContact,
    OpenRequested,
    PeerId,
    PeerLost,
    Request,
    ResumeTimedOut,
    Send,
    Settled,
    StoreClosed,
    StoreFailed,
    StoreReady,
    SuspendRequested,
)
from .intake import Intake, SessionLimits
from .peers import Peer, Roster, superseded
from .replies import (
    coverage_report,
    error_message,
    opened_message,
    refusal_message,
    result_message,
)
from .states import REFUSALS, TRANSITIONS, State
from .steps import Steps


class Session:
    """One scan between its opening and its end.

    Parameters
    ----------
    scan_id
        32 hexadecimal digits, chosen by the client.
    layout
        What the scan is.
    limits
        Credit, block size, flush interval, and the time that joiners and absent clients have.
    last_contact_s
        When a client took part in the scan before, on the clock of ``now``; None for a new one.
    """

    def __init__(
        self,
        scan_id: str,
        layout: ScanLayout,
        limits: SessionLimits,
        last_contact_s: float | None = None,
    ) -> None:
        self.scan_id = scan_id
        self.layout = layout
        self.limits = limits
        self.state = State.OPENING
        self.file = ""
        self.failure: UsidstreamError | None = None
        self._roster = Roster(scan_id)
        self._commits = Commits(self._roster, limits.commit_interval_s)
        self._conclusion = Conclusion()
        self._absence = Absence(limits.resume_timeout_s, last_contact_s)
        self._steps = Steps(self._roster, self._commits, self._conclusion, self._absence)
        self._intake = Intake(
            scan_id,
            layout,
            limits,
            roster=self._roster,
            commits=self._commits,
            conclusion=self._conclusion,
        )
        self._resumed = False
        self._suspend_wanted = False

    def adjust(self, limits: SessionLimits) -> None:
        """Keep other intervals and time-outs from now on; credit and block size stay."""
        self.limits = limits
        self._commits.interval_s = limits.commit_interval_s
        self._absence.timeout_s = limits.resume_timeout_s

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
            return [self._refusal(event, error)]
        self.state = target
        self._absence.see(now, is_anybody_here=len(self._roster) > 0)
        self._commits.see(now, is_anything_waiting=self._has_news)
        return actions + self._progress(now)

    def tick(self, now: float) -> list[Action]:
        """Do what is due by the clock: the periodic commit, the end of waiting for clients.

        A scan that is to be suspended waits for no room on the disk: nobody was told that what has
        found none is durable.
        """
        stuck = self._intake.stuck
        if self._suspend_wanted and stuck is not None and not self.is_over:
            return self.receive(StoreFailed(error=_stopped_while(stuck)), now)
        if self.state not in (State.ACQUIRING, State.FINISHING):
            return []
        is_commit_due = self._commits.tick(now)
        self._absence.see(now, is_anybody_here=len(self._roster) > 0)
        notes: list[Action] = [NoteContact()] if self._absence.take_note(now) else []
        step = self._steps.overdue(self.state, now)
        if step is not None:
            return notes + self.receive(step, now)
        return notes + self._progress(now) if is_commit_due else notes

    def take_acks(self, now: float) -> list[Action]:
        """Return an ack for every peer that has not been told what it should know by now."""
        if self.state in (State.ENDED, State.FAILED):
            return []
        return self._intake.take_acks(now)

    def note_shortage(self, source: str, error: UsidstreamError | None) -> list[Action]:
        """Hold credit while anything lacks room on the disk; tell who takes part, once.

        This has nothing to do with states: acks go on, and so does the end.

        Parameters
        ----------
        source
            What lacks room, each by itself: ``disk`` where it only runs short, anything else where
            something of this scan waits already.
        error
            What peers are told; None when there is room again.
        """
        actions = self._intake.note_shortage(source, error)
        return [] if self.is_over else actions

    @property
    def shortage(self) -> UsidstreamError | None:
        """Why credit is held; None while it is not."""
        return self._intake.shortage

    @property
    def is_stuck(self) -> bool:
        """Whether something of this scan waits for room on the disk."""
        return self._intake.stuck is not None

    @property
    def promised_nbytes(self) -> int:
        """What peers may still send without asking."""
        return self._intake.promised_nbytes

    @property
    def positions(self) -> int:
        """The number of positions durable in every main."""
        return self._commits.positions

    @property
    def _has_news(self) -> bool:
        return self._commits.is_dirty or self._roster.unplaced > 0

    def lag_s(self, now: float) -> float:
        """Return the age of the oldest data that is not durable, 0 if all is."""
        oldest_s = self._commits.oldest_s
        return 0.0 if oldest_s is None else now - oldest_s

    @property
    def last_contact_s(self) -> float | None:
        """When a client took part last, None before the first event."""
        return self._absence.last_contact_s

    @property
    def blocks_refused(self) -> int:
        """How many blocks and annotations were taken in and refused."""
        return self._intake.blocks_refused

    @property
    def blocks_arrived(self) -> int:
        """How many blocks and annotations were taken in."""
        return self._intake.blocks_arrived

    @property
    def may_send(self) -> bool:
        """Whether nothing here keeps clients from sending: all that came is placed."""
        return self.shortage is None and self._roster.unplaced == 0

    @property
    def peers(self) -> dict[PeerId, str]:
        """The connections that take part, with their role."""
        return {peer_id: peer.role for peer_id, peer in self._roster}

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen here."""
        return self.state in _OVER

    @property
    def commit_due_s(self) -> float | None:
        """When a commit is due by the clock; None if there is nothing to commit, or one runs."""
        return self._commits.due_s

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
            "clients": len(self._roster),
            "blocks_refused": self.blocks_refused,
            "failure": str(self.failure) if self.failure else "",
            "shortage": self.shortage.message if self.shortage else "",
        }

    # -- what becomes possible after an event

    def _progress(self, now: float) -> list[Action]:
        step = self._steps.possible(self.state, is_suspend_wanted=self._suspend_wanted)
        if step is not None:
            return self.receive(step, now)
        if self.state not in _COMMITTING:
            return []
        if self.state is State.SUSPENDING and not self._roster.unplaced and self._commits.is_dirty:
            self._commits.want()
        commit = self._commits.begin(now)
        return [commit] if commit else []

    # -- opening, joining, leaving

    def _on_open(self, event: OpenRequested, _now: float) -> list[Action]:
        if event.layout != self.layout:
            raise UsidstreamError(
                f"scan {self.scan_id} was opened with another layout", code="layout_differs"
            )
        if self.state in _CONCLUDED:
            self._conclusion.await_result(event.peer)
            return []
        actions = self._take_over(event.peer)
        self._roster.enter(event.peer, "opener", pace=event.pace)
        if self.state is not State.OPENING:
            self._resumed = True
            self._commits.answer_after_next(event.peer, "open")
        return actions

    def _take_over(self, newcomer: PeerId) -> list[Action]:
        self._end_part(newcomer)
        self._conclusion.withdraw()
        former = self._roster.supersede_opener()
        if former is None:
            return []
        self._commits.forget(former, "open")
        message = error_message(superseded(self.scan_id), "open", self.scan_id)
        return [Send(peer=former, message=message)]

    def _on_join(self, event: JoinRequested, _now: float) -> list[Action]:
        if self._roster.find(event.peer) is not None:
            raise UsidstreamError(
                f"this connection takes part in scan {self.scan_id} already", code="already_joined"
            )
        self._roster.enter(event.peer, "joiner", event.client, event.pace)
        self._commits.answer_after_next(event.peer, "join")
        return []

    def _on_leave(self, event: LeaveRequested, _now: float) -> list[Action]:
        peer = self._roster.require(event.peer)
        if peer.role != "joiner":
            raise UsidstreamError("the opener does not leave its scan", code="not_joiner")
        self._intake.refuse_low_seq(peer, event.seq, "leave")
        peer.leaving = event.seq
        self._commits.await_durable(peer, event.seq)
        return self._intake.ask_resend(event.peer, peer, event.seq) + self._let_leave()

    def _let_leave(self) -> list[Action]:
        actions: list[Action] = []
        for peer_id, peer in self._roster:
            if peer.leaving is not None and peer.durable >= peer.leaving:
                self._end_part(peer_id)
                message = wire.Finished(scan=self.scan_id, file=self.file, status="acquiring")
                actions.append(Send(peer=peer_id, message=message))
        return actions

    def _on_peer_lost(self, event: PeerLost, _now: float) -> list[Action]:
        self._end_part(event.peer)
        self._commits.forget(event.peer, "status")
        self._conclusion.forget(event.peer)
        return []

    def _end_part(self, peer_id: PeerId) -> None:
        self._roster.remove(peer_id)
        self._commits.forget(peer_id, "open", "join")

    # -- data

    def _on_block(self, event: BlockArrived, _now: float) -> list[Action]:
        return self._intake.on_block(event)

    def _on_annotation(self, event: AnnotationArrived, _now: float) -> list[Action]:
        return self._intake.on_annotation(event)

    def _on_settled(self, event: Settled, _now: float) -> list[Action]:
        actions = self._intake.on_settled(event)
        return [] if self.state is State.FAILED else actions

    def _on_ack_requested(self, event: AckRequested, _now: float) -> list[Action]:
        return self._intake.on_ack_requested(event)

    # -- commits

    def _on_coverage_requested(self, event: CoverageRequested, _now: float) -> list[Action]:
        self._commits.answer_after_next(event.peer, "status")
        return []

    def _on_committed(self, event: Committed, now: float) -> list[Action]:
        if self.state is State.FAILED:
            return []  # what was told before the failure is all that is certain
        ready = self._commits.finish(event, now)
        coverage = event.coverage or {}
        return [self._coverage_answer(waiter, coverage) for waiter in ready] + self._let_leave()

    def _coverage_answer(self, waiter: Waiter, coverage: Coverage) -> Action:
        if waiter.request == "status":
            return Send(peer=waiter.peer, message=coverage_report(self.describe(), coverage))
        return self._opened(waiter.peer, coverage)

    def _opened(self, peer_id: PeerId, coverage: Coverage) -> Action:
        peer = self._roster.require(peer_id)
        header = {
            "scan": self.scan_id,
            "file": self.file,
            # Who joins always finds a scan that was there before.
            "resumed": self._resumed or peer.role == "joiner",
            "credit": self._intake.extend_credit(peer),
            "positions": self.positions,
        }
        self._intake.begin_acks(peer)
        layout = self.layout.to_dict() if peer.role == "joiner" else None
        return Send(peer=peer_id, message=opened_message(header, coverage, layout))

    # -- the file

    def _on_ready(self, event: StoreReady, now: float) -> list[Action]:
        self.file = event.file
        self._commits.start(event.positions, now)
        self._resumed = event.resumed
        return [self._opened(peer_id, event.coverage) for peer_id, _ in self._roster]

    def _on_failed(self, event: StoreFailed, _now: float) -> list[Action]:
        if self.failure is not None:
            return []
        self.failure = event.error
        operation = "open" if self.state is State.OPENING else "storage"
        return self._tell_all(error_message(event.error, operation, self.scan_id))

    def _on_suspend(self, _event: SuspendRequested, _now: float) -> list[Action]:
        self._suspend_wanted = True
        if self.state not in (State.ACQUIRING, State.FINISHING):
            return []
        for peer_id, _ in self._roster:
            self._commits.forget(peer_id, "open", "join")
        error = UsidstreamError("the daemon is stopping", code="shutting_down")
        message = error_message(error, "suspend", self.scan_id)
        return [Send(peer=peer_id, message=message) for peer_id, _ in self._roster]

    def _on_store_closed(self, _event: StoreClosed, _now: float) -> list[Action]:
        return []

    def _on_resume_timed_out(self, _event: ResumeTimedOut, _now: float) -> list[Action]:
        return [Interrupt()]

    # -- the end

    def _on_finish(self, event: FinishRequested, now: float) -> list[Action]:
        if self.state not in _CONCLUDED:
            peer = self._roster.require_opener(event.peer, "finish")
            if self._conclusion.ending is not Ending.ABORT:
                return self._begin_finish(peer, event, now)
        self._conclusion.await_result(event.peer)
        return []

    def _begin_finish(self, peer: Peer, event: FinishRequested, now: float) -> list[Action]:
        self._intake.refuse_low_seq(peer, event.seq, "finish")
        late_s = now + self.limits.join_timeout_s
        self._conclusion.ask_finish(event.peer, event.seq, event.attrs, late_s)
        self._conclusion.note_arrived(peer.arrived)
        return self._intake.ask_resend(event.peer, peer, event.seq)

    def _on_abort(self, event: AbortRequested, _now: float) -> list[Action]:
        if self.state in _CONCLUDED:
            self._conclusion.await_result(event.peer)
            return []
        self._roster.require_opener(event.peer, "abort")
        self._conclusion.ask_abort(event.peer, event.reason)
        return []

    def _on_joiners_late(self, _event: JoinersLate, _now: float) -> list[Action]:
        joiners = self._roster.joiners
        error = UsidstreamError(
            f"{len(joiners)} joined client(s) did not leave within "
            f"{self.limits.join_timeout_s:g} s: {', '.join(joiners)}",
            code="joiners_busy",
            details={"joiners": joiners},
        )
        message = error_message(error, "finish", self.scan_id)
        return [Send(peer=peer, message=message) for peer in self._conclusion.withdraw()]

    def _on_finish_withdrawn(self, _event: FinishWithdrawn, _now: float) -> list[Action]:
        self._conclusion.withdraw()
        return []

    def _on_drained(self, _event: Drained, _now: float) -> list[Action]:
        if self.state is State.SUSPENDING:
            return [CloseStore()]
        if self.state is State.FINISHING:
            self._conclusion.is_sealed = True
            self._commits.want()
            return []
        ending = self._conclusion.ending or Ending.FINISH
        return [Finalise(ending=ending, attrs=self._conclusion.attrs)]

    def _on_finalised(self, event: Finalised, _now: float) -> list[Action]:
        self.file = event.file
        return self._tell_all(result_message(self.scan_id, event.file, event.status, event.missing))

    # -- answers

    def _tell_all(self, message: wire.Message) -> list[Action]:
        """Send a message to everybody who takes part or waits for an answer."""
        peers = [peer_id for peer_id, _ in self._roster]
        told = dict.fromkeys([*peers, *self._conclusion.waiting, *self._commits.waiting])
        return [Send(peer=peer_id, message=message) for peer_id in told]

    def _refuse(self, event: Event) -> list[Action]:
        if not isinstance(event, Request):
            # A peer could not cause this, so there is nobody to refuse it to.
            name = type(event).__name__
            raise RuntimeError(f"scan {self.scan_id}: {name} in state {self.state.value}")  # noqa: TRY004 - a state, not a type, is wrong
        code = REFUSALS[self.state]
        error = self.failure or UsidstreamError(
            f"scan {self.scan_id} is {self.state.value}", code=code
        )
        return [self._refusal(event, error)]

    def _refusal(self, request: Request, error: UsidstreamError) -> Action:
        message = refusal_message(request, error, self.scan_id)
        return Send(peer=request.peer, message=message)


def _stopped_while(error: UsidstreamError) -> UsidstreamError:
    return UsidstreamError(
        f"the daemon stops before there is room: {error.message}", code="shutting_down"
    )


_COMMITTING = frozenset({State.ACQUIRING, State.FINISHING, State.SEALED, State.SUSPENDING})
_CONCLUDED = frozenset({State.SEALED, State.FINALISING})
_OVER = frozenset({State.ENDED, State.SUSPENDED, State.INTERRUPTED, State.FAILED})

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
        FinishWithdrawn: Session._on_finish_withdrawn,
        ResumeTimedOut: Session._on_resume_timed_out,
        Drained: Session._on_drained,
        Finalised: Session._on_finalised,
        SuspendRequested: Session._on_suspend,
        StoreClosed: Session._on_store_closed,
        StoreFailed: Session._on_failed,
    }
)
