import shutil

import h5py
import numpy as np
import pytest

from support.journalled import JournalledScan, die, in_a_child, read_main
from support.storing import layout_of, main_of, plans_for, random_data
from usidstreamd.storage import StorageError, superblock
from usidstreamd.storage.superblock_repair import (
    RepairedView,
    Superblock,
    lookup3,
    read_superblock,
    repair,
)

LAYOUT = layout_of(main_of(n=64), n_positions=512)
PLANS = plans_for(LAYOUT, rows=4, cols=16)
DATA = random_data(LAYOUT, "Raw_Data")


@pytest.fixture
def killed(tmp_path):
    """Return a scan whose writer was killed after a flush, and with more written since."""
    scan = JournalledScan(tmp_path, LAYOUT, PLANS)

    def live_and_die():
        scan.open()
        scan.store("Raw_Data", DATA, 0, 256)
        scan.h5_file.flush()
        scan.store("Raw_Data", DATA, 256, 512)
        die()

    assert not in_a_child(live_and_die)
    return scan


@pytest.mark.parametrize(
    ("data", "value"),
    [  # from the driver of Jenkins' own lookup3.c
        (b"", 0xDEADBEEF),
        (b"Four score and seven years ago", 0x17770551),
    ],
)
def test_the_checksum_is_lookup3(data, value):
    assert lookup3(data) == value


@pytest.mark.parametrize("libver", ["v110", "latest"])
def test_a_superblock_is_read_and_written_as_hdf5_does(tmp_path, libver):
    with h5py.File(tmp_path / "f.h5", "w", libver=libver) as h5_file:
        h5_file["d"] = np.arange(9)
    head = (tmp_path / "f.h5").read_bytes()[:48]
    found = Superblock.from_bytes(head)
    assert found.to_bytes() == head
    assert (found.flags, found.end) == (0, (tmp_path / "f.h5").stat().st_size)


def test_without_repair_a_killed_writers_file_is_cut_below_its_chunks(killed, tmp_path):
    """The danger is real: flags cleared alone, and the file opened, lose what was written."""
    found = read_superblock(killed.path)
    assert found.flags == 5
    assert found.end < killed.path.stat().st_size
    copy = shutil.copy(killed.path, tmp_path / "copy.h5")
    with open(copy, "r+b") as file:
        file.write(found.repaired(0).to_bytes())
    with h5py.File(copy, "r+", libver=("v110", "v110")):
        pass
    assert (tmp_path / "copy.h5").stat().st_size < killed.path.stat().st_size


def test_a_repaired_file_keeps_every_chunk_and_can_be_written_on(killed):
    size = killed.path.stat().st_size
    assert repair(killed.path)
    assert superblock.consistency_flags(killed.path) == 0
    scan = killed
    scan.open()  # opens r+ and writes on
    addresses = scan.write("Raw_Data", DATA, 256, 260)
    assert min(address.offset for address in addresses) >= size
    scan.close()
    found = read_main(scan.path, LAYOUT, "Raw_Data")
    np.testing.assert_array_equal(found[:260], DATA[:260])


def test_the_view_shows_what_repair_makes_and_changes_nothing(killed, tmp_path):
    before = killed.path.read_bytes()
    end = len(before) + 1000
    with RepairedView(killed.path, end) as view:
        shown = view.readall()
        with h5py.File(view, "r") as h5_file:
            assert h5_file["Measurement_000/Raw_Data"].shape == (512, 64)
    assert killed.path.read_bytes() == before
    copy = tmp_path / "copy.h5"
    copy.write_bytes(before)
    assert repair(copy, end)
    assert copy.read_bytes() == shown
    assert len(shown) == end


def test_a_second_repair_changes_nothing(killed):
    assert repair(killed.path)
    before = killed.path.read_bytes()
    assert not repair(killed.path)
    assert killed.path.read_bytes() == before


def test_a_sound_file_stays_as_it_is(tmp_path):
    scan = JournalledScan(tmp_path, LAYOUT, PLANS)
    before = scan.path.read_bytes()
    assert not repair(scan.path)
    assert scan.path.read_bytes() == before


@pytest.mark.parametrize("at", [8, 9, 20, 30, 40, 47])
def test_a_damaged_superblock_is_told_and_left(killed, at):
    content = bytearray(killed.path.read_bytes())
    content[at] ^= 0x10
    killed.path.write_bytes(content)
    with pytest.raises(StorageError) as caught:
        repair(killed.path)
    assert caught.value.code == "file_damaged"
    assert killed.path.read_bytes() == content


def test_what_is_no_hdf5_file_is_told(tmp_path):
    (tmp_path / "f.h5").write_bytes(b"short")
    with pytest.raises(StorageError, match="superblock"):
        read_superblock(tmp_path / "f.h5")
    with pytest.raises(StorageError, match="could not read"):
        read_superblock(tmp_path / "none.h5")
