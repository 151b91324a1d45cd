"""Storage: each scan's live HDF5 file and what stands beside it, one thread for each open scan.

A row is durable when a `Commit` that follows its chunks was answered with `Committed`: the file was
flushed and synced, mains first, coverage after. What happens to a file whose daemon was killed, and
to rows whose chunk is not written yet, joins the journal directory when there is a ledger; until
then incomplete chunks are written as they stand and written again when they grew.
"""

from .coverage import Coverage, CoverageUpdate
from .directory import DataDirectory
from .errors import StorageError, SyncError
from .files import safe_name
from .finished import FinishedResult, FinishedScans
from .live import LiveFile
from .messages import (
    Close,
    Closed,
    Command,
    Commit,
    Committed,
    Create,
    Event,
    Finalise,
    Finalised,
    Ready,
    Resume,
    StorageFailed,
    TileWritten,
    WriteTile,
)
from .record import SCRATCH_NAME, MainPlan, OpenRecord, find_journals, remove_unfinished
from .scratch import FileScratch
from .structure import refuse_reserved, refuse_reserved_in, reserved_names
from .thread import StorageThread

__all__ = [
    "SCRATCH_NAME",
    "Close",
    "Closed",
    "Command",
    "Commit",
    "Committed",
    "Coverage",
    "CoverageUpdate",
    "Create",
    "DataDirectory",
    "Event",
    "FileScratch",
    "Finalise",
    "Finalised",
    "FinishedResult",
    "FinishedScans",
    "LiveFile",
    "MainPlan",
    "OpenRecord",
    "Ready",
    "Resume",
    "StorageError",
    "StorageFailed",
    "StorageThread",
    "SyncError",
    "TileWritten",
    "WriteTile",
    "find_journals",
    "refuse_reserved",
    "refuse_reserved_in",
    "remove_unfinished",
    "reserved_names",
    "safe_name",
]
