"""Files of earlier years, read: order inferred, attributes as bytes, parts by dimension."""

import dask.array as da
import h5py
import numpy as np
import pytest

import usidstreamd.h5usid as usid
from support.usid_files import (
    BIAS,
    aborted,
    band_excitation,
    complex_data,
    compound_data,
    grid_indices,
    link,
    old_ancillaries,
    spiral,
)
from usidstreamd.h5usid import Dimension, USIDataset, arrangement

EVERY = slice(None)


@pytest.fixture(scope="module")
def beps_path(tmp_path_factory):
    return band_excitation(tmp_path_factory.mktemp("usid") / "beps.h5")


@pytest.fixture
def h5_old(beps_path):
    with h5py.File(beps_path, "r") as file:
        yield USIDataset(file["Raw_Measurement/source_main"])


@pytest.fixture
def n_dim(h5_old):
    """Return the measurement with axes in the order of the old file, fastest first."""
    return h5_old.file["Raw_Measurement/n_dim_form"][()].transpose(1, 0, 3, 2)


def test_an_old_file_lists_its_dimensions_fastest_first(h5_old):
    assert h5_old.pos_dim_labels == ["X", "Y"]
    assert h5_old.spec_dim_labels == ["Bias", "Cycle"]
    assert h5_old.n_dim_labels == ["X", "Y", "Bias", "Cycle"]
    assert (h5_old.pos_dim_sizes, h5_old.spec_dim_sizes) == ([5, 3], [7, 2])
    assert h5_old.pos_dim_descriptors == ["X (nm)", "Y (um)"]
    assert h5_old.data_descriptor == "Current (A)"


def test_its_printed_form_names_the_dimensions_in_the_order_of_the_file(h5_old):
    lines = [line.strip() for line in repr(h5_old).split("\n")]
    assert lines[0] == repr(h5py.Dataset(h5_old.id))
    assert lines[1:] == [
        "located at:", "/Raw_Measurement/source_main", "Data contains:", "Current (A)",
        "Data dimensions and original shape:", "Position Dimensions:", "X - size: 5", "Y - size: 3",
        "Spectroscopic Dimensions:", "Bias - size: 7", "Cycle - size: 2", "Data Type:", "float64",
    ]  # fmt: skip


@pytest.mark.parametrize("lazy", [False, True])
def test_the_n_dimensional_form_follows_the_file_or_runs_slow_to_fast(h5_old, n_dim, lazy):
    assert isinstance(h5_old.get_n_dim_form(lazy=lazy), da.Array if lazy else np.ndarray)
    np.testing.assert_array_equal(h5_old.get_n_dim_form(lazy=lazy), n_dim)
    h5_old.toggle_sorting()
    assert h5_old.n_dim_labels == ["Y", "X", "Cycle", "Bias"]
    assert h5_old.n_dim_sizes == [3, 5, 2, 7]
    np.testing.assert_array_equal(h5_old.get_n_dim_form(lazy=lazy), n_dim.transpose(1, 0, 3, 2))
    sorted_from_the_start = USIDataset(h5_old, sort_dims=True)
    assert sorted_from_the_start.n_dim_labels == ["Y", "X", "Cycle", "Bias"]


def test_the_sorting_is_told(h5_old, capsys):
    h5_old.get_current_sorting()
    h5_old.toggle_sorting()
    h5_old.get_current_sorting()
    assert capsys.readouterr().out.splitlines() == [
        "Data dimensions are in the order they occur in the file.",
        "Data dimensions are sorted in order from fastest changing dimension to slowest.",
    ]


def test_complex_and_compound_results_are_read(h5_old):
    h5_group = h5_old.parent
    compound = USIDataset(h5_group["source_main-Fitter_000/results_main"])
    assert "r, g, b" in repr(compound)
    found = compound.get_n_dim_form().transpose(1, 0, 2).reshape(15, 7)
    np.testing.assert_array_equal(found, compound_data())
    flat = compound.get_n_dim_form(as_scalar=True)
    assert (flat.shape, flat.dtype) == ((5, 3, 21), np.float64)
    waves = USIDataset(h5_group["source_main-Fitter_001/results_main"])
    found = waves.get_n_dim_form().transpose(1, 0, 2).reshape(15, 7)
    np.testing.assert_array_equal(found, complex_data())


