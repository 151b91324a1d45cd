"""Which blocks a commit journals, and which row segments can go afterwards."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from usidstreamd.pipeline.backlog import Backlog, FreshBlock, SegmentBook
from usidstreamd.storage import JournalBlock


@dataclass(eq=False)
class Tile:
    """Known by identity, like an assembly's."""

    complete: bool = False


def fresh(*tiles, nbytes=10):
    return FreshBlock(JournalBlock(0, 0, 1, 0, 1, bytes(4), None), tiles, nbytes)


# ---------------------------------------------------------------- what a commit journals


def test_blocks_with_an_incomplete_tile_are_taken_in_their_order():
    backlog, done, open_ = Backlog(), Tile(), Tile()
    blocks = [fresh(open_), fresh(done), fresh(done, open_), fresh(open_, done)]
    for block in blocks:
        backlog.add(block)
    done.complete = True  # between placing and the commit
    assert backlog.take() == [blocks[0], blocks[2], blocks[3]]


def test_a_block_that_the_file_will_hold_is_not_kept():
    backlog = Backlog()
    backlog.add(fresh())
    assert backlog.nbytes == 0
    assert backlog.take() == []


def test_each_block_is_taken_once_and_memory_counted_until_then():
    backlog, tile = Backlog(), Tile()
    for nbytes in (10, 7):
        backlog.add(fresh(tile, nbytes=nbytes))
    assert backlog.nbytes == 17
    assert len(backlog.take()) == 2
    assert backlog.nbytes == 0
    assert backlog.take() == []


def test_forgotten_blocks_give_their_memory_back_too():
    backlog, tile = Backlog(), Tile()
    backlog.add(fresh(tile))
    tile.complete = True
    assert backlog.take() == []
    assert backlog.nbytes == 0


def test_what_the_file_will_hold_does_not_fill_the_backlog():
    backlog, done, open_ = Backlog(), Tile(), Tile()
    for tile in (done, open_, done):
        backlog.add(fresh(tile, nbytes=10))
    assert backlog.exceeds(29)
    done.complete = True
    assert not backlog.exceeds(29)
    assert backlog.nbytes == 10
    assert backlog.exceeds(9)
    assert len(backlog.take()) == 1


# ---------------------------------------------------------------- which segments can go


def test_a_new_book_lets_nothing_go():
    assert SegmentBook().first_needed() == 1


def test_a_segment_is_needed_until_each_of_its_tiles_is_ledgered():
    book, a, b = SegmentBook(), Tile(), Tile()
    book.journalled(1, [fresh(a), fresh(a, b)])
    book.ledgered([a])
    assert book.first_needed() == 1
    book.ledgered([b])
    assert book.first_needed() == 2


def test_a_later_segment_does_not_go_before_an_earlier_one():
    book, a, b, c = SegmentBook(), Tile(), Tile(), Tile()
    book.journalled(1, [fresh(a)])
    book.journalled(2, [fresh(b)])
    book.journalled(3, [fresh(c)])
    book.ledgered([b])
    assert book.first_needed() == 1
    book.ledgered([a])
    assert book.first_needed() == 3
    book.ledgered([c])
    assert book.first_needed() == 4


def test_a_tile_keeps_every_segment_that_has_rows_of_it():
    book, tile = SegmentBook(), Tile()
    book.journalled(4, [fresh(tile)])
    book.journalled(5, [fresh(tile)])
    assert book.first_needed() == 4
    book.ledgered([tile])
    assert book.first_needed() == 6


def test_a_segment_that_grows_again_is_needed_again():
    book, a, b = SegmentBook(), Tile(), Tile()
    book.journalled(1, [fresh(a)])
    book.ledgered([a])
    book.journalled(1, [fresh(b)])
    assert book.first_needed() == 1


def test_earlier_daemons_segments_stay_while_one_of_their_tiles_is_not_ledgered():
    book, old, new = SegmentBook(), Tile(), Tile()
    book.journalled(0, [fresh(old)])
    book.journalled(9, [fresh(new)])
    assert book.first_needed() == 0
    book.ledgered([old])
    assert book.first_needed() == 9


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("journalled"), st.integers(0, 1), st.sets(st.integers(0, 5))),
            st.tuples(st.just("ledgered"), st.just(0), st.sets(st.integers(0, 5))),
            st.tuples(st.just("look"), st.just(0), st.just(frozenset())),
        ),
        max_size=30,
    )
)
def test_exactly_the_segments_before_the_first_needed_can_go(steps):
    book, tiles, needed = SegmentBook(), [Tile() for _ in range(6)], {}
    latest, expected = 0, 1
    for kind, forward, numbers in steps:
        some = [tiles[number] for number in numbers]
        if kind == "journalled":
            latest += forward if latest else 1
            book.journalled(latest, [fresh(*some)])
            needed.setdefault(latest, set()).update(numbers)
        elif kind == "ledgered":
            book.ledgered(some)
            needed = {segment: left - numbers for segment, left in needed.items()}
        expected = min((segment for segment, left in needed.items() if left), default=latest + 1)
        if kind == "look":
            assert book.first_needed() == expected
    assert book.first_needed() == expected
