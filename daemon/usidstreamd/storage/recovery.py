"""What is done about a scan whose daemon died: made sure of, put right, or made anew.

A file that was closed stays as it is. One that was not is compared with the ledger: its chunk index
in a process of its own, then the bytes of every chunk with their checksums. If it is sound, its
superblock is repaired, chunks that HDF5 had not flushed are put back from their own bytes, and
its coverage is set to what the ledger knows; so a crash costs what was written since the last
flush, however large the file. One that is damaged is rebuilt beside itself, checked, and put in
its place. Nothing is changed before it is known what to do, and
every step can be cut short anywhere and the whole begun again. It knows files and the order of
steps; who resumes the scan then, and what becomes of the journalled rows, is for others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from .chunkbytes import Progress, find_damaged, no_progress
from .chunktable import NO_ENTRIES, ChunkTable, Entries
from .comparison import COMPARE_TIMEOUT_S, compare
from .errors import StorageError, damaged_error, storage_error
from .files import sync_file
from .held import held_coverage
from .inspection import Inspection
from .ledger import LEDGER_NAME, Ledger, LedgerState, replay
from .ledger_records import Annotated, Checkpoint, Chunks, Closed, Held, Record, Recovered
from .losses import Lost, count_by_main, find_lost, in_words
from .plausible import require_plausible
from .rebuild import (
    Rebuilt,
    describe,
    rebuild,
    require_room_for_rebuild,
    write_chunks,
    writing,
)
from .record import LOCK_NAME, OpenRecord, suspicion
from .segments import RowReplay
from .space import COMMITS_KEEP_FREE_BYTES, require_room
from .superblock import consistency_flags
from .superblock_repair import repair
from .swap import NEW_LEDGER_NAME, complete, decide, rebuilding_path

NOTHING_TO_DO = "nothing to do"
IN_PLACE = "in place"
REBUILT = "rebuilt"
SALVAGED = "salvaged"

IS_INTERRUPTED = "it is interrupted, and goes on when its client opens it"
IS_DECIDED = "its end is decided, and carried out by the daemon's next start"


@dataclass(slots=True)
class RecoveryReport:
    """What a recovery found and did.

    Parameters
    ----------
    file
        The scan's file, as it is to be used from now on.
    how
        ``nothing to do``, ``in place``, ``rebuilt`` or ``salvaged``.
    reason
        Why it had to be done so.
    chunks_in_place, chunks_put_back, chunks_rebuilt, chunks_damaged
        Durable chunks that stayed where they were, their bytes as they had been written (where
        there was anything to do); that HDF5 had not flushed, and that were written into the same
        file again; that were written into a new one; and whose bytes are not what was written.
    mains
        The same counts for each main, by its name.
    lost
        What of damaged chunks the row journal does not hold either.
    blocks_to_replay
        Journalled blocks that the scan's next daemon puts into chunks; None where nobody counted.
    uncertain
        What is lost, or cannot be vouched for: a sentence each. Empty where all that was ever
        called durable is there.
    kept
        The damaged file, where it was kept.
    """

    file: str
    how: str
    reason: str = ""
    chunks_in_place: int = 0
    chunks_put_back: int = 0
    chunks_rebuilt: int = 0
    chunks_damaged: int = 0
    mains: dict[str, dict[str, int]] = field(default_factory=dict)
    lost: list[Lost] = field(default_factory=list)
    blocks_to_replay: int | None = None
    uncertain: list[str] = field(default_factory=list)
    kept: str = ""

    def count(self, record: OpenRecord, **chunks: Entries) -> None:
        """Set the counts of some kinds of chunks, ``in_place`` and the like."""
        for kind, entries in chunks.items():
            setattr(self, f"chunks_{kind}", len(entries))
            for main, n in count_by_main(record, entries).items():
                self.mains.setdefault(main, {})[kind] = n

    def lose(self, record: OpenRecord, chunks: Entries, rows: RowReplay) -> None:
        """Take chunks that are damaged, and say what of them is lost."""
        self.count(record, damaged=chunks)
        self.lost = find_lost(record, chunks, rows) if len(chunks) else []
        self.uncertain = in_words(self.lost)

    def count_rows(self, rows: RowReplay) -> None:
        """Count what the row journal holds; say what of it is damaged."""
        self.blocks_to_replay = sum(1 for _block in rows)
        self.uncertain = [*self.uncertain, *rows.faults]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, for JSON."""
        return asdict(self)


