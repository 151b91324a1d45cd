"""What stands beside the files of a data directory, whether it is needed, and what may go.

Looking changes nothing and may be done while a daemon runs. What may go is the journal of a scan
that has ended, when all of this is true: its result is remembered, its file stands beside it and
was closed, it is that scan's, says itself how it ended, agrees with the ledger (if there still is
one), and nothing foreign lies in the directory. A daemon removes such a journal by itself; one is
left where it died a moment before, or could not. Everything else stays, and it is said why: files
that hold data are never removed here, whatever they are called.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .comparison import compare
from .directory import hold_directory
from .errors import StorageError
from .files import JOURNAL_SUFFIX
from .finished import FinishedScans
from .ledger import LEDGER_NAME, is_interrupted, replay
from .live import ended_result
from .record import OpenRecord, contact_age_s, is_unfinished, remove_journal
from .recovery import journal_lock
from .salvage import SALVAGED_SUFFIX, SALVAGING_SUFFIX
from .swap import DAMAGED_SUFFIX, REBUILDING_SUFFIX

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "open": "a daemon has it open, or left it when it died",
        "waiting": "closed, and waits for its client",
        "interrupted": "closed as interrupted; goes on when its client opens it",
        "finished": "left of a scan that has ended",
        "unfinished": "of a scan whose file was never made; holds no data",
        "unreadable": "its record cannot be read",
        "damaged copy": "a file as it was before it was made anew; may hold what was not saved",
        "rebuilding": "a file that is being made anew, or a leftover of that",
        "salvaged": "what could be read of a damaged file without a journal",
    }
)
"""What may stand beside files, in an operator's words."""

_OURS = re.compile(r"open|template\.h5|ledger|lock|probe|rows-\d+|scratch-\d+")
"""What a journal that is no longer needed may hold."""


@dataclass(frozen=True, slots=True)
class Remainder:
    """Something that stands beside files.

    Parameters
    ----------
    path
        A journal directory, or a file.
    kind
        A key of `KINDS`.
    scan
        The scan's id; empty where it is not known.
    file
        The scan's file; empty where it is not known.
    age_s
        Since a client took part last, or since it was changed.
    nbytes
        What it takes on the disk.
    needs
        What is needed to go on with it, or what it is good for.
    """

    path: str
    kind: str
    scan: str
    file: str
    age_s: float
    nbytes: int
    needs: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Removal:
    """What became of a finished scan's journal; ``kept_for`` is empty where it went."""

    path: str
    kept_for: str


def find_remainders(data_dir: Path) -> Iterator[Remainder]:
    """Yield what stands beside the files of a data directory, by name."""
    finished = FinishedScans(data_dir)
    for path in sorted(data_dir.iterdir()):
        try:
            found = _look_at(path, finished)
        except FileNotFoundError:  # a daemon has removed it, or something in it, meanwhile
            continue
        if found is not None and path.exists():
            yield found


def remove_finished(data_dir: Path) -> Iterator[Removal]:
    """Remove the journals of scans that have ended; yield each, and why it stays if it does.

    Raises
    ------
    UsidstreamError
        A daemon uses the directory.
    """
    with hold_directory(data_dir):
        finished = FinishedScans(data_dir)
        for journal in sorted(data_dir.glob("*" + JOURNAL_SUFFIX)):
            try:
                if _is_finished(journal, finished):
                    yield Removal(str(journal), _remove(journal, finished))
            except StorageError as error:
                yield Removal(str(journal), str(error))


# ---------------------------------------------------------------- what it is


def _look_at(path: Path, finished: FinishedScans) -> Remainder | None:
    if path.name.endswith(JOURNAL_SUFFIX) and path.is_dir():
        return _look_at_journal(path, finished)
    kind = _kind_of_file(path.name)
    return _look_at_file(path, kind) if kind else None


