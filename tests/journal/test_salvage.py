import h5py
import numpy as np
import pytest

from support.journalled import JournalledScan, damage_index, die, files_of, in_a_child
from support.storing import (
    CREATED,
    SCAN_ID,
    complete,
    layout_of,
    main_of,
    plans_for,
    random_data,
)
from usidstreamd.codecs import choose
from usidstreamd.storage import MainPlan, StorageError, salvage, structure, superblock
from usidstreamd.storage.datasets import LiveMain
from usidstreamd.storage.live import LIBVER
from usidstreamd.storage.salvage import salvage as salvage_file
from usidstreamd.verify import verify_file

LAYOUT = layout_of(main_of(n=64), main_of("Other", n=4), n_positions=4096)
PLANS = plans_for(LAYOUT, rows=1, cols=64)
DATA = {name: random_data(LAYOUT, name) for name in ("Raw_Data", "Other")}
FLUSHED = 3000


def acquire(scan):
    scan.open()
    for name, data in DATA.items():
        scan.write(name, data, 0, FLUSHED)
        main = LiveMain(scan.h5_file, scan.h5_file.name + path_of(name))
        scan.h5_file.flush()
        main.write_coverage(complete(0, FLUSHED))
    scan.h5_file.flush()
    scan.write("Raw_Data", DATA["Raw_Data"], FLUSHED, 4096)
    die()


def path_of(name):
    return f"Measurement_000/Channel_{list(DATA).index(name):03d}/{name}"


@pytest.fixture
def orphan(tmp_path):
    """Return a file whose writer was killed and whose journal is gone."""
    (tmp_path / "scans").mkdir()
    scan = JournalledScan(tmp_path / "scans", LAYOUT, PLANS)
    assert not in_a_child(lambda: acquire(scan))
    scan.directory.rename(tmp_path / "elsewhere")
    return scan.path


def test_what_was_flushed_is_saved_and_the_file_is_as_it_was(orphan):
    before = orphan.read_bytes()
    report = salvage_file(orphan)
    assert orphan.read_bytes() == before
    assert (report.how, report.kept) == ("salvaged", str(orphan))
    assert report.file == str(orphan.with_name("scan.salvaged.h5"))
    assert len(report.uncertain) == 1
    with h5py.File(report.file, "r") as h5_file, h5py.File(orphan, "r", swmr=True) as source:
        for name, data in DATA.items():
            group = h5_file[path_of(name)].parent
            np.testing.assert_array_equal(h5_file[path_of(name)][:FLUSHED], data[:FLUSHED])
            assert (group["completed_positions"][:] == (np.arange(4096) < FLUSHED)).all()
        assert h5_file["Measurement_000"].attrs["acquisition_status"] == b"interrupted"
        names, copied = [], []
        source.visit(names.append)
        h5_file.visit(copied.append)
        assert names == copied
        for name in names:
            assert set(source[name].attrs) == set(h5_file[name].attrs), name
        main = h5_file[path_of("Raw_Data")]
        assert main.chunks == (1, 64)
        assert h5_file[main.attrs["Position_Values"]].shape == (4096, 1)
    assert verify_file(report.file).faults == []
    assert superblock.consistency_flags(orphan) == 5


def test_chunks_behind_a_torn_index_page_cost_no_others(orphan):
    content = bytearray(orphan.read_bytes())
    pages = content.find(b"FADB")
    assert pages > 0
    content[pages + 200 : pages + 210] = b"\xa5" * 10
    orphan.write_bytes(content)
    report = salvage_file(orphan)
    assert any("index is damaged" in told for told in report.uncertain)
    with h5py.File(report.file, "r") as h5_file:
        whole = [name for name in DATA if _rows(h5_file, name) == FLUSHED]
        assert whole, "one main is not concerned"
        (torn,) = set(DATA) - set(whole)
        assert 1000 <= _rows(h5_file, torn) < FLUSHED
        data = h5_file[path_of(torn)]
        states = data.parent["completed_positions"][:]
        np.testing.assert_array_equal(data[:][states == 1], DATA[torn][states == 1])


