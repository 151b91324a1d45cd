import h5py
import pytest

from usidstreamd.storage import StorageError, superblock


@pytest.mark.parametrize(("libver", "in_swmr"), [("v110", 5), ("earliest", 0)])
def test_the_flags_are_those_of_an_open_writer(tmp_path, libver, in_swmr):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w", libver=libver) as h5_file:
        h5_file.create_dataset("d", shape=(4,), dtype="f4", chunks=(2,))
        if libver != "earliest":
            h5_file.swmr_mode = True
        h5_file.flush()
        assert superblock.consistency_flags(path) == in_swmr
    assert superblock.consistency_flags(path) == 0


def test_a_user_block_is_skipped(tmp_path):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w", libver="v110", userblock_size=1024):
        pass
    assert superblock.consistency_flags(path) == 0


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n", b"text" * 1000])
def test_what_is_no_hdf5_file_is_told(tmp_path, content):
    path = tmp_path / "f.h5"
    path.write_bytes(content)
    assert superblock.consistency_flags(path) is None
    with pytest.raises(StorageError, match="not an HDF5 file") as caught:
        superblock.require_closed(path)
    assert caught.value.code == "file_damaged"


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(StorageError, match="could not read"):
        superblock.consistency_flags(tmp_path / "none.h5")
