"""Two dimensions to many and back, and ancillary datasets with dimensions taken away."""

import dask.array as da
import h5py
import numpy as np
import pytest

import usidstreamd.h5usid as usid
from support.usid_files import band_excitation, contents, grid_indices, spiral
from usidstreamd.h5usid import Dimension

FLIPS = [(False, False), (True, False), (False, True), (True, True)]


def measurement(flip_pos, flip_spec):
    """Return data from slow to fast, and indices that list dimensions one way or the other."""
    n_dim = np.arange(210).reshape(3, 5, 2, 7)
    pos, spec = grid_indices(5, 3), grid_indices(7, 2).T
    return n_dim, pos[:, ::-1] if flip_pos else pos, spec[::-1] if flip_spec else spec


def file_axes(flip_pos, flip_spec):
    return [*((0, 1) if flip_pos else (1, 0)), *((2, 3) if flip_spec else (3, 2))]


@pytest.mark.parametrize(("flip_pos", "flip_spec"), FLIPS)
@pytest.mark.parametrize("lazy_in", [False, True])
@pytest.mark.parametrize("lazy_out", [False, True])
def test_arrays_take_the_order_of_their_indices(flip_pos, flip_spec, lazy_in, lazy_out):
    n_dim, pos, spec = measurement(flip_pos, flip_spec)
    flat = n_dim.reshape(15, 14)
    if lazy_in:
        flat, pos, spec = (da.from_array(array) for array in (flat, pos, spec))
    given = {"h5_pos": pos, "h5_spec": spec, "get_labels": True, "lazy": lazy_out}
    found, success, labels = usid.reshape_to_n_dims(flat, sort_dims=True, **given)
    assert (success, isinstance(found, da.Array)) == (True, lazy_out)
    np.testing.assert_array_equal(found, n_dim)
    pos_labels = ["Position Dimension 0", "Position Dimension 1"]
    spec_labels = ["Spectral Dimension 0", "Spectral Dimension 1"]
    slow_first = [
        *(pos_labels if flip_pos else pos_labels[::-1]),
        *(spec_labels if flip_spec else spec_labels[::-1]),
    ]
    assert labels.tolist() == slow_first
    found, _, labels = usid.reshape_to_n_dims(flat, sort_dims=False, **given)
    np.testing.assert_array_equal(found, n_dim.transpose(file_axes(flip_pos, flip_spec)))
    assert labels.tolist() == pos_labels + spec_labels


@pytest.mark.parametrize(("flip_pos", "flip_spec"), FLIPS)
@pytest.mark.parametrize("lazy", [False, True])
def test_and_back(flip_pos, flip_spec, lazy):
    n_dim, pos, spec = measurement(flip_pos, flip_spec)
    listed = n_dim.transpose(file_axes(flip_pos, flip_spec))
    if lazy:
        listed, pos = da.from_array(listed), da.from_array(pos)
    found, success = usid.reshape_from_n_dims(listed, h5_pos=pos, h5_spec=spec)
    assert success is True
    np.testing.assert_array_equal(found, n_dim.reshape(15, 14))


def test_back_with_one_side_known():
    n_dim, pos, spec = measurement(True, True)
    for given in ({"h5_pos": pos}, {"h5_spec": spec}):
        found, _ = usid.reshape_from_n_dims(n_dim, **given)
        np.testing.assert_array_equal(found, n_dim.reshape(15, 14))
    with pytest.raises(ValueError, match="at least one"):
        usid.reshape_from_n_dims(n_dim)


@pytest.mark.parametrize("shape", [(15, 1), (1, 15)])
@pytest.mark.parametrize("squeezed", [False, True])
def test_a_single_step_may_have_lost_its_axis(shape, squeezed):
    flat = np.arange(15).reshape(shape)
    one, many = np.zeros((1, 1), int), grid_indices(5, 3)[:, ::-1]
    pos, spec = (many, one) if shape[0] > 1 else (one, many.T)
    n_dim, _ = usid.reshape_to_n_dims(flat, h5_pos=pos, h5_spec=spec)
    assert n_dim.shape == ((3, 5, 1) if shape[0] > 1 else (1, 3, 5))
    listed = n_dim.squeeze() if squeezed else n_dim
    found, _ = usid.reshape_from_n_dims(listed, h5_pos=pos, h5_spec=spec)
    np.testing.assert_array_equal(found, flat)


