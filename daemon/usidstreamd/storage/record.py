"""The open record: what the daemon must know of a scan to go on with it after its own end.

It stands in the scan's journal directory from before the file has its name until after the result
is remembered, so that the directories with a record are the scans that can be resumed.
This module knows records and directories; it must never open the HDF5 file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from usidstream.disk import sync_data
from usidstream.errors import UsidstreamError
from usidstream.framing import FramingError, frame, pack, unframe, unpack
from usidstream.layout import ScanLayout
from usidstream.wire import Frame, is_scan_id, pack_layout, unpack_layout

from .errors import StorageError, damaged_error, storage_error
from .files import (
    JOURNAL_SUFFIX,
    TEMPORARY_SUFFIX,
    journal_dir,
    publish,
    sync_directory,
)
from .template import TEMPLATE_NAME

log = logging.getLogger("usidstreamd")

RECORD_NAME = "open"
CREATING_NAME = "creating.h5"
LOCK_NAME = "lock"
SCRATCH_NAME = "scratch"
"""What the names of files with parked tiles begin with."""
SUSPECT_NAME = "suspect"
RECORD_VERSION = 1


@dataclass(frozen=True, slots=True)
class MainPlan:
    """How a main is stored.

    Parameters
    ----------
    chunks
        Rows and columns of a chunk.
    filters
        Keywords of h5py's ``create_dataset``, as a codec's ``hdf5_filters`` gives them.
    """

    chunks: tuple[int, int]
    filters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OpenRecord:
    """A scan as it was opened.

    Parameters
    ----------
    scan_id
        32 hexadecimal digits.
    path
        The scan's file. Only its name is recorded: the data directory may move.
    layout
        The layout as the client gave it.
    plans
        For each main, by its name, how it is stored.
    created
        When it was opened, with time zone.
    """

    scan_id: str
    path: Path
    layout: ScanLayout
    plans: Mapping[str, MainPlan]
    created: datetime

    @property
    def journal(self) -> Path:
        """The scan's journal directory."""
        return journal_dir(self.path)

    def write(self) -> None:
        """Publish the record in the journal directory, durably."""
        frames: list[Frame] = []
        head = {
            "version": RECORD_VERSION,
            "scan_id": self.scan_id,
            "file": self.path.name,
            "created": self.created.isoformat(),
            "plans": {name: [plan.chunks, plan.filters] for name, plan in self.plans.items()},
            "layout": pack_layout(self.layout.to_dict(), frames),
        }
        _publish(self.journal / RECORD_NAME, head, frames)

    @classmethod
    def read(cls, journal: Path) -> OpenRecord:
        """Read the record of a journal directory.

        Raises
        ------
        StorageError
            ``file_damaged`` where the record is not whole, or of a newer version;
            ``storage_failed`` where it cannot be read.
        """
        path = journal / RECORD_NAME
        head, frames = _read(path)
        try:
            return cls._from_head(head, frames, journal)
        except (KeyError, TypeError, ValueError, UsidstreamError) as error:
            raise _damaged(path, error) from error

    @classmethod
    def _from_head(cls, head: Any, frames: list[bytes], journal: Path) -> OpenRecord:
        if not isinstance(head, dict) or not isinstance(head["file"], str):
            raise TypeError("it is no record of a scan")
        if head["version"] > RECORD_VERSION:
            raise ValueError(f"it is of version {head['version']}, written by a newer daemon")
        if not is_scan_id(head["scan_id"]):  # it stands in paths
            raise ValueError("its scan id is none")
        path = journal.with_name(head["file"])
        if journal_dir(path) != journal:
            raise ValueError(f"it is of the file {path.name}, not of the one beside it")
        layout = ScanLayout.from_dict(unpack_layout(head["layout"], frames))
        return cls(
            scan_id=head["scan_id"],
            path=path,
            layout=layout,
            plans={main.name: _plan(head["plans"][main.name]) for main in layout.mains},
            created=datetime.fromisoformat(head["created"]),
        )


def _plan(told: Any) -> MainPlan:
    (rows, cols), filters = told
    if not (type(rows) is type(cols) is int and rows > 0 and cols > 0):
        raise ValueError(f"chunks of {rows!r:.20} x {cols!r:.20} are none")
    if not isinstance(filters, dict):
        raise TypeError("the filters of a main are no map")
    # h5py wants the options of a plugin's filter as a tuple; msgpack gives lists.
    plain = {key: tuple(v) if isinstance(v, list) else v for key, v in filters.items()}
    return MainPlan(chunks=(rows, cols), filters=plain)


def note_contact(journal: Path) -> None:
    """Note that a client took part in the scan until now.

    The time stands as that of the record's last modification: the record is written once, so that
    nothing else changes it, and the note costs neither a write nor a sync.

    Raises
    ------
    StorageError
        It could not be noted.
    """
    try:
        os.utime(journal / RECORD_NAME)
    except OSError as error:
        raise storage_error("mark", journal / RECORD_NAME, error) from error


