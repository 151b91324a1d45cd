import errno

import h5py
import numpy as np
import pytest

from support.storing import (
    CREATED,
    NO_CHUNKS,
    NO_RANGES,
    SCAN_ID,
    chunks_of,
    complete,
    layout_of,
    main_of,
    plans_for,
    random_data,
)
from usidstream.errors import LayoutError, UsidstreamError
from usidstream.layout import Dimension, MainLayout, PositionTable, ScanLayout
from usidstreamd import codecs
from usidstreamd.h5usid import USIDataset, check_if_main
from usidstreamd.storage import (
    CoverageUpdate,
    LiveFile,
    MainPlan,
    StorageError,
    SyncError,
    files,
    live,
    structure,
)

ENDED = CREATED.replace(hour=7)


def create(tmp_path, layout, plans=None):
    path = tmp_path / "scan.h5"
    files.journal_dir(path).mkdir(exist_ok=True)
    return LiveFile.create(
        path, layout, plans or plans_for(layout), scan_id=SCAN_ID, created=CREATED
    )


def fill(live_file, layout, plans=None, *, seed=1):
    """Write every main whole and commit; return the data by main."""
    plans = plans or plans_for(layout)
    written = {main.name: random_data(layout, main.name, seed) for main in layout.mains}
    for name, data in written.items():
        for row, col, payload in chunks_of(data, plans[name]):
            live_file.write_chunk(name, row, col, payload)
    live_file.commit({name: complete(0, layout.n_positions) for name in written})
    return written


# ---------------------------------------------------------------- what is in it


def test_one_main_stands_in_the_measurement(tmp_path):
    layout = layout_of(main_of(attrs={"gain": 9}), attrs={"Instrument": "AFM"})
    create(tmp_path, layout).close()
    with h5py.File(tmp_path / "scan.h5") as h5_file:
        measurement = h5_file["Measurement_000"]
        assert set(measurement) == {
            "Raw_Data", "Position_Indices", "Position_Values", "Spectroscopic_Indices",
            "Spectroscopic_Values", "completed_positions", "partial_ranges",
            "chunk_checksums",
        }  # fmt: skip
        assert check_if_main(measurement["Raw_Data"])
        assert measurement["Raw_Data"].attrs["gain"] == 9
        assert measurement.attrs["Instrument"] == "AFM"
        assert measurement.attrs["acquisition_status"] == b"acquiring"
        assert measurement.attrs["scan_id"].decode() == SCAN_ID
        assert measurement.attrs["acquisition_start"] == b"2025-03-04T05:06:07.000+00:00"
        assert measurement["completed_positions"].shape == (64,)
        assert measurement["partial_ranges"].shape == (0, 4)
        assert measurement["Raw_Data"].chunks == (16, 4)


def test_several_mains_share_what_is_equal(tmp_path):
    layout = layout_of(
        main_of("A"), main_of("B", n=5), main_of("C", "int16"), main_of("D", dataset="Raw", n=5)
    )
    create(tmp_path, layout).close()
    with h5py.File(tmp_path / "scan.h5") as h5_file:
        paths = structure.main_paths(layout)
        assert paths["D"] == "/Measurement_000/Channel_003/Raw"
        mains = {name: USIDataset(h5_file[path]) for name, path in paths.items()}
        position_pairs = {(m.h5_pos_inds.name, m.h5_pos_vals.name) for m in mains.values()}
        assert position_pairs == {
            ("/Measurement_000/Position_Indices", "/Measurement_000/Position_Values")
        }
        spectra = {name: main.h5_spec_inds.name for name, main in mains.items()}
        assert spectra["A"] == spectra["C"] == "/Measurement_000/Channel_000/Spectroscopic_Indices"
        assert spectra["B"] == spectra["D"] == "/Measurement_000/Channel_001/Spectroscopic_Indices"
        for path in paths.values():
            assert {"completed_positions", "partial_ranges"} <= set(h5_file[path].parent)


