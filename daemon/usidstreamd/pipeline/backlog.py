"""Blocks that are placed but not durable yet, and the row segments that hold those that are.

Pure book-keeping. A block whose tiles are all complete needs no journal: the file will hold it. Of
any other the next commit journals what was taken of it, raw, and no element twice with different
values: so it does not matter in which order segments are read. A row segment is needed until each
tile that had rows in it is in the ledger, whole, or was written again into a later segment. It
knows tiles by identity only, and no files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..assembly import Part, Placement, Tile
from ..storage import JournalBlock
from .rows import journal_block

MAX_WASTE_RATIO = 1
"""Bytes of segments that nobody needs, for each byte that is needed, before tiles are moved."""
SPARE_SEGMENTS_COUNT = 4
"""Segments' worth of bytes that nobody needs and that are no reason to move tiles."""
MIN_MOVE_BYTES = 4 << 20
"""Bytes of tiles that a commit moves at least, where any are to be moved."""
TIDY_BYTES = 2 << 20
"""With more bytes than this, and twice what was left the last time, blocks that the file will hold
are looked for, and forgotten."""
MOVE_RATIO = 2
"""Bytes of tiles moved for each new byte that is journalled: moving outruns whatever comes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A block for the journal, and how many of its bytes are rows of which tile."""

    block: JournalBlock
    tiles: Mapping[Tile, int]


@dataclass(frozen=True, slots=True)
class FreshBlock:
    """A block since the last commit.

    Parameters
    ----------
    block
        As it came.
    parts
        What was taken of it into tiles that were not complete then.
    is_whole
        Whether all of it was taken, into whatever tile; else it may differ from what is held.
    """

    block: JournalBlock
    parts: Sequence[tuple[Tile, Part]]
    is_whole: bool

    def entries(self, moved: Collection[Tile] = ()) -> list[Entry]:
        """Return what is to be journalled of it, now.

        Parameters
        ----------
        moved
            Tiles that are journalled as they stand, this block's rows included.
        """
        needed = [(t, part) for t, part in self.parts if not (t.complete or t in moved)]
        nbytes = sum(part.source.nbytes for _tile, part in needed)
        if self.is_whole and needed and 2 * nbytes >= memoryview(self.block.data).nbytes:
            return [Entry(self.block, _shares(self.block, needed))]
        return [
            Entry(block, {tile: block.nbytes})
            for tile, part in needed
            for block in (journal_block(self.block.main, taken) for taken in tile.blocks_of(part))
        ]


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
        self._tidy_at_bytes = TIDY_BYTES

    def add(self, fresh: FreshBlock) -> None:
        """Keep a block, unless the file will hold all of it."""
        if fresh.parts:
            self._fresh.append(fresh)
            self.nbytes += fresh.block.nbytes
            if self.nbytes > self._tidy_at_bytes:
                self._forget_complete()

    def exceeds(self, limit_bytes: int) -> bool:
        """Whether the blocks that still have an incomplete tile take more than a limit."""
        if self.nbytes > limit_bytes:
            self._forget_complete()
        return self.nbytes > limit_bytes

    def take(self, moved: Collection[Tile] = ()) -> list[Entry]:
        """Take what is to be journalled of the blocks, and forget them.

        Parameters
        ----------
        moved
            As for `FreshBlock.entries`.
        """
        entries = [entry for fresh in self._fresh for entry in fresh.entries(moved)]
        self._fresh, self.nbytes = [], 0
        return entries

    def _forget_complete(self) -> None:
        self._fresh = [f for f in self._fresh if not all(t.complete for t, _part in f.parts)]
        self.nbytes = sum(fresh.block.nbytes for fresh in self._fresh)
        self._tidy_at_bytes = max(TIDY_BYTES, 2 * self.nbytes)


