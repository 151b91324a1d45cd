"""A scan rebuilt in another directory, file and journal: for when its own disk has no room.

The scan stays as it is where it was. In the other directory it counts when its file has its name,
which is last; until then it can be begun anew there.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from .chunkbytes import Progress, no_progress
from .comparison import COMPARE_TIMEOUT_S
from .errors import StorageError, storage_error
from .files import publish_new, sync_directory, sync_file
from .ledger import LEDGER_NAME, Ledger, replay
from .plausible import require_plausible
from .rebuild import rebuild, require_room_for_rebuild
from .record import OpenRecord
from .recovery import REBUILT, RecoveryReport, new_records, require_agreement
from .segments import RowReplay, segment_files
from .swap import complete, rebuilding_path
from .template import TEMPLATE_NAME


def recover_into(
    journal: Path,
    directory: Path,
    *,
    timeout_s: float = COMPARE_TIMEOUT_S,
    progress: Progress = no_progress,
) -> RecoveryReport:
    """Rebuild a scan in another directory; to be called while holding `journal_lock`.

    Serving that directory continues the scan there; the old file and journal can then be removed.

    Parameters
    ----------
    journal
        The scan's journal directory.
    directory
        Made if it does not exist.
    timeout_s, progress
        As for `recover`.

    Raises
    ------
    StorageError
        ``no_space_for_rebuild``; ``storage_failed``, also where the scan stands there already.
    """
    record, state = OpenRecord.read(journal), replay(journal / LEDGER_NAME)
    require_plausible(record, state, journal / LEDGER_NAME)
    complete(record.path)
    moved = replace(record, path=directory / record.path.name)
    if moved.path.exists():
        raise StorageError(
            f"{moved.path} is there already",
            code="storage_failed",
            hint="Choose another directory.",
        )
    try:
        moved.journal.mkdir(parents=True, exist_ok=True)
        require_room_for_rebuild(directory, journal, state.chunks)
        for source in (journal / TEMPLATE_NAME, *segment_files(journal, state.first_segment)):
            _copy(source, moved.journal / source.name)
    except OSError as error:
        raise storage_error("copy", moved.journal, error) from error
    target = rebuilding_path(moved.path)
    rebuilt = rebuild(record.path, target, moved, state, progress)
    Ledger.create(moved.journal / LEDGER_NAME, new_records(state, rebuilt)).close()
    require_agreement(target, journal, moved.journal / LEDGER_NAME, rebuilt, timeout_s)
    moved.write()
    sync_directory(directory.absolute().parent)
    publish_new(target, moved.path)
    rows = RowReplay(moved.journal, state.first_segment)
    report = RecoveryReport(
        str(moved.path.absolute()),
        REBUILT,
        reason=f"it was asked for in {directory}; nothing was changed where the scan was",
        kept=str(record.path.absolute()),
    )
    report.count(moved, rebuilt=rebuilt.chunks.entries)
    report.lose(moved, rebuilt.lost, rows)
    report.count_rows(rows)
    return report


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    sync_file(target)
