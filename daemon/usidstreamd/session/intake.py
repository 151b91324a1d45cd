"""What peers send while a scan runs: its order, its credit, its checks, and the acks for it.

Blocks and annotations of a peer share one seq. The next one in order is taken in, an earlier one is
a repetition and is acked again, a later one shows a gap and is asked for again once, and with each
ping until it comes. What is taken in settles whatever becomes of it, so that nothing refused holds
up what comes after it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from usidstream import wire
from usidstream.errors import UsidstreamError
from usidstream.layout import ScanLayout

from .blocks import block_error, check_block
from .commits import Commits
from .conclusion import Conclusion
from .events import (
    AckRequested,
    Action,
    AnnotationArrived,
    BlockArrived,
    PeerId,
    Place,
    Send,
    Settled,
)
from .peers import Facts, Peer, Roster
from .replies import ack_message, error_message

ACK_INTERVAL_S = 0.01
"""News of credit alone waits this long for more of it, and for a commit that has begun to end:
every ack costs both sides a message."""
PROMPT_CREDIT_PARTS = 4
"""News of so much credit, as a part of the window, does not wait."""
DISK = "disk"
"""The source of the shortage that concerns all scans of a disk, and under which they still work."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """The named limits that a session keeps."""

    credit_window_bytes: int = 16 << 20
    max_block_bytes: int = wire.MAX_BLOCK_BYTES
    commit_interval_s: float = 0.05
    join_timeout_s: float = 60.0
    resume_timeout_s: float = 259200.0


class Intake:
    """The stream of blocks and annotations of one scan.

    Parameters
    ----------
    scan_id, layout, limits
        As the session has them.
    roster, commits, conclusion
        The session's own parts: whose blocks these are, what is durable, what comes too late.
    """

    def __init__(
        self,
        scan_id: str,
        layout: ScanLayout,
        limits: SessionLimits,
        *,
        roster: Roster,
        commits: Commits,
        conclusion: Conclusion,
    ) -> None:
        self._scan_id = scan_id
        self._layout = layout
        self._limits = limits
        self._roster = roster
        self._commits = commits
        self._conclusion = conclusion
        self.blocks_refused = 0
        self.blocks_arrived = 0
        self._shortages: dict[str, UsidstreamError] = {}

    # -- taking in

    def on_block(self, event: BlockArrived) -> list[Action]:
        """Place the next block, or refuse it if it is not what it claims to be."""
        block = event.block
        answer = self._out_of_order(event.peer, block.seq)
        if answer is not None:
            return answer
        peer = self._roster.require(event.peer)
        nbytes = sum(len(frame) for frame in block.frames)
        self._arrive(peer, block.seq, nbytes)
        try:
            self._check_size(peer, block, nbytes)
            check_block(self._layout, block)
        except UsidstreamError as error:
            outcome = Settled(peer=event.peer, seq=block.seq, nbytes=nbytes, error=error)
            return self._settle(peer, outcome, "block")
        self._roster.place(event.peer, "block")
        return [Place(peer=event.peer, item=block)]

    def on_annotation(self, event: AnnotationArrived) -> list[Action]:
        """Place the next annotation."""
        note = event.annotation
        answer = self._out_of_order(event.peer, note.seq)
        if answer is not None:
            return answer
        self._arrive(self._roster.require(event.peer), note.seq, 0)
        self._roster.place(event.peer, "annotate")
        return [Place(peer=event.peer, item=note)]

    def _arrive(self, peer: Peer, seq: int, nbytes: int) -> None:
        peer.arrive(seq, nbytes)
        self.blocks_arrived += 1
        if peer.role == "opener":
            self._conclusion.note_arrived(seq)

    def _out_of_order(self, peer_id: PeerId, seq: int) -> list[Action] | None:
        """Return the answer to what is not next in order; None for what is."""
        if self._conclusion.is_sealed and self._roster.find(peer_id) is None:
            raise self._too_late(seq)
        peer = self._roster.require(peer_id)
        if seq == 0:
            raise UsidstreamError("seq counts from 1, not 0", code="bad_sequence")
        if seq <= peer.arrived:
            return self.ack(peer_id, peer)
        if self._conclusion.excludes(peer.role, seq):
            raise self._too_late(seq)
        if seq == peer.arrived + 1:
            return None
        return [] if peer.has_open_gap else self.ask_resend(peer_id, peer, seq)

    def _too_late(self, seq: int) -> UsidstreamError:
        return UsidstreamError(
            f"block {seq} came after the end of scan {self._scan_id}", code="scan_finished"
        )

    def _check_size(self, peer: Peer, block: wire.Block, nbytes: int) -> None:
        largest = self._limits.max_block_bytes
        if nbytes > largest:
            raise block_error(block, "message_too_large", f"{nbytes} bytes are over {largest}")
        granted = self.extend_credit(peer)
        if peer.arrived_nbytes > granted:
            problem = f"{peer.arrived_nbytes} bytes were sent, {granted} were granted"
            raise block_error(block, "credit_exceeded", problem)

    # -- what is missing

    def ask_resend(self, peer_id: PeerId, peer: Peer, seq: int) -> list[Action]:
        """Ask for everything up to ``seq`` that has not arrived, if anything has not."""
        if seq <= peer.arrived:
            return []
        peer.resend_asked = peer.arrived + 1
        return [Send(peer=peer_id, message=wire.Resend(scan=self._scan_id, seq=peer.arrived + 1))]

    def refuse_low_seq(self, peer: Peer, seq: int, operation: str) -> None:
        """Refuse a leave or finish that names less than what has arrived."""
        if seq < peer.arrived:
            raise UsidstreamError(
                f"{operation} names seq {seq}, but {peer.arrived} has arrived", code="bad_sequence"
            )

    # -- what became of it

    def on_settled(self, event: Settled) -> list[Action]:
        """Count what was placed or refused; tell its sender of a refusal."""
        peer, operation = self._roster.settle(event)
        return self._settle(peer, event, operation)

    def _settle(self, peer: Peer, event: Settled, operation: str) -> list[Action]:
        peer.settle(event.seq, event.nbytes)
        self._commits.note_settled(peer)
        if event.error is None:
            return []
        self.blocks_refused += 1
        if not self._roster.is_current(event.peer, peer):
            return []  # the sender has been told that its part is over
        message = error_message(event.error, operation, self._scan_id, event.seq)
        return [Send(peer=event.peer, message=message)]

    # -- acks

    def on_ack_requested(self, event: AckRequested) -> list[Action]:
        """Repeat what the peer should know; see to a commit if it waits for one."""
        peer = self._roster.require(event.peer)
        if event.commit:
            self._commits.await_durable(peer, peer.arrived)
        actions = self.ack(event.peer, peer)
        if peer.has_open_gap:
            actions += self.ask_resend(event.peer, peer, peer.resend_asked)
        return actions + self._notices([event.peer])

    def take_acks(self, now: float) -> list[Action]:
        """Return an ack for every peer that has not been told what it should know by now."""
        actions: list[Action] = []
        for peer_id, peer in self._roster:
            if peer.told is None:
                continue
            facts = self._facts(peer)
            if self._is_news(facts, peer, peer.told, now):
                peer.told, peer.told_s = facts, now
                actions.append(Send(peer=peer_id, message=ack_message(self._scan_id, facts)))
        return actions

    def _is_news(self, facts: Facts, peer: Peer, told: Facts, now: float) -> bool:
        if facts == told:
            return False
        is_told_soon = self._commits.tells_soon(now, ACK_INTERVAL_S)
        if now - peer.told_s >= ACK_INTERVAL_S and not is_told_soon:
            return True
        _, durable, credit, positions = facts
        _, told_durable, told_credit, told_positions = told
        is_much = credit - told_credit >= self._limits.credit_window_bytes // PROMPT_CREDIT_PARTS
        return is_much or (durable, positions) != (told_durable, told_positions)

    def ack(self, peer_id: PeerId, peer: Peer) -> list[Action]:
        """Tell a peer the latest, once it has been answered."""
        if peer.told is None:
            return []
        peer.told = self._facts(peer)
        return [Send(peer=peer_id, message=ack_message(self._scan_id, peer.told))]

    def begin_acks(self, peer: Peer) -> None:
        """Count a peer as answered, by a message that tells positions and the first credit."""
        peer.told = (0, 0, self.extend_credit(peer), self._commits.positions)

    def _facts(self, peer: Peer) -> Facts:
        credit = self.extend_credit(peer)
        return (peer.settled, peer.durable, credit, self._commits.positions)

    # -- credit

    def note_shortage(self, source: str, error: UsidstreamError | None) -> list[Action]:
        """Note that one source of shortage has begun or ended; tell all peers of the first."""
        was_short = bool(self._shortages)
        if error is None:
            self._shortages.pop(source, None)
        else:
            self._shortages[source] = error
        return [] if was_short else self._notices(peer_id for peer_id, _ in self._roster)

    @property
    def shortage(self) -> UsidstreamError | None:
        """Why credit is held; None while it is not."""
        return next(iter(self._shortages.values()), None)

    @property
    def stuck(self) -> UsidstreamError | None:
        """Why something of this scan waits for room, beyond a disk that only runs short."""
        if not self._shortages:
            return None
        found = (error for source, error in self._shortages.items() if source != DISK)
        return next(found, None)

    def _notices(self, peers: Iterable[PeerId]) -> list[Action]:
        error = self.shortage
        if error is None:
            return []
        message = error_message(error, "space", self._scan_id)
        return [Send(peer=peer_id, message=message) for peer_id in peers]

    def extend_credit(self, peer: Peer) -> int:
        """Grant a peer the window beyond what has settled, and return the total.

        While anything is short nothing is added; what was granted once stays granted. A peer with a
        pace is granted what that gives.
        """
        if not self._shortages:
            window_end = peer.settled_nbytes + self._limits.credit_window_bytes
            more = window_end - peer.granted_nbytes
            peer.granted_nbytes += more if peer.pace is None else peer.pace.take(more)
        return peer.granted_nbytes

    @property
    def promised_nbytes(self) -> int:
        """What peers may still send without asking."""
        return sum(peer.granted_nbytes - peer.settled_nbytes for _, peer in self._roster)
