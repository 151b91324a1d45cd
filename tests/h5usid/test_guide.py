"""The guide "Utilities for writing h5USID files", from its first line to its last.

One script in the guide's own calls, with only the import changed; every outcome that the guide
prints is compared. Columns stand, and dimensions print, slowest first.
"""

import contextlib
import io

import h5py
import numpy as np
import pytest

import usidstreamd.h5usid as usid

NUM_ROWS, NUM_COLS, NUM_CYCLES, BIAS_PTS = 3, 5, 2, 7


def printed(*objects):
    out = io.StringIO()
    print(*objects, file=out)
    return out.getvalue()


def tree(h5_group):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        usid.hdf_utils.print_tree(h5_group)
    return out.getvalue().splitlines()


def described(shape, dtype, path, contains, positions, spectra):
    name = path.rsplit("/", 1)[-1]
    data_type = {"<f4": "float32", "<f8": "float64"}[dtype]
    lines = [
        f'<HDF5 dataset "{name}": shape {shape}, type "{dtype}">',
        "located at: ",
        f"\t{path} ",
        "Data contains: ",
        f"\t{contains} ",
        "Data dimensions and original shape: ",
        "Position Dimensions: ",
        *(f"\t{label} - size: {size} " for label, size in positions),
        "Spectroscopic Dimensions: ",
        *(f"\t{label} - size: {size} " for label, size in spectra),
    ]
    lines[-1] = lines[-1].rstrip(" ")
    return "\n".join([*lines, "Data Type:", f"\t{data_type}", ""])


POSITIONS = [("Rows", 3), ("Cols", 5)]
SPECTRA = [("Cycle", 2), ("Bias", 7)]
BOOK_KEEPING = ["machine_id", "timestamp", "platform", "usidstream_version"]
LINKS = ["Position_Indices", "Position_Values", "Spectroscopic_Indices", "Spectroscopic_Values"]