def contact_age_s(journal: Path) -> float:
    """Return how long ago a client took part in the scan, as far as it was noted.

    A clock that was set back meanwhile makes it 0, which leaves the client more time, never less.
    """
    path = journal / RECORD_NAME
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError as error:
        raise storage_error("look at", path, error) from error


def mark_suspect(journal: Path, reason: str) -> None:
    """Record that a flush or sync of the scan's file failed, for the next daemon to know.

    The failure itself is what the caller has to hear of; a disk that refuses this too keeps the
    mark empty, which says as much.
    """
    with contextlib.suppress(OSError), (journal / SUSPECT_NAME).open("wb") as file:
        file.write(reason.encode())
        file.flush()
        sync_data(file.fileno())


def suspicion(journal: Path) -> str:
    """Return why the file is not to be relied on, empty where it is."""
    try:
        return (journal / SUSPECT_NAME).read_text("utf-8") or "a flush or sync of it failed"
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise storage_error("read", journal / SUSPECT_NAME, error) from error


# ---------------------------------------------------------------- the data directory's journals


def find_journals(data_dir: Path) -> Iterator[OpenRecord | StorageError]:
    """Yield the open record of each scan of a data directory that was neither finished nor aborted.

    A record that cannot be read comes as the error that says so: one damaged scan must not hide
    the others. What a creation that never ended left behind is passed over.
    """
    for journal in sorted(data_dir.glob("*" + JOURNAL_SUFFIX)):
        try:
            if journal.is_dir() and not is_unfinished(journal):
                yield OpenRecord.read(journal)
        except StorageError as error:
            yield error


def is_unfinished(journal: Path) -> bool:
    """Whether a journal directory is of a scan whose creation did not reach its end.

    Its file has no name yet, holds no data, and nobody was told that it is open.

    Raises
    ------
    StorageError
        It cannot be looked at.
    """
    try:
        names = {entry.name for entry in journal.iterdir()}
    except OSError as error:
        raise storage_error("look into", journal, error) from error
    if RECORD_NAME not in names:
        return names <= {RECORD_NAME + TEMPORARY_SUFFIX, CREATING_NAME, LOCK_NAME}
    file = journal.with_name(journal.name.removesuffix(JOURNAL_SUFFIX))
    # The template is made just before the file gets its name.
    return not file.exists() and (CREATING_NAME in names or TEMPLATE_NAME not in names)


def remove_unfinished(data_dir: Path) -> list[Path]:
    """Remove what creations that never ended left behind; return the journals removed.

    To be called at start-up, when no creation runs. What cannot be removed is told in the log.
    """
    return [path for path in sorted(data_dir.glob("*" + JOURNAL_SUFFIX)) if _is_removed(path)]


def _is_removed(journal: Path) -> bool:
    """Remove a journal if it is of a creation that never ended; return whether it is gone."""
    try:
        if not journal.is_dir() or not is_unfinished(journal):
            return False
        remove_journal(journal)
    except StorageError as error:
        log.warning("journal_left", extra={"file": str(journal), "problem": error.message})
        return False
    return True


def remove_journal(journal: Path) -> None:
    """Remove a journal directory and the files in it, the record last, and sync that it is gone.

    Raises
    ------
    StorageError
        Something in it could not be removed; the record then stands, and it can be called again.
    """
    empty_journal(journal)
    remove_emptied(journal)


def empty_journal(journal: Path) -> None:
    """Do the first part of `remove_journal`: only the record is left, and the lock."""
    try:
        for entry in list(journal.iterdir()):
            if entry.name not in (RECORD_NAME, LOCK_NAME):
                entry.unlink()
    except OSError as error:
        raise storage_error("remove", journal, error) from error
    sync_directory(journal)  # else a power cut might take the record alone


def remove_emptied(journal: Path) -> None:
    """Do the second part of `remove_journal`.

    After a power cut the lock may be left alone: `is_unfinished` takes that for a creation.
    """
    try:
        for name in (LOCK_NAME, RECORD_NAME):
            (journal / name).unlink(missing_ok=True)
        journal.rmdir()
    except OSError as error:
        raise storage_error("remove", journal, error) from error
    sync_directory(journal.parent)


# ---------------------------------------------------------------- a head and its arrays


def _publish(path: Path, head: Any, frames: list[Frame]) -> None:
    try:
        parts = [frame(pack(head)), *(frame(bytes(part)) for part in frames)]
    except FramingError as error:
        raise storage_error("write", path, error) from error
    publish(path, parts)


def _read(path: Path) -> tuple[Any, list[bytes]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise storage_error("read", path, error) from error
    try:
        head, *frames = unframe(data)
        return unpack(head), frames
    except ValueError as error:  # FramingError is one; so is an empty file's unpacking
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> StorageError:
    return damaged_error(
        path,
        f"is damaged: {error}",
        f"Move the directory {path.parent.name} away to let the daemon forget the scan; "
        "its HDF5 file stands beside it.",
    )
