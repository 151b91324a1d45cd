"""A scan on the disk as a whole: its journal directory, its file, its annotations, its result.

The order of every step is here: what is made first, what is taken back when a step fails, what must
be safe before the next may happen. It knows no thread and no client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy.typing as npt

from usidstream.layout import ScanLayout

from .coverage import Coverage, CoverageUpdate
from .datasets import Payload
from .errors import StorageError, SyncError, damaged_error, storage_error
from .files import scan_file_name
from .finished import FinishedResult, FinishedScans
from .live import LiveFile, ended_result
from .record import (
    SCRATCH_NAME,
    MainPlan,
    OpenRecord,
    begin_creation,
    mark_suspect,
    read_annotations,
    remove_journal,
    suspicion,
    write_annotations,
)
from .structure import refuse_reserved


class OpenScan:
    """A scan whose file is open; used by one thread.

    Attributes
    ----------
    record : OpenRecord
    annotations : dict
        Those of all commits so far.
    """

    def __init__(self, record: OpenRecord, live: LiveFile, annotations: dict[str, Any]) -> None:
        self.record = record
        self.annotations = annotations
        self._live = live
        self._distrust: StorageError | None = None

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
    ) -> OpenScan:
        """Open a new scan; on return its file and its journal directory are safely on the disk.

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
        try:
            # A file under its final name always has a record, and a record without such a file
            # always the mark that tells a creation cut short from a file that was moved away.
            begin_creation(record.journal)
            record.write()
            live = LiveFile.create(path, layout, plans, scan_id=scan_id, created=created)
        except BaseException:
            remove_journal(record.journal)
            raise
        return cls(record, live, {})

    @classmethod
    def resume(cls, record: OpenRecord) -> OpenScan:
        """Go on with a scan that an earlier daemon closed.

        Raises
        ------
        StorageError
            ``file_damaged``: it was not closed, a sync of it had failed, or it is another file;
            ``storage_failed``: it cannot be read. File and journal are as they were.
        """
        _require_trusted(record)
        for scratch in record.journal.glob(SCRATCH_NAME + "*"):  # of a daemon that was killed
            scratch.unlink()
        annotations = read_annotations(record.journal)
        live = LiveFile.resume(record.path, record.layout, record.scan_id)
        return cls(record, live, annotations)

    def coverage(self) -> dict[str, Coverage]:
        """Return the coverage of each main as last committed."""
        return {main.name: self._live.read_coverage(main.name) for main in self.record.layout.mains}

    def read_rect(self, main: str, row: int, rows: int, col: int, cols: int) -> npt.NDArray[Any]:
        """Return elements (rows, cols) of a main; what was never written is 0."""
        return self._live.read_rect(main, row, rows, col, cols)

    def write(self, main: str, chunks: Sequence[tuple[int, int, Payload]]) -> None:
        """Write encoded chunks ``(row, col, payload)``; the next commit makes them durable.

        Raises
        ------
        StorageError
            ``no_space`` or ``storage_failed``. The scan can still be closed and resumed.
        """
        self._live.require_room(sum(len(payload) for _row, _col, payload in chunks))
        write_chunk = self._live.write_chunk
        for row, col, payload in chunks:
            write_chunk(main, row, col, payload)

    def commit(self, updates: Mapping[str, CoverageUpdate], attrs: Mapping[str, Any]) -> None:
        """Make everything written before durable, with its coverage and further annotations.

        Raises
        ------
        StorageError
            Nothing of it may be called durable.
        SyncError
            Nor can the file be relied on, which is recorded for the next daemon.
        """
        refuse_reserved(attrs)
        try:
            self._live.commit(updates)
        except SyncError as error:
            self._distrust_from_now(error)
            raise
        if attrs:
            annotations = self.annotations | dict(attrs)
            write_annotations(self.record.journal, annotations)
            self.annotations = annotations

    def finalise(
        self, status: str, attrs: Mapping[str, Any], finished: FinishedScans
    ) -> FinishedResult:
        """End the scan: file, result and the journal's absence are on the disk on return.

        Parameters
        ----------
        status
            ``complete``, ``incomplete`` or ``aborted``.
        attrs
            Final attributes; they win over annotations of the same name.
        """
        ended = datetime.now(UTC).astimezone()
        try:
            result = self._live.finalise(status, self.annotations | dict(attrs), ended)
        except StorageError as error:
            if not self._live.is_open:
                self._distrust_from_now(error)
            raise
        conclude(self.record, result, finished)
        return result

    def close(self) -> None:
        """Close the file so that the scan can be resumed.

        Raises
        ------
        StorageError
            `resume` will refuse it: it is not closed cleanly, or a sync had failed before.
        """
        if self._live.is_open:
            try:
                self._live.close()
            except StorageError as error:
                self._distrust_from_now(self._distrust or error)
        if self._distrust is not None:
            raise self._distrust

    def _distrust_from_now(self, error: StorageError) -> None:
        self._distrust = error
        mark_suspect(self.record.journal, error.message)


def ended_before(record: OpenRecord) -> FinishedResult | None:
    """Return the result of a scan whose file is finalised though its journal still stands.

    Raises
    ------
    StorageError
        As `OpenScan.resume`.
    """
    _require_trusted(record)
    return ended_result(record.path, record.layout, record.scan_id)


def conclude(record: OpenRecord, result: FinishedResult, finished: FinishedScans) -> None:
    """Remember a result, and only then let the journal go."""
    finished.remember(record.scan_id, result)
    remove_journal(record.journal)


def _require_trusted(record: OpenRecord) -> None:
    if not record.path.exists():
        raise damaged_error(
            record.path,
            "is missing.",
            f"Put it back, or move {record.journal.name} away to let the daemon forget the scan.",
        )
    reason = suspicion(record.journal)
    if reason:
        raise damaged_error(
            record.path,
            f"cannot be relied on beyond its last commit: {reason}",
            "Keep the file and its journal directory, and send the scan again under a new id.",
        )