def test_positions_may_be_a_table_and_units_empty(tmp_path):
    values = np.random.default_rng(0).random((9, 2))
    layout = ScanLayout(
        name="Spiral",
        positions=PositionTable(["X", "Y"], ["nm", ""], values),
        mains=[MainLayout("Raw", "Counts", "", "uint16", [Dimension("Cycle", "", 3)])],
    )
    live_file = create(tmp_path, layout)
    written = fill(live_file, layout)
    live_file.finalise("complete", {}, ENDED, NO_CHUNKS)
    with h5py.File(tmp_path / "scan.h5") as h5_file:
        main = USIDataset(h5_file["Spiral_000/Raw"])
        assert np.array_equal(main[()], written["Raw"])
        assert np.allclose(main.h5_pos_vals[()], values)


DTYPES = ["int8", "uint16", "int32", "uint64", "float16", "float32", "float64", "complex64"]
DTYPES += ["complex128", [("a", "<i2"), ("b", "<f8"), ("c", "<c8")], ">f4"]


@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_comes_back_bit_for_bit(tmp_path, dtype, compression):
    # 61 and 7 leave a remainder in both directions
    layout = layout_of(main_of(dtype=dtype, n=7, compression=compression), n_positions=61)
    live_file = create(tmp_path, layout)
    written = fill(live_file, layout)["Raw_Data"]
    read = live_file.read_rect("Raw_Data", 10, 40, 2, 5)
    assert read.tobytes() == written[10:50, 2:7].tobytes()
    live_file.finalise("complete", {}, ENDED, NO_CHUNKS)
    with h5py.File(tmp_path / "scan.h5") as h5_file:
        dataset = h5_file["Measurement_000/Raw_Data"]
        assert dataset.dtype == written.dtype
        assert dataset[()].tobytes() == written.tobytes()


@pytest.mark.parametrize("compression", ["gzip", "bitshuffle-lz4", "none"])
@pytest.mark.parametrize("dtype", ["uint16", "float32", "complex128"])
def test_what_the_codecs_encode_a_stock_reader_reads(tmp_path, compression, dtype):
    if compression == "bitshuffle-lz4":
        pytest.importorskip("hdf5plugin")
    layout = layout_of(main_of(dtype=dtype, n=100, compression=compression), n_positions=203)
    codec = codecs.choose(compression, None, np.dtype(dtype))
    shape = (64, 32)
    live_file = create(tmp_path, layout, {"Raw_Data": MainPlan(shape, codec.hdf5_filters)})
    data = random_data(layout, "Raw_Data")
    for row in range(0, 203, 64):
        for col in range(0, 100, 32):
            chunk = codec.encode(data[row : row + 64, col : col + 32], shape)
            live_file.write_chunk("Raw_Data", row, col, chunk)
    live_file.commit({"Raw_Data": complete(0, 203)})
    assert np.array_equal(live_file.read_rect("Raw_Data", 60, 100, 30, 70), data[60:160, 30:])
    live_file.finalise("complete", {}, ENDED, NO_CHUNKS)
    with h5py.File(tmp_path / "scan.h5") as h5_file:
        assert np.array_equal(h5_file["Measurement_000/Raw_Data"], data)


def test_a_filter_that_is_not_installed_leaves_no_file(tmp_path):
    plans = {"Raw_Data": MainPlan((16, 4), {"compression": 300})}
    with pytest.raises(UsidstreamError, match="filter 300") as caught:
        create(tmp_path, layout_of(main_of()), plans)
    assert caught.value.code == "unsupported_feature"
    assert not (tmp_path / "scan.h5").exists()
    assert journal_names(tmp_path) == []


def test_large_attributes_are_stored(tmp_path):
    many = np.arange(30_000.0)
    live_file = create(tmp_path, layout_of(main_of(attrs={"a": many}), attrs={"b": many[:9000]}))
    live_file.finalise("incomplete", {"c": many}, ENDED, NO_CHUNKS)
    with h5py.File(tmp_path / "scan.h5") as h5_file:
        measurement = h5_file["Measurement_000"]
        assert np.array_equal(measurement["Raw_Data"].attrs["a"], many)
        assert np.array_equal(measurement.attrs["b"], many[:9000])
        assert np.array_equal(measurement.attrs["c"], many)


