"""Blocks that are placed but not durable yet, and the row segments that hold those that are.

Pure book-keeping. A block whose tiles are all complete needs no journal: the file will hold it. Any
other is journalled raw by the next commit. A row segment is needed until each tile that had rows in
it is in the ledger, whole. It knows tiles by identity only, and no files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..assembly import Tile
from ..storage import JournalBlock


@dataclass(frozen=True, slots=True)
class FreshBlock:
    """A block and those of its tiles that were not complete when it was placed."""

    block: JournalBlock
    tiles: Sequence[Tile]
    nbytes: int


class Backlog:
    """The blocks since the last commit.

    Attributes
    ----------
    nbytes
        Bytes of the messages that they keep in memory.
    """

    def __init__(self) -> None:
        self._fresh: list[FreshBlock] = []
        self.nbytes = 0

    def add(self, fresh: FreshBlock) -> None:
        """Keep a block, unless the file will hold all of it."""
        if fresh.tiles:
            self._fresh.append(fresh)
            self.nbytes += fresh.nbytes

    def exceeds(self, limit_bytes: int) -> bool:
        """Whether the blocks that still have an incomplete tile take more than a limit."""
        if self.nbytes > limit_bytes:
            self._forget_complete()
        return self.nbytes > limit_bytes

    def take(self) -> list[FreshBlock]:
        """Take the blocks that still have an incomplete tile; forget the others."""
        self._forget_complete()
        taken, self._fresh, self.nbytes = self._fresh, [], 0
        return taken

    def _forget_complete(self) -> None:
        self._fresh = [f for f in self._fresh if not all(tile.complete for tile in f.tiles)]
        self.nbytes = sum(fresh.nbytes for fresh in self._fresh)


class SegmentBook:
    """Which row segments are still needed, and by which tiles."""

    def __init__(self) -> None:
        self._needed_by: dict[int, set[Tile]] = {}
        self._latest = 0

    def journalled(self, segment: int, blocks: Iterable[FreshBlock]) -> None:
        """Note that blocks are in a segment."""
        tiles = {tile for fresh in blocks for tile in fresh.tiles}
        self._needed_by.setdefault(segment, set()).update(tiles)
        self._latest = max(self._latest, segment)

    def ledgered(self, tiles: Iterable[Tile]) -> None:
        """Note that the ledger holds all of these tiles' chunks."""
        for tile in tiles:
            for needed in self._needed_by.values():
                needed.discard(tile)

    def first_needed(self) -> int:
        """Return the first segment that is needed, or the one after the latest."""
        for number in sorted(self._needed_by):
            if self._needed_by[number]:
                break
            del self._needed_by[number]
        return min(self._needed_by, default=self._latest + 1)
