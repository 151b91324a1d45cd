"""What can happen to a scan, and what it wants done: plain values, no behaviour."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np

from usidstream import wire
from usidstream.errors import UsidstreamError
from usidstream.layout import ScanLayout

PeerId: TypeAlias = bytes
RangeTable: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
Coverage: TypeAlias = Mapping[str, "MainCoverage"]


@dataclass(frozen=True, slots=True)
class MainCoverage:
    """What a main holds: ``complete`` (k, 2) positions and ``partial`` (k, 4) rectangles."""

    complete: RangeTable
    partial: RangeTable


class Ending(enum.Enum):
    """Why a scan ends; the final status also depends on what is missing."""

    FINISH = "finish"
    ABORT = "abort"


# ---------------------------------------------------------------- events


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The base of what can happen to a scan."""


class Pace(Protocol):
    """How quickly a client gets new credit; one for all scans that it takes part in."""

    def take(self, nbytes: int) -> int:
        """Return how many of these bytes may be granted now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Event):
    """Something that a peer asked for; it gets an error if that cannot be."""

    peer: PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRequested(Request):
    """A client opens, or resumes, the scan."""

    layout: ScanLayout
    pace: Pace | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRequested(Request):
    """A client wants to help to fill the scan; ``client`` is what it calls itself."""

    client: str = ""
    pace: Pace | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveRequested(Request):
    """A joined client has sent all it had, up to ``seq``."""

    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockArrived(Request):
    """A block came in from the wire."""

    block: wire.Block


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationArrived(Request):
    """Attributes came in from the wire."""

    annotation: wire.Annotate


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishRequested(Request):
    """The opener has sent all it had, up to ``seq``."""

    seq: int
    attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortRequested(Request):
    """The opener gives up."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AckRequested(Request):
    """A peer wants the latest ack and, with ``commit``, waits for durability."""

    commit: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageRequested(Request):
    """A peer wants to know what is durable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerLost(Event):
    """A peer said bye, or was silent for too long."""

    peer: PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreReady(Event):
    """The file is safely on disk and holds this much; ``resumed``: since before a restart."""

    file: str
    positions: int
    coverage: Coverage
    resumed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled(Event):
    """A block or annotation was placed, or refused with ``error``."""

    peer: PeerId
    seq: int
    nbytes: int
    error: UsidstreamError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed(Event):
    """All that had settled when commit ``marker`` began is durable."""

    marker: int
    positions: int
    coverage: Coverage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained(Event):
    """All that was to come before the end has settled (the session tells this itself)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinersLate(Event):
    """Joiners did not leave in time (the session tells this itself)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishWithdrawn(Event):
    """The opener went before all that its finish names arrived (the session tells this itself)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeTimedOut(Event):
    """No client has taken part for too long (the session tells this itself)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalised(Event):
    """The file is finished and closed; while opening, an earlier daemon had done so."""

    file: str
    status: str
    missing: Mapping[str, RangeTable]


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspendRequested(Event):
    """The daemon stops; the scan is to be continued after its restart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreClosed(Event):
    """The file is closed, resumable; as interrupted, if that was wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFailed(Event):
    """The file could not be created, written, synced or closed."""

    error: UsidstreamError


# ---------------------------------------------------------------- actions


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """The base of what the session wants done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Send(Action):
    """Send a message to a peer."""

    peer: PeerId
    message: wire.Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Place(Action):
    """Put a block, or an annotation, where it belongs; answer with `Settled`, in order."""

    peer: PeerId
    item: wire.Block | wire.Annotate


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginCommit(Action):
    """Make durable what has settled; answer with `Committed`, its coverage if wanted."""

    marker: int
    coverage: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalise(Action):
    """Write the final attributes and close; answer with `Finalised`."""

    ending: Ending
    attrs: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseStore(Action):
    """Close the file so that the scan can be resumed; answer with `StoreClosed`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupt(Action):
    """Close the file as interrupted, complete as far as it came; answer with `StoreClosed`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteContact(Action):
    """Note on the disk that a client takes part in the scan, or did until now."""