def test_what_does_not_fit_is_refused():
    n_dim, pos, spec = measurement(True, True)
    flat = n_dim.reshape(15, 14)
    to, back = usid.reshape_to_n_dims, usid.reshape_from_n_dims
    for call, error in (
        (lambda: to(flat), ValueError),
        (lambda: to("text", h5_pos=pos), TypeError),
        (lambda: to(flat, h5_pos="text"), TypeError),
        (lambda: to(flat, h5_pos=pos[:4]), ValueError),
        (lambda: to(flat, h5_pos=pos, h5_spec=spec[:, :7]), ValueError),
        (lambda: to(flat[0], h5_pos=pos), ValueError),
        (lambda: back([1, 2], h5_pos=pos), TypeError),
        (lambda: back(n_dim, h5_pos="text"), TypeError),
        (lambda: back(n_dim.transpose(1, 0, 2, 3), h5_pos=pos, h5_spec=spec), ValueError),
        (lambda: back(n_dim[0], h5_pos=pos, h5_spec=spec), ValueError),
    ):
        with pytest.raises(error):
            call()


def test_datasets_are_reshaped_by_their_own_indices(tmp_path):
    with h5py.File(band_excitation(tmp_path / "beps.h5"), "r") as file:
        h5_group = file["Raw_Measurement"]
        h5_main, n_dim = h5_group["source_main"], h5_group["n_dim_form"][()]
        for given in ({}, {"h5_pos": h5_group["Position_Indices"]}):
            found, _, labels = usid.reshape_to_n_dims(h5_main, get_labels=True, **given)
            assert labels.tolist() == ["X", "Y", "Bias", "Cycle"]
            np.testing.assert_array_equal(found, n_dim.transpose(1, 0, 3, 2))
        found, _, labels = usid.reshape_to_n_dims(h5_main, get_labels=True, sort_dims=True)
        assert labels.tolist() == ["Y", "X", "Cycle", "Bias"]
        np.testing.assert_array_equal(found, n_dim)
        with pytest.raises(ValueError, match="main dataset"):
            usid.reshape_to_n_dims(h5_group["Ancillary"])


def test_sizes_and_order_of_any_indices():
    _, pos, spec = measurement(False, True)
    sizes, order = usid.hdf_utils.get_dimensionality, usid.hdf_utils.get_sort_order
    assert (sizes(pos), sizes(spec), sizes(da.from_array(spec))) == ([5, 3], [2, 7], [2, 7])
    assert sizes(pos, index_sort=[1, 0]) == [3, 5]
    assert (order(pos).tolist(), order(spec).tolist()) == ([0, 1], [1, 0])
    for call in (sizes, order):
        for wrong in (15, "text"):
            with pytest.raises(TypeError):
                call(wrong)
    for wrong in ([3, 4], [0], [0, 0], ["a", "b"]):
        with pytest.raises((ValueError, TypeError)):
            sizes(pos, index_sort=wrong)


def test_a_dependent_dimension_has_its_values(h5_file):
    # the field is on in the first of five repeats only
    inds = np.vstack([grid_indices(3, 5, 7).T, np.tile(np.repeat([0, 1, 1, 1, 1], 3), 7)])
    vals = inds.astype("f4")
    vals[3] = 1 - vals[3]
    names = ["Frequency", "Repeats", "Offset", "Field"]
    found = usid.hdf_utils.get_unit_values(inds, vals, all_dim_names=names, is_spec=True)
    assert {name: values.tolist() for name, values in found.items()} == {
        "Frequency": [0, 1, 2], "Repeats": [0, 1, 2, 3, 4], "Offset": [0, 1, 2, 3, 4, 5, 6],
        "Field": [1, 0],
    }  # fmt: skip
    one = usid.hdf_utils.get_unit_values(inds, vals, "Field", all_dim_names=names)
    assert list(one) == ["Field"]


def test_wrong_questions_for_values_are_refused(tmp_path):
    values = usid.hdf_utils.get_unit_values
    with h5py.File(band_excitation(tmp_path / "beps.h5"), "r") as file:
        h5_group = file["Raw_Measurement"]
        pair = h5_group["Spectroscopic_Indices"], h5_group["Spectroscopic_Values"]
        for call, error in (
            (lambda: values(*pair, dim_names=["Cycle", "Missing"]), KeyError),
            (lambda: values(*pair, dim_names=[1]), TypeError),
            (lambda: values(pair[0], h5_group["Ancillary"]), ValueError),
            (lambda: values(pair[0][()], pair[1][()]), TypeError),
            (lambda: values(*pair, is_spec="yes"), TypeError),
            (lambda: values(*pair, all_dim_names=["Bias"]), ValueError),
            (lambda: values(pair[0][:, 1:], pair[1][:, 1:], all_dim_names=["a", "b"]), ValueError),
        ):
            with pytest.raises(error):
                call()


