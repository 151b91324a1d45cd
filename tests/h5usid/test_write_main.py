"""Main datasets: what they hold, what is refused, and that a refusal changes nothing."""

import dask.array as da
import h5py
import numpy as np
import pytest

import usidstreamd.h5usid as usid
from support.usid_files import contents
from usidstream.layout import PositionTable
from usidstreamd.h5usid import Dimension, DimType

SHAPE = (15, 14)


def positions():
    return [Dimension("Cols", "nm", np.arange(400, 900, 100)), Dimension("Rows", "um", 3)]


def spectra():
    return [Dimension("Bias", "V", np.linspace(-2, 2, 7)), Dimension("Cycle", "", 2)]


def write(h5_group, data=SHAPE, name="Raw_Data", pos_dims=None, spec_dims=None, **kwargs):
    if isinstance(data, tuple):
        kwargs = {"dtype": "f4", **kwargs}
    pos_dims = positions() if pos_dims is None else pos_dims
    spec_dims = spectra() if spec_dims is None else spec_dims
    return usid.write_main_dataset(
        h5_group, data, name, "Current", "nA", pos_dims, spec_dims, **kwargs
    )


@pytest.mark.parametrize("make", [np.asarray, da.asarray, lambda data: data.astype("f2")])
def test_data_are_written_whole(h5_file, make):
    data = np.random.default_rng(0).random(SHAPE)
    h5_main = write(h5_file, make(data))
    np.testing.assert_array_equal(h5_main, np.asarray(make(data)))
    assert h5_main.dtype == make(data).dtype


def test_a_main_is_a_dataset_and_equals_it_both_ways(h5_file):
    h5_main = write(h5_file)
    h5_dset = h5_file["Raw_Data"]
    assert isinstance(h5_main, h5py.Dataset)
    assert (h5_main == h5_dset, h5_dset == h5_main) == (True, True)
    assert len({h5_main, h5_dset}) == 1
    assert (h5_main == h5_main.h5_pos_inds, h5_main == np.zeros(3)) == (False, False)
    h5_main[3] = np.arange(14)
    assert h5_dset[3].tolist() == list(range(14))


def test_dimensions_may_run_either_way(h5_file):
    fast_first = write(h5_file, name="Fast", aux_pos_prefix="FP", aux_spec_prefix="FS")
    slow_first = write(
        h5_file, name="Slow", aux_pos_prefix="SP", aux_spec_prefix="SS",
        pos_dims=positions()[::-1], spec_dims=spectra()[::-1], slow_to_fast=True,
    )  # fmt: skip
    for h5_main in (fast_first, slow_first):
        assert h5_main.n_dim_labels == ["Rows", "Cols", "Cycle", "Bias"]
        assert h5_main.n_dim_sizes == [3, 5, 2, 7]
    np.testing.assert_array_equal(fast_first.h5_pos_vals, slow_first.h5_pos_vals)


def test_ancillaries_of_another_file_are_copied_or_reused(h5_file, other_file):
    h5_first = write(h5_file)
    shared = {
        "h5_pos_inds": h5_first.h5_pos_inds,
        "h5_pos_vals": h5_first.h5_pos_vals,
        "h5_spec_inds": h5_first.h5_spec_inds,
        "h5_spec_vals": h5_first.h5_spec_vals,
    }
    for name in ("One", "Two"):
        h5_main = write(other_file, name=name, pos_dims=[], spec_dims=[], **shared)
        assert h5_main.h5_pos_vals.file == other_file
        np.testing.assert_array_equal(h5_main.h5_pos_vals, h5_first.h5_pos_vals)
    other_file["Position_Values"][0] = 5
    before = contents(other_file)
    with pytest.raises(ValueError, match="other contents"):
        write(other_file, name="Three", pos_dims=[], spec_dims=[], **shared)
    assert contents(other_file) == before


