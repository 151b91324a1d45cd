"""The finished scans' results, so that a late ``finish`` or ``open`` is answered as ever.

One small file for each scan id, synced before the scan's journal goes. Nothing is kept in memory:
a daemon may have finished a million scans. A name that is there was not always synced, for whoever
made it may have died, or failed, just before: no result is told before the directory is on the
disk, since journals are removed for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usidstream.framing import frame, pack, unframe, unpack
from usidstream.wire import MAX_INT

from .errors import StorageError, SyncError, damaged_error, storage_error
from .files import publish, remove, sync_directory

FINISHED_PARTS = (".usidstream", "finished")


@dataclass(frozen=True, slots=True)
class FinishedResult:
    """How a scan ended.

    Parameters
    ----------
    file
        The absolute path of the scan's file when it ended.
    status
        ``complete``, ``incomplete`` or ``aborted``.
    missing
        For each main that has any: half-open ranges of positions that are not complete.
    """

    file: str
    status: str
    missing: Mapping[str, list[tuple[int, int]]]


class FinishedScans:
    """The results of the finished scans of a data directory. May be used by several threads."""

    def __init__(self, data_dir: Path) -> None:
        self._directory = data_dir.joinpath(*FINISHED_PARTS)
        self._is_made = False
        self._is_synced = False

    def remember(self, scan_id: str, result: FinishedResult) -> None:
        """Keep a result for good; on return it is on the disk.

        Raises
        ------
        StorageError
            It is not, and is not told either.
        """
        self._make_directory()
        head = {"file": result.file, "status": result.status, "missing": dict(result.missing)}
        path = self._directory / scan_id
        try:
            publish(path, [frame(pack(head))])
        except SyncError:
            self._is_synced = False
            remove(path)  # a later sync that succeeds would prove nothing
            raise

    def _make_directory(self) -> None:
        """Make the directory durably: once, for each sync of a directory costs a scan's end."""
        if self._is_made and self._directory.is_dir():
            return
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error("make", self._directory, error) from error
        sync_directory(self._directory.parent)
        sync_directory(self._directory.parent.parent)
        self._is_made = True

    def get(self, scan_id: str) -> FinishedResult | None:
        """Return the result of a finished scan, ``None`` where the id is not known.

        What is returned is on the disk, whoever remembered it.

        Raises
        ------
        StorageError
            ``file_damaged``: it is known, but what was kept is not whole. ``storage_failed``: it
            cannot be read, or may not be on the disk.
        """
        path = self._directory / scan_id
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise storage_error("read", path, error) from error
        try:
            (payload,) = unframe(data)
            result = _result(unpack(payload))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(path, error) from error
        if not self._is_synced:
            sync_directory(self._directory)
            self._is_synced = True
        return result


def _result(head: Any) -> FinishedResult:
    missing = {
        name: [_range(start, stop) for start, stop in ranges]
        for name, ranges in head["missing"].items()
    }
    words = (head["file"], head["status"], *missing)
    if not all(isinstance(word, str) for word in words):
        raise TypeError("file, status and mains are not words")
    return FinishedResult(file=head["file"], status=head["status"], missing=missing)


def _range(start: Any, stop: Any) -> tuple[int, int]:
    if not (type(start) is type(stop) is int and 0 <= start <= stop <= MAX_INT):
        raise ValueError(f"{start!r:.20} to {stop!r:.20} are no positions")
    return start, stop


def _damaged(path: Path, error: Exception) -> StorageError:
    return damaged_error(
        path, f"is damaged: {error}", "The scan's own file tells its status; remove this one."
    )