@pytest.mark.filterwarnings("error")
def test_the_guide_from_beginning_to_end(tmp_path):
    rng = np.random.default_rng(0)
    file_path = tmp_path / "test.h5"
    h5_file = h5py.File(file_path, "w")

    # HDF_Utils works with (and uses) h5py
    h5_some_group = h5_file.create_group("Some_Group")
    assert printed(h5_some_group) == '<HDF5 group "/Some_Group" (0 members)>\n'
    h5_some_dataset = h5_some_group.create_dataset("Some_Dataset", data=np.arange(5))

    # groups with running numbers
    h5_meas_group = usid.hdf_utils.create_indexed_group(h5_file, "Measurement")
    assert printed(h5_meas_group) == '<HDF5 group "/Measurement_000" (0 members)>\n'
    assert usid.hdf_utils.assign_group_index(h5_file, "Measurement") == "Measurement_001"
    assert tree(h5_file) == [
        "/", "├ Measurement_000", "  ---------------", "├ Some_Group", "  ----------",
        "  ├ Some_Dataset",
    ]  # fmt: skip

    # attributes
    assert set(usid.hdf_utils.get_attributes(h5_meas_group)) == set(BOOK_KEEPING)
    assert usid.hdf_utils.get_attributes(h5_some_group) == {}
    usid.hdf_utils.write_book_keeping_attrs(h5_some_group)
    assert set(usid.hdf_utils.get_attributes(h5_some_group)) == set(BOOK_KEEPING)
    experiment = {
        "Instrument": "Atomic Force Microscope", "User": "Joe Smith", "Room Temperature [C]": 23,
    }  # fmt: skip
    usid.hdf_utils.write_simple_attrs(h5_meas_group, experiment)
    assert usid.hdf_utils.get_attributes(h5_some_dataset) == {}
    usid.hdf_utils.copy_attributes(h5_meas_group, h5_some_dataset)
    copied = usid.hdf_utils.get_attributes(h5_some_dataset)
    assert copied == usid.hdf_utils.get_attributes(h5_meas_group)
    assert {key: copied[key] for key in experiment} == experiment

    # write_main_dataset(): an empty one, filled a pixel at a time
    rows_vals = np.arange(-0.1, 0.15, 0.1)
    cols_vals = np.arange(400, 900, 100)
    bias_vals = 2.5 * np.sin(np.linspace(0, 2 * np.pi, BIAS_PTS, endpoint=False))
    pos_dims = [
        usid.write_utils.Dimension("Cols", "nm", cols_vals),
        usid.write_utils.Dimension("Rows", "um", rows_vals),
    ]
    spec_dims = [
        usid.write_utils.Dimension("Bias", "V", bias_vals),
        usid.write_utils.Dimension("Cycle", "", NUM_CYCLES),
    ]
    h5_raw = usid.hdf_utils.write_main_dataset(
        h5_meas_group,  # parent HDF5 group
        (NUM_ROWS * NUM_COLS, BIAS_PTS * NUM_CYCLES),  # shape of Main dataset
        "Raw_Data",  # Name of main dataset
        "Current",  # Physical quantity contained in Main dataset
        "nA",  # Units for the physical quantity
        pos_dims,  # Position dimensions
        spec_dims,  # Spectroscopic dimensions
        dtype=np.float32,  # data type / precision
        compression="gzip",
        main_dset_attrs={"IO_rate": 4e6, "Amplifier_Gain": 9},
    )
    assert printed(h5_raw) == described(
        (15, 14), "<f4", "/Measurement_000/Raw_Data", "Current (nA)", POSITIONS, SPECTRA
    )
    assert tree(h5_file) == [
        "/", "├ Measurement_000", "  ---------------", "  ├ Position_Indices",
        "  ├ Position_Values", "  ├ Raw_Data", "  ├ Spectroscopic_Indices",
        "  ├ Spectroscopic_Values", "├ Some_Group", "  ----------", "  ├ Some_Dataset",
    ]  # fmt: skip
    answers = [
        f"Is {dset.name} is a Main dataset?: {usid.hdf_utils.check_if_main(dset)}"
        for dset in [h5_raw, h5_raw.h5_spec_inds, h5_raw.h5_pos_vals]
    ]
    assert answers == [
        "Is /Measurement_000/Raw_Data is a Main dataset?: True",
        "Is /Measurement_000/Spectroscopic_Indices is a Main dataset?: False",
        "Is /Measurement_000/Position_Values is a Main dataset?: False",
    ]
    assert h5_raw[5].tolist() == [0] * 14
    source_main_data = rng.random((NUM_ROWS * NUM_COLS, BIAS_PTS * NUM_CYCLES))
    for pixel_ind, pixel_data in enumerate(source_main_data):
        h5_raw[pixel_ind] = pixel_data
    h5_file.flush()
    assert h5_raw[5].tolist() == source_main_data[5].astype("f4").tolist()

    # the ancillary datasets
    assert h5_raw.h5_pos_inds[:, 1].tolist() == [0, 1, 2, 3, 4] * 3
    assert h5_raw.h5_pos_inds[:, 0].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert h5_raw.h5_pos_vals[:, 1].tolist() == [400, 500, 600, 700, 800] * 3
    np.testing.assert_allclose(h5_raw.h5_spec_vals[1], np.tile(bias_vals, 2), atol=1e-6)
    shapes = [dset.shape for dset in (h5_raw.h5_pos_inds, h5_raw.h5_spec_vals)]
    dtypes = [str(dset.dtype) for dset in (h5_raw.h5_pos_inds, h5_raw.h5_spec_vals)]
    assert (shapes, dtypes) == ([(15, 2), (2, 14)], ["uint32", "float32"])

    # attributes of a main dataset
    attrs = usid.hdf_utils.get_attributes(h5_raw)
    assert set(attrs) == {
        "quantity", "units", "IO_rate", "Amplifier_Gain", *LINKS, *BOOK_KEEPING,
    }  # fmt: skip
    assert (attrs["quantity"], attrs["units"]) == ("Current", "nA")
    assert (attrs["IO_rate"], attrs["Amplifier_Gain"]) == (4e6, 9)
    reference = usid.hdf_utils.get_attr(h5_raw, "Position_Indices")
    assert printed(reference) == "<HDF5 object reference>\n"
    assert printed(usid.hdf_utils.get_auxiliary_datasets(h5_raw, "Position_Indices")) == (
        '[<HDF5 dataset "Position_Indices": shape (15, 2), type "<u4">]\n'
    )

    # links
    h5_other = h5_meas_group.create_dataset("Other", data=rng.random(5))
    usid.hdf_utils.link_h5_objects_as_attrs(h5_raw, h5_other)
    assert printed(usid.hdf_utils.get_attributes(h5_raw)["Other"]) == "<HDF5 object reference>\n"
    usid.hdf_utils.link_h5_objects_as_attrs(h5_other, h5_some_group)
    assert list(usid.hdf_utils.get_attributes(h5_other)) == ["Some_Group"]
    usid.hdf_utils.link_h5_obj_as_alias(h5_other, h5_raw, "Mysterious_Dataset")
    assert set(usid.hdf_utils.get_attributes(h5_other)) == {"Some_Group", "Mysterious_Dataset"}
    h5_myst_dset = usid.hdf_utils.get_auxiliary_datasets(h5_other, "Mysterious_Dataset")[0]
    assert (h5_myst_dset == h5_raw, h5_raw == h5_myst_dset) == (True, True)

    # create_results_group(), and a full main that shares ancillary datasets
    h5_results_group_1 = usid.hdf_utils.create_results_group(h5_raw, "Normalization")
    assert printed(h5_results_group_1) == (
        '<HDF5 group "/Measurement_000/Raw_Data-Normalization_000" (0 members)>\n'
    )
    norm_data = rng.random((NUM_ROWS * NUM_COLS, BIAS_PTS * NUM_CYCLES))
    h5_norm = usid.hdf_utils.write_main_dataset(
        h5_results_group_1,  # parent group
        norm_data,  # data to be written
        "Normalized_Data",  # Name of the main dataset
        "Current",  # quantity
        "nA",  # units
        None,  # position dimensions
        None,  # spectroscopic dimensions
        h5_pos_inds=h5_raw.h5_pos_inds,
        h5_pos_vals=h5_raw.h5_pos_vals,
        h5_spec_inds=h5_raw.h5_spec_inds,
        h5_spec_vals=h5_raw.h5_spec_vals,
        compression="gzip",
    )
    norm_path = "/Measurement_000/Raw_Data-Normalization_000/Normalized_Data"
    assert printed(h5_norm) == described(
        (15, 14), "<f8", norm_path, "Current (nA)", POSITIONS, SPECTRA
    )
    assert list(h5_results_group_1) == ["Normalized_Data"]
    for anc_name in LINKS:
        raw_anc = usid.hdf_utils.get_auxiliary_datasets(h5_raw, anc_name)[0]
        norm_anc = usid.hdf_utils.get_auxiliary_datasets(h5_norm, anc_name)[0]
        assert f"Sharing {anc_name}: {raw_anc == norm_anc}" == f"Sharing {anc_name}: True"
    assert h5_norm[5].tolist() == norm_data[5].tolist()

    # an empty duplicate
    h5_offsets = usid.hdf_utils.create_empty_dataset(h5_norm, np.float32, "Offsets")
    assert printed(h5_offsets) == described(
        (15, 14), "<f4", norm_path.replace("Normalized_Data", "Offsets"), "Current (nA)",
        POSITIONS, SPECTRA,
    )  # fmt: skip
    assert h5_offsets[6].tolist() == [0] * 14
    h5_offsets[()] = norm_data
    assert h5_offsets[6].tolist() == norm_data[6].astype("f4").tolist()

    # results inside results, with reduced spectroscopic datasets
    h5_analysis_group = usid.hdf_utils.create_results_group(h5_norm, "Fitting")
    assert h5_analysis_group.name == (
        "/Measurement_000/Raw_Data-Normalization_000/Normalized_Data-Fitting_000"
    )
    h5_spec_inds, h5_spec_vals = usid.hdf_utils.write_reduced_spec_dsets(
        h5_analysis_group, h5_norm.h5_spec_inds, h5_norm.h5_spec_vals, "Bias"
    )
    assert printed(h5_spec_inds) == (
        '<HDF5 dataset "Spectroscopic_Indices": shape (1, 2), type "<u4">\n'
    )
    assert (h5_spec_inds[()].tolist(), h5_spec_vals[()].tolist()) == ([[0, 1]], [[0, 1]])
    assert tree(h5_analysis_group)[1:] == ["├ Spectroscopic_Indices", "├ Spectroscopic_Values"]
    h5_pos_inds, h5_pos_vals = usid.hdf_utils.write_ind_val_dsets(
        h5_analysis_group, pos_dims, is_spectral=False
    )
    assert tree(h5_analysis_group)[1:] == [f"├ {name}" for name in LINKS]
    reduced_main = rng.random((NUM_ROWS * NUM_COLS, NUM_CYCLES))
    h5_cap_1 = usid.hdf_utils.write_main_dataset(
        h5_analysis_group,  # parent HDF5 group
        reduced_main,  # data for Main dataset
        "Capacitance",  # Name of Main dataset
        "Capacitance",  # Quantity
        "pF",  # units
        None,  # position dimensions
        None,  # spectroscopic dimensions
        h5_spec_inds=h5_spec_inds,
        h5_spec_vals=h5_spec_vals,
        h5_pos_inds=h5_pos_inds,
        h5_pos_vals=h5_pos_vals,
        compression="gzip",
    )
    assert printed(h5_cap_1) == described(
        (15, 2), "<f8", f"{h5_analysis_group.name}/Capacitance", "Capacitance (pF)",
        POSITIONS, [("Cycle", 2)],
    )  # fmt: skip

    # a second main in the same group
    h5_cap_2 = usid.hdf_utils.write_main_dataset(
        h5_analysis_group,  # Parent HDF5 group
        rng.random((NUM_ROWS * NUM_COLS, 1)),  # Main Data
        "Mean_Capacitance",  # Name of Main Dataset
        "Capacitance",  # Physical quantity
        "pF",  # Units
        None,  # Position dimensions
        usid.write_utils.Dimension("Capacitance", "pF", 1),  # Spectroscopic dimensions
        h5_pos_inds=h5_pos_inds,
        h5_pos_vals=h5_pos_vals,
        aux_spec_prefix="Empty_Spec",
    )
    assert printed(h5_cap_2) == described(
        (15, 1), "<f8", f"{h5_analysis_group.name}/Mean_Capacitance", "Capacitance (pF)",
        POSITIONS, [("Capacitance", 1)],
    )  # fmt: skip
    assert tree(h5_analysis_group) == [
        h5_analysis_group.name, "├ Capacitance", "├ Empty_Spec_Indices", "├ Empty_Spec_Values",
        "├ Mean_Capacitance", *[f"├ {name}" for name in LINKS],
    ]  # fmt: skip

    # file status
    assert usid.hdf_utils.is_editable_h5(h5_file) is True
    h5_file.close()
    with h5py.File(file_path, "r") as h5_file:
        assert usid.hdf_utils.is_editable_h5(h5_file) is False
        assert len(usid.hdf_utils.get_all_main(h5_file)) == 5


def test_the_guides_names_are_all_there():
    flat = [
        "create_indexed_group", "assign_group_index", "get_attributes", "get_attr",
        "write_book_keeping_attrs", "write_simple_attrs", "copy_attributes", "Dimension",
        "write_main_dataset", "check_if_main", "get_auxiliary_datasets", "link_h5_objects_as_attrs",
        "link_h5_obj_as_alias", "create_results_group", "create_empty_dataset",
        "write_reduced_spec_dsets", "write_reduced_anc_dsets", "write_ind_val_dsets",
        "check_and_link_ancillary", "link_as_main", "is_editable_h5", "print_tree", "USIDataset",
        "get_all_main", "find_dataset", "find_results_groups", "check_for_old", "reshape_to_n_dims",
        "reshape_from_n_dims",
    ]  # fmt: skip
    assert [name for name in flat if not hasattr(usid, name)] == []
    guide_facing = [name for name in flat if name not in ("Dimension", "USIDataset")]
    assert [name for name in guide_facing if not hasattr(usid.hdf_utils, name)] == []
    assert usid.write_utils.Dimension is usid.Dimension
