"""A commit and what goes on beside it: what is under way keeps its segment."""

import numpy as np
import pytest

from usidstreamd import storage
from usidstreamd.assembly import Assembly, Block, BufferPool, MemoryScratch, TileGrid
from usidstreamd.pipeline.committing import Committing
from usidstreamd.session import events
from usidstreamd.storage import JournalBlock

GRID = TileGrid(8, 6, chunk_rows=4, chunk_cols=6, tile_cols=6)  # two tiles
DATA = np.arange(48, dtype="int16").reshape(8, 6)


class Writer:
    """Tiles that are written at once."""

    has_overtaken_written = False

    def __init__(self):
        self.written = []

    def after_all(self, then, *, but_overtaken):
        assert but_overtaken
        then()

    def take_written(self):
        written, self.written = self.written, []
        return [], written


class Bench:
    def __init__(self):
        scratch = MemoryScratch(GRID.tile_elements * 2)
        self.assembly = Assembly("Height", GRID, np.dtype("int16"), BufferPool(1 << 20), scratch)
        self.writer, self.commands = Writer(), []
        self.committing = Committing(self.writer, self, {"Height": 0}, 1 << 20)
        self.markers = iter(range(1, 100))

    def submit(self, command):
        self.commands.append(command)

    def place(self, row, rows):
        data = DATA[row : row + rows]
        placement = self.assembly.begin(Block(row, rows, 0, 6, data), again=False)
        self.writer.written += placement.step()
        block = JournalBlock(0, row, rows, 0, 6, data.tobytes(), None)
        self.committing.add(block, placement)

    def begin(self):
        """Begin a commit; return the blocks that it journals."""
        done = events.Committed(marker=next(self.markers), positions=0, coverage=None)
        self.committing.begin(done, {})
        return self.commands[-1].blocks

    def first_segment(self):
        """Let segments go; return the first that stays."""
        self.committing.drop_segments()
        assert isinstance(self.commands[-1], storage.JournalCheckpoint)
        return self.commands[-1].first_segment


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.assembly.close()


def test_a_segment_that_a_commit_is_being_written_to_stays(bench):
    bench.place(0, 1)
    assert len(bench.begin()) == 1
    assert bench.first_segment() <= 1
    bench.committing.on_journalled(1)
    bench.place(1, 3)
    assert bench.begin() == []
    bench.committing.on_journalled(None)
    bench.place(4, 1)
    assert len(bench.begin()) == 1  # on its way into segment 1, which nobody else needs
    assert bench.first_segment() <= 1
    bench.committing.on_journalled(1)
    assert bench.first_segment() == 1
    bench.place(5, 3)
    bench.begin()
    bench.committing.on_journalled(None)
    assert bench.first_segment() == 2
