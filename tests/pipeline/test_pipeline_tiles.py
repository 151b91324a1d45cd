"""Tiles from the assembly to the file: what is handed over, and when a barrier is passed."""

import threading
from collections import deque

import numpy as np
import pytest

from usidstreamd.assembly import Assembly, Block, BufferPool, MemoryScratch, TileGrid
from usidstreamd.codecs import choose
from usidstreamd.pipeline.tiles import STALL_S, EncodeFailed, EncoderLetGo, MainParts, TileWriter
from usidstreamd.storage import ChunkAddress, StorageError, WriteTile

GRID = TileGrid(8, 6, chunk_rows=4, chunk_cols=3, tile_cols=6)  # two tiles of two chunks
DATA = np.arange(48, dtype="int16").reshape(8, 6)
WAIT_S = 60.0


class FakeStore:
    """Keeps the commands; `fails` makes it refuse them as a thread that died does."""

    def __init__(self):
        self.commands = []
        self.fails = False

    def submit(self, command):
        if self.fails:
            raise StorageError("the scan's storage has ended", code="storage_failed")
        self.commands.append(command)


class LaterExecutor:
    """Runs what was submitted when it is told to."""

    def __init__(self):
        self.calls = deque()

    def submit(self, function, *args):
        self.calls.append((function, args))

    def run_all(self):
        while self.calls:
            function, args = self.calls.popleft()
            function(*args)


class SlowCodec:
    """Reads each chunk when it is told to, and keeps what it read."""

    def __init__(self):
        self.has_begun, self.may_read = threading.Event(), threading.Event()
        self.read = []
        self.fails = False

    def encode(self, chunk, *_):
        self.has_begun.set()
        assert self.may_read.wait(WAIT_S)
        if self.fails:
            raise MemoryError
        self.read.append(chunk.copy())
        return chunk.tobytes()


class Bench:
    """A tile writer with all that it needs."""

    def __init__(self, codec=None):
        self.pool = BufferPool(1 << 20)
        scratch = MemoryScratch(GRID.tile_elements * 2)
        self.assembly = Assembly("Height", GRID, np.dtype("int16"), self.pool, scratch)
        codec = codec or choose("none", None, np.dtype("int16"))
        parts = MainParts(self.assembly, codec, (4, 3))
        self.store, self.encoders, self.posted = FakeStore(), LaterExecutor(), []
        self.writer = TileWriter({"Height": parts}, self.store, self.encoders, self.posted.append)

    def write_tile(self, row):
        """Place the rows of a tile and hand it over; return it."""
        placement = self.assembly.begin(Block(row, 4, 0, 6, DATA[row : row + 4]), again=False)
        (tile,) = placement.step()
        self.writer.write("Height", tile, tile.array, is_complete=True)
        return tile

    def answer(self, number):
        """Report one of the commands done, as the storage thread does; return the addresses."""
        command = self.store.commands[number]
        addresses = [
            ChunkAddress(0, row, col, 1000 * row + col, len(payload), 7)
            for row, col, payload in command.chunks
        ]
        self.writer.on_written(command.token, addresses)
        return addresses


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.assembly.close()


def test_a_tile_goes_to_the_file_as_its_encoded_chunks(bench):
    bench.write_tile(4)
    assert bench.store.commands == []
    bench.encoders.run_all()
    (command,) = bench.store.commands
    assert isinstance(command, WriteTile)
    assert (command.main, command.is_complete) == ("Height", True)
    assert [(row, col, bytes(payload)) for row, col, payload in command.chunks] == [
        (4, 0, DATA[4:, :3].tobytes()),
        (4, 3, DATA[4:, 3:].tobytes()),
    ]


def test_a_written_tile_gives_its_buffer_back_and_is_taken_once(bench):
    tile = bench.write_tile(0)
    bench.encoders.run_all()
    assert tile.array.shape == (4, 6)
    addresses = bench.answer(0)
    with pytest.raises(ValueError, match="no buffer"):
        tile.array  # noqa: B018 - it raises
    assert bench.writer.take_written() == (addresses, [tile])
    assert bench.writer.take_written() == ([], [])


def test_an_incomplete_tile_stays_open_and_only_its_addresses_are_told(bench):
    bench.assembly.begin(Block(0, 2, 0, 6, DATA[:2]), again=False).step()
    (tile,) = bench.assembly.incomplete_tiles()
    bench.writer.write("Height", tile, tile.snapshot(), is_complete=False)
    bench.encoders.run_all()
    assert not bench.store.commands[0].is_complete
    addresses = bench.answer(0)
    assert bench.writer.take_written() == (addresses, [])
    assert np.array_equal(tile.array[:2], DATA[:2])


def test_a_barrier_without_writes_is_passed_at_once(bench):
    passed = []
    bench.writer.after_all(lambda: passed.append(1))
    assert passed == [1]


def test_a_barrier_waits_for_the_writes_before_it_and_for_no_other(bench):
    passed = []
    bench.write_tile(0)
    bench.writer.after_all(lambda: passed.append("first"))
    bench.write_tile(4)
    bench.writer.after_all(lambda: passed.append("second"))
    bench.encoders.run_all()
    bench.answer(0)
    assert passed == ["first"]
    bench.answer(1)
    assert passed == ["first", "second"]


def test_answers_in_another_order_pass_no_barrier_early(bench):
    passed = []
    bench.write_tile(0)
    bench.write_tile(4)
    bench.writer.after_all(lambda: passed.append(bench.writer.take_written()))
    bench.encoders.run_all()
    second = bench.answer(1)
    assert passed == []
    first = bench.answer(0)
    ((addresses, tiles),) = passed
    assert addresses == second + first
    assert len(tiles) == 2