# ---------------------------------------------------------------- chunks and coverage


def test_an_unfiltered_chunk_of_a_wrong_length_is_refused(tmp_path):
    layout = layout_of(main_of(compression="none"))
    live_file = create(tmp_path, layout)
    for nbytes in (0, 16 * 4 * 4 - 1, 16 * 4 * 4 + 1):
        with pytest.raises(ValueError, match="unfiltered chunk has 256 bytes"):
            live_file.write_chunk("Raw_Data", 0, 0, bytes(nbytes))
    live_file.close()


@pytest.mark.parametrize(("row", "col"), [(1, 0), (0, 2), (64, 0), (0, 8), (-16, 0)])
def test_a_chunk_at_no_chunks_place_is_refused(tmp_path, row, col):
    layout = layout_of(main_of())
    live_file = create(tmp_path, layout)
    payload = chunks_of(random_data(layout, "Raw_Data"), plans_for(layout)["Raw_Data"])[0][2]
    with pytest.raises(ValueError, match="no chunk begins"):
        live_file.write_chunk("Raw_Data", row, col, payload)
    live_file.close()


def test_a_chunk_may_be_written_again_when_it_grew(tmp_path):
    layout = layout_of(main_of())
    plan = plans_for(layout)["Raw_Data"]
    live_file = create(tmp_path, layout)
    data = random_data(layout, "Raw_Data")
    for n_rows in (1, 7, 16):
        part = np.where(np.arange(64)[:, None] < n_rows, data, 0)
        for row, col, payload in chunks_of(part, plan, 0, 16):
            live_file.write_chunk("Raw_Data", row, col, payload)
        live_file.commit({"Raw_Data": complete(0, n_rows)})
        assert np.array_equal(live_file.read_rect("Raw_Data", 0, 16, 0, 8), part[:16])
    live_file.close()


def test_coverage_is_exact_after_each_commit_and_after_a_resume(tmp_path, monkeypatch):
    monkeypatch.setattr(structure, "COMPLETED_CHUNK_POSITIONS", 10)
    monkeypatch.setattr(structure, "PARTIAL_CHUNK_RANGES", 3)
    layout = layout_of(main_of())
    live_file = create(tmp_path, layout)
    rng = np.random.default_rng(5)
    states = np.zeros(64, np.uint8)
    for n_ranges in (0, 2, 3, 4, 11, 5, 0, 7, 1):
        lo, hi = sorted(rng.integers(0, 65, 2))
        states[lo:hi] = rng.integers(0, 3, hi - lo)
        rows = np.sort(rng.choice(64, n_ranges, replace=False))
        ranges = np.stack([rows, rows + 1, rows % 3, rows % 3 + 2], axis=1).astype(np.int64)
        live_file.commit({"Raw_Data": CoverageUpdate(int(lo), states[lo:hi], ranges)})
        found = live_file.read_coverage("Raw_Data")
        assert np.array_equal(found.states, states)
        assert np.array_equal(found.partial, ranges)
        if n_ranges % 2:
            live_file.close()
            live_file = LiveFile.resume(tmp_path / "scan.h5", layout, SCAN_ID)
            found = live_file.read_coverage("Raw_Data")
            assert np.array_equal(found.states, states)
            assert np.array_equal(found.partial, ranges)
    live_file.finalise("incomplete", {}, ENDED, NO_CHUNKS)
    with h5py.File(tmp_path / "scan.h5") as h5_file:
        assert np.array_equal(h5_file["Measurement_000/completed_positions"], states)
        assert np.array_equal(h5_file["Measurement_000/partial_ranges"], ranges)


