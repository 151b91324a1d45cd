"""The states of a scan and the one table of what leads from each to which.

An event that is not in a state's row is refused with the code in `REFUSALS` if a peer asked for it,
and is a fault of this program otherwise.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Mapping
from types import MappingProxyType

from .events import (
    AbortRequested,
    AckRequested,
    AnnotationArrived,
    BlockArrived,
    Committed,
    CoverageRequested,
    Drained,
    Event,
    Finalised,
    FinishRequested,
    FinishWithdrawn,
    JoinersLate,
    JoinRequested,
    LeaveRequested,
    OpenRequested,
    PeerLost,
    ResumeTimedOut,
    Settled,
    StoreClosed,
    StoreFailed,
    StoreReady,
    SuspendRequested,
)


class State(enum.Enum):
    """Where a scan stands."""

    OPENING = "opening"
    ACQUIRING = "acquiring"
    FINISHING = "finishing"
    SEALED = "sealed"
    FINALISING = "finalising"
    ENDED = "ended"
    SUSPENDING = "suspending"
    CLOSING = "closing"
    SUSPENDED = "suspended"
    INTERRUPTING = "interrupting"
    INTERRUPTED = "interrupted"
    FAILED = "failed"

    __hash__ = object.__hash__
    """By identity, which a member has only one of: tables are asked many times a turn."""


_S = State

TRANSITIONS: Mapping[State, Mapping[type[Event], State]] = MappingProxyType(
    {
        _S.OPENING: {
            OpenRequested: _S.OPENING,
            AckRequested: _S.OPENING,
            PeerLost: _S.OPENING,
            StoreReady: _S.ACQUIRING,
            Finalised: _S.ENDED,
            SuspendRequested: _S.OPENING,
            StoreFailed: _S.FAILED,
        },
        _S.ACQUIRING: {
            OpenRequested: _S.ACQUIRING,
            JoinRequested: _S.ACQUIRING,
            LeaveRequested: _S.ACQUIRING,
            BlockArrived: _S.ACQUIRING,
            AnnotationArrived: _S.ACQUIRING,
            AckRequested: _S.ACQUIRING,
            CoverageRequested: _S.ACQUIRING,
            Settled: _S.ACQUIRING,
            Committed: _S.ACQUIRING,
            PeerLost: _S.ACQUIRING,
            FinishRequested: _S.FINISHING,
            AbortRequested: _S.FINISHING,
            SuspendRequested: _S.SUSPENDING,
            ResumeTimedOut: _S.INTERRUPTING,
            StoreFailed: _S.FAILED,
        },
        _S.FINISHING: {
            OpenRequested: _S.ACQUIRING,
            LeaveRequested: _S.FINISHING,
            BlockArrived: _S.FINISHING,
            AnnotationArrived: _S.FINISHING,
            AckRequested: _S.FINISHING,
            CoverageRequested: _S.FINISHING,
            FinishRequested: _S.FINISHING,
            AbortRequested: _S.FINISHING,
            Settled: _S.FINISHING,
            Committed: _S.FINISHING,
            PeerLost: _S.FINISHING,
            JoinersLate: _S.ACQUIRING,
            FinishWithdrawn: _S.ACQUIRING,
            Drained: _S.SEALED,
            SuspendRequested: _S.SUSPENDING,
            StoreFailed: _S.FAILED,
        },
        _S.SEALED: {
            OpenRequested: _S.SEALED,
            BlockArrived: _S.SEALED,
            AnnotationArrived: _S.SEALED,
            AckRequested: _S.SEALED,
            FinishRequested: _S.SEALED,
            AbortRequested: _S.SEALED,
            Committed: _S.SEALED,
            PeerLost: _S.SEALED,
            Drained: _S.FINALISING,
            SuspendRequested: _S.SEALED,
            StoreFailed: _S.FAILED,
        },
        _S.FINALISING: {
            OpenRequested: _S.FINALISING,
            BlockArrived: _S.FINALISING,
            AnnotationArrived: _S.FINALISING,
            AckRequested: _S.FINALISING,
            FinishRequested: _S.FINALISING,
            AbortRequested: _S.FINALISING,
            PeerLost: _S.FINALISING,
            Finalised: _S.ENDED,
            SuspendRequested: _S.FINALISING,
            StoreFailed: _S.FAILED,
        },
        _S.ENDED: {
            PeerLost: _S.ENDED,
            SuspendRequested: _S.ENDED,
            StoreClosed: _S.ENDED,
        },
        _S.SUSPENDING: {
            Settled: _S.SUSPENDING,
            Committed: _S.SUSPENDING,
            PeerLost: _S.SUSPENDING,
            Drained: _S.CLOSING,
            SuspendRequested: _S.SUSPENDING,
            StoreFailed: _S.FAILED,
        },
        _S.CLOSING: {
            PeerLost: _S.CLOSING,
            StoreClosed: _S.SUSPENDED,
            SuspendRequested: _S.CLOSING,
            StoreFailed: _S.FAILED,
        },
        _S.SUSPENDED: {
            PeerLost: _S.SUSPENDED,
            SuspendRequested: _S.SUSPENDED,
            StoreClosed: _S.SUSPENDED,
        },
        _S.INTERRUPTING: {
            PeerLost: _S.INTERRUPTING,
            StoreClosed: _S.INTERRUPTED,
            SuspendRequested: _S.INTERRUPTING,
            StoreFailed: _S.FAILED,
        },
        _S.INTERRUPTED: {
            PeerLost: _S.INTERRUPTED,
            SuspendRequested: _S.INTERRUPTED,
            StoreClosed: _S.INTERRUPTED,
        },
        _S.FAILED: {
            Settled: _S.FAILED,
            Committed: _S.FAILED,
            PeerLost: _S.FAILED,
            SuspendRequested: _S.FAILED,
            StoreClosed: _S.FAILED,
            StoreFailed: _S.FAILED,
        },
    }
)

REFUSALS: Mapping[State, str] = MappingProxyType(
    {
        _S.OPENING: "recovering",
        _S.FINISHING: "scan_finished",
        _S.SEALED: "scan_finished",
        _S.FINALISING: "scan_finished",
        _S.ENDED: "scan_finished",
        _S.SUSPENDING: "shutting_down",
        _S.CLOSING: "shutting_down",
        _S.SUSPENDED: "shutting_down",
        _S.INTERRUPTING: "recovering",
        _S.INTERRUPTED: "recovering",
        _S.FAILED: "storage_failed",
    }
)


def state_diagram() -> str:
    """Return the table as a mermaid diagram; what does not change the state is left out."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.OPENING.value}"]
    for state, row in TRANSITIONS.items():
        causes: defaultdict[State, list[str]] = defaultdict(list)
        for event, target in row.items():
            if target is not state:
                causes[target].append(event.__name__)
        lines += [
            f"    {state.value} --> {target.value}: {', '.join(names)}"
            for target, names in causes.items()
        ]
        if not causes:
            lines.append(f"    {state.value} --> [*]")
    return "\n".join(lines) + "\n"
