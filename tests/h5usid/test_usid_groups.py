"""Groups with running numbers, results groups, and what they are found by."""

import h5py
import numpy as np
import pytest

import usidstreamd.h5usid as usid
from support.usid_files import band_excitation


@pytest.fixture
def h5_raw(tmp_path):
    with h5py.File(band_excitation(tmp_path / "beps.h5"), "r+") as file:
        yield file["Raw_Measurement"]


def test_numbers_run_on_in_every_group(h5_file):
    first = usid.create_indexed_group(h5_file, "Hello")
    second = usid.create_indexed_group(h5_file, "Hello_")
    inner = usid.create_indexed_group(first, "Test")
    names = [group.name for group in (first, second, inner)]
    assert names == ["/Hello_000", "/Hello_001", "/Hello_000/Test_000"]
    assert all("usidstream_version" in group.attrs for group in (first, second, inner))


def test_other_series_gaps_and_things_in_the_way_do_not_confuse_the_number(h5_file):
    for name in ("Measurement_Old_000", "Measurement_0x1", "Measurement_", "Old_Measurement_007"):
        h5_file.create_group(name)
    assert usid.assign_group_index(h5_file, "Measurement") == "Measurement_000"
    h5_file.create_group("Measurement_000")
    h5_file.create_group("Measurement_003")
    assert usid.assign_group_index(h5_file, "Measurement") == "Measurement_004"
    h5_file.create_dataset("Measurement_004", data=1)
    h5_file["Measurement_005"] = h5py.SoftLink("/nowhere")
    h5_file["Measurement_006"] = h5py.ExternalLink("nowhere.h5", "/")
    assert usid.create_indexed_group(h5_file, "Measurement").name == "/Measurement_007"
    h5_file.create_group("Measurement_1234")
    assert usid.assign_group_index(h5_file, "Measurement") == "Measurement_1235"


def test_wrong_names_and_parents_are_refused(h5_file):
    for name, error in (("  ", ValueError), ("a/b", ValueError), (1.23, TypeError)):
        with pytest.raises(error):
            usid.create_indexed_group(h5_file, name)
    with pytest.raises(TypeError):
        usid.create_indexed_group(np.arange(4), "name")
    with pytest.raises(TypeError):
        usid.assign_group_index(h5_file.create_dataset("dset", data=1), "name")
    assert list(h5_file) == ["dset"]


def test_results_groups_nest_and_tell_their_source(h5_file):
    h5_dset = h5_file.create_dataset("Main", data=[1, 2, 3])
    with pytest.warns(UserWarning, match="'-'"):
        h5_group = usid.create_results_group(h5_dset, "Some-Tool")
    assert h5_group.name == "/Main-Some_Tool_000"
    assert usid.create_results_group(h5_dset, "Some_Tool").name == "/Main-Some_Tool_001"
    assert (h5_group.attrs["tool"], h5_group.attrs["num_source_dsets"]) == ("Some_Tool", 1)
    assert h5_file[h5_group.attrs["source_000"]] == h5_dset
    assert usid.hdf_utils.get_source_dataset(h5_group) == h5_dset
    h5_inner = h5_group.create_dataset("Inner", data=[1])
    assert usid.create_results_group(h5_inner, "Fit").name == "/Main-Some_Tool_000/Inner-Fit_000"


def test_results_in_another_file_are_numbered_there(h5_file, other_file):
    h5_dset = h5_file.create_dataset("Main", data=[1])
    other_file.create_group("Main-Tool_000")
    h5_group = usid.create_results_group(h5_dset, "Tool", h5_parent_group=other_file)
    assert (h5_group.name, h5_group.file) == ("/Main-Tool_001", other_file)
    assert "source_000" not in h5_group.attrs
    found = usid.find_results_groups(h5_dset, "Tool", h5_parent_group=other_file)
    assert [group.name for group in found] == ["/Main-Tool_000", "/Main-Tool_001"]
    for wrong in ("group", h5_dset):
        with pytest.raises(TypeError):
            usid.create_results_group(h5_dset, "Tool", h5_parent_group=wrong)
        with pytest.raises(TypeError):
            usid.find_results_groups(h5_dset, "Tool", h5_parent_group=wrong)


def test_results_are_found_by_exactly_this_dataset(h5_file):
    h5_dset = h5_file.create_dataset("Raw", data=[1])
    for name in ("Raw-Fit_000", "Raw_Data-Fit_000", "Old_Raw-Fit_000"):
        h5_file.create_group(name)
    h5_file.create_dataset("Raw-Fit_001", data=[1])
    assert [group.name for group in usid.find_results_groups(h5_dset, "Fit")] == ["/Raw-Fit_000"]
    assert usid.find_results_groups(h5_dset, "Other") == []
    for wrong in ((h5_file, "Fit"), (h5_dset, np.arange(5))):
        with pytest.raises(TypeError):
            usid.find_results_groups(*wrong)


FIT = {"att_1": "string_val", "att_2": 1.2345, "att_3": [1, 2, 3, 4], "att_4": ["str_1", "str_2", "str_3"]}  # fmt: skip  # noqa: E501


@pytest.mark.parametrize(
    ("parms", "matches"),
    [
        (FIT, True),
        ({"att_2": 1.2345, "att_4": ["str_1", "str_2", "str_3"]}, True),
        ({"att_1": None}, True),
        (None, True),
        ({"att_1": "other"}, False),
        ({"blah": 1}, False),
        ({"att_4": "string_val"}, False),
        ({"att_1": ["str_1", "str_2", "str_3"]}, False),
        ({"att_4": [1, 4.234, "str_3"]}, False),
        ({"att_4": [1, 4.234, 45]}, False),
        ({"att_3": [1, 2, 3]}, False),
        ({"att_3": [1, 2, 3, 5]}, False),
        ({"att_3": 1}, False),
        ({"att_2": "1.2345"}, False),
    ],
)
def test_old_results_are_matched_by_their_parameters(h5_raw, parms, matches):
    found = usid.check_for_old(h5_raw["source_main"], "Fitter", new_parms=parms)
    assert (h5_raw["source_main-Fitter_000"] in found) is matches