def test_rewriting_the_coverage_does_not_grow_the_file(tmp_path):
    layout = layout_of(main_of(), n_positions=200_000)
    live_file = create(tmp_path, layout)
    ranges = np.array([[row, row + 1, 0, 1] for row in range(2000)], np.int64)

    shift = np.array([0, 0, 1, 1])

    def commit(step):
        states = np.full(200_000, step % 3, np.uint8)
        live_file.commit({"Raw_Data": CoverageUpdate(0, states, ranges + shift * (step % 2))})

    commit(0)
    commit(1)
    before = live_file.path.stat().st_size
    for step in range(2, 40):
        commit(step)
    assert live_file.path.stat().st_size == before
    live_file.close()


@pytest.mark.parametrize("lo", [-1, 60])
def test_states_outside_the_positions_are_refused(tmp_path, lo):
    live_file = create(tmp_path, layout_of(main_of()))
    with pytest.raises(ValueError, match="of 64"):
        live_file.commit({"Raw_Data": CoverageUpdate(lo, np.ones(5, np.uint8), NO_RANGES)})
    live_file.close()


# ---------------------------------------------------------------- the end


def test_finalising_sets_what_was_announced(tmp_path):
    layout = layout_of(main_of("A"), main_of("B"))
    live_file = create(tmp_path, layout)
    fill(live_file, layout)
    states = np.ones(4, np.uint8)
    states[1], states[3] = 0, 2
    ranges = np.array([[13, 14, 0, 3]], np.int64)
    live_file.commit({"B": CoverageUpdate(10, states, ranges)})
    result = live_file.finalise("incomplete", {"drift_nm": 1.3, "operator": "Ö"}, ENDED, NO_CHUNKS)
    assert result.missing == {"B": [(11, 12), (13, 14)]}
    assert result.file == str(tmp_path / "scan.h5")
    with h5py.File(tmp_path / "scan.h5") as h5_file:
        attrs = h5_file["Measurement_000"].attrs
        assert attrs["acquisition_status"] == b"incomplete"
        assert attrs["acquisition_end"] == b"2025-03-04T07:06:07.000+00:00"
        assert attrs["positions_complete"] == 62
        assert attrs["recoveries"] == 0
        assert attrs["drift_nm"] == 1.3
        assert attrs["operator"] == "Ö"
        assert h5_file["Measurement_000/Channel_001/partial_ranges"][()].tolist() == [
            [13, 14, 0, 3]
        ]


def test_a_file_with_gaps_is_never_called_complete(tmp_path):
    layout = layout_of(main_of())
    live_file = create(tmp_path, layout)
    with pytest.raises(ValueError, match="not complete"):
        live_file.finalise("complete", {}, ENDED, NO_CHUNKS)
    with pytest.raises(ValueError, match="none of"):
        live_file.finalise("acquiring", {}, ENDED, NO_CHUNKS)
    fill(live_file, layout)  # it is still open
    assert live_file.finalise("complete", {}, ENDED, NO_CHUNKS).missing == {}


@pytest.mark.parametrize("where", ["scan", "main", "end"])
def test_our_own_attributes_cannot_be_overwritten(tmp_path, where):
    for name in sorted(structure.reserved_names):
        attrs = {name: "x"}
        main = main_of(attrs=attrs if where == "main" else {})
        layout = layout_of(main, attrs=attrs if where == "scan" else {})
        if where == "end":
            live_file = create(tmp_path, layout)
            with pytest.raises(LayoutError, match=name) as caught:
                live_file.finalise("incomplete", attrs, ENDED, NO_CHUNKS)
            live_file.close()
            (tmp_path / "scan.h5").unlink()
        else:
            with pytest.raises(LayoutError, match=name) as caught:
                create(tmp_path, layout)
            assert not (tmp_path / "scan.h5").exists()
        assert caught.value.code == "bad_attribute"


# ---------------------------------------------------------------- nothing half-made


def journal_names(tmp_path):
    return [path.name for path in files.journal_dir(tmp_path / "scan.h5").iterdir()]