def test_values_of_dimensions(h5_old):
    assert h5_old.get_pos_values("X").tolist() == [-750, -700, -650, -600, -550]
    assert h5_old.get_pos_values("Y").tolist() == [2, 3.25, 4.5]
    np.testing.assert_allclose(h5_old.get_spec_values("Bias"), BIAS, rtol=1e-6)
    assert h5_old.get_spec_values("Cycle").tolist() == [0, 1]
    for read in (h5_old.get_pos_values, h5_old.get_spec_values):
        with pytest.raises(KeyError):
            read("blah")
        with pytest.raises(TypeError):
            read(np.array(5))


SLICES = [
    ({}, (EVERY, EVERY, EVERY, EVERY)),
    ({"X": 3}, (3, EVERY, EVERY, EVERY)),
    ({"X": np.int64(3)}, (3, EVERY, EVERY, EVERY)),
    ({"X": slice(1, 5, 2)}, (slice(1, 5, 2), EVERY, EVERY, EVERY)),
    ({"X": slice(1, 5, 2), "Y": 1}, (slice(1, 5, 2), 1, EVERY, EVERY)),
    ({"X": [1, 2, 4], "Y": 1}, ([1, 2, 4], 1, EVERY, EVERY)),
    ({"X": np.array([1, 2, 4])}, ([1, 2, 4], EVERY, EVERY, EVERY)),
    ({"X": (1, 2), "Bias": slice(1, 7, 3)}, ([1, 2], EVERY, slice(1, 7, 3), EVERY)),
    ({"Bias": 4}, (EVERY, EVERY, 4, EVERY)),
    ({"Bias": [0, 6], "Cycle": 1}, (EVERY, EVERY, [0, 6], 1)),
    ({"X": 1, "Y": 2, "Bias": 4, "Cycle": 1}, (1, 2, 4, 1)),
]


@pytest.mark.parametrize(("picks", "index"), SLICES)
@pytest.mark.parametrize("lazy", [False, True])
def test_slices_in_n_dimensions(h5_old, n_dim, picks, index, lazy):
    found, success = h5_old.slice(picks, lazy=lazy)
    assert (success, isinstance(found, da.Array)) == (True, lazy)
    np.testing.assert_array_equal(found, n_dim[index])
    h5_old.toggle_sorting()
    by_name = dict(zip(["X", "Y", "Bias", "Cycle"], index, strict=True))
    resorted = tuple(by_name[name] for name in h5_old.n_dim_labels)
    found, _ = h5_old.slice(picks, lazy=lazy)
    np.testing.assert_array_equal(found, n_dim.transpose(1, 0, 3, 2)[resorted])


def test_lists_of_several_dimensions_pick_every_crossing(h5_old, n_dim):
    found, _ = h5_old.slice({"X": [4, 0], "Bias": [2, 2, 5], "Y": [-1]})
    np.testing.assert_array_equal(found, n_dim[[4, 0]][:, [2]][:, :, [2, 2, 5]])


def test_negative_indices_count_from_the_end(h5_old, n_dim):
    found, _ = h5_old.slice({"X": -2, "Bias": slice(-3, None)})
    np.testing.assert_array_equal(found, n_dim[-2][:, -3:])
    with pytest.raises(IndexError):
        h5_old.slice({"X": -6})
    with pytest.raises(ValueError, match=">= 0"):
        h5_old.slice({"X": -2}, ndim_form=False)


@pytest.mark.parametrize(("picks", "index"), SLICES)
@pytest.mark.parametrize("lazy", [False, True])
def test_slices_in_two_dimensions(h5_old, n_dim, picks, index, lazy):
    found, success = h5_old.slice(picks, ndim_form=False, lazy=lazy)
    kept = tuple([at] if isinstance(at, int) else at for at in index)
    part = n_dim[kept[0]][:, kept[1]][:, :, kept[2]][..., kept[3]].transpose(1, 0, 3, 2)
    expected = part.reshape(part.shape[0] * part.shape[1], -1)
    assert (success, isinstance(found, da.Array)) == (True, lazy)
    np.testing.assert_array_equal(found, expected)


