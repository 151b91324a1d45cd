"""What a merge tells: where each measurement came from and went, and what was left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from usidstream.progress import Advance

Stage = Callable[[str, str], AbstractContextManager[Advance]]
"""Takes what is being done and what is counted."""


@contextmanager
def no_stage(_label: str, _unit: str) -> Iterator[Advance]:
    """Tell nobody."""
    yield lambda _done, _total: None


@dataclass(frozen=True, slots=True)
class Merged:
    """One measurement that was added.

    Parameters
    ----------
    file, source_group
        Where it was.
    group
        Where it is in the session.
    scan_id
        Empty where its writer gave none.
    mains
        Paths of its main datasets in the session.
    """

    file: str
    source_group: str
    group: str
    scan_id: str
    mains: tuple[str, ...]


@dataclass
class MergeReport:
    """What was done.

    Parameters
    ----------
    session
        The file.
    merged
        The measurements that were added, in their order.
    notes
        What of the sources is not in the session.
    chunks, nbytes
        Chunks that were copied, and their stored bytes.
    """

    session: str
    merged: list[Merged] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    chunks: int = 0
    nbytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, for JSON."""
        return asdict(self)