class SegmentBook:
    """Which row segments are still needed, by which tiles, and how much of them.

    Parameters
    ----------
    segment_bytes
        About the size of a segment.
    """

    def __init__(self, segment_bytes: int) -> None:
        self._spare_bytes = SPARE_SEGMENTS_COUNT * segment_bytes
        self._needed_by: dict[int, dict[Tile, int]] = {}
        self._nbytes: dict[int, int] = {}
        self._noted: dict[Tile, tuple[int, set[int]]] = {}  # its main, and segments it needs
        self._total_bytes = self._needed_bytes = 0
        self._latest = 0

    @property
    def is_wasteful(self) -> bool:
        """Whether the segments are too large for what is needed of them."""
        wasted = self._total_bytes - self._needed_bytes
        return wasted > MAX_WASTE_RATIO * self._needed_bytes + self._spare_bytes

    @property
    def has_unneeded(self) -> bool:
        """Whether the first segment is needed by nobody."""
        return bool(self._needed_by) and not self._needed_by[min(self._needed_by)]

    def journalled(self, segment: int, entries: Iterable[Entry]) -> None:
        """Note that blocks are in a segment."""
        self._latest = max(self._latest, segment)
        needed = self._needed_by.setdefault(segment, {})
        self._nbytes.setdefault(segment, 0)
        for entry in entries:
            self._nbytes[segment] += entry.block.nbytes
            self._total_bytes += entry.block.nbytes
            for tile, nbytes in entry.tiles.items():
                needed[tile] = needed.get(tile, 0) + nbytes
                self._needed_bytes += nbytes
                self._noted.setdefault(tile, (entry.block.main, set()))[1].add(segment)

    def moved(self, segment: int, tile: Tile, entries: Iterable[Entry]) -> None:
        """Note that a tile as it stood is in a segment: no earlier one is needed for it."""
        self.ledgered([tile])
        self.journalled(segment, entries)

    def ledgered(self, tiles: Iterable[Tile]) -> None:
        """Note that the ledger holds all of these tiles' chunks."""
        for tile in tiles:
            _main, segments = self._noted.pop(tile, (0, ()))
            for segment in segments:
                self._needed_bytes -= self._needed_by[segment].pop(tile)

    def to_move(self) -> Iterator[tuple[int, Tile]]:
        """Yield ``(main, tile)`` of the tiles that keep segments, the first segment's first."""
        yielded = set[Tile]()
        for segment in sorted(self._needed_by):
            for tile in self._needed_by[segment] if segment < self._latest else ():
                if not (tile.complete or tile in yielded):
                    yielded.add(tile)
                    yield self._noted[tile][0], tile

    def first_needed(self, *, is_growing: bool = False) -> int:
        """Return the first segment that is needed, or the one after the latest.

        Those before it count no more: the caller lets them go.

        Parameters
        ----------
        is_growing
            Blocks that are not noted yet may be on their way into the latest segment: it stays.
        """
        for number in sorted(self._needed_by):
            if self._needed_by[number] or (is_growing and number == self._latest):
                break
            del self._needed_by[number]
            self._total_bytes -= self._nbytes.pop(number)
        return min(self._needed_by, default=self._latest + (not is_growing))


def fresh(block: JournalBlock, placement: Placement) -> FreshBlock:
    """Return a block that was just placed as the backlog takes it."""
    return FreshBlock(
        block,
        [(tile, part) for tile, part in placement.taken if not tile.complete],
        is_whole=placement.newly_covered == block.rows * block.cols,
    )


def replayed(block: JournalBlock, placement: Placement) -> Entry:
    """Return a block that was just placed out of the journal.

    A tile that it completed needs it all the same, until the ledger has that tile; one that held it
    before, out of an earlier segment, does not.
    """
    return Entry(block, _shares(block, placement.taken))


def entries_of(main: int, tile: Tile) -> list[Entry]:
    """Return all that a tile holds, to be journalled."""
    blocks = (journal_block(main, block) for block in tile.blocks())
    return [Entry(block, {tile: block.nbytes}) for block in blocks]


def tiles_moved(book: SegmentBook, fresh_bytes: int) -> dict[Tile, list[Entry]]:
    """Return what a commit copies of tiles, by tile, so that segments which they keep can go.

    Parameters
    ----------
    book
        Nothing is copied unless it is wasteful.
    fresh_bytes
        What else the commit journals, about.
    """
    moved: dict[Tile, list[Entry]] = {}
    left = max(MIN_MOVE_BYTES, MOVE_RATIO * fresh_bytes) if book.is_wasteful else 0
    for main, tile in book.to_move() if left else ():
        moved[tile] = entries_of(main, tile)
        left -= tile.nbytes
        if left <= 0:
            break
    return moved


def _shares(block: JournalBlock, parts: Iterable[tuple[Tile, Part]]) -> dict[Tile, int]:
    """Divide a block's bytes among tiles by what they took; what others took is in no share."""
    scale = block.nbytes / memoryview(block.data).nbytes
    shares: dict[Tile, int] = {}
    for tile, part in parts:
        shares[tile] = shares.get(tile, 0) + int(part.source.nbytes * scale)
    return shares