def test_a_square_part_lies_as_in_the_file(h5_old):
    found, _ = h5_old.slice({"Y": 1, "Bias": slice(0, 5), "Cycle": 0}, ndim_form=False)
    np.testing.assert_array_equal(found, h5_old[5:10, :5])


def test_several_dimensions_may_have_one_step(h5_file):
    dims = [Dimension(name, "V", 1) for name in ("Bias", "Cycle")]
    pos_dims = [Dimension("X", "nm", 4), Dimension("Y", "nm", 5)]
    data = np.arange(20.0)[:, None]
    h5_main = usid.write_main_dataset(h5_file, data, "Raw", "Current", "A", pos_dims, dims)
    assert h5_main.n_dim_labels == ["Y", "X", "Cycle", "Bias"]
    np.testing.assert_array_equal(h5_main.get_n_dim_form(), data.reshape(5, 4, 1, 1))


@pytest.mark.parametrize(
    ("picks", "error"),
    [
        ({"blah": 4, "X": 3}, KeyError),
        ({"X": "text"}, TypeError),
        ({"X": 1.5}, TypeError),
        ({"X": True}, TypeError),
        ({"X": [0.5]}, ValueError),
        ({"X": []}, ValueError),
        ({"X": 15}, IndexError),
        ({"X": [0, 5]}, IndexError),
        ("X", TypeError),
    ],
)
@pytest.mark.parametrize("ndim_form", [True, False])
def test_wrong_slices_are_refused(h5_old, picks, error, ndim_form):
    with pytest.raises(error):
        h5_old.slice(picks, ndim_form=ndim_form)
    for wrong in ({"as_scalar": 1}, {"verbose": "yes"}):
        with pytest.raises(TypeError):
            h5_old.slice(None, **wrong)


def test_row_and_column_numbers_of_a_slice(h5_old):
    rows, columns = h5_old._get_pos_spec_slices({"X": [1, 2, 4], "Bias": slice(1, 7, 3)})
    assert rows.tolist() == [1, 2, 4, 6, 7, 9, 11, 12, 14]
    assert columns.tolist() == [1, 4, 8, 11]


def test_dimensions_that_a_slice_leaves(h5_old):
    x_values, y_values = h5_old.get_pos_values("X"), h5_old.get_pos_values("Y")
    pos_dims, spec_dims = h5_old._get_dims_for_slice({"X": slice(1, 5, 2), "Bias": 2, "Cycle": 1})
    assert pos_dims == [Dimension("X", "nm", x_values[1:5:2]), Dimension("Y", "um", y_values)]
    assert spec_dims == [Dimension("arb.", "a. u.", [1])]


@pytest.mark.parametrize("dtype", ["i8", "f8", "u4"])
def test_ancillaries_may_be_of_other_types(tmp_path, dtype):
    with h5py.File(band_excitation(tmp_path / "beps.h5"), "r+") as file:
        h5_group = file["Raw_Measurement"]
        for name in ("Position_Indices", "Position_Values"):
            h5_new = h5_group.create_dataset(f"{name}_2", data=h5_group[name][()].astype(dtype))
            usid.copy_attributes(h5_group[name], h5_new)
            h5_group["source_main"].attrs[name] = h5_new.ref
        h5_main = USIDataset(h5_group["source_main"])
        assert h5_main.pos_dim_sizes == [5, 3]
        assert h5_main.get_n_dim_form().shape == (5, 3, 7, 2)


@pytest.mark.parametrize("marked", [False, True])
def test_positions_without_a_grid_are_read(tmp_path, marked):
    with h5py.File(spiral(tmp_path / "spiral.h5", marked), "r") as file:
        h5_main = USIDataset(file["Raw_Data"])
        assert (h5_main.pos_dim_sizes, h5_main.n_dim_sizes) == ([8, 8], [8, 8, 3])
        np.testing.assert_array_equal(h5_main.get_pos_values("Y"), h5_main.h5_pos_vals[:, 1])
        with pytest.raises(ValueError, match="stands by itself"):
            h5_main.get_n_dim_form()
        with pytest.raises(ValueError, match="stands by itself"):
            usid.reshape_to_n_dims(h5_main)
        values = usid.hdf_utils.get_unit_values
        if marked:
            with pytest.raises(ValueError, match="marked as incomplete"):
                values(h5_main.h5_pos_inds, h5_main.h5_pos_vals)
        else:
            found = values(h5_main.h5_pos_inds, h5_main.h5_pos_vals)
            np.testing.assert_array_equal(found["X"], h5_main.h5_pos_vals[:, 0])


