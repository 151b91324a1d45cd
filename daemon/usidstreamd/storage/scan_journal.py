"""A scan's ledger, row journal and file, made durable in the order that an ack relies on.

Chunks: the file's bytes first, then their addresses. Blocks: the blocks. An address in the ledger
is therefore always of bytes that are on the disk. HDF5 is not used here and its flush not relied
on: the file is synced through a descriptor of our own, so that nothing here waits for h5py's lock.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .activity import Activity
from .chunktable import ChunkAddress
from .errors import StorageError, storage_error, sync_error
from .ledger import LEDGER_NAME, Ledger
from .ledger_records import (
    Annotated,
    Checkpoint,
    Chunks,
    Closed,
    Done,
    Finalise,
    Opened,
    Record,
)
from .record import mark_suspect, note_contact
from .segments import SEGMENT_TARGET_BYTES, JournalBlock, RowJournal
from .space import RECORDS_KEEP_FREE_BYTES, require_room
from .syncs import sync


class ScanJournal:
    """The open journal of one scan. Used by one thread.

    Opening it records that the file may be written from now on: it is opened before the file is,
    and closed after it.

    Parameters
    ----------
    journal
        The scan's journal directory, with the ledger that `create` made.
    file
        The scan's HDF5 file.
    keep_free_bytes
        Blocks and addresses are refused when less would be free on the disk.
    segment_bytes
        As `RowJournal` has its ``target_bytes``.

    Attributes
    ----------
    state : LedgerState
        What the ledger said when it was opened, without chunks that were not complete: the row
        segments hold what is in them.
    activity : Activity
        What is being done to the disk.

    Raises
    ------
    StorageError
        A file of it cannot be opened.
    """

    def __init__(
        self,
        journal: Path,
        file: Path,
        keep_free_bytes: int,
        segment_bytes: int = SEGMENT_TARGET_BYTES,
    ) -> None:
        self._directory = journal
        self._path = file
        self._keep_free_bytes = keep_free_bytes
        self._failure: StorageError | None = None
        self.activity = Activity()
        self._lock = contextlib.ExitStack()
        self._is_closed = False
        self._closing = threading.Lock()
        with contextlib.ExitStack() as opened:
            self._ledger, self.state = Ledger.open(journal / LEDGER_NAME)
            opened.callback(self._ledger.close)
            self._rows = RowJournal(journal, self.state.first_segment, segment_bytes)
            opened.callback(self._rows.close)
            self._file_fd = _open_for_sync(file)
            opened.callback(os.close, self._file_fd)
            self._record([Opened()])
            self.state.chunks = self.state.chunks.whole()
            self._release = opened.pop_all().close

    @staticmethod
    def create(journal: Path) -> None:
        """Publish the ledger of a new scan, durably, before its file is."""
        Ledger.create(journal / LEDGER_NAME, [Opened()]).close()

    def commit(
        self,
        chunks: Sequence[ChunkAddress],
        blocks: Sequence[JournalBlock],
        attrs: Mapping[str, Any],
    ) -> int | None:
        """Make chunks that are in the file, blocks and attributes durable.

        Returns
        -------
        The segment that holds the blocks; None where there are none.

        Raises
        ------
        StorageError
            ``no_space``: nothing was done, and it can be tried again.
            ``storage_failed``: some of it may be durable or not, and nothing can be done any more.
        """
        nbytes = sum(block.nbytes for block in blocks)
        self._require(nbytes, self._keep_free_bytes)
        try:
            if attrs:
                self._ledger.shorten()
            segment = self._append(blocks)  # first, so that the disk begins on it early
            if chunks:
                self._sync_file()
            records: list[Record] = [Chunks(chunks)] if chunks else []
            records += [Annotated(attrs)] if attrs else []
            if records:
                self._record(records)
            if blocks:
                with self.activity.at("syncing the journal's rows"):
                    self._rows.sync()
        except StorageError as error:
            self._fail(error)
            raise
        return segment

    def _append(self, blocks: Sequence[JournalBlock]) -> int | None:
        if not blocks:
            return None
        with self.activity.at("writing rows into the journal"):
            return self._rows.append(blocks)

    def checkpoint(self, first_segment: int) -> None:
        """Record that row segments before this one are not needed, and let them go."""
        self._decide([Checkpoint(first_segment)])
        with self.activity.at("removing row segments"):
            self._rows.drop_before(first_segment)

    def finalise(self, decision: Finalise) -> None:
        """Record how the scan ends."""
        self._decide([decision])

    def note_contact(self) -> None:
        """Note that a client took part in the scan until now; no sync is waited for."""
        with self.activity.at("noting a contact"):
            note_contact(self._directory)

    def close(self, *, is_clean: bool, is_done: bool = False) -> None:
        """Close the journal, after the file.

        Parameters
        ----------
        is_clean
            The file was closed and synced.
        is_done
            It was finalised, too, as recorded: the scan is interrupted.

        Raises
        ------
        StorageError
            Only what was durable before counts; the file will be recovered.
        """
        try:
            if is_clean and self._failure is None:
                self._sync_file()
                self._decide([Closed(), Done()] if is_done else [Closed()])
        finally:
            self._close_files()

    def unlock_once_closed(self, lock: contextlib.ExitStack) -> None:
        """Release the scan's lock when this is closed, or now if it is; from any thread.

        The journal is often closed after the file, and what another process did to both until then
        would be written over.
        """
        with self._closing:
            if not self._is_closed:
                self._lock.push(lock)
                return
        lock.close()

    def _close_files(self) -> None:
        try:
            with self.activity.at("closing the journal"):
                self._release()
        except OSError as error:
            raise storage_error("close", self._path, error) from error
        finally:
            with self._closing:
                self._is_closed = True
            self._lock.close()

    def _decide(self, records: Sequence[Record]) -> None:
        self._require(0, min(self._keep_free_bytes, RECORDS_KEEP_FREE_BYTES))
        try:
            self._record(records)
        except StorageError as error:
            self._fail(error)
            raise

    def _require(self, nbytes: int, keep_free_bytes: int) -> None:
        if self._failure is not None:
            raise self._failure
        require_room(self._directory, nbytes, keep_free_bytes)

    def _record(self, records: Sequence[Record]) -> None:
        with self.activity.at("writing the ledger"):
            self._ledger.append(records)
        with self.activity.at("syncing the ledger"):
            self._ledger.sync()

    def _sync_file(self) -> None:
        try:
            with self.activity.at("syncing the file"):
                sync(self._file_fd, "hdf5")
        except OSError as error:
            # What a cache still shows of the file may not be on the disk: it is to be rebuilt.
            mark_suspect(self._directory, f"a sync failed: {error}")
            raise sync_error(self._path, error) from error

    def _fail(self, error: StorageError) -> None:
        # A write refused for lack of space was taken back whole; all else leaves doubt.
        if error.code != "no_space":
            self._failure = error


def _open_for_sync(file: Path) -> int:
    try:
        return os.open(file, os.O_RDWR | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise storage_error("open", file, error) from error