def test_small_numbers_in_lists_are_not_taken_for_equal(h5_file):
    usid.write_simple_attrs(h5_file, {"wavelengths_m": [1e-9, 2e-9]})
    matching = usid.hdf_utils.check_for_matching_attrs
    assert matching(h5_file, {"wavelengths_m": [1e-9, 2e-9]})
    assert not matching(h5_file, {"wavelengths_m": [1e-9, 3e-9]})


def test_old_results_can_be_matched_by_a_dataset_in_them(h5_raw):
    parms, name = {"units": ["V"], "labels": ["Bias"]}, "Spectroscopic_Indices"
    found = usid.check_for_old(h5_raw["source_main"], "Fitter", parms, target_dset=name)
    assert len(found) == 2
    assert usid.check_for_old(h5_raw["source_main"], "Fitter", parms, target_dset="None") == []
    for wrong in ({"new_parms": "no dict"}, {"target_dset": 1.2}):
        with pytest.raises(TypeError):
            usid.check_for_old(h5_raw["source_main"], "Fitter", **wrong)
    for wrong in (("dset", "Fitter"), (h5_raw["source_main"], 1.2)):
        with pytest.raises(TypeError):
            usid.check_for_old(*wrong)


def test_the_source_of_old_results_is_known_by_their_name(h5_raw):
    h5_source = usid.hdf_utils.get_source_dataset(h5_raw["source_main-Fitter_001"])
    assert isinstance(h5_source, usid.USIDataset)
    assert h5_source == h5_raw["source_main"]
    with pytest.raises(ValueError, match="Misc"):
        usid.hdf_utils.get_source_dataset(h5_raw["Misc"])
    with pytest.raises(TypeError):
        usid.hdf_utils.get_source_dataset("/Raw_Measurement/Misc")


def test_mains_and_datasets_are_found_in_a_file(h5_raw):
    names = [h5_main.name.split("/")[-2:] for h5_main in usid.get_all_main(h5_raw.file)]
    assert names == [
        ["Raw_Measurement", "source_main"],
        ["source_main-Fitter_000", "results_main"],
        ["source_main-Fitter_001", "results_main"],
    ]
    assert len(usid.find_dataset(h5_raw, "Spectroscopic_Indices")) == 3
    assert isinstance(usid.find_dataset(h5_raw, "source_main")[0], usid.USIDataset)
    assert usid.find_dataset(h5_raw, "Nothing") == []
    for wrong in ((h5_raw, np.arange(4)), (4.3, "name")):
        with pytest.raises(TypeError):
            usid.find_dataset(*wrong)
    for wrong in ("file", np.arange(4)):
        with pytest.raises(TypeError):
            usid.get_all_main(wrong)


def test_objects_are_picked_by_name(h5_raw):
    objects = [h5_raw.file, 4.1, h5_raw["Misc"], h5_raw["Position_Indices"], h5_raw["Ancillary"]]
    found = usid.hdf_utils.get_h5_obj_refs(["Position_Indices", "Misc"], objects)
    assert found == [h5_raw["Position_Indices"], h5_raw["Misc"]]
    for wrong in ((["Misc", 4.1], objects), (["Misc"], 4.1)):
        with pytest.raises(TypeError):
            usid.hdf_utils.get_h5_obj_refs(*wrong)


def test_the_tree_is_printed_with_rules_below_groups(h5_file, capsys):
    h5_file.create_group("A/B").create_dataset("Y", data=[1])
    h5_file.create_dataset("X", data=[1])
    usid.print_tree(h5_file)
    usid.print_tree(h5_file["A"], rel_paths=True)
    lines = ["/", "├ A", "  -", "  ├ B", "    -", "    ├ Y", "├ X", "/A", "B", "B/Y", ""]
    assert capsys.readouterr().out == "\n".join(lines)
    with pytest.raises(TypeError):
        usid.print_tree(h5_file["X"])


def test_the_tree_can_show_main_datasets_only(h5_raw, capsys):
    usid.print_tree(h5_raw, main_dsets_only=True)
    shown = capsys.readouterr().out
    assert "source_main" in shown
    assert "Misc" in shown
    assert "Ancillary" not in shown


def test_a_dictionary_becomes_a_group(h5_file):
    write = usid.hdf_utils.write_dict_to_h5_group
    h5_group = write(h5_file, {"a": 4, "b": {"c": 2.5}}, "meta data")
    assert (h5_group.name, h5_group.attrs["a"], h5_group["b"].attrs["c"]) == ("/meta_data", 4, 2.5)
    assert write(h5_file, {}, "empty") is None
    h5_file.create_dataset("dset", data=1)
    for arguments, error in (
        ((h5_file["dset"], {"a": 1}, "new"), TypeError),
        ((h5_file, ["no", "dict"], "new"), TypeError),
        ((h5_file, {"a": 1}, [1, 4]), TypeError),
        ((h5_file, {"a": 1}, "   "), ValueError),
        ((h5_file, {"a": 1}, "dset"), ValueError),
        ((h5_file, {"a": 1, "b": {"c": object()}}, "new"), TypeError),
    ):
        with pytest.raises(error):
            write(*arguments)
    assert sorted(h5_file) == ["dset", "meta_data"]
