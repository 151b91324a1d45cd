"""Which files may be merged, and which of their groups are measurements.

A source is finished, sound, and new to the session. Knows the marks of a scan that goes on: its
journal, HDF5's flags, its status.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

from usidstream.errors import UsidstreamError

from ..h5usid import check_if_main, get_all_main, get_attr
from ..storage.errors import damaged_error, storage_error
from ..storage.files import journal_dir
from ..storage.structure import STATUS_ACQUIRING
from ..storage.superblock import require_closed
from ..verify import verify_file
from .report import MergeReport, Stage

MAX_FAULTS_TOLD_COUNT = 3
_NUMBERED = re.compile(r"(.+)_[0-9]+")


class MergeError(UsidstreamError):
    """A file cannot be merged; nothing was changed."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message, code="not_mergeable", hint=hint)


class SameFileError(MergeError, ValueError):
    """The same file was given twice."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A group to be merged: its series is its name without the number."""

    name: str
    series: str
    scan_id: str


@dataclass
class SourceFile:
    """A file that is open to be read.

    Parameters
    ----------
    path
        As it was given.
    h5_file : h5py.File
    measurements
        What is to be merged of it.
    n_chunks
        Chunks in these.
    """

    path: Path
    h5_file: Any
    measurements: list[Measurement] = field(default_factory=list)
    n_chunks: int = 0


def open_source(path: Path) -> Any:
    """Open a file that other programs may have open; `StorageError` if that fails."""
    try:
        return h5py.File(path, "r", locking=False, rdcc_nbytes=0)
    except OSError as error:
        raise storage_error("read", path, error) from error


def require_sound(path: Path, stage: Stage, name: str) -> None:
    """Raise unless a file is closed, without a journal, and verify finds no fault in it."""
    journal = journal_dir(path.resolve())
    if journal.exists():
        raise _unfinished(path, f"its journal {journal.name} stands beside it")
    require_closed(path)
    if faults := faults_of(path, stage, name):
        raise damaged_error(
            path,
            f"has faults: {faults}",
            f"Nothing was changed. Look with: usidstreamd verify {path}",
        )


def faults_of(path: Path, stage: Stage, name: str) -> str:
    """Return what verify finds wrong with a file, in words; empty for nothing."""
    with stage(f"verify {name}", "chunks") as advance:
        faults = verify_file(path, progress=advance).faults
    told = "; ".join(faults[:MAX_FAULTS_TOLD_COUNT])
    n_more = len(faults) - MAX_FAULTS_TOLD_COUNT
    return f"{told}; and {n_more} more" if n_more > 0 else told


def plan(files: Sequence[SourceFile], merged: dict[str, str], report: MergeReport) -> None:
    """Find the measurements of all files; raise `MergeError` before anything is copied.

    Parameters
    ----------
    files
        Get their measurements and the number of chunks.
    merged
        By scan id, what holds that scan already.
    report
        Gets what of the files will not be merged.
    """
    known = dict(merged)
    for file in files:
        _find_measurements(file, report)
        for measurement in file.measurements:
            _require_new(file, measurement, known)
            group = file.h5_file[measurement.name]
            _require_finished(file.path, group)
            file.n_chunks += _count_chunks(group)


def _find_measurements(file: SourceFile, report: MergeReport) -> None:
    root, left_out = file.h5_file, []
    for name in root:
        item = root[name] if _is_own(root, name) else None
        if isinstance(item, h5py.Group) and get_all_main(item):
            file.measurements.append(_measurement(name, item))
        elif isinstance(item, h5py.Dataset) and check_if_main(item):
            raise MergeError(
                f"{file.path}: the main dataset {name} stands in no measurement group",
                hint="Move it into a group such as Measurement_000 and merge again.",
            )
        else:
            left_out.append(name)
    if not file.measurements:
        raise MergeError(
            f"{file.path} holds no measurement group with a main dataset",
            hint="See what it holds: usidstreamd tree " + str(file.path),
        )
    if left_out:
        report.notes.append(f"{file.path}: not in a measurement, not merged: {', '.join(left_out)}")


def _measurement(name: str, group: Any) -> Measurement:
    numbered = _NUMBERED.fullmatch(name)
    scan_id = str(get_attr(group, "scan_id")) if "scan_id" in group.attrs else ""
    return Measurement(name, numbered[1] if numbered else name, scan_id)


def _is_own(root: Any, name: str) -> bool:
    return isinstance(root.get(name, getlink=True), h5py.HardLink)


def _require_new(file: SourceFile, measurement: Measurement, known: dict[str, str]) -> None:
    scan_id = measurement.scan_id
    if not scan_id:
        return
    if scan_id in known:
        raise MergeError(
            f"{file.path}: scan {scan_id} is merged already, as {known[scan_id]}",
            hint="Leave this file out.",
        )
    known[scan_id] = f"/{measurement.name} of {file.path}"


def _require_finished(path: Path, group: Any) -> None:
    if "acquisition_status" not in group.attrs:
        return
    if get_attr(group, "acquisition_status") == STATUS_ACQUIRING:
        raise _unfinished(path, f"acquisition_status of {group.name} is {STATUS_ACQUIRING}")


def _unfinished(path: Path, reason: str) -> MergeError:
    return MergeError(
        f"{path} is not finished: {reason}",
        hint="Let its client finish it. If its daemon died, put the file right first: "
        f"usidstreamd recover {path}",
    )


def _count_chunks(group: Any) -> int:
    found = [0]

    def count(_name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.chunks is not None:
            found[0] += item.id.get_num_chunks()

    group.visititems(count)
    return found[0]
