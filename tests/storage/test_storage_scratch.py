import errno

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usidstreamd.assembly import Assembly, Block, BufferPool, TileGrid
from usidstreamd.storage import FileScratch, StorageError, scratch

SLOT_NBYTES = 64


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, SLOT_NBYTES - 1), st.binary(min_size=1)),
        max_size=20,
    )
)
def test_what_was_written_last_is_read(tmp_path_factory, writes):
    path = tmp_path_factory.mktemp("scratch") / "scratch"
    parked = FileScratch(path, SLOT_NBYTES)
    model = np.zeros((4, SLOT_NBYTES), np.int64) - 1
    for slot, offset, drawn in writes:
        data = drawn[: SLOT_NBYTES - offset]
        parked.write(slot, offset, data)
        model[slot, offset : offset + len(data)] = list(data)
    for slot in range(4):
        buffer = np.zeros(SLOT_NBYTES, np.uint8)
        parked.read_into(slot, 0, buffer)
        known = model[slot] >= 0
        assert np.array_equal(buffer[known], model[slot][known])
    parked.close()
    assert not path.exists()


@pytest.mark.parametrize("dtype", ["<f8", "<c8", [("a", "<i2"), ("b", "<f8")]])
def test_arrays_of_any_dtype_are_parked(tmp_path, dtype):
    parked = FileScratch(tmp_path / "scratch", 1 << 12)
    data = np.frombuffer(np.random.default_rng(0).bytes(12 * np.dtype(dtype).itemsize), dtype)
    data = data.reshape(3, 4)
    parked.write(2, 40, data)
    back = np.empty_like(data)
    parked.read_into(2, 40, back)
    assert back.tobytes() == data.tobytes()
    parked.close()


def test_a_write_never_leaves_its_slot(tmp_path):
    parked = FileScratch(tmp_path / "scratch", SLOT_NBYTES)
    with pytest.raises(ValueError, match="overrun"):
        parked.write(0, SLOT_NBYTES - 1, b"ab")
    parked.close()


def test_no_file_is_made_before_it_is_needed(tmp_path):
    parked = FileScratch(tmp_path / "scratch", SLOT_NBYTES)
    assert list(tmp_path.iterdir()) == []
    parked.close()


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    class Full(scratch.FileIO):
        def write(self, _data):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(scratch, "FileIO", Full)
    parked = FileScratch(tmp_path / "scratch", SLOT_NBYTES)
    with pytest.raises(StorageError) as caught:
        parked.write(0, 0, b"x")
    assert caught.value.code == "no_space"
    parked.close()


def test_an_assembly_in_random_order_parks_its_tiles_here(tmp_path):
    """Eight tiles and memory for one: every row goes through the file and comes back whole."""
    n_rows, n_cols, tile_rows = 64, 6, 8
    grid = TileGrid(n_rows, n_cols, tile_rows, n_cols, n_cols)
    tile_nbytes = tile_rows * n_cols * 4
    parked = FileScratch(tmp_path / "scratch", tile_nbytes)
    assembly = Assembly("Raw", grid, np.dtype("<f4"), BufferPool(tile_nbytes), parked)
    data = np.arange(n_rows * n_cols, dtype="<f4").reshape(n_rows, n_cols)
    stored = np.zeros_like(data)
    for row in np.random.default_rng(3).permutation(n_rows):
        placement = assembly.begin(Block(int(row), 1, 0, n_cols, data[row].tobytes()), again=False)
        for tile in placement.step():
            stored[tile.rect.row : tile.rect.row_end] = tile.array
            assembly.release(tile)
        assert placement.done
    assert np.array_equal(stored, data)
    assert parked.path.stat().st_size <= (n_rows // tile_rows) * tile_nbytes
    parked.close()
