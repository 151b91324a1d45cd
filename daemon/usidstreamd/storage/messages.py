"""What the storage thread is told and what it tells: plain data, no behaviour.

A command's ``token`` is the caller's and comes back with the event that answers it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from usidstream.errors import UsidstreamError
from usidstream.layout import ScanLayout

from .chunktable import ChunkAddress
from .coverage import Coverage, CoverageUpdate
from .datasets import Payload
from .finished import FinishedResult
from .ledger_records import Finalise as Decision
from .record import MainPlan, OpenRecord
from .recovery import RecoveryReport
from .scan_journal import ScanJournal
from .segments import SEGMENT_TARGET_BYTES, RowReplay


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """Open a new scan: `Ready` when its file and journal directory are safely on the disk.

    ``segment_bytes`` is about the size of its row segments.
    """

    data_dir: Path
    file: str
    layout: ScanLayout
    plans: Mapping[str, MainPlan]
    scan_id: str
    created: datetime
    segment_bytes: int = SEGMENT_TARGET_BYTES
    token: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Go on with an earlier daemon's scan: `Ready`.

    `Finalised` instead, if that daemon had remembered the result and its journal still stands.
    """

    record: OpenRecord
    segment_bytes: int = SEGMENT_TARGET_BYTES
    token: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteTile:
    """Write encoded chunks of a main, each ``(row, col, payload)``: `TileWritten`.

    Like `Commit` and `Finalise` it waits for room on a full disk, told by `SpaceShort`.

    ``is_complete``: every element of them was measured.
    """

    main: str
    chunks: Sequence[tuple[int, int, Payload]]
    is_complete: bool = True
    token: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Show readers all that was written before, and its coverage, durably: `Committed`.

    ``is_last`` where `Finalise` follows, which brings it to the disk.
    """

    updates: Mapping[str, CoverageUpdate]
    is_last: bool = False
    token: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalise:
    """End the scan, after its last commit: `Finalised`.

    ``status`` is ``complete``, ``incomplete`` or ``aborted``; ``ended`` has a time zone; ``attrs``
    are all that were learnt.
    """

    status: str
    ended: datetime
    attrs: Mapping[str, Any] = field(default_factory=dict)
    token: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """Close the file so that the scan can be resumed: `Closed`.

    What was written since the last commit may or may not be in it.
    """

    token: Any = None


Command: TypeAlias = Create | Resume | WriteTile | Commit | Finalise | Close


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The scan is open.

    Parameters
    ----------
    record
        The scan as it was opened; ``record.plans`` says how each main is stored.
    coverage
        Of a resumed scan: what is durable of each main. Empty for a new one.
    annotations
        Of a resumed scan: those of all its commits.
    replay
        Of a resumed scan: blocks that are durable in the journal, not in the file.
    decision
        Of a resumed scan: how it is to end, if that was decided.
    journal
        Open; for the caller's `JournalThread`, which closes it.
    resumed
        Whether this answers `Resume`.
    recoveries
        How often the file was repaired or made anew.
    recovery
        What was done about it just now; None where there was nothing to do.
    """

    record: OpenRecord
    coverage: Mapping[str, Coverage]
    annotations: Mapping[str, Any]
    replay: RowReplay
    decision: Decision | None
    journal: ScanJournal
    resumed: bool
    recoveries: int
    recovery: RecoveryReport | None
    token: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class TileWritten:
    """The file has the chunks, where ``chunks`` says; the journal makes them durable."""

    chunks: Sequence[ChunkAddress]
    token: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """All that was written before the commit is durable."""

    token: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalised:
    """The file is closed for good, its result remembered, its journal gone."""

    result: FinishedResult
    token: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """The file is closed and the scan can be resumed."""

    token: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageFailed:
    """A command was not done.

    Nor will any later one be, but `Close`. ``operation`` is the command's name in lower case.
    """

    operation: str
    error: UsidstreamError
    token: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceShort:
    """A thread waits for room on the disk, with a command that it will do then.

    ``source`` names the thread. `SpaceBack` follows, or the end.
    """

    source: str
    error: UsidstreamError


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceBack:
    """The command is done for which the thread waited."""

    source: str


Event: TypeAlias = (
    Ready | TileWritten | Committed | Finalised | Closed | StorageFailed | SpaceShort | SpaceBack
)
