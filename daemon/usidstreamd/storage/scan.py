"""A scan on the disk as a whole: its journal directory, its file, its result.

The order of every step is here: what is made first, what is taken back when a step fails, what must
be safe before the next may happen. It knows no thread and no client.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy.typing as npt

from usidstream.checksum import crc32
from usidstream.layout import ScanLayout

from .chunkbytes import Progress, no_progress
from .chunktable import ChunkAddress
from .coverage import Coverage, CoverageUpdate
from .datasets import Payload
from .errors import StorageError, SyncError, damaged_error, half_way_error, storage_error
from .files import remove, scan_file_name
from .finished import FinishedResult, FinishedScans
from .held import held_coverage
from .inspection import inspect_indexes
from .ledger import LEDGER_NAME, replay
from .ledger_records import STATUS_INTERRUPTED
from .live import LiveFile
from .record import (
    SCRATCH_NAME,
    MainPlan,
    OpenRecord,
    empty_journal,
    mark_suspect,
    remove_emptied,
    remove_journal,
)
from .recovery import NOTHING_TO_DO, RecoveryReport, journal_lock, reconcile
from .scan_journal import ScanJournal
from .segments import SEGMENT_TARGET_BYTES, RowReplay
from .space import CHUNKS_KEEP_FREE_BYTES, prove_room

log = logging.getLogger("usidstreamd")


class OpenScan:
    """A scan whose file and journal are open; used by one thread.

    Attributes
    ----------
    record : OpenRecord
    journal : ScanJournal
        For another thread's use; whoever takes it closes it after the file.
    recovery : RecoveryReport or None
        What `resume` had to put right.
    """

    def __init__(
        self, record: OpenRecord, live: LiveFile, journal: ScanJournal, lock: ExitStack
    ) -> None:
        self.record = record
        self._lock = lock
        self.journal = journal
        self._live = live
        self._numbers = {main.name: number for number, main in enumerate(record.layout.mains)}
        self._distrust: StorageError | None = None
        self._result: FinishedResult | None = None
        self.recovery: RecoveryReport | None = None
        self._was_full = False

    @classmethod
    def create(
        cls,
        data_dir: Path,
        file: str,
        layout: ScanLayout,
        plans: Mapping[str, MainPlan],
        *,
        scan_id: str,
        created: datetime,
        segment_bytes: int = SEGMENT_TARGET_BYTES,
    ) -> OpenScan:
        """Open a new scan; on return its file and its journal are safely on the disk.

        Raises
        ------
        StorageError
            It could not be made; nothing of it is left behind.
        LayoutError
            ``bad_name`` for the file's name, ``bad_attribute`` for an attribute's.
        """
        path = data_dir / scan_file_name(file, created, scan_id)
        record = OpenRecord(scan_id, path, layout, plans, created)
        try:
            record.journal.mkdir()
        except OSError as error:
            raise storage_error("make", record.journal, error) from error
        lock = ExitStack()
        try:
            lock.enter_context(journal_lock(record.journal))
            # Record and ledger first: a file under its final name always has both.
            record.write()
            ScanJournal.create(record.journal)
            live = LiveFile.create(path, layout, plans, scan_id=scan_id, created=created)
            journal = _journal_of_new(record, live, segment_bytes)
        except BaseException:
            lock.close()
            remove_journal(record.journal)
            raise
        return cls(record, live, journal, lock)

    @classmethod
    def resume(
        cls,
        record: OpenRecord,
        segment_bytes: int = SEGMENT_TARGET_BYTES,
        progress: Progress = no_progress,
    ) -> OpenScan:
        """Go on with a scan of an earlier daemon, however that ended.

        ``progress`` is told of the chunks that a recovery reads, and of those it rebuilds.

        Raises
        ------
        StorageError
            ``file_damaged``: file or journal are not whole, and it says what can be saved;
            ``no_space_for_rebuild``; ``storage_failed``: something cannot be read or written.
        """
        for scratch in record.journal.glob(SCRATCH_NAME + "*"):  # of a daemon that was killed
            scratch.unlink()
        with ExitStack() as undo:
            lock = undo.enter_context(ExitStack())
            lock.enter_context(journal_lock(record.journal))
            report = reconcile(record.journal, progress=progress)
            _tell(report)
            journal = ScanJournal(
                record.journal, record.path, CHUNKS_KEEP_FREE_BYTES, segment_bytes
            )
            undo.callback(journal.close, is_clean=False)
            live = LiveFile.resume(record.path, record.layout, record.scan_id)
            undo.pop_all()
        scan = cls(record, live, journal, lock)
        scan.recovery = None if report.how == NOTHING_TO_DO else report
        return scan

    def coverage(self) -> dict[str, Coverage]:
        """Return what chunks hold of each main, as the ledger said when the scan was opened."""
        state = self.journal.state
        return held_coverage(self.record.layout, self.record.plans, state.chunks, state.partial)

    def replay(self) -> RowReplay:
        """Return the blocks that the journal held when the scan was opened."""
        return RowReplay(self.record.journal, self.journal.state.first_segment)

    def read_rect(self, main: str, row: int, rows: int, col: int, cols: int) -> npt.NDArray[Any]:
        """Return elements (rows, cols) of a main; what was never written is 0."""
        return self._live.read_rect(main, row, rows, col, cols)

    def write(
        self,
        main: str,
        chunks: Sequence[tuple[int, int, Payload]],
        *,
        is_complete: bool,
        written: list[ChunkAddress] | None = None,
    ) -> list[ChunkAddress]:
        """Write encoded chunks ``(row, col, payload)``; return where they lie.

        Parameters
        ----------
        written
            Where the first of these chunks lie already; this goes on behind them, and appends.

        Raises
        ------
        StorageError
            ``no_space``: it can be asked again, with what is written by then. ``storage_failed``.
            The scan can still be closed and resumed.
        """
        written = [] if written is None else written
        rest = chunks[len(written) :]
        nbytes = sum(len(payload) for _row, _col, payload in rest)
        self._live.require_room(nbytes)
        if self._was_full:  # each try that fails in HDF5 leaves a hole in the file
            prove_room(self.record.journal, nbytes)
        self._was_full = True
        write_chunk, number = self._live.write_chunk, self._numbers[main]
        for row, col, payload in rest:
            address = write_chunk(main, row, col, payload)
            size, crc = len(payload), crc32(payload)
            written.append(ChunkAddress(number, row, col, address, size, crc, is_complete))
        self._was_full = False
        return written

    def commit(self, updates: Mapping[str, CoverageUpdate], *, is_last: bool = False) -> None:
        """Show readers everything written before, and its coverage; both are durable then.

        Parameters
        ----------
        updates
            For mains whose coverage changed, by their names.
        is_last
            It is durable only once `finalise` has returned.

        Raises
        ------
        StorageError
            Nothing of it may be called durable.
        SyncError
            Nor can the file be relied on, which is recorded for the next daemon.
        """
        try:
            self._live.commit(updates, is_last=is_last)
        except SyncError as error:
            self._distrust_from_now(error)
            raise

    def finalise(
        self, status: str, attrs: Mapping[str, Any], ended: datetime, finished: FinishedScans
    ) -> FinishedResult:
        """End the scan: file and result are on the disk on return, and the journal may go.

        Until it has gone, see `let_go`, no other process may work on the scan: it would take back
        what is about to be remembered.

        The ledger says which chunks the file must have; it is closed by now, except where the scan
        is interrupted: that is not remembered as ended and keeps its journal (template, ledger, and
        the row segments whose chunks are not complete), for its client may still come.

        A file that does not have its chunks when it is closed is made anew and ended again; it is
        never remembered as it is. An interrupted one is made anew when it is resumed.

        Parameters
        ----------
        status
            ``complete``, ``incomplete``, ``aborted`` or ``interrupted``.
        attrs
            Annotations and final attributes.
        ended
            When the scan ended, with time zone.

        Raises
        ------
        StorageError
            ``no_space``: it can be asked again. Others: it has not ended, and goes on where it is
            when it is resumed.
        """
        if self._result is None:
            self._result = self._end_file(status, attrs, ended)
        if status == STATUS_INTERRUPTED:
            self.journal.unlock_once_closed(self._lock)
        else:
            finished.remember(self.record.scan_id, self._result)
        return self._result

    def let_go(self) -> None:
        """Remove the journal of a scan whose result is remembered, as `let_journal_go` does."""
        let_journal_go(self.record, self._lock)

    def _end_file(self, status: str, attrs: Mapping[str, Any], ended: datetime) -> FinishedResult:
        result, disagreement = self._finalise_file(status, attrs, ended)
        if disagreement and status != STATUS_INTERRUPTED:
            self._make_anew(disagreement)
            result, disagreement = self._finalise_file(status, attrs, ended)
        if disagreement:
            error = _not_as_written(self.record.path, disagreement)
            self._distrust_from_now(error)
            raise error
        return result

    def _finalise_file(
        self, status: str, attrs: Mapping[str, Any], ended: datetime
    ) -> tuple[FinishedResult, str]:
        """Finalise and close the file; return also what of its chunk index the ledger denies."""
        chunks = replay(self.record.journal / LEDGER_NAME).chunks
        try:
            result = self._live.finalise(status, attrs, ended, chunks)
        except StorageError as error:
            if not self._live.is_open:
                self._distrust_from_now(error)
            raise
        return result, inspect_indexes(self.record.path, self.record, chunks).disagreement

    def _make_anew(self, disagreement: str) -> None:
        record = self.record
        error = _not_as_written(record.path, disagreement)
        log.error("file_disagrees", extra={"file": str(record.path), "problem": error.message})
        self._distrust_from_now(error)
        try:
            report = reconcile(record.journal)
        except StorageError as failure:
            if failure.code != "no_space":
                raise
            raise half_way_error("make anew", record.path, failure) from failure
        _tell(report)
        if report.chunks_damaged:  # the journal may have their rows: a resumed scan places them
            raise error
        self._live = LiveFile.resume(record.path, record.layout, record.scan_id)
        self._distrust = None

    def close(self) -> None:
        """Close the file so that the scan can be resumed.

        Raises
        ------
        StorageError
            It is not closed cleanly, or a sync had failed before: `resume` will recover it.
        """
        if self._live.is_open:
            try:
                self._live.close()
            except StorageError as error:
                self._distrust_from_now(self._distrust or error)
        self.journal.unlock_once_closed(self._lock)
        if self._distrust is not None:
            raise self._distrust

    def _distrust_from_now(self, error: StorageError) -> None:
        self._distrust = error
        mark_suspect(self.record.journal, error.message)


def _not_as_written(path: Path, disagreement: str) -> StorageError:
    return damaged_error(path, f"was closed, but is not what was written: {disagreement}")


def _tell(report: RecoveryReport) -> None:
    """Let the operator know what a recovery has done, and what it could not vouch for."""
    if report.how != NOTHING_TO_DO:
        told = {"file": str(report.file), "how": report.how, "reason": report.reason}
        log.warning("file_recovered", extra=told)
    for lost in report.uncertain:
        log.error("rows_uncertain", extra={"file": str(report.file), "problem": lost})


def _journal_of_new(record: OpenRecord, live: LiveFile, segment_bytes: int) -> ScanJournal:
    try:
        return ScanJournal(record.journal, record.path, CHUNKS_KEEP_FREE_BYTES, segment_bytes)
    except BaseException:
        with contextlib.suppress(StorageError):  # what is being raised is the cause
            live.close()
        remove(record.path)
        raise


def let_journal_go(record: OpenRecord, lock: ExitStack | None = None) -> None:
    """Remove the journal of a scan whose result is remembered.

    Nobody waits for it, and nothing depends on it: what cannot be removed is told in the log, and
    is removed by the next daemon.

    Parameters
    ----------
    record
        The scan.
    lock
        What holds its `journal_lock`: released when all but lock and record is gone, since not
        every system removes a file that is held.
    """
    try:
        with lock or contextlib.nullcontext():
            empty_journal(record.journal)
        remove_emptied(record.journal)
    except StorageError as error:
        told = {"file": str(record.path), "problem": error.message}
        log.warning("journal_left", extra=told)