def _look_at_journal(journal: Path, finished: FinishedScans) -> Remainder:
    nbytes = sum(entry.stat().st_size for entry in journal.iterdir() if entry.is_file())
    try:
        if is_unfinished(journal):
            age_s = _age_s(journal)
            return _remainder(journal, "unfinished", age_s, nbytes, "nothing; serve removes it")
        record = OpenRecord.read(journal)
        kind = _kind_of_journal(record, finished)
        age_s = contact_age_s(journal)
    except (StorageError, OSError) as error:
        return _remainder(journal, "unreadable", 0.0, nbytes, str(error))
    needs = _needs(record, kind)
    return Remainder(str(journal), kind, record.scan_id, str(record.path), age_s, nbytes, needs)


def _remainder(path: Path, kind: str, age_s: float, nbytes: int, needs: str) -> Remainder:
    return Remainder(str(path), kind, "", "", age_s, nbytes, needs)


def _age_s(path: Path) -> float:
    return max(0.0, time.time() - path.stat().st_mtime)


def _kind_of_journal(record: OpenRecord, finished: FinishedScans) -> str:
    if finished.get(record.scan_id) is not None:
        return "finished"
    ledger = record.journal / LEDGER_NAME
    if is_interrupted(ledger):
        return "interrupted"
    return "waiting" if replay(ledger).is_closed else "open"


def _needs(record: OpenRecord, kind: str) -> str:
    if kind == "finished":
        return "nothing; --remove removes it, and so does serve"
    if not record.path.exists():
        return f"its file, which is missing: put {record.path.name} back"
    how = "" if kind != "open" else "; if no daemon has it, serve or recover puts it right first"
    return f"its client, to open it by its id, and {record.path.name} beside it{how}"


def _kind_of_file(name: str) -> str:
    if re.search(re.escape(DAMAGED_SUFFIX) + r"(-\d+)?\Z", name):
        return "damaged copy"
    if name.endswith((REBUILDING_SUFFIX, SALVAGING_SUFFIX)):
        return "rebuilding"
    return "salvaged" if name.endswith(SALVAGED_SUFFIX) else ""


def _look_at_file(path: Path, kind: str) -> Remainder:
    needs = {
        "damaged copy": "you: compare it with the file made anew (usidstreamd verify), then decide",
        "rebuilding": "nothing; the recovery that made it, or the next one, removes it",
        "salvaged": "you: it is data, and all there is of the file that it was read from",
    }[kind]
    return _remainder(path, kind, _age_s(path), path.stat().st_size, needs)


# ---------------------------------------------------------------- what may go


def _is_finished(journal: Path, finished: FinishedScans) -> bool:
    if not journal.is_dir() or is_unfinished(journal):
        return False
    return finished.get(OpenRecord.read(journal).scan_id) is not None


def _remove(journal: Path, finished: FinishedScans) -> str:
    """Remove a journal unless anything speaks for it; return what does."""
    if journal.is_symlink():
        return "it is a link to elsewhere"
    with journal_lock(journal):
        reason = _why_needed(journal, finished)
    if not reason:
        remove_journal(journal)
    return reason


def _why_needed(journal: Path, finished: FinishedScans) -> str:
    foreign = sorted(e.name for e in journal.iterdir() if not _OURS.fullmatch(e.name))
    if foreign:
        return f"it holds what such a journal does not: {', '.join(foreign[:3])}"
    record = OpenRecord.read(journal)
    if not record.path.is_file():
        return f"its file, {record.path.name}, is not beside it"
    remembered = finished.get(record.scan_id)
    found = ended_result(record.path, record.layout, record.scan_id)
    if remembered is None or found is None:
        return "its file does not say that it has ended"
    if (found.status, dict(found.missing)) != (remembered.status, dict(remembered.missing)):
        return f"its file says {found.status}, and {remembered.status} is remembered, or other gaps"
    return _disagreement(record)


def _disagreement(record: OpenRecord) -> str:
    ledger = record.journal / LEDGER_NAME
    if not ledger.exists():  # removing it had begun
        return ""
    found = compare(record.path, record.journal, ledger, len(replay(ledger).chunks))
    return "" if found.agrees else f"its file does not agree with the ledger: {found.disagreement}"
