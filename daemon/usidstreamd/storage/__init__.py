"""Storage: each scan's live HDF5 file and what stands beside it, one thread for each open scan.

A row is durable when a `JournalCommit` with it, or with the addresses of its chunks, was answered
with `Journalled`. `Commit` is for readers: it shows them what the file holds, mains first, coverage
after. A file whose daemon was killed is recovered from ledger and template when it is resumed.
"""

from .activity import Activity
from .chunktable import ChunkAddress
from .coverage import Coverage, CoverageUpdate
from .directory import DataDirectory
from .errors import StorageError, SyncError
from .files import safe_name
from .finished import FinishedResult, FinishedScans
from .journal import (
    CheckpointDone,
    FinaliseRecorded,
    JournalCheckpoint,
    JournalClose,
    JournalClosed,
    JournalCommit,
    JournalContact,
    JournalFinalise,
    Journalled,
    JournalThread,
)
from .ledger import LEDGER_NAME, is_interrupted
from .ledger_records import STATUS_INTERRUPTED
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
    SpaceBack,
    SpaceShort,
    StorageFailed,
    TileWritten,
    WriteTile,
)
from .record import (
    SCRATCH_NAME,
    MainPlan,
    OpenRecord,
    contact_age_s,
    find_journals,
    remove_unfinished,
)
from .recovery import RecoveryReport
from .rescue import recover_path
from .retention import KINDS, Remainder, Removal, find_remainders, remove_finished
from .scan import let_journal_go
from .scratch import FileScratch
from .segments import JournalBlock
from .space import SpaceWatch, free_bytes
from .structure import ancillary_nbytes, refuse_reserved, refuse_reserved_in, reserved_names
from .syncs import SyncObserver, syncs_told_to
from .thread import StorageThread

__all__ = [
    "KINDS",
    "LEDGER_NAME",
    "SCRATCH_NAME",
    "STATUS_INTERRUPTED",
    "Activity",
    "CheckpointDone",
    "ChunkAddress",
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
    "FinaliseRecorded",
    "Finalised",
    "FinishedResult",
    "FinishedScans",
    "JournalBlock",
    "JournalCheckpoint",
    "JournalClose",
    "JournalClosed",
    "JournalCommit",
    "JournalContact",
    "JournalFinalise",
    "JournalThread",
    "Journalled",
    "LiveFile",
    "MainPlan",
    "OpenRecord",
    "Ready",
    "RecoveryReport",
    "Remainder",
    "Removal",
    "Resume",
    "SpaceBack",
    "SpaceShort",
    "SpaceWatch",
    "StorageError",
    "StorageFailed",
    "StorageThread",
    "SyncError",
    "SyncObserver",
    "TileWritten",
    "WriteTile",
    "ancillary_nbytes",
    "contact_age_s",
    "find_journals",
    "find_remainders",
    "free_bytes",
    "is_interrupted",
    "let_journal_go",
    "recover_path",
    "refuse_reserved",
    "refuse_reserved_in",
    "remove_finished",
    "remove_unfinished",
    "reserved_names",
    "safe_name",
    "syncs_told_to",
]
