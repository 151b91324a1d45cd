"""Which blocks a commit journals, and which row segments can go afterwards."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usidstreamd.assembly import Assembly, BufferPool, MemoryScratch, TileGrid
from usidstreamd.pipeline.backlog import Backlog, Entry, SegmentBook, entries_of, fresh, replayed
from usidstreamd.pipeline.rows import block_to_place
from usidstreamd.storage import JournalBlock

N_ROWS, N_COLS = 24, 6
DATA = np.arange(1, N_ROWS * N_COLS + 1, dtype="<i4").reshape(N_ROWS, N_COLS)
SEGMENT_BYTES = 1000


class Main:
    """A main of six tiles of (4, 6), or by columns of (24, 1), and a backlog."""

    def __init__(self, by_columns=False, budget_bytes=1 << 20):
        chunk = (4, 1) if by_columns else (4, 3)
        grid = TileGrid(
            N_ROWS, N_COLS, *chunk, tile_cols=1 if by_columns else N_COLS,
            tile_rows=N_ROWS if by_columns else 4, order="columns" if by_columns else "rows",
        )  # fmt: skip
        scratch = MemoryScratch(grid.tile_elements * 4)
        self.assembly = Assembly("Height", grid, DATA.dtype, BufferPool(budget_bytes), scratch)
        self.backlog = Backlog()

    def place(self, block, again=False):
        """Place a journal's block, as if complete tiles were written at once."""
        placement = self.assembly.begin(block_to_place(block), again=again)
        while not placement.done:
            completed = placement.step()
            assert placement.done or completed
            for tile in completed:
                self.assembly.release(tile)
        return placement

    def write(self, rows, cols=slice(0, N_COLS), again=False, data=DATA):
        """Place rows, scattered unless they are a slice, and keep the block."""
        if isinstance(rows, slice):
            taken = data[rows, cols]
            address, numbers = (rows.start, len(taken)), None
        else:
            taken = data[rows][:, cols]
            address, numbers = (0, len(taken)), np.array(rows, "<u8").tobytes()
        payload = np.ascontiguousarray(taken).tobytes()
        block = JournalBlock(0, *address, cols.start, taken.shape[1], payload, numbers)
        self.backlog.add(fresh(block, self.place(block, again)))
        return block

    def held(self):
        """Return what the tiles hold, 0 elsewhere."""
        held = np.zeros_like(DATA)
        for tile in self.assembly.incomplete_tiles():
            row, row_end, col, col_end = tile.rect
            held[row:row_end, col:col_end] = tile.snapshot()
        return held


def told(blocks):
    """Return the elements of blocks; no element comes twice with different values."""
    found = np.zeros_like(DATA)
    for block in blocks:
        _row, rows, col, cols, data, numbers = block_to_place(block)
        numbers = np.arange(block.row, block.row + rows) if numbers is None else numbers
        where = np.ix_(np.asarray(numbers, np.intp), np.arange(col, col + cols))
        values = np.frombuffer(data, DATA.dtype).reshape(rows, cols)
        assert ((found[where] == 0) | (found[where] == values)).all()
        found[where] = values
    return found


def journalled_of(entries):
    return told([entry.block for entry in entries])


def held_of(rows, cols=slice(0, N_COLS)):
    held = np.zeros_like(DATA)
    held[rows, cols] = DATA[rows, cols]
    return held


# ---------------------------------------------------------------- what a commit journals


def test_blocks_are_journalled_as_they_came_in_their_order():
    main = Main()
    blocks = [main.write(slice(0, 2)), main.write([5, 9, 4]), main.write(slice(12, 15))]
    entries = main.backlog.take()
    assert [entry.block for entry in entries] == blocks
    assert [len(entry.tiles) for entry in entries] == [1, 2, 1]
    for entry in entries:
        assert sum(entry.tiles.values()) == pytest.approx(entry.block.nbytes, abs=2)


def test_a_block_that_the_file_will_hold_is_not_kept():
    main = Main()
    main.write(slice(0, 8))
    assert main.backlog.nbytes == 0
    assert main.backlog.take() == []


def test_each_block_is_taken_once_and_memory_counted_until_then():
    main = Main()
    blocks = [main.write(slice(0, 2)), main.write(slice(2, 3))]
    assert main.backlog.nbytes == sum(block.nbytes for block in blocks)
    assert len(main.backlog.take()) == 2
    assert main.backlog.nbytes == 0
    assert main.backlog.take() == []


def test_a_block_whose_tiles_became_complete_is_forgotten():
    main = Main()
    main.write(slice(0, 2))
    main.write(slice(2, 4))
    assert main.backlog.take() == []
    assert main.backlog.nbytes == 0


