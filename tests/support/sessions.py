"""A session driven by hand: events go in, and what it wants done is kept until a test does it."""

from __future__ import annotations

from collections import deque
from typing import Any, TypeVar

import numpy as np

from usidstream import wire
from usidstream.errors import UsidstreamError
from usidstream.layout import Dimension, MainLayout, ScanLayout
from usidstreamd.session import Session, SessionLimits, events
from usidstreamd.session.intake import ACK_INTERVAL_S

SCAN = "0123456789abcdef0123456789abcdef"
OPENER, JOINER, OTHER = b"opener", b"joiner", b"other"
N_POSITIONS, N_COLS = 12, 4
WINDOW_BYTES = 256

M = TypeVar("M", bound=wire.Message)
A = TypeVar("A", bound=events.Action)


def layout_of(*names: str, **more: Any) -> ScanLayout:
    """Return a scan of 12 positions x 4 steps of uint16, one main for each name."""
    mains = [
        MainLayout(
            name=name,
            quantity="Height",
            units="nm",
            dtype="uint16",
            spectroscopic=[Dimension("Bias", "V", N_COLS)],
        )
        for name in names or ("Raw",)
    ]
    return ScanLayout(positions=[Dimension("X", "um", N_POSITIONS)], mains=mains, **more)


def block(seq: int, row: int = 0, rows: int = 1, **fields: Any) -> wire.Block:
    """Return a block over all columns; ``fields`` replace what it says, before the checksum."""
    values: dict[str, Any] = {
        "main": "Raw",
        "seq": seq,
        "row": row,
        "rows": rows,
        "col": 0,
        "cols": N_COLS,
    } | fields
    address = [values[key] for key in ("row", "rows", "col", "cols")]
    if "frames" not in values:
        values["frames"] = (bytes(2 * values["rows"] * values["cols"]),)
    values.setdefault("crc", wire.block_crc(*address, values["frames"]))
    return wire.Block(scan=SCAN, **values)


def note(seq: int, **attrs: Any) -> wire.Annotate:
    return wire.Annotate(scan=SCAN, seq=seq, attrs=attrs)


def coverage_of(*ranges: tuple[int, int]) -> events.Coverage:
    complete = np.array(ranges, np.int64).reshape(-1, 2)
    return {"Raw": events.MainCoverage(complete, np.empty((0, 4), np.int64))}


