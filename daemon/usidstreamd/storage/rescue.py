"""Recovery of whatever a path names: a scan's file, its journal directory, or a directory of scans.

One scan that cannot be recovered hides no other: what it met comes in its turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .chunkbytes import Progress, no_progress
from .errors import StorageError, damaged_error
from .files import JOURNAL_SUFFIX, journal_dir
from .finished import FinishedScans
from .record import OpenRecord, is_unfinished
from .recovery import NOTHING_TO_DO, RecoveryReport, journal_lock, recover
from .relocation import recover_into
from .salvage import SALVAGED_SUFFIX, salvage
from .superblock import consistency_flags


def recover_path(
    path: Path, *, into: Path | None = None, progress: Progress = no_progress
) -> Iterator[RecoveryReport | StorageError]:
    """Recover a file, a journal directory, or all scans of a directory.

    Parameters
    ----------
    path
    into
        Rebuild the scans in this directory instead, and leave them as they are.
    progress
        Told of the chunks of each rebuild.

    Yields
    ------
    RecoveryReport or StorageError
        For each scan, what was done or why it could not be. A directory's files that were closed
        and have no journal are passed over.
    """
    if path.is_dir() and path.suffix == JOURNAL_SUFFIX:
        path = path.with_name(path.name.removesuffix(JOURNAL_SUFFIX))
    for file in _scans_in(path) if path.is_dir() else [path]:
        try:
            yield _recover_one(file, into, progress)
        except StorageError as error:
            yield error


def _scans_in(directory: Path) -> list[Path]:
    journals = [entry for entry in directory.glob("*" + JOURNAL_SUFFIX) if entry.is_dir()]
    with_journal = {
        entry.with_name(entry.name.removesuffix(JOURNAL_SUFFIX))
        for entry in journals
        if not is_unfinished(entry)
    }
    files = {
        file
        for file in directory.glob("*.h5")
        if not file.name.endswith(SALVAGED_SUFFIX) and consistency_flags(file)
    }
    return sorted(with_journal | files)


def _recover_one(file: Path, into: Path | None, progress: Progress) -> RecoveryReport:
    journal = journal_dir(file)
    if journal.is_dir():
        with journal_lock(journal):
            if _has_ended(journal):
                reason = "the scan has ended; the daemon removes what is left of its journal"
                return RecoveryReport(str(file.absolute()), NOTHING_TO_DO, reason)
            if into is not None:
                return recover_into(journal, into, progress=progress)
            return recover(journal, progress=progress)
    if not file.exists():
        raise damaged_error(file, "is missing.")
    if consistency_flags(file) == 0:
        reason = "it was closed, and has no journal"
        return RecoveryReport(str(file.absolute()), NOTHING_TO_DO, reason)
    return salvage(file, into)


def _has_ended(journal: Path) -> bool:
    """Whether the scan is remembered as ended; its journal may lack anything but the record."""
    record = OpenRecord.read(journal)
    return FinishedScans(journal.parent).get(record.scan_id) is not None