def test_what_the_file_will_hold_does_not_fill_the_backlog():
    main = Main()
    nbytes = [main.write(slice(row, row + 2)).nbytes for row in (0, 4, 8)]
    assert main.backlog.exceeds(sum(nbytes) - 1)
    main.write(slice(2, 4))
    main.write(slice(10, 12))
    assert not main.backlog.exceeds(sum(nbytes) - 1)
    assert main.backlog.nbytes == nbytes[1]
    assert main.backlog.exceeds(nbytes[1] - 1)
    assert len(main.backlog.take()) == 1


@pytest.mark.parametrize("by_columns", [False, True])
def test_of_a_large_block_only_what_no_complete_tile_has_is_journalled(by_columns):
    main = Main(by_columns)
    if by_columns:
        main.write(slice(1, 24), slice(0, 1))
        main.write(slice(0, 1))  # completes one column of six
        entries = main.backlog.take()
        expected = held_of(slice(0, 1))
        assert (journalled_of(entries) == expected).all()  # worth the same as it came
        return
    main.write(slice(0, 22))
    (entry,) = main.backlog.take()
    assert (journalled_of([entry]) == held_of(slice(20, 22))).all()
    assert entry.block.nbytes < 100


def test_of_a_resent_block_only_what_was_new_is_journalled():
    """What is held stays as it is, so the journal must not have it with other values."""
    main = Main()
    main.write(slice(0, 2))
    main.write([7, 4, 11], slice(1, 4))
    main.backlog.take()
    main.write(slice(0, 12), slice(1, 6), again=True, data=-DATA)
    assert journalled_of(main.backlog.take()).min() < 0
    main.write(slice(0, 12), slice(1, 6), again=True, data=-DATA)
    assert main.backlog.take() == []
    again = Main()
    again.write(slice(0, 2))
    again.write(slice(1, 3), again=True, data=-DATA)
    entries = again.backlog.take()
    assert (journalled_of(entries) == again.held()).all()


@pytest.mark.parametrize("by_columns", [False, True])
@pytest.mark.parametrize("budget_bytes", [1 << 20, 100])  # 100: all but one tile are parked
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_blocks_or_tiles_tell_exactly_what_is_held(data, by_columns, budget_bytes):
    main, entries = Main(by_columns, budget_bytes), []
    for _ in range(data.draw(st.integers(1, 8))):
        rows = data.draw(
            st.sampled_from([slice(a, b) for a in range(0, 24, 3) for b in (a + 1, a + 3)])
            | st.lists(st.integers(0, 23), min_size=1, max_size=6, unique=True)
        )
        col = data.draw(st.integers(0, 5))
        cols = slice(col, data.draw(st.integers(col + 1, 6)))
        main.write(rows, cols, again=True, data=data.draw(st.sampled_from([1, -1])) * DATA)
        if data.draw(st.booleans()):
            entries += main.backlog.take()
    tiles = main.assembly.incomplete_tiles()
    moved = data.draw(st.lists(st.sampled_from(tiles), unique=True)) if tiles else []
    entries += main.backlog.take(moved)
    copies = [entry for tile in moved for entry in entries_of(0, tile)]
    held = main.held()
    open_ = held != 0
    assert (journalled_of(copies + entries)[open_] == held[open_]).all()
    assert (journalled_of(entries + copies)[open_] == held[open_]).all()
    every = [entry for tile in tiles for entry in entries_of(0, tile)]
    assert (journalled_of(every) == held).all()
    assert sum(len(bytes(entry.block.data)) for entry in every) == 4 * np.count_nonzero(held)


def test_a_replayed_block_is_needed_by_the_tiles_that_took_of_it_complete_or_not():
    main = Main()
    block = main.write(slice(0, 3))
    (tile,) = main.assembly.incomplete_tiles()
    assert replayed(block, main.place(block, again=True)).tiles == {}
    new = JournalBlock(0, 2, 4, 0, 6, DATA[2:6].tobytes())
    entry = replayed(new, main.place(new, again=True))
    assert tile.complete
    assert tile in entry.tiles
    assert len(entry.tiles) == 2


# ---------------------------------------------------------------- which segments can go


@dataclass(eq=False)
class Tile:
    """Known by identity, like an assembly's."""

    complete: bool = False