def spectra():
    return [
        Dimension("Freq", "Hz", np.linspace(300, 350, 5)),
        Dimension("Bias", "V", [-2, 4, 10]),
        Dimension("Cycle", "a.u.", 2),
    ]


@pytest.mark.parametrize("is_spec", [True, False])
@pytest.mark.parametrize(
    ("removed", "labels", "values"),
    [
        ("Bias", ["Cycle", "Freq"], [[0] * 5 + [1] * 5, [300, 312.5, 325, 337.5, 350] * 2]),
        (["Freq", "Cycle"], ["Bias"], [[-2, 4, 10]]),
        (["Freq", "Bias"], ["Cycle"], [[0, 1]]),
        (("Cycle", "Bias"), ["Freq"], [[300, 312.5, 325, 337.5, 350]]),
    ],
)
def test_dimensions_are_taken_away(h5_file, other_file, is_spec, removed, labels, values):
    pair = usid.write_ind_val_dsets(h5_file, spectra(), is_spectral=is_spec)
    for target in (h5_file, other_file):
        h5_inds, h5_vals = usid.write_reduced_anc_dsets(target, *pair, removed, basename="Less")
        assert (h5_inds.name, h5_vals.name) == ("/Less_Indices", "/Less_Values")
        assert (h5_inds.dtype, h5_vals.dtype) == (pair[0].dtype, pair[1].dtype)
        assert h5_vals[()].tolist() == (values if is_spec else np.transpose(values).tolist())
        assert usid.get_attr(h5_inds, "labels").tolist() == labels
        units = dict(zip(["Freq", "Bias", "Cycle"], ["Hz", "V", "a.u."], strict=True))
        assert usid.get_attr(h5_vals, "units").tolist() == [units[label] for label in labels]


def test_without_any_dimension_a_single_step_is_left(h5_file):
    pair = usid.write_ind_val_dsets(h5_file, Dimension("Bias", "V", 10))
    h5_inds, h5_vals = usid.write_reduced_spec_dsets(h5_file, *pair, "Bias", "None")
    assert (h5_inds[()].tolist(), h5_vals[()].tolist()) == ([[0]], [[0]])
    assert (h5_inds.dtype, h5_vals.dtype) == (np.uint32, np.float32)
    assert usid.get_attributes(h5_vals, ["labels", "units"]) == {
        "labels": ["Single_Step"],
        "units": ["a. u."],
    }


def test_an_old_file_is_reduced_in_its_own_types(tmp_path):
    with h5py.File(band_excitation(tmp_path / "beps.h5"), "r+") as file:
        h5_group = file["Raw_Measurement"]
        pair = h5_group["Spectroscopic_Indices"], h5_group["Spectroscopic_Values"]
        h5_inds, h5_vals = usid.write_reduced_spec_dsets(h5_group["Misc"], *pair, "Bias")
        assert (h5_inds.dtype, h5_vals[()].tolist()) == (np.uint16, [[0, 1]])


def test_what_cannot_be_reduced_is_refused_and_nothing_changes(h5_file, tmp_path):
    pair = usid.write_ind_val_dsets(h5_file, spectra())
    square = usid.write_ind_val_dsets(
        h5_file, [Dimension("A", "", 2), Dimension("B", "", 1)], base_name="Square"
    )
    reduce = usid.write_reduced_anc_dsets
    before = contents(h5_file)
    for call, error in (
        (lambda: reduce("group", *pair, "Bias"), TypeError),
        (lambda: reduce(h5_file, "inds", pair[1], "Bias"), TypeError),
        (lambda: reduce(h5_file, *pair, 4), TypeError),
        (lambda: reduce(h5_file, *pair, "Missing", basename="New"), KeyError),
        (lambda: reduce(h5_file, *pair, "Bias"), KeyError),
        (lambda: reduce(h5_file, *pair, "Bias", is_spec="yes"), TypeError),
        (lambda: reduce(h5_file, *square, "A", basename="New"), ValueError),
    ):
        with pytest.raises(error):
            call()
    with h5py.File(spiral(tmp_path / "spiral.h5"), "r") as file:
        table = file["Position_Indices"], file["Position_Values"]
        with pytest.raises(ValueError, match="no grid"):
            reduce(h5_file, *table, "X", basename="New")
    assert contents(h5_file) == before