def refused(h5_file):
    """Return every kind of call that is refused, with its error."""
    inds, vals = h5_file["Given_Indices"], h5_file["Given_Values"]
    names = ("main_data_name", "quantity", "units")
    return {
        "parent": (TypeError, {"h5_parent_group": inds}),
        "data": (TypeError, {"main_data": "shape"}),
        "ragged shape": (ValueError, {"main_data": (15, 14, 1)}),
        "zero shape": (ValueError, {"main_data": (0, 14)}),
        "real shape": (ValueError, {"main_data": (15.5, 14)}),
        "flat data": (ValueError, {"main_data": np.zeros(15)}),
        "no dtype": (ValueError, {"dtype": None}),
        "bad dtype": (TypeError, {"dtype": "no type"}),
        **{f"{name} no string": (TypeError, {name: 14}) for name in names},
        **{f"{name} empty": (ValueError, {name: "  "}) for name in names},
        "path": (ValueError, {"main_data_name": "a/b"}),
        "no dims": (TypeError, {"pos_dims": None}),
        "no dimension": (TypeError, {"pos_dims": ["Cols", "Rows"]}),
        "empty dims": (ValueError, {"spec_dims": []}),
        "product": (ValueError, {"pos_dims": [Dimension("X", "", 5), Dimension("Y", "", 4)]}),
        "same names": (ValueError, {"pos_dims": [Dimension("X", "", 5), Dimension("X", "", 3)]}),
        "one of a pair": (TypeError, {"h5_pos_inds": inds}),
        "pair of another shape": (ValueError, {"h5_pos_inds": inds, "h5_pos_vals": inds}),
        "pair no dataset": (TypeError, {"h5_pos_inds": "inds", "h5_pos_vals": "vals"}),
        "spec pair": (TypeError, {"h5_spec_vals": vals}),
        "name taken": (ValueError, {"main_data_name": "Taken"}),
        "ancillary taken": (KeyError, {"aux_pos_prefix": "Given"}),
        "equal prefixes": (KeyError, {"aux_pos_prefix": "P", "aux_spec_prefix": "P"}),
        "name of ancillary": (KeyError, {"main_data_name": "Position_Values"}),
        "attrs no dict": (TypeError, {"main_dset_attrs": [1]}),
        "attribute": (TypeError, {"main_dset_attrs": {"bad": object()}}),
        "nested attrs": (ValueError, {"main_dset_attrs": {"a": {"b": 1}}}),
        "reserved attribute": (ValueError, {"main_dset_attrs": {"Position_Indices": 1}}),
        "keyword": (TypeError, {"no_such_keyword": 1}),
        "chunks": ((ValueError, TypeError), {"chunks": (1, 2, 3)}),
        "compression": (ValueError, {"compression": "no such filter"}),
        "data type": (TypeError, {"main_data": np.full(SHAPE, None), "dtype": None}),
        "failing data": (ZeroDivisionError, {"main_data": failing_array(), "dtype": "f8"}),
    }


def failing_array():
    def fail(block, block_info=None):
        if block_info and block_info[0]["chunk-location"] == (2, 0):
            raise ZeroDivisionError
        return block

    return da.zeros(SHAPE, chunks=(5, 14)).map_blocks(fail, dtype="f8", meta=np.empty((0, 0)))


@pytest.fixture
def half_full(h5_file):
    usid.write_ind_val_dsets(h5_file, Dimension("D", "", 4), is_spectral=False, base_name="Given")
    h5_file.create_dataset("Taken", data=[1])
    return h5_file


