"""The states of a scan and the one table of what leads from each to which.

An event that is not in a state's row is refused with the code in `REFUSALS` if a peer asked for it,
and is a fault of this program otherwise.
"""

from __future__ import annotations

import enum
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
    JoinersLate,
    JoinRequested,
    LeaveRequested,
    OpenRequested,
    PeerLost,
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
    SUSPENDED = "suspended"
    FAILED = "failed"


_S = State

TRANSITIONS: Mapping[State, Mapping[type[Event], State]] = MappingProxyType(
    {
        _S.OPENING: {
            OpenRequested: _S.OPENING,
            StoreReady: _S.ACQUIRING,
            StoreFailed: _S.FAILED,
            PeerLost: _S.OPENING,
            SuspendRequested: _S.OPENING,
            AckRequested: _S.OPENING,
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
            Drained: _S.SEALED,
            SuspendRequested: _S.SUSPENDING,
            StoreFailed: _S.FAILED,
        },
        _S.SEALED: {
            OpenRequested: _S.SEALED,
            FinishRequested: _S.SEALED,
            AbortRequested: _S.SEALED,
            AckRequested: _S.SEALED,
            PeerLost: _S.SEALED,
            Settled: _S.SEALED,
            Committed: _S.SEALED,
            Drained: _S.FINALISING,
            SuspendRequested: _S.SEALED,
            StoreFailed: _S.FAILED,
        },
        _S.FINALISING: {
            OpenRequested: _S.FINALISING,
            FinishRequested: _S.FINALISING,
            AbortRequested: _S.FINALISING,
            AckRequested: _S.FINALISING,
            PeerLost: _S.FINALISING,
            Finalised: _S.ENDED,
            SuspendRequested: _S.FINALISING,
            StoreFailed: _S.FAILED,
        },
        _S.SUSPENDING: {
            Settled: _S.SUSPENDING,
            Committed: _S.SUSPENDING,
            PeerLost: _S.SUSPENDING,
            StoreClosed: _S.SUSPENDED,
            SuspendRequested: _S.SUSPENDING,
            StoreFailed: _S.FAILED,
        },
        _S.ENDED: {PeerLost: _S.ENDED, SuspendRequested: _S.ENDED},
        _S.SUSPENDED: {PeerLost: _S.SUSPENDED, SuspendRequested: _S.SUSPENDED},
        _S.FAILED: {
            PeerLost: _S.FAILED,
            SuspendRequested: _S.FAILED,
            StoreFailed: _S.FAILED,
            StoreClosed: _S.FAILED,
            Settled: _S.FAILED,
        },
    }
)

REFUSALS: Mapping[State, str] = MappingProxyType(
    {
        _S.OPENING: "recovering",
        _S.ACQUIRING: "bad_message",
        _S.FINISHING: "scan_finished",
        _S.SEALED: "scan_finished",
        _S.FINALISING: "scan_finished",
        _S.ENDED: "scan_finished",
        _S.SUSPENDING: "shutting_down",
        _S.SUSPENDED: "shutting_down",
        _S.FAILED: "storage_failed",
    }
)