def entry(*tiles, nbytes=60):
    block = JournalBlock(0, 0, 1, 0, 1, bytes(nbytes - 40))
    return Entry(block, dict.fromkeys(tiles, nbytes // max(1, len(tiles))))


def make_book():
    return SegmentBook(SEGMENT_BYTES)


def test_a_new_book_lets_nothing_go():
    book = make_book()
    assert book.first_needed() == 1
    assert not book.is_wasteful
    assert not book.has_unneeded


def test_a_segment_is_needed_until_each_of_its_tiles_is_ledgered():
    book, a, b = make_book(), Tile(), Tile()
    book.journalled(1, [entry(a), entry(a, b)])
    book.ledgered([a])
    assert book.first_needed() == 1
    assert not book.has_unneeded
    book.ledgered([b])
    assert book.has_unneeded
    assert book.first_needed() == 2


def test_a_later_segment_does_not_go_before_an_earlier_one():
    book, a, b, c = make_book(), Tile(), Tile(), Tile()
    book.journalled(1, [entry(a)])
    book.journalled(2, [entry(b)])
    book.journalled(3, [entry(c)])
    book.ledgered([b])
    assert book.first_needed() == 1
    book.ledgered([a])
    assert book.first_needed() == 3
    book.ledgered([c])
    assert book.first_needed() == 4


def test_a_tile_keeps_every_segment_that_has_rows_of_it():
    book, tile = make_book(), Tile()
    book.journalled(4, [entry(tile)])
    book.journalled(5, [entry(tile)])
    assert book.first_needed() == 4
    book.ledgered([tile])
    assert book.first_needed() == 6


def test_a_segment_that_grows_again_is_needed_again():
    book, a, b = make_book(), Tile(), Tile()
    book.journalled(1, [entry(a)])
    book.ledgered([a])
    book.journalled(1, [entry(b)])
    assert book.first_needed() == 1


def test_an_earlier_daemons_segments_go_one_by_one():
    book, a, b, new = make_book(), Tile(), Tile(), Tile()
    book.journalled(6, [entry(a)])
    book.journalled(7, [entry(b), entry()])
    book.journalled(9, [entry(new)])
    book.ledgered([a])
    assert book.first_needed() == 7
    book.ledgered([b])
    assert book.first_needed() == 9


def test_a_tile_that_was_moved_keeps_only_the_segment_it_was_moved_to():
    book, a, b = make_book(), Tile(), Tile()
    book.journalled(1, [entry(a), entry(b)])
    book.journalled(2, [entry(a)])
    book.journalled(3, [entry(b)])
    book.moved(3, a, [entry(a)])
    assert book.first_needed() == 1
    book.moved(4, b, [entry(b)])
    assert book.first_needed() == 3
    book.ledgered([a])
    assert book.first_needed() == 4


def test_tiles_that_keep_the_first_segments_are_moved_first_and_complete_ones_not_at_all():
    book, done = make_book(), Tile(complete=True)
    a, b, c, late = (Tile() for _ in range(4))
    book.journalled(1, [entry(a), entry(done)])
    book.journalled(2, [entry(b, a), entry(c)])
    book.journalled(3, [entry(late)])  # is where they would be moved to
    assert list(book.to_move()) == [(0, a), (0, b), (0, c)]


def test_waste_is_what_exceeds_what_is_needed_and_some_segments():
    book, dead, live = make_book(), Tile(), Tile()
    book.journalled(1, [entry(live, nbytes=3000)])
    book.journalled(2, [entry(dead, nbytes=6900)])
    assert not book.is_wasteful
    book.ledgered([dead])
    assert not book.is_wasteful  # 6900 of at most 3000 + 4 segments
    book.journalled(3, [entry(nbytes=200)])
    assert book.is_wasteful
    book.moved(3, live, [entry(live, nbytes=3000)])
    assert book.is_wasteful
    assert book.has_unneeded
    assert book.first_needed() == 3
    assert not book.is_wasteful


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("journalled"), st.integers(0, 1), st.sets(st.integers(0, 5))),
            st.tuples(st.just("ledgered"), st.just(0), st.sets(st.integers(0, 5))),
            st.tuples(st.just("moved"), st.integers(0, 1), st.sets(st.integers(0, 5), max_size=1)),
            st.tuples(st.just("look"), st.just(0), st.just(frozenset())),
        ),
        max_size=30,
    )
)
def test_exactly_the_segments_before_the_first_needed_can_go(steps):
    book, tiles, needed = make_book(), [Tile() for _ in range(6)], {}
    latest, expected = 0, 1
    for kind, forward, numbers in steps:
        some = [tiles[number] for number in numbers]
        if kind in ("journalled", "moved"):
            latest += forward if latest else 1
            if kind == "moved" and some:
                book.moved(latest, some[0], [entry(some[0])])
                needed = {segment: left - numbers for segment, left in needed.items()}
            else:
                book.journalled(latest, [entry(*some)])
            needed.setdefault(latest, set()).update(numbers)
        elif kind == "ledgered":
            book.ledgered(some)
            needed = {segment: left - numbers for segment, left in needed.items()}
        expected = min((segment for segment, left in needed.items() if left), default=latest + 1)
        if kind == "look":
            assert book.first_needed() == expected
    assert book.first_needed() == expected