@pytest.mark.parametrize("step", ["build", "sync_file", "publish_new", "_open_for_writing"])
def test_a_failed_creation_leaves_no_file(tmp_path, monkeypatch, step):
    def fail(*_args, **_more):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(structure if step == "build" else live, step, fail)
    with pytest.raises(StorageError, match="could not create") as caught:
        create(tmp_path, layout_of(main_of()))
    assert caught.value.code == "storage_failed"
    assert not (tmp_path / "scan.h5").exists()
    assert journal_names(tmp_path) == []


def test_a_file_that_exists_is_never_overwritten(tmp_path):
    (tmp_path / "scan.h5").write_bytes(b"precious")
    with pytest.raises(StorageError, match="File exists"):
        create(tmp_path, layout_of(main_of()))
    assert (tmp_path / "scan.h5").read_bytes() == b"precious"
    assert journal_names(tmp_path) == []


def test_a_failed_sync_is_no_commit(tmp_path, monkeypatch):
    layout = layout_of(main_of())
    live_file = create(tmp_path, layout)

    def fail(_fd, _synced):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(live, "sync", fail)
    with pytest.raises(SyncError, match="could not sync"):
        fill(live_file, layout)
    with pytest.raises(StorageError, match="could not sync"):
        live_file.close()


# ---------------------------------------------------------------- resume


def test_a_resumed_file_goes_on(tmp_path):
    layout = layout_of(main_of("A"), main_of("B", "int16", compression="none"))
    plans = plans_for(layout)
    live_file = create(tmp_path, layout)
    data = {name: random_data(layout, name) for name in ("A", "B")}
    for rows in ((0, 16), (16, 48), (48, 64)):
        for name, values in data.items():
            for row, col, payload in chunks_of(values, plans[name], *rows):
                live_file.write_chunk(name, row, col, payload)
        live_file.commit({name: complete(*rows) for name in data})
        live_file.close()
        live_file = LiveFile.resume(tmp_path / "scan.h5", layout, SCAN_ID)
        assert int((live_file.read_coverage("B").states == 1).sum()) == rows[1]
    live_file.finalise("complete", {}, ENDED, NO_CHUNKS)
    with h5py.File(tmp_path / "scan.h5") as h5_file:
        for name, path in structure.main_paths(layout).items():
            assert np.array_equal(h5_file[path][()], data[name])


OTHERS = {
    "scan_id": (layout_of(main_of()), "f" * 32),
    "shape": (layout_of(main_of(n=9)), SCAN_ID),
    "positions": (layout_of(main_of(), n_positions=65), SCAN_ID),
    "dtype": (layout_of(main_of(dtype="float64")), SCAN_ID),
    "name": (layout_of(main_of("Other")), SCAN_ID),
    "mains": (layout_of(main_of(), main_of("B")), SCAN_ID),
}


@pytest.mark.parametrize(("layout", "scan_id"), OTHERS.values(), ids=OTHERS)
def test_another_scans_file_is_refused_and_not_touched(tmp_path, layout, scan_id):
    create(tmp_path, layout_of(main_of())).close()
    before = (tmp_path / "scan.h5").read_bytes()
    with pytest.raises(StorageError, match="not the scan's file") as caught:
        LiveFile.resume(tmp_path / "scan.h5", layout, scan_id)
    assert caught.value.code == "file_damaged"
    assert (tmp_path / "scan.h5").read_bytes() == before


def test_a_second_writer_is_refused(tmp_path):
    layout = layout_of(main_of())
    live_file = create(tmp_path, layout)
    with pytest.raises(StorageError, match="not closed by its writer"):
        LiveFile.resume(live_file.path, layout, SCAN_ID)
    fill(live_file, layout)
    live_file.finalise("complete", {}, ENDED, NO_CHUNKS)


def test_a_plan_is_what_the_file_has(tmp_path):
    layout = layout_of(main_of(n=8))
    plans = {"Raw_Data": MainPlan((5, 8), {"compression": "gzip", "shuffle": True})}
    create(tmp_path, layout, plans).close()
    with h5py.File(tmp_path / "scan.h5") as h5_file:
        dataset = h5_file["Measurement_000/Raw_Data"]
        assert (dataset.chunks, dataset.compression, dataset.shuffle) == ((5, 8), "gzip", True)