def _rows(h5_file, name):
    states = h5_file[path_of(name)].parent["completed_positions"][:]
    return int(np.count_nonzero(states == 1))


def test_chunks_of_a_plugin_s_filter_can_be_decoded_where_they_are_saved(tmp_path):
    pytest.importorskip("hdf5plugin", reason="bitshuffle needs hdf5plugin")
    layout = layout_of(main_of(n=64, compression="bitshuffle-lz4"), n_positions=256)
    data = random_data(layout, "Raw_Data")
    codec = choose("bitshuffle-lz4", None, data.dtype)
    plans = {"Raw_Data": MainPlan((16, 64), codec.hdf5_filters)}
    with h5py.File(tmp_path / "scan.h5", "x", libver=LIBVER) as h5_file:
        structure.build(h5_file, layout, plans, scan_id=SCAN_ID, created=CREATED)
        main = h5_file[structure.main_paths(layout)["Raw_Data"]]
        for row in range(0, 256, 16):
            main.id.write_direct_chunk((row, 0), codec.encode(data[row : row + 16], (16, 64)))
        path = main.name
    report = salvage_file(tmp_path / "scan.h5")
    assert report.how == "salvaged"
    with h5py.File(report.file, "r") as h5_file:
        np.testing.assert_array_equal(h5_file[path], data)
    with h5py.File(tmp_path / "scan.h5", "r") as source, h5py.File(report.file, "r") as saved:
        listed = [h5[path].id.get_create_plist().get_filter(0)[:3] for h5 in (source, saved)]
        assert listed[0] == listed[1]


def test_a_file_without_a_superblock_is_beyond_it(orphan):
    content = orphan.read_bytes()
    orphan.write_bytes(b"\0" * 48 + content[48:])
    before = files_of(orphan.parent)
    with pytest.raises(StorageError, match="superblock") as caught:
        salvage_file(orphan)
    assert caught.value.code == "file_damaged"
    assert files_of(orphan.parent) == before


def test_nothing_is_overwritten(orphan):
    orphan.with_name("scan.salvaged.h5").write_bytes(b"mine")
    with pytest.raises(StorageError, match="exists already"):
        salvage_file(orphan)
    assert orphan.with_name("scan.salvaged.h5").read_bytes() == b"mine"


CHILD_DOUBLE = """
import sys, time
from usidstreamd.storage import salvaging

def tell(kind, told, tell=salvaging._tell):
    tell(kind, told)
    if told == "/Measurement_000/Channel_001/Other":
        {fate}

salvaging._tell = tell
salvaging.main(*sys.argv[1:])
"""


@pytest.mark.parametrize("fate", ["time.sleep(99)", "import os; os.abort()"])
def test_an_object_that_stops_or_kills_the_reader_is_left_out(orphan, tmp_path, monkeypatch, fate):
    (tmp_path / "child_double.py").write_text(CHILD_DOUBLE.format(fate=fate))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(salvage, "CHILD", "child_double")
    report = salvage_file(orphan, stall_timeout_s=10.0)  # a busy machine starts slowly
    assert "Channel_001/Other: reading it" in report.uncertain[1]
    with h5py.File(report.file, "r") as h5_file:
        assert path_of("Other") not in h5_file
        assert _rows(h5_file, "Raw_Data") == FLUSHED


def test_a_child_that_cannot_begin_is_told_and_leaves_nothing(orphan, monkeypatch):
    monkeypatch.setattr(salvage, "CHILD", "no_such_module")
    with pytest.raises(StorageError, match="before it began"):
        salvage_file(orphan)
    assert [path.name for path in orphan.parent.iterdir()] == ["scan.h5"]


def test_an_index_that_is_all_damaged_is_told(orphan):
    damage_index(orphan)
    report = salvage_file(orphan)
    assert len(report.uncertain) >= 2