@contextmanager
def journal_lock(journal: Path) -> Iterator[None]:
    """Hold a scan for this process; a process that dies lets go of it, and any thread may.

    Raises
    ------
    StorageError
        ``recovering``: another process has it.
    """
    lock = FileLock(journal / LOCK_NAME, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise StorageError(
            f"{journal} is in use by another process",
            code="recovering",
            hint=f"The daemon that serves {journal.parent} has the scan open, or another "
            "'usidstreamd recover' is at it. Wait until it has ended ('usidstream status' lists "
            "it), or stop that daemon first: its next start recovers the scan by itself.",
            details={"journal": str(journal)},
        ) from error
    except OSError as error:
        raise storage_error("lock", journal, error) from error
    try:
        yield
    finally:
        lock.release()


def recover(
    journal: Path,
    *,
    timeout_s: float = COMPARE_TIMEOUT_S,
    progress: Progress = no_progress,
) -> RecoveryReport:
    """Do what `reconcile` does, and look through the rows that are journalled."""
    report = reconcile(journal, timeout_s=timeout_s, progress=progress)
    state = replay(journal / LEDGER_NAME)
    report.count_rows(RowReplay(journal, state.first_segment))
    if state.decision is not None:
        report.reason = "; ".join(filter(None, (report.reason, IS_DECIDED)))
    return report


def reconcile(
    journal: Path,
    *,
    timeout_s: float = COMPARE_TIMEOUT_S,
    progress: Progress = no_progress,
) -> RecoveryReport:
    """Bring a scan's file and ledger into agreement; to be called while holding `journal_lock`.

    On return the file is closed and on the disk, and holds every durable chunk; the scan can be
    resumed. A second call finds nothing to do and changes nothing.

    Parameters
    ----------
    journal
        The scan's journal directory.
    timeout_s
        Besides a time for each chunk, what comparing may take before it counts as damage.
    progress
        Told of the chunks read, and of those rebuilt.

    Raises
    ------
    StorageError
        ``no_space_for_rebuild``: nothing was changed. ``file_damaged``: record, template or ledger
        are not whole, or the file is missing. Others: it can be tried again.
    """
    record = OpenRecord.read(journal)
    complete(record.path)
    if not record.path.exists():
        raise damaged_error(
            record.path,
            "is missing.",
            f"Put it back, or move {journal.name} away to let the daemon forget the scan.",
        )
    ledger, state = Ledger.open(journal / LEDGER_NAME)
    try:
        require_plausible(record, state, journal / LEDGER_NAME)
        return _bring_to_agreement(record, ledger, state, timeout_s, progress)
    finally:
        ledger.close()


def _bring_to_agreement(
    record: OpenRecord,
    ledger: Ledger,
    state: LedgerState,
    timeout_s: float,
    progress: Progress,
) -> RecoveryReport:
    path = record.path
    report = RecoveryReport(str(path.absolute()), NOTHING_TO_DO)
    report.count(record, in_place=state.chunks.entries)
    distrust = suspicion(record.journal)
    if state.is_closed and not distrust and _is_closed(path, state.chunks):
        report.reason = IS_INTERRUPTED if state.is_done else ""
        return report
    report.reason = distrust
    if not distrust:
        ledger_path = record.journal / LEDGER_NAME
        found = compare(path, record.journal, ledger_path, len(state.chunks), timeout_s)
        report.reason = (
            found.problem
            or _damage(path, state.chunks, found, progress)
            or _repair_in_place(record, ledger, state, found)
        )
        if not report.reason:
            report.how, report.reason = IN_PLACE, "it was not closed, but is sound"
            entries, is_absent = state.chunks.entries, state.chunks.marked(found.absent)
            report.count(record, in_place=entries[~is_absent], put_back=entries[is_absent])
            return report
    require_room_for_rebuild(path.parent, record.journal, state.chunks)
    return _rebuild_and_swap(record, state, report, timeout_s, progress)


def _is_closed(path: Path, chunks: ChunkTable) -> bool:
    return consistency_flags(path) == 0 and path.stat().st_size >= chunks.end


def _damage(path: Path, chunks: ChunkTable, found: Inspection, progress: Progress) -> str:
    """Read every chunk; say if any is not as it was written."""
    # Those that were found elsewhere were read there, and may be overwritten where they had been.
    is_moved = chunks.marked([number for number, _offset in found.moved])
    try:
        n_damaged = len(find_damaged(path, chunks.entries[~is_moved], progress))
    except OSError as error:
        raise storage_error("read", path, error) from error
    return f"{n_damaged} chunks are not as they were written" if n_damaged else ""


def _repair_in_place(
    record: OpenRecord, ledger: Ledger, state: LedgerState, found: Inspection
) -> str:
    """Repair a sound file; return what speaks against it after all."""
    coverage = held_coverage(record.layout, record.plans, state.chunks, state.partial)
    entries = state.chunks.entries
    absent = entries[np.array(found.absent, np.intp)]
    is_moved = state.chunks.marked([number for number, _offset in found.moved])
    moved = entries[is_moved]
    moved["offset"] = [offset for _number, offset in sorted(found.moved)]
    require_room(record.path, int(absent["nbytes"].sum(dtype=np.int64)), COMMITS_KEEP_FREE_BYTES)
    # Where those that moved were said to be there may be no file at all.
    repair(record.path, state.chunks.without(is_moved).end)
    try:
        # What is put back is written again, behind everything: its old bytes stay where they are,
        # so that this can be cut short and begun anew.
        rebuilt = write_chunks(record.path, record.path, record, ChunkTable([absent]))
        if len(rebuilt.lost):
            return f"{len(rebuilt.lost)} chunks not flushed are not as they were written"
        with writing(record.path) as h5_file:
            describe(h5_file, record, coverage, state.recoveries + 1)
    except (OSError, RuntimeError) as error:
        failure = storage_error("repair", record.path, error)
        if failure.code == "no_space":
            raise failure from error
        return failure.message
    sync_file(record.path)
    new = ChunkTable([rebuilt.chunks.entries, moved])
    ledger.append([*_chunks(new), Recovered(state.recoveries + 1), Closed()])
    ledger.sync()
    return ""


def _chunks(table: ChunkTable) -> list[Record]:
    return [Chunks(table)] if len(table) else []


def _rebuild_and_swap(
    record: OpenRecord,
    state: LedgerState,
    report: RecoveryReport,
    timeout_s: float,
    progress: Progress,
) -> RecoveryReport:
    target = rebuilding_path(record.path)
    rebuilt = rebuild(record.path, target, record, state, progress)
    new_ledger = record.journal / NEW_LEDGER_NAME
    Ledger.create(new_ledger, new_records(state, rebuilt)).close()
    require_agreement(target, record.journal, new_ledger, rebuilt, timeout_s)
    report.how = REBUILT
    report.count(record, in_place=NO_ENTRIES, rebuilt=rebuilt.chunks.entries)
    report.lose(record, rebuilt.lost, RowReplay(record.journal, state.first_segment))
    manifest = decide(record.path, keeps_damaged=bool(len(rebuilt.lost)))
    complete(record.path)
    if len(rebuilt.lost):
        report.kept = str(record.path.with_name(manifest.damaged).absolute())
    return report


def require_agreement(
    target: Path, journal: Path, ledger: Path, rebuilt: Rebuilt, timeout_s: float
) -> None:
    """Raise unless a new file agrees with its ledger: it must not replace anything else."""
    found = compare(target, journal, ledger, len(rebuilt.chunks), timeout_s)
    if not found.agrees:
        raise StorageError(
            f"the file rebuilt from {journal} is not as it should be: {found.disagreement}",
            code="storage_failed",
            hint="The damaged file was not changed. Look at the disk, then try again.",
            details={"file": str(target)},
        )


def new_records(state: LedgerState, rebuilt: Rebuilt) -> list[Record]:
    """Return the records of a ledger that says of a rebuilt file what the old one said."""
    records = [*_chunks(rebuilt.chunks), Checkpoint(state.first_segment)]
    if state.annotations:
        records.append(Annotated(state.annotations))
    if state.decision is not None:
        records.append(state.decision)  # to be carried out again, in the new file
    elif state.partial:
        records.append(Held(state.partial))
    return [*records, Recovered(state.recoveries + 1), Closed()]
