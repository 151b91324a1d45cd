"""Gathers finished scans in one session file: every measurement becomes the next of its series.

``sources`` says what may be merged, ``copying`` takes chunks over as they are stored, and
``references`` lets copies refer to copies. Here it becomes atomic: all is done in a work file
beside the session, which takes the session's name by one rename when it was verified and is on the
disk. Whatever fails before leaves the session as it was, and nothing beside it.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import h5py

from ..h5usid import get_attr
from ..storage.errors import StorageError, damaged_error, storage_error
from ..storage.files import publish_new, remove, sync_directory, sync_file
from ..storage.live import LIBVER, close_firmly
from ..storage.rebuild import writing
from ..storage.space import COMMITS_KEEP_FREE_BYTES, free_bytes
from .copying import SourceCopy
from .report import Merged, MergeReport, Stage, no_stage
from .sources import (
    MergeError,
    SameFileError,
    SourceFile,
    faults_of,
    open_source,
    plan,
    require_sound,
)

__all__ = ["MergeError", "MergeReport", "Merged", "SameFileError", "Stage", "merge"]

WORK_SUFFIX = ".merge"
COPY_BLOCK_BYTES = 8 << 20


def merge(session: Path, sources: Sequence[Path], stage: Stage = no_stage) -> MergeReport:
    """Add the measurements of finished files to a session file, all of them or none.

    Parameters
    ----------
    session
        Made if it does not exist. Programs that have it open go on reading what it was.
    sources
        Closed h5USID files of any writer; they are only read.
    stage
        Is called with what is being done and what is counted; gives a context in which progress
        is told.

    Returns
    -------
    MergeReport

    Raises
    ------
    SameFileError
        A file is given twice, or the session is one of its own sources.
    MergeError
        A source is not finished, holds no measurement, or is in the session already.
    StorageError
        ``file_damaged``: verify finds a fault in a source, the session or what was made of them;
        ``no_space``, ``storage_failed``: the disk. Only when the directory cannot be synced is the
        session merged all the same, and a power cut may bring back what it was.
    """
    session = session.resolve()
    _require_different(session, sources)
    _require_room(session, sources)
    before = _stamp(session)
    if before:
        require_sound(session, stage, "the session")
    for number, path in enumerate(sources, 1):
        # By its number: names of scans are longer than lines of terminals.
        require_sound(path, stage, f"scan {number} of {len(sources)}")
    report = MergeReport(str(session))
    with ExitStack() as opened:
        files = [SourceFile(path, opened.enter_context(open_source(path))) for path in sources]
        plan(files, _merged_ids(session) if before else {}, report)
        with _work_file(session, stage) as work:
            _add(work, files, report, stage)
            _require_sound_work(work, session, stage)
            _publish(work, session, before)
    return report


def _require_different(session: Path, sources: Sequence[Path]) -> None:
    seen = {session: "the session itself"}
    for path in sources:
        resolved = path.resolve()
        if resolved in seen:
            raise SameFileError(
                f"{path} is {seen[resolved]}", hint="Give the session first, then each scan once."
            )
        seen[resolved] = "given twice"


def _require_room(session: Path, sources: Sequence[Path]) -> None:
    """Raise ``no_space`` unless the session, all sources and a margin fit beside the session."""
    sizes = (path.stat().st_size for path in (session, *sources) if path.exists())
    needed = sum(sizes) + COMMITS_KEEP_FREE_BYTES
    free = free_bytes(session.parent)
    if free < needed:
        raise StorageError(
            f"merging needs {-(-needed >> 20)} MiB on the disk of {session}, where {free >> 20} "
            "MiB are free",
            code="no_space",
            hint="Nothing was changed. Free space, or make the session on another disk.",
            details={"file": str(session), "free_bytes": free, "needed_bytes": needed},
        )


def _stamp(session: Path) -> tuple[int, int, int] | None:
    """Return what tells whether a file was changed or replaced, None where there is none."""
    try:
        found = session.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


@contextlib.contextmanager
def _work_file(session: Path, stage: Stage) -> Iterator[Path]:
    """Make a copy of the session, or an empty file; it is gone again if anything raises."""
    work = session.with_name(session.name + WORK_SUFFIX)
    try:
        with work.open("xb"):
            pass
    except FileExistsError as error:
        raise MergeError(
            f"{work} exists: another merge is at work, or one was killed",
            hint="Remove it if no merge is running.",
        ) from error
    except OSError as error:
        raise storage_error("write", work, error) from error
    try:
        if session.exists():
            _copy_file(session, work, stage)
        else:
            close_firmly(h5py.File(work, "w", libver=LIBVER, locking=False))
        yield work
    except BaseException as error:
        remove(work)
        if isinstance(error, OSError | RuntimeError):
            raise storage_error("merge into", session, error) from error
        raise


def _copy_file(session: Path, work: Path, stage: Stage) -> None:
    n_blocks = -(-session.stat().st_size // COPY_BLOCK_BYTES)
    with (
        stage("copy the session", "blocks") as advance,
        session.open("rb") as source,
        work.open("r+b") as target,
    ):
        for number in range(n_blocks):
            target.write(source.read(COPY_BLOCK_BYTES))
            advance(number + 1, n_blocks)
    shutil.copymode(session, work)


def _merged_ids(session: Path) -> dict[str, str]:
    """Return the scans that a session holds: by id, the name of each measurement."""
    with open_source(session) as h5_file:
        groups = [item for item in h5_file.values() if isinstance(item, h5py.Group)]
        return {str(get_attr(g, "scan_id")): g.name for g in groups if "scan_id" in g.attrs}


def _add(work: Path, files: Sequence[SourceFile], report: MergeReport, stage: Stage) -> None:
    total = sum(file.n_chunks for file in files)
    with writing(work) as h5_work, stage("merge", "chunks") as advance:
        for file in files:
            SourceCopy(file, h5_work, report, lambda: advance(report.chunks, total)).run()
        advance(total, total)


def _require_sound_work(work: Path, session: Path, stage: Stage) -> None:
    if faults := faults_of(work, stage, "what was merged"):
        raise damaged_error(
            session,
            f"would have faults with these scans merged: {faults}",
            "Nothing was changed. Look for what ails the disk or the memory, and merge again.",
        )


def _publish(work: Path, session: Path, before: tuple[int, int, int] | None) -> None:
    sync_file(work)
    if before is None:
        publish_new(work, session)
        return
    if _stamp(session) != before:
        raise MergeError(
            f"{session} was changed by somebody else meanwhile",
            hint="Nothing was merged; call again when nobody writes it.",
        )
    work.replace(session)
    sync_directory(session.parent)
