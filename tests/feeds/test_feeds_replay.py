"""Replay of h5USID files: every value to its position, whatever the file's age and order."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from support.scan_double import ScanDouble
from support.source_files import link_main, new_file, write_ancillaries, write_tables, write_usid
from usidstream.errors import LayoutError
from usidstream.feeds import replay
from usidstream.feeds.replay import SourceError, axes, carry, open_replay
from usidstream.layout import Dimension, PositionTable

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"

POS = [
    ("X", "um", np.float32([0, 0.5, 1.5, 1.75])),
    ("Y", "nm", np.float32([10, 20, 30])),
]
SPEC = [("Frequency", "Hz", np.float32([1, 2, 4, 8, 16])), ("Bias", "V", np.float32([-1, 1]))]
RANDOM = np.random.default_rng(7)
TRUTH = RANDOM.standard_normal((3, 4, 2, 5)).astype(np.float32)


def dimensions(dims):
    return tuple(Dimension(*dim) for dim in dims)


def replayed(path, main=None):
    with open_replay(path, main=main) as recording:
        scan = ScanDouble(recording.layout)
        recording.send(scan)
    assert scan.is_complete
    return recording, scan


@pytest.fixture
def path(tmp_path):
    return tmp_path / "source.h5"


@pytest.mark.parametrize("old", [False, True], ids=["slowest first", "fastest first"])
@pytest.mark.parametrize(
    "visited", [None, RANDOM.permutation(12), np.array([0, 1, 2, 3, 7, 6, 5, 4, 8, 9, 10, 11])]
)
def test_every_value_goes_to_its_position(path, old, visited):
    with new_file(path) as h5_file:
        group = h5_file.create_group("Measurement_000")
        write_usid(group, "Raw_Data", TRUTH, POS, SPEC, old=old, visited=visited)
    recording, scan = replayed(path)
    layout = recording.layout
    assert layout.name == "Measurement"
    assert layout.mains[0].spectroscopic == dimensions(SPEC)
    array = scan.arrays["Raw_Data"]
    n_dim = array.reshape([*layout.position_shape[::-1], 2, 5])
    if layout.positions == dimensions(POS[::-1]):
        # In random order nothing but the columns tells which dimension was meant to be the fastest.
        assert old
        assert visited is not None
        n_dim = n_dim.swapaxes(0, 1)
    np.testing.assert_array_equal(n_dim, TRUTH)
    assert layout.positions == dimensions(POS) or old
    assert {call[0] for call in scan.calls} == {"write_block" if visited is None else "write_at"}


def test_tables_are_read_in_blocks(path, monkeypatch):
    monkeypatch.setattr(axes, "BLOCK_ROWS", 5)
    for visited in (None, np.array([0, 1, 2, 3, 7, 6, 5, 4, 8, 9, 10, 11])):
        with new_file(path) as h5_file:
            write_usid(h5_file, "Raw_Data", TRUTH, POS, SPEC, visited=visited)
        recording, scan = replayed(path)
        assert recording.layout.positions == dimensions(POS)
        np.testing.assert_array_equal(scan.arrays["Raw_Data"], TRUTH.reshape(12, 10))


def test_dimensions_of_one_step_and_three_dimensions(path):
    pos = [*POS, ("Layer", "", np.float32([3])), ("Temperature", "K", np.float64([4, 77]))]
    truth = RANDOM.standard_normal((2, 1, 3, 4, 1))
    with new_file(path) as h5_file:
        write_usid(h5_file, "Raw_Data", truth, pos, [("arb", "a.u.", np.float32([1]))], old=True)
    recording, scan = replayed(path)
    array = scan.arrays["Raw_Data"]
    assert recording.layout.n_positions == 24
    by_name = {d.name: d for d in recording.layout.positions}
    assert by_name["Layer"].values.tolist() == [3]
    assert [d.name for d in recording.layout.positions if d.size > 1] == ["X", "Y", "Temperature"]
    np.testing.assert_array_equal(array, truth.reshape(24, 1))


@pytest.mark.parametrize(
    "dtype",
    [
        "<f4", ">f4", "<f2", "<f8", "<c8", ">c16", "<u2", ">i4", "i1",
        np.dtype([("a", "<f4"), ("b", ">u2")]),
        np.dtype({"names": "ab", "formats": ["<f4", "<f8"], "offsets": [0, 8], "itemsize": 24}),
    ],
    ids=str,
)  # fmt: skip
def test_types_are_kept_bit_for_bit(path, dtype):
    dtype = np.dtype(dtype)
    data = np.frombuffer(RANDOM.bytes(120 * dtype.itemsize), dtype).reshape(12, 10)
    with new_file(path) as h5_file:
        tables = write_ancillaries(h5_file, "Position", POS)
        link_main(h5_file, "Raw", data, tables + write_ancillaries(h5_file, "Spectroscopic", SPEC))
    recording, scan = replayed(path)
    kept = recording.layout.mains[0].np_dtype
    array = scan.arrays["Raw"]
    for name in dtype.names or [None]:
        one, other = (array, data) if name is None else (array[name], data[name])
        assert (one.dtype.kind, one.dtype.itemsize) == (other.dtype.kind, other.dtype.itemsize)
        assert one.tobytes() == other.astype(one.dtype).tobytes()  # NaNs keep their bits
    assert kept.newbyteorder("<") == kept


@pytest.mark.parametrize(
    "options",
    [
        {}, {"chunks": (5, 3)}, {"chunks": (12, 1)}, {"chunks": (1, 10)},
        {"chunks": (12, 10), "compression": "gzip", "shuffle": True},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("block_bytes", [1, 40, 100, 2**20])
def test_pieces_are_bounded_and_whole_chunks(path, options, block_bytes):
    data = TRUTH.reshape(12, 10)
    with new_file(path) as h5_file:
        tables = write_ancillaries(h5_file, "Position", POS)
        tables += write_ancillaries(h5_file, "Spectroscopic", SPEC)
        link_main(h5_file, "Raw", data, tables, **options)
    chunk_rows, chunk_cols = options.get("chunks", (1, 1))
    with open_replay(path) as recording:
        scan = ScanDouble(recording.layout)
        for name, piece in recording.pieces(block_bytes):
            scan.write_block(piece.rows, piece.data, col=piece.col, main=name)
            assert piece.data.nbytes <= max(block_bytes, chunk_rows * chunk_cols * 4)
            assert piece.rows % chunk_rows == 0
            assert piece.col % chunk_cols == 0
    assert scan.is_complete
    np.testing.assert_array_equal(scan.arrays["Raw"], data)


def test_channels_share_positions_and_come_in_turns(path):
    with new_file(path) as h5_file:
        group = h5_file.create_group("Measurement_000")
        pos = write_ancillaries(group, "Position", POS, old=True)
        spec = write_ancillaries(group, "Spectroscopic", [("arb", "a.u.", np.float32([1]))])
        for i, quantity in enumerate(("Height", "Phase")):
            channel = group.create_group(f"Channel_{i:03d}")
            link_main(
                channel, "Raw_Data", TRUTH.reshape(120, 1)[i::10], pos + spec, quantity=quantity
            )
    recording, scan = replayed(path)
    assert [main.name for main in recording.layout.mains] == ["Height", "Phase"]
    assert [main.dataset for main in recording.layout.mains] == ["Raw_Data", "Raw_Data"]
    for i, name in enumerate(("Height", "Phase")):
        np.testing.assert_array_equal(scan.arrays[name], TRUTH.reshape(120, 1)[i::10])
    assert recording.notes == ()
    with open_replay(path) as recording:
        names = [name for name, _ in recording.pieces(block_bytes=4 * 5)]
    assert names == ["Height", "Phase"] * 3


def test_equal_copies_of_positions_are_shared(path):
    with new_file(path) as h5_file:
        for i in range(2):
            group = h5_file.create_group(f"Measurement_000/Channel_{i:03d}")
            write_usid(group, "Raw_Data", TRUTH + i, POS, SPEC)
    recording, scan = replayed(path)
    # Equal quantities and names: the path tells them apart.
    assert [main.name for main in recording.layout.mains] == [
        "Measurement_000_Channel_000_Raw_Data", "Measurement_000_Channel_001_Raw_Data",
    ]  # fmt: skip
    for i, array in enumerate(scan.arrays.values()):
        np.testing.assert_array_equal(array, (TRUTH + i).reshape(12, 10))


def test_measurements_are_replayed_one_at_a_time(path):
    with new_file(path) as h5_file:
        for i in range(2):
            group = h5_file.create_group(f"Measurement_{i:03d}")
            group.attrs["number"] = i
            write_usid(group, "Raw_Data", TRUTH + i, POS, SPEC)
    with pytest.raises(SourceError, match="holds 2 scans") as caught, open_replay(path):
        pass
    assert "one at a time" in caught.value.hint
    for main in ("/Measurement_001", "Measurement_001/", "/Measurement_001/Raw_Data"):
        recording, scan = replayed(path, main)
        assert recording.layout.attrs["number"] == 1
        np.testing.assert_array_equal(scan.arrays["Raw_Data"], (TRUTH + 1).reshape(12, 10))
    with pytest.raises(SourceError, match="no main dataset at /Raw") as caught:
        replayed(path, "/Raw")
    assert "/Measurement_000/Raw_Data" in caught.value.hint


def test_results_are_mains_too(path):
    with new_file(path) as h5_file:
        group = h5_file.create_group("Measurement_000")
        main = write_usid(group, "Raw_Data", TRUTH, POS, SPEC)
        pos = [h5_file[main.attrs[name]] for name in ("Position_Indices", "Position_Values")]
        results = group.create_group("Raw_Data-SHO_Fit_000")
        spec = write_ancillaries(results, "Spectroscopic", [("Bias", "V", np.float32([-1, 1]))])
        guess = np.zeros((12, 2), [("Amplitude", "f4"), ("Phase", "f4")])
        guess["Phase"] = RANDOM.random((12, 2))
        link_main(results, "Guess", guess, pos + spec, quantity="SHO", units="compound")
    recording, scan = replayed(path)
    assert [main.name for main in recording.layout.mains] == ["Current", "SHO"]
    np.testing.assert_array_equal(scan.arrays["SHO"], guess)


def test_a_spiral_becomes_a_table_of_positions(path):
    angle = np.linspace(0, 20, 12)
    spiral = np.stack([angle * np.cos(angle), angle * np.sin(angle)], axis=1)
    inds = np.stack([np.arange(12)] * 2, axis=1)
    with new_file(path) as h5_file:
        tables = write_tables(h5_file, "Position", inds, spiral, ["X", "Y"], ["um", "um"])
        tables += write_ancillaries(h5_file, "Spectroscopic", SPEC)
        link_main(h5_file, "Raw", TRUTH.reshape(12, 10), tables)
    recording, scan = replayed(path)
    assert recording.layout.positions == PositionTable(["X", "Y"], ["um", "um"], spiral)
    np.testing.assert_array_equal(scan.arrays["Raw"], TRUTH.reshape(12, 10))


@pytest.mark.parametrize("damage", ["drift", "missing", "twice"])
def test_whatever_is_no_grid_becomes_a_table(path, damage):
    with new_file(path) as h5_file:
        inds, vals = write_ancillaries(h5_file.create_group("whole"), "Position", POS)
        inds, vals = inds[()], vals[()]
        if damage == "drift":
            vals[:, 1] += np.linspace(0, 1e-3, 12, dtype=np.float32)
        elif damage == "missing":
            inds, vals = inds[:-1], vals[:-1]
        else:
            inds[-1], vals[-1] = inds[0], vals[0]
        tables = write_tables(h5_file, "Position", inds, vals, ["Y", "X"], ["nm", "um"])
        tables += write_ancillaries(h5_file, "Spectroscopic", SPEC)
        link_main(h5_file, "Raw", TRUTH.reshape(12, 10)[: len(inds)], tables)
    recording, scan = replayed(path)
    assert recording.layout.positions == PositionTable(["Y", "X"], ["nm", "um"], vals)
    np.testing.assert_array_equal(scan.arrays["Raw"], TRUTH.reshape(12, 10)[: len(inds)])


def test_indices_need_not_count_from_zero(path):
    with new_file(path) as h5_file:
        inds, vals = write_ancillaries(h5_file.create_group("whole"), "Position", POS)
        tables = write_tables(h5_file, "Position", 5 + 2 * inds[()], vals[()], ["Y", "X"], ["", ""])
        tables += write_ancillaries(h5_file, "Spectroscopic", SPEC)
        link_main(h5_file, "Raw", TRUTH.reshape(12, 10), tables)
    recording, _ = replayed(path)
    assert recording.layout.position_shape == (4, 3)


def test_spectra_that_are_no_grid_keep_their_values_as_attributes(path):
    inds = np.array([[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [0, 2]])
    vals = np.float32([[1, 5], [2, 5], [3, 5], [1, 6], [2, 6], [1, 7]])
    with new_file(path) as h5_file:
        tables = write_ancillaries(h5_file, "Position", POS)
        tables += write_tables(h5_file, "Spectroscopic", inds, vals, ["Field", "Cycle"], ["V", ""])
        link_main(h5_file, "Raw", TRUTH.reshape(12, 10)[:, :6], tables)
    recording, scan = replayed(path)
    main = recording.layout.mains[0]
    assert main.spectroscopic == (Dimension("Spectroscopic_Step", "", 6),)
    np.testing.assert_array_equal(main.attrs["Field [V]"], vals[:, 0])
    np.testing.assert_array_equal(main.attrs["Cycle []"], vals[:, 1])
    assert "no grid" in recording.notes[0]
    np.testing.assert_array_equal(scan.arrays["Raw"], TRUTH.reshape(12, 10)[:, :6])


def test_one_spectroscopic_dimension_may_have_any_values(path):
    vals = np.float32([[1], [3], [3], [2], [1], [0]])
    with new_file(path) as h5_file:
        tables = write_ancillaries(h5_file, "Position", POS)
        tables += write_tables(h5_file, "Spectroscopic", np.zeros((6, 1)), vals, ["Bias"], ["V"])
        link_main(h5_file, "Raw", TRUTH.reshape(12, 10)[:, :6], tables)
    recording, _ = replayed(path)
    assert recording.layout.mains[0].spectroscopic == (Dimension("Bias", "V", vals[:, 0]),)
    assert recording.notes == ()


def test_attributes_are_carried_renamed_or_noted(path):
    with new_file(path) as h5_file:
        group = h5_file.create_group("Measurement_000/Channel_000")
        main = write_usid(group, "Raw_Data", TRUTH, POS, SPEC)
        h5_file.attrs.update({"project": "P", "operator": "A", "machine_id": "m0"})
        h5_file["Measurement_000"].attrs.update(
            {"operator": "B", "machine_id": "m1", "limit": np.inf}
        )
        group.attrs.update({"gain": 5, "machine_id": "m2", "comment": np.bytes_("µ".encode())})
        main.attrs.update(
            {
                "gain": 7, "machine_id": "m3", "pyUSID_version": "0.0.4",
                "table": [1.5, 2.5], "names": np.array(["a", "b"], "S"), "on": True,
                "Bin_Frequencies": main.ref, "matrix": np.eye(2), "nothing": h5py.Empty("f4"),
                "latin": np.bytes_(b"\xb0C"), "scan_id": "0" * 32,
            }
        )  # fmt: skip
        main.parent["Position_Values"].attrs["calibrated"] = 1
    recording, _ = replayed(path)
    assert recording.layout.attrs == {
        "operator": "B", "source_machine_id": "m1", "limit": np.inf,
        "project": "P", "source_operator": "A", "source_file_machine_id": "m0",
    }  # fmt: skip
    attrs = {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in recording.layout.mains[0].attrs.items()
    }
    assert attrs == {
        "gain": 7, "source_machine_id": "m3", "source_pyUSID_version": "0.0.4",
        "table": [1.5, 2.5], "names": ["a", "b"], "on": True, "source_scan_id": "0" * 32,
        "source_gain": 5, "source_Channel_000_machine_id": "m2", "comment": "µ",
    }  # fmt: skip
    text = "\n".join(recording.notes)
    assert len(recording.notes) == 5
    for name in ("Bin_Frequencies", "matrix", "nothing", "latin", "calibrated"):
        assert f"@{name} is not carried" in text


def test_what_stays_behind_is_noted(path):
    with new_file(path) as h5_file:
        group = h5_file.create_group("Measurement_000")
        write_usid(group, "Raw_Data", TRUTH, POS, SPEC)
        group["Noise_Floor"] = np.zeros(3)
        h5_file.create_group("Notes").attrs["text"] = "by hand"
    recording, _ = replayed(path)
    assert recording.notes == (
        "dataset /Measurement_000/Noise_Floor is no main: not replayed",
        "the attributes of group /Notes are not carried",
    )
    assert replayed(path, "/Measurement_000")[0].notes == ()


def test_quantity_and_units_may_be_missing(path):
    with new_file(path) as h5_file:
        main = write_usid(h5_file, "Raw_Data", TRUTH, POS, SPEC)
        del main.attrs["quantity"], main.attrs["units"]
        for name in ("Position_Indices", "Position_Values"):
            del h5_file[name].attrs["labels"], h5_file[name].attrs["units"]
    recording, _ = replayed(path)
    main = recording.layout.mains[0]
    assert (main.quantity, main.units) == ("Raw_Data", "a. u.")
    assert [d.name for d in recording.layout.positions] == [
        "Position_Dimension_1", "Position_Dimension_0",
    ]  # fmt: skip
    assert len(recording.notes) == 2


def test_names_that_cannot_stand_in_a_scan_are_changed(path):
    with new_file(path) as h5_file:
        write_usid(h5_file.create_group("My-Scan_007"), "Raw-Data", TRUTH, POS, SPEC)
    recording, _ = replayed(path)
    assert recording.layout.name == "My_Scan"
    assert (recording.layout.mains[0].name, recording.layout.mains[0].dataset) == ("Raw_Data",) * 2


def test_progress_counts_elements(path):
    with new_file(path) as h5_file:
        write_usid(h5_file, "Raw_Data", TRUTH, POS, SPEC)
    told = []
    with open_replay(path) as recording:
        recording.send(ScanDouble(recording.layout), progress=lambda *counts: told.append(counts))
    assert told[-1] == (120, 120)


def test_a_missing_file():
    with pytest.raises(SourceError, match="no such file"), open_replay("/no/such/file.h5"):
        pass


def test_a_file_that_is_not_hdf5(path):
    path.write_text("text")
    with pytest.raises(SourceError, match="not an HDF5 file"), open_replay(path):
        pass


def test_a_truncated_file(path):
    with new_file(path) as h5_file:
        write_usid(h5_file, "Raw_Data", TRUTH, POS, SPEC)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(SourceError, match="cannot be opened"), open_replay(path):
        pass


def test_a_file_without_mains(path):
    with new_file(path) as h5_file:
        h5_file["image"] = np.zeros((4, 4))
        h5_file["image"].attrs["Position_Indices"] = "not a reference"
    with pytest.raises(SourceError, match="no main dataset"), open_replay(path):
        pass


def test_a_damaged_chunk_is_named(path):
    with new_file(path) as h5_file:
        tables = write_ancillaries(h5_file, "Position", POS)
        tables += write_ancillaries(h5_file, "Spectroscopic", SPEC)
        main = link_main(
            h5_file, "Raw", TRUTH.reshape(12, 10), tables, chunks=(4, 10), compression="gzip"
        )
        place = main.id.get_chunk_info(1).byte_offset
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\0" * 16)
    with open_replay(path) as recording:
        scan = ScanDouble(recording.layout)
        with pytest.raises(SourceError, match=r"Rows 0 to 11 of /Raw cannot be read"):
            recording.send(scan)


def test_a_type_that_no_main_can_have_is_named(path):
    with new_file(path) as h5_file:
        write_usid(h5_file, "Mask", TRUTH > 0, POS, SPEC)
    with pytest.raises(LayoutError, match=r"/Mask\.dtype: bool"), open_replay(path):
        pass


def test_without_h5py_the_message_tells_what_to_install(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(SourceError, match="h5py") as caught, open_replay(path):
        pass
    assert "pip install" in caught.value.hint


def test_the_client_needs_no_h5py_until_a_file_is_opened():
    assert not hasattr(replay, "h5py")


def test_book_keeping_covers_the_names_that_the_daemon_refuses():
    storage = pytest.importorskip("usidstreamd.storage")
    assert storage.reserved_names <= carry.BOOK_KEEPING | carry.STRUCTURAL | {"usidstream_version"}


@pytest.mark.parametrize("writer", ["pyUSID", "usidstreamd.h5usid"])
def test_files_of_todays_writers(path, writer, monkeypatch):
    # pyUSID 0.0.12 calls what numpy 2 has removed.
    monkeypatch.setattr(np, "product", np.prod, raising=False)
    module = pytest.importorskip(writer)
    kind = module.Dimension if writer == "pyUSID" else Dimension
    write_main_dataset = getattr(module, "hdf_utils", module).write_main_dataset
    with new_file(path) as h5_file:
        group = h5_file.create_group("Measurement_000")
        pos, spec = ([kind(*dim) for dim in dims] for dims in (POS, SPEC))
        data = TRUTH.reshape(12, 10)
        write_main_dataset(group, data, "Raw_Data", "Current", "nA", pos, spec)
    recording, scan = replayed(path)
    assert recording.layout.positions == dimensions(POS)
    assert recording.layout.mains[0].spectroscopic == dimensions(SPEC)
    np.testing.assert_array_equal(scan.arrays["Raw_Data"], TRUTH.reshape(12, 10))


def real_file(name):
    if not (DATA / name).is_file():
        pytest.skip(f"the real file {name} is not here")
    return DATA / name


def test_real_scanning_probe_file():
    path = real_file("SingFreqPFM_0003.h5")
    recording, scan = replayed(path)
    assert [main.name for main in recording.layout.mains] == [
        "HeightRetrace", "AmplitudeRetrace", "DeflectionRetrace", "PhaseRetrace",
    ]  # fmt: skip
    assert [(d.name, d.units, d.size) for d in recording.layout.positions] == [
        ("X", "m", 128), ("Y", "m", 128),
    ]  # fmt: skip
    assert recording.notes == ()
    assert recording.layout.attrs["ImagingMode"]
    with h5py.File(path) as h5_file:
        for i, array in enumerate(scan.arrays.values()):
            source = h5_file[f"Measurement_000/Channel_{i:03d}/Raw_Data"][()]
            assert array.tobytes() == source.tobytes()
        inds = h5_file["Measurement_000/Position_Indices"][()].astype(int)
        vals = h5_file["Measurement_000/Position_Values"][()]
        np.testing.assert_array_equal(inds[:, 0] + 128 * inds[:, 1], np.arange(128**2))
        for d, dimension in enumerate(recording.layout.positions):
            np.testing.assert_array_equal(dimension.values[inds[:, d]], vals[:, d])


def test_real_force_curve():
    path = real_file("AFM_Force_Curve.h5")
    recording, scan = replayed(path)
    (main,) = recording.layout.mains
    assert (main.quantity, main.units, main.spectroscopic[0].name) == ("Deflection", "m", "Z")
    with h5py.File(path) as h5_file:
        channel = h5_file["Measurement_000/Channel_000"]
        assert scan.arrays["Raw_Data"].tobytes() == channel["Raw_Data"][()].tobytes()
        np.testing.assert_array_equal(
            main.spectroscopic[0].values, channel["Spectroscopic_Values"][0]
        )
