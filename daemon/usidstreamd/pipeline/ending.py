"""How one scan ends: what is left is written, the end is recorded, then the file is closed.

Each step is begun by the last one's word from another thread, for what the journal says of the end
must be on the disk before the file can look as if it had ended. It knows tiles, journal and file;
when a scan ends, and what its clients are told of it, is decided elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from enum import Enum
from typing import Any

from .. import storage
from ..storage import CoverageUpdate
from ..storage.ledger_records import Finalise as Decision
from .tiles import MainParts, TileWriter

MAX_SNAPSHOTS_COUNT = 4
"""Incomplete tiles written at the end at once, each a copy."""


class Run(Enum):
    """What a command to another thread belongs to, besides commits, which have numbers."""

    CHECKPOINT = "checkpoint"
    ENDING = "ending"


class Ending:
    """The end under way.

    Parameters
    ----------
    decision
        How the scan ends, and when; what is missing is added.
    attrs
        Annotations that are not in the journal yet.
    mains
        The parts of each main, by its name.
    writer, journal, store
        Where tiles, records and the file's last commands go.
    """

    def __init__(
        self,
        decision: Decision,
        attrs: Mapping[str, Any],
        mains: Mapping[str, MainParts],
        *,
        writer: TileWriter,
        journal: storage.JournalThread,
        store: storage.StorageThread,
    ) -> None:
        self._decision = decision
        self._attrs = attrs
        self._mains = mains
        self._writer = writer
        self._journal = journal
        self._store = store
        self._todo = deque(
            (name, tile)
            for name, parts in mains.items()
            for tile in parts.assembly.incomplete_tiles()
        )

    @property
    def is_interruption(self) -> bool:
        """Whether the scan may go on: then its journal is needed, and closed after the file."""
        return self._decision.status == storage.STATUS_INTERRUPTED

    def write_tiles(self) -> None:
        """Write what is left, a few tiles at a time, then record the end: `FinaliseRecorded`."""
        for _ in range(min(MAX_SNAPSHOTS_COUNT, len(self._todo))):
            main, tile = self._todo.popleft()
            self._writer.write(main, tile, tile.snapshot(), is_complete=False)
        self._writer.after_all(self.write_tiles if self._todo else self._record)

    def _record(self) -> None:
        """Make the last chunks durable, and then the decision how the scan ends."""
        chunks, _ = self._writer.take_written()
        commit = storage.JournalCommit(chunks=chunks, attrs=self._attrs, token=Run.ENDING)
        self._journal.submit(commit)
        assemblies = {name: parts.assembly for name, parts in self._mains.items()}
        missing = {name: assembly.missing_ranges() for name, assembly in assemblies.items()}
        partial = {name: assembly.partial_ranges() for name, assembly in assemblies.items()}
        self._decision = replace(
            self._decision,
            missing={name: ranges for name, ranges in missing.items() if ranges},
            partial={name: ranges for name, ranges in partial.items() if len(ranges)},
        )
        self._journal.submit(storage.JournalFinalise(decision=self._decision))

    def close_journal(self) -> None:
        """Close the journal of a scan that does not go on: `JournalClosed`."""
        self._journal.submit(storage.JournalClose(is_clean=False))

    def end_file(self) -> None:
        """Bring the final coverage into the file, and end it: `Finalised`."""
        updates = {
            name: CoverageUpdate(
                lo=0,
                states=parts.assembly.positions_state(0, parts.assembly.grid.n_rows),
                partial=parts.assembly.partial_ranges(),
            )
            for name, parts in self._mains.items()
        }
        self._store.submit(storage.Commit(updates=updates, token=Run.ENDING, is_last=True))
        decision = self._decision
        ended = datetime.fromisoformat(decision.ended)
        self._store.submit(
            storage.Finalise(status=decision.status, ended=ended, attrs=decision.attrs)
        )
