"""The real pyUSID and sidpy open what is written here and extend it, and the other way round.

pyUSID 0.0.12 calls ``np.product``, a name that numpy 2 has dropped: it is put back for it.
"""

import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

import usidstreamd.h5usid as usid
from usidstream.layout import PositionTable

pytestmark = [
    # pyUSID tells of its own future, and that spirals have no N-dimensional form
    pytest.mark.filterwarnings("ignore:.*(write_ind_val_dsets|N-dimensional form):UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SHARED = ("h5_pos_inds", "h5_pos_vals", "h5_spec_inds", "h5_spec_vals")


@pytest.fixture(scope="module")
def origin():
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(np, "product", np.prod, raising=False)
        yield pytest.importorskip("pyUSID")


@pytest.fixture(params=["here", "there"])
def writer(request, origin):
    """Return the package that writes; the other one reads."""
    return usid if request.param == "here" else origin


@pytest.fixture
def reader(writer, origin):
    return origin if writer is usid else usid


DATASETS = {
    "real": np.random.default_rng(0).random((15, 14)).astype("f4"),
    "complex": (np.arange(210).reshape(15, 14) * (1 + 2j)).astype("c8"),
    "integer": np.arange(210, dtype="<u2").reshape(15, 14),
    "compound": np.array(
        [[(row, 2.5 * column) for column in range(14)] for row in range(15)],
        dtype=[("row", "i4"), ("value", "f8")],
    ),
}


def write(package, h5_group, data, name="Raw_Data", **kwargs):
    dimension = package.write_utils.Dimension
    pos_dims = [dimension("Cols", "nm", np.arange(400, 900, 100)), dimension("Rows", "um", 3)]
    spec_dims = [dimension("Bias", "V", np.linspace(-2, 2, 7)), dimension("Cycle", "", 2)]
    if kwargs.keys() & set(SHARED):
        pos_dims = spec_dims = None
    attrs = {"IO_rate": 4e6, "labels": ["a", "bc"]}
    return package.hdf_utils.write_main_dataset(
        h5_group, data, name, "Current", "nA", pos_dims, spec_dims, attrs, **kwargs
    )


def shared_by(h5_main):
    return {name: getattr(h5_main, name) for name in SHARED}


@pytest.mark.parametrize("kind", DATASETS)
def test_a_main_reads_the_same_on_both_sides(h5_file, writer, reader, kind):
    data = DATASETS[kind]
    group = usid if writer is usid else pytest.importorskip("sidpy").hdf.prov_utils
    h5_group = group.create_indexed_group(h5_file, "Measurement")
    written = write(writer, h5_group, data, compression="gzip")
    assert reader.hdf_utils.check_if_main(h5_group["Raw_Data"])
    found = reader.USIDataset(h5_group["Raw_Data"])
    assert found == written
    np.testing.assert_array_equal(found[()], data)
    for name in (
        "pos_dim_labels", "spec_dim_labels", "n_dim_labels", "pos_dim_sizes", "spec_dim_sizes",
        "n_dim_sizes", "pos_dim_descriptors", "spec_dim_descriptors", "data_descriptor",
    ):  # fmt: skip
        assert list(getattr(found, name)) == list(getattr(written, name)), name
    assert repr(found) == repr(written)
    np.testing.assert_array_equal(found.get_n_dim_form(), written.get_n_dim_form())
    for label in ("Cols", "Rows"):
        values = written.get_pos_values(label)
        np.testing.assert_array_equal(found.get_pos_values(label), values)
    for label in ("Bias", "Cycle"):
        values = written.get_spec_values(label)
        np.testing.assert_array_equal(found.get_spec_values(label), values)
    for picks in ({"Cols": 2}, {"Rows": slice(0, 2), "Bias": [1, 3]}, {"Cycle": 1, "Bias": 0}):
        ours, theirs = found.slice(picks)[0], written.slice(picks)[0]
        np.testing.assert_array_equal(ours, theirs)
        ours, theirs = (h5.slice(picks, ndim_form=False)[0] for h5 in (found, written))
        assert np.array_equal(ours.ravel(), theirs.ravel())


def test_ancillaries_are_the_same_bytes(h5_file, other_file, origin):
    ours, theirs = write(usid, h5_file, (15, 14), dtype="f4"), None
    theirs = write(origin, other_file, (15, 14), dtype="f4")
    for name in SHARED:
        left, right = getattr(ours, name), getattr(theirs, name)
        assert (left.dtype, left.name) == (right.dtype, right.name)
        np.testing.assert_array_equal(left[()], right[()])
        assert set(left.attrs) == set(right.attrs)
        for key in left.attrs:
            assert left.attrs[key].dtype == right.attrs[key].dtype
            np.testing.assert_array_equal(left.attrs[key], right.attrs[key])
    version = {"usidstream_version", "pyUSID_version", "sidpy_version"}
    assert set(ours.attrs) - version == set(theirs.attrs) - version
    for key in ("quantity", "units", "labels", "IO_rate", "timestamp"):
        assert ours.attrs.get_id(key).dtype == theirs.attrs.get_id(key).dtype


def test_files_are_extended_on_the_other_side(h5_file, writer, reader):
    h5_main = write(writer, h5_file, DATASETS["real"])
    found = reader.USIDataset(h5_file["Raw_Data"])
    h5_group = reader.hdf_utils.create_results_group(found, "Fit")
    reader.hdf_utils.write_simple_attrs(h5_group, {"order": [1, 2], "names": ["x", "y"]})
    h5_fit = write(reader, h5_group, DATASETS["real"], "Fitted", **shared_by(found))
    assert h5_fit.h5_pos_vals == h5_main.h5_pos_vals
    reduced = reader.hdf_utils.write_reduced_anc_dsets(
        h5_group, found.h5_spec_inds, found.h5_spec_vals, "Bias", is_spec=True
    )
    reader.hdf_utils.write_main_dataset(
        h5_group, np.zeros((15, 2)), "Mean", "Current", "nA", None, None,
        h5_pos_inds=found.h5_pos_inds, h5_pos_vals=found.h5_pos_vals,
        h5_spec_inds=reduced[0], h5_spec_vals=reduced[1],
    )  # fmt: skip
    reader.hdf_utils.create_empty_dataset(found, np.float32, "Empty", h5_group)
    for package in (usid, usid if reader is usid else reader):
        names = [h5_main.name for h5_main in package.hdf_utils.get_all_main(h5_file)]
        assert names == ["/Raw_Data", "/Raw_Data-Fit_000/Empty", "/Raw_Data-Fit_000/Fitted", "/Raw_Data-Fit_000/Mean"]  # fmt: skip  # noqa: E501
    parms = {"order": [1, 2], "names": ["x", "y"]}
    for package in (usid, reader, writer):
        assert package.hdf_utils.check_for_old(h5_main, "Fit", new_parms=parms) == [h5_group]
        assert package.hdf_utils.assign_group_index(h5_file, "Raw_Data-Fit") == "Raw_Data-Fit_001"
        mean = package.USIDataset(h5_group["Mean"])
        assert mean.n_dim_labels == ["Rows", "Cols", "Cycle"]


def test_sidpy_writes_and_reads_the_same_attributes(h5_file):
    hdf_utils = pytest.importorskip("sidpy").hdf.hdf_utils
    attrs = {"text": "Größe", "list": ["電圧", "b"], "numbers": [1, 2.5], "flag": True, "one": 1}
    for number, (writer, reader) in enumerate(((hdf_utils, usid), (usid, hdf_utils))):
        h5_group = h5_file.create_group(f"group_{number}")
        writer.write_simple_attrs(h5_group, attrs)
        found = reader.get_attributes(h5_group)
        assert {key: np.asarray(value).tolist() for key, value in found.items()} == attrs


def test_large_ancillaries_in_chunks_are_read_there(h5_file, origin):
    sizes = (300, 200)
    dims = [usid.Dimension(name, "nm", size) for name, size in zip("XY", sizes, strict=True)]
    usid.write_main_dataset(
        h5_file, (60_000, 2), "Raw", "Current", "nA", dims, usid.Dimension("B", "V", 2), dtype="u1"
    )
    h5_main = origin.USIDataset(h5_file["Raw"])
    assert h5_main.h5_pos_inds.chunks is not None
    assert (h5_main.pos_dim_labels, h5_main.pos_dim_sizes) == (["Y", "X"], [200, 300])
    assert h5_main.get_n_dim_form().shape == (200, 300, 2)


def test_float64_values_are_read_there(h5_file, origin):
    seconds = 1.7e9 + np.arange(15)
    usid.write_main_dataset(
        h5_file, (15, 1), "Raw", "Current", "nA", usid.Dimension("Time", "s", seconds),
        usid.Dimension("None", "", 1), dtype="f4",
    )  # fmt: skip
    found = origin.USIDataset(h5_file["Raw"]).get_pos_values("Time")
    np.testing.assert_array_equal(found, seconds)


def test_positions_without_a_grid_are_opened_there(h5_file, origin):
    table = PositionTable(["X", "Y"], ["um", "um"], np.random.default_rng(0).random((30, 2)))
    usid.write_main_dataset(
        h5_file, np.arange(60.0).reshape(30, 2), "Spiral", "Current", "nA", table,
        usid.Dimension("Bias", "V", 2),
    )  # fmt: skip
    rows = usid.Dimension("Rows", "um", 3, mode=usid.DimType.INCOMPLETE)
    usid.write_main_dataset(
        h5_file, (13, 2), "Aborted", "Current", "nA", [usid.Dimension("Cols", "um", 5), rows],
        usid.Dimension("Bias", "V", 2), dtype="f4", aux_pos_prefix="P", aux_spec_prefix="S",
    )  # fmt: skip
    spiral = origin.USIDataset(h5_file["Spiral"])
    assert spiral.pos_dim_labels == ["X", "Y"]
    np.testing.assert_allclose(spiral.h5_pos_vals, table.values, rtol=1e-6)
    assert spiral.h5_pos_inds.attrs["type"].tolist() == [origin.DimType.INCOMPLETE.value] * 2
    assert origin.USIDataset(h5_file["Aborted"]).pos_dim_sizes == [3, 5]


def test_spirals_from_there_are_read_here(h5_file, origin):
    values = np.random.default_rng(0).random((2, 30))
    mode = origin.DimType.INCOMPLETE
    dims = [origin.Dimension(n, "um", v, mode=mode) for n, v in zip("XY", values, strict=True)]
    pair = origin.hdf_utils.write_ind_val_dsets(h5_file, dims, is_spectral=False)
    h5_main = usid.write_main_dataset(
        h5_file, (30, 2), "Spiral", "Current", "nA", None, origin.Dimension("Bias", "V", 2),
        h5_pos_inds=pair[0], h5_pos_vals=pair[1], dtype="f4",
    )  # fmt: skip
    np.testing.assert_allclose(h5_main.get_pos_values("Y"), values[1], rtol=1e-6)


def real_file(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    return h5py.File(path, "r")


def test_a_real_piezoresponse_map_reads_as_it_does_there(origin):
    with real_file("SingFreqPFM_0003.h5") as file:
        mains = usid.get_all_main(file)
        assert [h5_main.name for h5_main in mains] == [
            f"/Measurement_000/Channel_{number:03d}/Raw_Data" for number in range(4)
        ]
        for h5_main in mains:
            theirs = origin.USIDataset(h5py.Dataset(h5_main.id))
            assert repr(h5_main) == repr(theirs)
            assert h5_main.n_dim_labels == ["X", "Y", "arb"]
            assert h5_main.n_dim_sizes == [128, 128, 1]
            assert h5_main.h5_pos_inds == mains[0].h5_pos_inds
            np.testing.assert_array_equal(h5_main.get_n_dim_form(), theirs.get_n_dim_form())
            expected = h5_main[:, 0].reshape(128, 128).T
            np.testing.assert_array_equal(h5_main.get_n_dim_form()[:, :, 0], expected)
            for label in ("X", "Y"):
                values = theirs.get_pos_values(label)
                np.testing.assert_array_equal(h5_main.get_pos_values(label), values)


def test_a_real_force_curve_of_the_first_version_is_read(origin):
    with real_file("AFM_Force_Curve.h5") as file:
        found = usid.get_all_main(file)
        assert [h5_main.name for h5_main in found] == [
            h5_main.name for h5_main in origin.hdf_utils.get_all_main(file)
        ]
        for h5_main in found:
            theirs = origin.USIDataset(h5py.Dataset(h5_main.id))
            assert repr(h5_main) == repr(theirs)
            np.testing.assert_array_equal(h5_main.get_n_dim_form(), theirs.get_n_dim_form())


def test_a_file_of_another_model_has_no_mains():
    with real_file("BEPS_PTO_50x50.h5") as file:
        assert usid.get_all_main(file) == []