CASES = [
    "parent", "data", "ragged shape", "zero shape", "real shape", "flat data", "no dtype",
    "bad dtype", "main_data_name no string", "quantity no string", "units no string",
    "main_data_name empty", "quantity empty", "units empty", "path", "no dims", "no dimension",
    "empty dims", "product", "same names", "one of a pair", "pair of another shape",
    "pair no dataset", "spec pair", "name taken", "ancillary taken", "equal prefixes",
    "name of ancillary", "attrs no dict", "attribute", "nested attrs", "reserved attribute",
    "keyword", "chunks", "compression", "data type", "failing data",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_refused_call_leaves_the_file_as_it_was(half_full, case):
    cases = refused(half_full)
    assert list(cases) == CASES
    error, changed = cases[case]
    arguments = {
        "h5_parent_group": half_full, "main_data": SHAPE, "main_data_name": "Raw_Data",
        "quantity": "Current", "units": "nA", "pos_dims": positions(), "spec_dims": spectra(),
        "dtype": "f4", **changed,
    }  # fmt: skip
    before = contents(half_full)
    with pytest.raises(error):
        usid.write_main_dataset(**arguments)
    assert contents(half_full) == before


def test_a_file_that_cannot_be_written_to_is_refused(tmp_path):
    with h5py.File(tmp_path / "read.h5", "w"):
        pass
    with h5py.File(tmp_path / "read.h5", "r") as file:
        with pytest.raises(ValueError, match="read-only"):
            write(file)
        with pytest.raises(ValueError, match="read-only"):
            usid.write_ind_val_dsets(file, positions())
    with pytest.raises(ValueError, match="closed"):
        usid.write_ind_val_dsets(file, positions())


def test_a_dash_in_a_name_becomes_an_underscore(h5_file):
    with pytest.warns(UserWarning, match="'Raw-Data'"):
        assert write(h5_file, name="Raw-Data").name == "/Raw_Data"


@pytest.mark.parametrize(
    "values",
    [
        1.7e9 + np.arange(5),
        1.7e9 + 100.0 * np.arange(5),
        1000 + 1e-5 * np.arange(5),
        [1e300, 2e300],
        2.0**24 + np.arange(4),
    ],
)
def test_values_that_float32_cannot_tell_apart_are_kept_in_float64(h5_file, values):
    dims = [Dimension("Time", "s", values), Dimension("X", "nm", 3)]
    h5_inds, h5_vals = usid.write_ind_val_dsets(h5_file, dims)
    assert (h5_inds.dtype, h5_vals.dtype) == (np.uint32, np.float64)
    assert usid.hdf_utils.get_unit_values(h5_inds, h5_vals)["Time"].tolist() == list(values)


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(0, 1, 4096),
        np.sin(np.linspace(0, 2 * np.pi, 128)),
        2.5 * np.sin(np.linspace(0, np.pi, 8)),
        np.arange(1000),
        [1.7e9 + 0.5],
        -1e-9 * np.arange(100),
        [0.1, 0.1, np.nan],
    ],
)
def test_ordinary_values_are_float32(h5_file, values):
    _, h5_vals = usid.write_ind_val_dsets(h5_file, Dimension("D", "", values))
    assert h5_vals.dtype == np.float32


def test_complex_and_compound_mains(h5_file):
    pixel = np.dtype([("amplitude", "f4"), ("phase", "f8"), ("counts", "u2")])
    data = np.zeros(SHAPE, dtype=pixel)
    data["phase"] = np.arange(210).reshape(SHAPE)
    h5_main = write(h5_file, data, name="Compound")
    assert "Data Fields:\n\tamplitude, phase, counts" in repr(h5_main)
    assert h5_main.get_n_dim_form().shape == (3, 5, 2, 7)
    assert h5_main.get_n_dim_form(as_scalar=True).shape == (3, 5, 2, 21)
    part, success = h5_main.slice({"Rows": 1, "Cols": 2})
    assert success
    np.testing.assert_array_equal(part["phase"].ravel(), data["phase"][7])
    shared = {
        key: getattr(h5_main, key)
        for key in ("h5_pos_inds", "h5_pos_vals", "h5_spec_inds", "h5_spec_vals")
    }
    h5_wave = write(h5_file, name="Complex", dtype="c8", pos_dims=[], spec_dims=[], **shared)
    h5_wave[4] = np.arange(14) * (1 - 2j)
    assert "complex64" in repr(h5_wave)
    flat, _ = h5_wave.slice({"Rows": 0, "Cols": 4, "Cycle": 0}, as_scalar=True)
    assert flat.tolist() == [*range(7), *(-2.0 * np.arange(7))]


def spiral_table():
    angle = np.linspace(0, 6 * np.pi, 40)
    return PositionTable(
        ["X", "Y"], ["um", "um"], np.stack([angle * np.cos(angle), angle * np.sin(angle)], axis=1)
    )