def test_what_a_barrier_calls_may_make_the_next(bench):
    passed = []

    def go_on():
        passed.append("first")
        bench.write_tile(4)
        bench.writer.after_all(lambda: passed.append("second"))

    bench.write_tile(0)
    bench.writer.after_all(go_on)
    bench.encoders.run_all()
    bench.answer(0)
    assert passed == ["first"]
    bench.encoders.run_all()
    bench.answer(1)
    assert passed == ["first", "second"]


def test_a_tile_that_cannot_be_handed_over_is_told_and_passes_no_barrier(bench):
    passed = []
    bench.store.fails = True
    bench.write_tile(0)
    bench.writer.after_all(lambda: passed.append(1))
    bench.encoders.run_all()
    (failed,) = bench.posted
    assert isinstance(failed, EncodeFailed)
    assert isinstance(failed.error, StorageError)
    assert passed == []
    assert bench.writer.take_written() == ([], [])


# ---------------------------------------------------------------- writes that hang


def test_writes_hang_when_none_is_done_for_a_while(bench):
    writer = bench.writer
    assert not writer.is_stalled(0.0)
    assert not writer.is_stalled(10.0)
    bench.write_tile(0)
    bench.write_tile(4)
    bench.encoders.run_all()
    assert not writer.is_stalled(10.0 + STALL_S / 2)
    assert writer.is_stalled(10.0 + STALL_S)
    bench.answer(0)
    assert not writer.is_stalled(20.0)
    assert not writer.is_stalled(20.0 + STALL_S / 2)
    assert writer.is_stalled(20.0 + STALL_S)
    bench.answer(1)
    assert not writer.is_stalled(30.0)
    assert not writer.is_stalled(40.0)


def test_tiles_are_overtaken_once_and_then_waited_for_only_by_who_needs_the_file(bench):
    first = bench.write_tile(0)
    passed = []
    assert bench.writer.overtake() == [("Height", first)]
    second = bench.write_tile(4)
    assert bench.writer.overtake() == [("Height", second)]
    assert bench.writer.overtake() == []
    bench.writer.after_all(lambda: passed.append("commit"), but_overtaken=True)
    bench.writer.after_all(lambda: passed.append("checkpoint"))
    assert passed == ["commit"]
    bench.encoders.run_all()
    assert not bench.writer.has_overtaken_written
    addresses = bench.answer(0)
    assert bench.writer.has_overtaken_written
    assert bench.writer.take_written() == (addresses, [first])
    assert not bench.writer.has_overtaken_written
    bench.answer(1)
    assert passed == ["commit", "checkpoint"]


def test_a_write_after_others_were_overtaken_is_waited_for(bench):
    bench.write_tile(0)
    bench.writer.overtake()
    bench.write_tile(4)
    passed = []
    bench.writer.after_all(lambda: passed.append(1), but_overtaken=True)
    bench.encoders.run_all()
    bench.answer(0)
    assert passed == []
    bench.answer(1)
    assert passed == [1]


def test_closing_gives_the_buffers_back_that_no_write_will(bench):
    bench.write_tile(0)
    bench.write_tile(4)
    bench.encoders.run_all()
    bench.answer(0)
    bench.writer.close()
    assert bench.pool.in_use_bytes == 0
    bench.answer(1)  # too late, and no harm
    assert bench.pool.in_use_bytes == 0


# ---------------------------------------------------------------- closed while codec threads read


@pytest.mark.parametrize("fails", [False, True])
def test_a_buffer_is_given_to_nobody_while_a_codec_thread_reads_it(fails):
    codec = SlowCodec()
    codec.fails = fails
    bench = Bench(codec)
    tile = bench.write_tile(0)
    nbytes, elements = bench.pool.in_use_bytes, tile.array
    thread = threading.Thread(target=bench.encoders.run_all)
    thread.start()
    assert codec.has_begun.wait(WAIT_S)
    bench.writer.close()
    bench.writer.close()  # as a daemon that stops does once more
    bench.assembly.close()
    assert bench.pool.in_use_bytes == nbytes
    other = bench.pool.take(nbytes)  # the next scan's first tile
    other[:] = 255
    codec.may_read.set()
    thread.join(WAIT_S)
    np.testing.assert_array_equal(np.hstack(codec.read or [DATA[:4]]), DATA[:4])
    (let_go,) = (told for told in bench.posted if isinstance(told, EncoderLetGo))
    bench.writer.on_let_go(let_go.token)
    assert bench.pool.in_use_bytes == nbytes
    assert np.shares_memory(bench.pool.take(nbytes), elements)


def test_what_no_codec_thread_has_begun_with_when_the_writer_is_closed_is_not_encoded():
    codec = SlowCodec()
    bench = Bench(codec)
    bench.write_tile(0)
    bench.writer.close()
    assert bench.pool.in_use_bytes == 0
    bench.encoders.run_all()
    assert not codec.has_begun.is_set()
    assert (bench.store.commands, bench.posted) == ([], [])


def test_a_codec_thread_that_waits_for_the_disk_reads_its_tile_no_more(bench, monkeypatch):
    is_waiting, has_room = threading.Event(), threading.Event()

    def submit(command):
        is_waiting.set()
        assert has_room.wait(WAIT_S)

    monkeypatch.setattr(bench.store, "submit", submit)
    bench.write_tile(0)
    thread = threading.Thread(target=bench.encoders.run_all)
    thread.start()
    assert is_waiting.wait(WAIT_S)
    bench.writer.close()
    assert bench.pool.in_use_bytes == 0
    has_room.set()
    thread.join(WAIT_S)
    assert bench.posted == []