def test_an_aborted_map_is_read_as_far_as_it_came(tmp_path):
    with h5py.File(aborted(tmp_path / "aborted.h5"), "r") as file:
        h5_main = USIDataset(file["Raw_Data"])
        assert h5_main.pos_dim_sizes == [7, 5]
        assert h5_main.get_pos_values("Y").tolist() == [0, 1.25, 2.5, 3.75, 5]
        assert "31 rows do not make 7 x 5" in repr(h5_main)
        part, success = h5_main.slice({"X": slice(0, 3), "Frequency": 1})
        assert success
        np.testing.assert_array_equal(part, h5_main[:, 1][np.arange(3)[:, None] + 7 * np.arange(5)])
        for names in (None, "X", "Y"):
            with pytest.raises(ValueError, match="incomplete"):
                usid.hdf_utils.get_unit_values(h5_main.h5_pos_inds, h5_main.h5_pos_vals, names)


@pytest.mark.parametrize("order", ["serpentine", "random"])
def test_a_complete_grid_in_any_order_is_put_in_order(h5_file, order):
    cells = np.arange(15).reshape(3, 5)
    cells[1] = cells[1, ::-1]
    rows = cells.ravel() if order == "serpentine" else np.random.default_rng(1).permutation(15)
    columns = np.array([0, 1, 3, 2])
    n_dim = np.random.default_rng(0).random((3, 5, 2, 2))
    inds, spec_inds = grid_indices(5, 3)[rows], grid_indices(2, 2)[columns].T
    vals = inds * [50, 1.25] + [-750, 2]
    pairs = [
        *old_ancillaries(h5_file, "Position", inds, vals, ["X", "Y"], ["nm", "um"], False),
        *old_ancillaries(h5_file, "Spec", spec_inds, 2 * spec_inds, ["B", "C"], ["V", ""], True),
    ]
    flat = n_dim.reshape(15, 4)[rows][:, columns]
    h5_main = usid.USIDataset(link(h5_file.create_dataset("Raw", data=flat), "Current", "A", pairs))
    assert (h5_main.n_dim_sizes, h5_main.n_dim_labels) == ([5, 3, 2, 2], ["X", "Y", "B", "C"])
    axes = {"X": 1, "Y": 0, "B": 3, "C": 2}
    expected = n_dim.transpose([axes[label] for label in h5_main.n_dim_labels])
    for lazy in (False, True):
        np.testing.assert_array_equal(h5_main.get_n_dim_form(lazy=lazy), expected)
    reshaped, success, _ = usid.reshape_to_n_dims(h5_main, get_labels=True)
    assert success
    np.testing.assert_array_equal(reshaped, expected)
    again, _ = usid.reshape_from_n_dims(expected, h5_main.h5_pos_inds, h5_main.h5_spec_inds)
    np.testing.assert_array_equal(again, flat)
    assert h5_main.get_pos_values("X").tolist() == [-750, -700, -650, -600, -550]
    assert h5_main.get_spec_values("B").tolist() == [0, 2]
    part, _ = h5_main.slice({"Y": 1, "X": slice(1, 4), "B": 1})
    np.testing.assert_array_equal(part, expected[1:4, 1, 1])
    part, _ = h5_main.slice({"Y": 1}, ndim_form=False)
    np.testing.assert_array_equal(part, flat[inds[:, 1] == 1])
    reduced, _ = usid.write_reduced_anc_dsets(
        h5_file, *pairs[:2], "X", basename="Line", is_spec=False
    )
    assert sorted(reduced[:, 0]) == [0, 1, 2]