def test_positions_as_a_table_are_written_read_and_described(h5_file):
    data = np.arange(80.0).reshape(40, 2)
    h5_main = write(h5_file, data, pos_dims=spiral_table(), spec_dims=Dimension("Bias", "V", 2))
    assert usid.check_if_main(h5_main)
    np.testing.assert_allclose(h5_main.get_pos_values("X"), spiral_table().values[:, 0], rtol=1e-6)
    np.testing.assert_allclose(h5_main.h5_pos_vals, spiral_table().values, rtol=1e-6)
    assert "No N-dimensional form:\n\tevery row stands by itself" in repr(h5_main)
    with pytest.raises(ValueError, match=r"no N-dimensional form.*'X', 'Y'.*stands by itself"):
        h5_main.get_n_dim_form()
    part, success = h5_main.slice({"X": [3, 7], "Bias": 1})
    assert (part.tolist(), success) == ([[7.0], [15.0]], False)


def test_dimensions_of_mode_incomplete_make_a_table_too(h5_file):
    values = spiral_table().values.T
    dims = [
        Dimension(name, "um", column, mode=DimType.INCOMPLETE)
        for name, column in zip("XY", values, strict=True)
    ]
    h5_main = write(h5_file, (40, 14), pos_dims=dims)
    np.testing.assert_allclose(h5_main.h5_pos_vals[:].T, values, rtol=1e-6)
    assert h5_main.pos_dim_labels == ["X", "Y"]


def test_times_in_a_table_keep_their_precision(h5_file):
    seconds = 1.7e9 + np.cumsum(np.random.default_rng(0).random(40))
    table = PositionTable(["X", "Time"], ["um", "s"], np.stack([np.arange(40.0), seconds], 1))
    h5_main = write(h5_file, (40, 14), pos_dims=table)
    np.testing.assert_array_equal(h5_main.get_pos_values("Time"), seconds)


@pytest.mark.parametrize("n_rows", [11, 13, 15])
def test_an_incomplete_last_dimension_is_written_read_and_described(h5_file, n_rows):
    rows = Dimension("Rows", "um", [0, 0.5, 1], mode=DimType.INCOMPLETE)
    data = np.arange(n_rows * 14.0).reshape(n_rows, 14)
    h5_main = write(h5_file, data, pos_dims=[positions()[0], rows])
    assert h5_main.pos_dim_sizes == [3, 5]
    assert h5_main.get_pos_values("Rows").tolist() == [0, 0.5, 1]
    assert h5_main.get_pos_values("Cols").tolist() == [400, 500, 600, 700, 800]
    part, success = h5_main.slice({"Rows": 1, "Bias": 0, "Cycle": 0})
    assert (part.tolist(), success) == (data[5:10, 0].tolist(), True)
    if n_rows == 15:
        assert h5_main.get_n_dim_form().shape == (3, 5, 2, 7)
        return
    assert f"{n_rows} rows do not make 3 x 5" in repr(h5_main)
    with pytest.raises(ValueError, match=f"{n_rows} rows do not make 3 x 5"):
        h5_main.get_n_dim_form()
    with pytest.raises(IndexError, match="beyond what was measured"):
        h5_main.slice({"Rows": 2})


@pytest.mark.parametrize("n_rows", [10, 16])
def test_an_incomplete_dimension_has_at_least_begun_its_last_step(h5_file, n_rows):
    rows = Dimension("Rows", "um", 3, mode=DimType.INCOMPLETE)
    with pytest.raises(ValueError, match="should have 11 to 15"):
        write(h5_file, (n_rows, 14), pos_dims=[positions()[0], rows])


def test_modes_that_cannot_be_combined_are_refused(h5_file):
    for dims in (
        [Dimension("X", "", 3, mode=DimType.DEPENDENT)],
        [Dimension("X", "", 3, mode=DimType.INCOMPLETE), Dimension("Y", "", 2)],
        [Dimension(name, "", n, mode=DimType.INCOMPLETE) for name, n in (("X", 3), ("Y", 4))],
    ):
        with pytest.raises(ValueError, match="mode"):
            usid.write_ind_val_dsets(h5_file, dims)
    assert list(h5_file) == []
