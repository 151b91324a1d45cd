"""Commits of one scan: what has been placed becomes durable, by its file or by its row journal.

One commit is under way at a time. It takes the blocks that incomplete tiles hold, and waits for
complete tiles on their way into the file, so that the ledger gets their addresses; tiles whose
writes hang it journals instead. It knows which row segments are needed; never who waits for a
commit, nor what the file's readers see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import storage
from ..assembly import Placement, Tile
from ..session import events
from ..storage import JournalBlock
from .backlog import Backlog, Entry, SegmentBook, entries_of, fresh, replayed, tiles_moved
from .tiles import TileWriter

MAX_BACKLOG_BYTES = 16 << 20
"""Messages kept until they are journalled; above it nothing is placed until a commit is done."""


@dataclass(frozen=True, slots=True)
class Overtaken:
    """The token of what the ledger is told of tiles that were journalled before."""

    tiles: list[Tile]


@dataclass(slots=True)
class _Commit:
    """A commit under way."""

    done: events.Committed
    attrs: Mapping[str, Any]
    fresh: list[Entry]
    moved: dict[Tile, list[Entry]]
    tiles: list[Tile]
    is_journalling: bool = False

    @property
    def blocks(self) -> list[JournalBlock]:
        """What is to be journalled."""
        moved = (entry for entries in self.moved.values() for entry in entries)
        return [entry.block for entry in (*moved, *self.fresh)]


class Committing:
    """Makes durable what has been placed.

    Parameters
    ----------
    writer
        Tiles on their way into the file.
    journal
        The thread that owns the journal.
    numbers
        The number of each main in the layout, by its name.
    segment_bytes
        About the size of a row segment.
    """

    def __init__(
        self,
        writer: TileWriter,
        journal: storage.JournalThread,
        numbers: Mapping[str, int],
        segment_bytes: int,
    ) -> None:
        self._writer = writer
        self._journal = journal
        self._numbers = numbers
        self._backlog = Backlog()
        self._segments = SegmentBook(segment_bytes)
        self._commit: _Commit | None = None

    @property
    def backlog_bytes(self) -> int:
        """Bytes of blocks that the next commit may have to journal."""
        return self._backlog.nbytes

    @property
    def is_behind(self) -> bool:
        """Whether so much waits for the next commit that nothing more should be placed."""
        return self._backlog.exceeds(MAX_BACKLOG_BYTES)

    def add(self, block: JournalBlock, placement: Placement) -> None:
        """Take a block that was just placed into the next commit."""
        self._backlog.add(fresh(block, placement))

    def add_replayed(self, segment: int, block: JournalBlock, placement: Placement) -> None:
        """Note a block that was just placed out of a row segment: it is durable."""
        self._segments.journalled(segment, [replayed(block, placement)])

    def begin(self, done: events.Committed, attrs: Mapping[str, Any]) -> None:
        """Start to make durable what has been placed, and attributes.

        Parameters
        ----------
        done
            What `on_journalled` returns once it is.
        """
        moved = tiles_moved(self._segments, self._backlog.nbytes)
        commit = _Commit(done, attrs, fresh=self._backlog.take(moved), moved=moved, tiles=[])
        self._commit = commit
        self._writer.after_all(lambda: self._journal_commit(commit), but_overtaken=True)

    def hurry(self, now: float) -> None:
        """Wait no longer for tiles whose writes hang: journal them. To be called now and then."""
        if not self._writer.is_stalled(now):
            return
        commit = self._commit
        if commit is None or commit.is_journalling:
            return
        for main, tile in self._writer.overtake():
            commit.fresh += entries_of(self._numbers[main], tile)
        self._journal_commit(commit)

    def _journal_commit(self, commit: _Commit) -> None:
        if commit.is_journalling:
            return
        commit.is_journalling = True
        chunks, commit.tiles = self._writer.take_written()
        self._journal.submit(
            storage.JournalCommit(
                blocks=commit.blocks,
                chunks=chunks,
                attrs=commit.attrs,
                token=commit.done.marker,
            )
        )

    def on_journalled(self, segment: int | None) -> list[events.Event]:
        """End the commit under way, whose blocks are in a segment; return what it has done."""
        commit, self._commit = self._commit, None
        if commit is None:
            return []
        if segment is not None:
            for tile, entries in commit.moved.items():
                self._segments.moved(segment, tile, entries)
            self._segments.journalled(segment, commit.fresh)
        self._segments.ledgered(commit.tiles)
        if self._segments.is_wasteful and self._segments.has_unneeded:
            self.drop_segments()
        return [commit.done]

    def ledger_overtaken(self) -> None:
        """Bring tiles to the ledger that no commit waited for, lest the next is long in coming."""
        if self._writer.has_overtaken_written:
            chunks, tiles = self._writer.take_written()
            self._journal.submit(storage.JournalCommit(chunks=chunks, token=Overtaken(tiles)))

    def on_ledgered(self, tiles: list[Tile]) -> None:
        """Note that the ledger has tiles that no commit waited for."""
        self._segments.ledgered(tiles)

    def drop_segments(self) -> None:
        """Let the row segments go that nobody needs, nor a commit that is being journalled."""
        is_growing = self._commit is not None and self._commit.is_journalling
        first = self._segments.first_needed(is_growing=is_growing)
        self._journal.submit(storage.JournalCheckpoint(first_segment=first))