class Stage:
    """A session, what it has sent, and what it waits for."""

    def __init__(self, layout: ScanLayout | None = None, **limits: Any) -> None:
        limits = {"credit_window_bytes": WINDOW_BYTES, "max_block_bytes": WINDOW_BYTES} | limits
        self.layout = layout or layout_of()
        self.session = Session(SCAN, self.layout, SessionLimits(**limits))
        self.now = 0.0
        self.sent: list[events.Send] = []
        self.placing: deque[events.Place] = deque()
        self.commits: deque[events.BeginCommit] = deque()
        self.ends: list[events.Action] = []

    # -- events in, actions kept

    def do(self, event: events.Event) -> list[events.Action]:
        return self._keep(self.session.receive(event, self.now))

    def tick(self, now: float) -> list[events.Action]:
        self.now = now
        return self._keep(self.session.tick(now))

    def acks(self) -> dict[bytes, wire.Ack]:
        self.now += ACK_INTERVAL_S
        sends = self._keep(self.session.take_acks(self.now))
        return {send.peer: send.message for send in sends}

    def _keep(self, actions: list[events.Action]) -> list[events.Action]:
        for action in actions:
            match action:
                case events.Send():
                    wire.decode_daemon(wire.encode(action.message))
                    self.sent.append(action)
                case events.Place():
                    self.placing.append(action)
                case events.BeginCommit():
                    self.commits.append(action)
                case events.Finalise() | events.CloseStore() | events.Interrupt():
                    self.ends.append(action)
        return actions

    # -- what peers do

    def open(self, peer: bytes = OPENER, layout: ScanLayout | None = None) -> None:
        self.do(events.OpenRequested(peer=peer, layout=layout or self.layout))

    def join(self, peer: bytes = JOINER) -> None:
        self.do(events.JoinRequested(peer=peer))

    def leave(self, seq: int, peer: bytes = JOINER) -> None:
        self.do(events.LeaveRequested(peer=peer, seq=seq))

    def send(self, seq: int, row: int = 0, peer: bytes = OPENER, **fields: Any) -> None:
        self.do(events.BlockArrived(peer=peer, block=block(seq, row, **fields)))

    def annotate(self, seq: int, peer: bytes = OPENER, **attrs: Any) -> None:
        self.do(events.AnnotationArrived(peer=peer, annotation=note(seq, **attrs)))

    def ping(self, peer: bytes = OPENER, *, commit: bool = False) -> None:
        self.do(events.AckRequested(peer=peer, commit=commit))

    def finish(self, seq: int, peer: bytes = OPENER, **attrs: Any) -> None:
        self.do(events.FinishRequested(peer=peer, seq=seq, attrs=attrs))

    def abort(self, peer: bytes = OPENER, reason: str = "") -> None:
        self.do(events.AbortRequested(peer=peer, reason=reason))

    def ask_coverage(self, peer: bytes = OTHER) -> None:
        self.do(events.CoverageRequested(peer=peer))

    def lose(self, peer: bytes) -> None:
        self.do(events.PeerLost(peer=peer))

    def suspend(self) -> None:
        self.do(events.SuspendRequested())

    # -- what the pipeline and the storage do

    def ready(self, *held: tuple[int, int], **more: Any) -> None:
        coverage = coverage_of(*held)
        values = {"file": "/data/s.h5", "positions": 0, "coverage": coverage} | more
        self.do(events.StoreReady(**values))

    def settle(self, error: UsidstreamError | None = None) -> None:
        """Finish the oldest placement."""
        place = self.placing.popleft()
        nbytes = sum(len(frame) for frame in place.item.frames)
        self.do(events.Settled(peer=place.peer, seq=place.item.seq, nbytes=nbytes, error=error))

    def settle_all(self) -> None:
        while self.placing:
            self.settle()

    def commit(self, *held: tuple[int, int], positions: int = 0) -> None:
        """Finish the commit under way."""
        begun = self.commits.popleft()
        coverage = coverage_of(*held) if begun.coverage else None
        self.do(events.Committed(marker=begun.marker, positions=positions, coverage=coverage))

    def finalised(self, status: str = "complete", **missing: Any) -> None:
        self.do(events.Finalised(file="/data/s.h5", status=status, missing=missing))

    def fail(self, code: str = "storage_failed") -> None:
        self.do(events.StoreFailed(error=UsidstreamError("the disk broke", code=code)))

    # -- what was sent

    def take(self, peer: bytes, kind: type[M]) -> M:
        """Return the oldest message of exactly this kind to a peer, and forget it."""
        for send in self.sent:
            if send.peer == peer and type(send.message) is kind:
                self.sent.remove(send)
                return send.message
        raise AssertionError(f"no {kind.__name__} for {peer!r} in {self.sent}")

    def has(self, peer: bytes, kind: type[wire.Message]) -> bool:
        return any(send.peer == peer and type(send.message) is kind for send in self.sent)

    def error(self, peer: bytes = OPENER) -> wire.Error:
        return self.take(peer, wire.Error)

    def ack(self, peer: bytes = OPENER) -> wire.Ack:
        return self.acks()[peer]

    # -- common beginnings

    @classmethod
    def left(cls) -> Stage:
        """Return a scan whose clients have stayed away for too long: it is being interrupted."""
        stage = cls.acquiring(resume_timeout_s=100.0)
        stage.lose(OPENER)
        stage.tick(100.0)
        return stage

    @classmethod
    def acquiring(cls, *joiners: bytes, **limits: Any) -> Stage:
        """Return a scan that its opener, and these joiners, fill."""
        stage = cls(**limits)
        stage.open()
        stage.ready()
        for peer in joiners:
            stage.join(peer)
            stage.commit()
        stage.sent.clear()
        return stage