def test_a_grid_known_by_samples_is_compared_in_full_before_it_is_reshaped(h5_file, monkeypatch):
    monkeypatch.setattr(arrangement, "FULL_CHECK_ROWS", 10)
    monkeypatch.setattr(arrangement, "SAMPLE_ROWS", 2)
    monkeypatch.setattr(arrangement, "SAMPLES", 2)
    dims = [Dimension("X", "nm", 20), Dimension("Y", "nm", 30)]
    h5_main = usid.write_main_dataset(
        h5_file, (600, 1), "Raw", "Current", "nA", dims, Dimension("B", "V", 1), dtype="f4"
    )
    assert h5_main.get_n_dim_form().shape == (30, 20, 1)
    h5_main.h5_pos_inds[123] = [7, 7]
    h5_main = USIDataset(h5_main)
    assert h5_main.pos_dim_sizes == [30, 20]
    for reshape in (h5_main.get_n_dim_form, lambda: usid.reshape_to_n_dims(h5_main)):
        with pytest.raises(ValueError, match="only begin as a grid"):
            reshape()


def test_what_is_no_main_dataset_is_told_and_refused(h5_old, capsys):
    h5_group = h5_old.parent
    for h5_object in (h5_group, 4.1, np.arange(6), h5_group["Ancillary"], h5_old.h5_pos_inds, None):
        assert not usid.check_if_main(h5_object, verbose=True)
        with pytest.raises(TypeError):
            USIDataset(h5_object)
    assert "is no main dataset" in capsys.readouterr().out


def test_half_linked_datasets_are_no_main_datasets(h5_file):
    names = ("Position_Indices", "Position_Values", "Spectroscopic_Indices", "Spectroscopic_Values")
    h5_main = h5_file.create_dataset("Main", data=np.zeros((2, 3)))
    h5_lost = h5_file.create_dataset("Lost", data=[1])
    for target in (h5_file, h5_main, h5_lost):
        for name in names:
            h5_main.attrs[name] = target.ref
        assert not usid.check_if_main(h5_main)
        h5_main.attrs["quantity"], h5_main.attrs["units"] = [1, 2, 3], 4.1
        assert not usid.check_if_main(h5_main)
        h5_main.attrs["quantity"], h5_main.attrs["units"] = "Current", "nA"
        assert not usid.check_if_main(h5_main)
    del h5_file["Lost"]
    assert not usid.check_if_main(h5_main)
    h5_main.attrs["Position_Indices"] = "text"
    assert not usid.check_if_main(h5_main)


def test_a_main_of_a_closed_file_is_none(beps_path):
    with h5py.File(beps_path, "r") as file:
        h5_dset = file["Raw_Measurement/source_main"]
    assert not usid.check_if_main(h5_dset)


def test_ancillaries_that_disagree_make_no_main(tmp_path):
    with h5py.File(band_excitation(tmp_path / "beps.h5"), "r+") as file:
        h5_group = file["Raw_Measurement"]
        assert usid.check_if_main(h5_group["source_main"])
        h5_group["Position_Values"].attrs["labels"] = np.array([b"X", b"Z"])
        assert not usid.check_if_main(h5_group["source_main"])
        for h5_dset in (h5_group["Position_Values"], h5_group["Position_Indices"]):
            h5_dset.attrs["labels"] = np.array([b"X"])
            h5_dset.attrs["units"] = np.array([b"m"])
        assert not usid.check_if_main(h5_group["source_main"])


@pytest.mark.parametrize("chunks", [None, (4, 3), (100, 50), (7, 50), (100, 1)])
def test_rows_and_columns_are_picked_whatever_the_chunks(h5_file, chunks):
    from usidstreamd.h5usid.points import read_crossing

    data = np.arange(5000.0).reshape(100, 50)
    h5_dset = h5_file.create_dataset("data", data=data, chunks=chunks)
    numbers = np.random.default_rng(1)
    for rows in (np.arange(20, 90), np.arange(3, 100, 7), numbers.permutation(100), np.array([5])):
        for columns in (np.arange(50), np.array([49, 0, 0]), np.arange(1, 50, 2)):
            np.testing.assert_array_equal(
                read_crossing(h5_dset, rows, columns), data[np.ix_(rows, columns)]
            )
