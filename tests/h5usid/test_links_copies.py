"""Links between objects, copies to other files, and duplicates."""

import warnings

import h5py
import numpy as np
import pytest

import usidstreamd.h5usid as usid
from support.usid_files import band_excitation, contents


@pytest.fixture
def h5_raw(tmp_path):
    with h5py.File(band_excitation(tmp_path / "beps.h5"), "r+") as file:
        yield file["Raw_Measurement"]


def test_objects_are_linked_under_their_names_or_an_alias(h5_file):
    h5_main, h5_group = h5_file.create_dataset("main", data=[1]), h5_file.create_group("Results")
    usid.link_h5_objects_as_attrs(h5_file, [h5_main, h5_group])
    usid.link_h5_objects_as_attrs(h5_group, h5_main)
    usid.link_h5_obj_as_alias(h5_main, h5_group, "Something")
    assert h5_file[h5_file.attrs["main"]] == h5_main
    assert h5_file[h5_file.attrs["Results"]] == h5_group
    assert h5_file[h5_group.attrs["main"]] == h5_main
    assert h5_file[h5_main.attrs["Something"]] == h5_group


def test_wrong_links_are_refused(h5_file, other_file):
    h5_group, h5_other = h5_file.create_group("Here"), other_file.create_group("There")
    for wrong in ((h5_group, np.arange(4)), (np.arange(4), h5_group), (h5_group, [h5_group, 3])):
        with pytest.raises(TypeError):
            usid.link_h5_objects_as_attrs(*wrong)
    for wrong in ((h5_group, np.arange(5), "a"), ("no", h5_group, "a"), (h5_group, h5_group, 1.2)):
        with pytest.raises(TypeError):
            usid.link_h5_obj_as_alias(*wrong)
    with pytest.raises(ValueError, match="across files"):
        usid.link_h5_obj_as_alias(h5_group, h5_other, "a")
    with pytest.raises(ValueError, match="across files"):
        usid.link_h5_objects_as_attrs(h5_group, [h5_group, h5_other])
    assert len(h5_group.attrs) == 0


def test_linked_datasets_are_found(h5_raw):
    h5_main = h5_raw["source_main"]
    every = [h5_raw[f"{kind}_{what}"] for kind in ("Position", "Spectroscopic") for what in ("Indices", "Values")]  # fmt: skip  # noqa: E501
    assert set(usid.get_auxiliary_datasets(h5_main)) == set(every)
    assert usid.get_auxiliary_datasets(h5_main, "Position_Values") == [h5_raw["Position_Values"]]
    assert usid.get_auxiliary_datasets(h5_main, ["quantity", "even_rows"]) == []
    with pytest.raises(KeyError):
        usid.get_auxiliary_datasets(h5_main, "Missing")
    for wrong in ((np.arange(5), "a"), (h5_main, 14), (h5_main, [14, "quantity"])):
        with pytest.raises(TypeError):
            usid.get_auxiliary_datasets(*wrong)


def test_links_are_taken_from_objects_references_or_another_dataset(h5_raw):
    link = usid.check_and_link_ancillary
    h5_dset, h5_misc = h5_raw["Ancillary"], h5_raw["Misc"]
    link(h5_dset, ["one", "two"], anc_refs=[h5_misc, h5_raw["source_main"].ref])
    link(h5_dset, "three", anc_refs=h5_misc)
    link(h5_dset, ["Position_Indices"], h5_main=h5_raw["source_main"])
    linked = {name: h5_raw.file[h5_dset.attrs[name]] for name in h5_dset.attrs}
    assert linked == {
        "one": h5_misc, "two": h5_raw["source_main"], "three": h5_misc,
        "Position_Indices": h5_raw["Position_Indices"],
    }  # fmt: skip


def test_names_without_an_object_are_told(h5_raw):
    link = usid.check_and_link_ancillary
    h5_dset = h5_raw["Ancillary"]
    with pytest.warns(UserWarning, match="'none'"):
        link(h5_dset, ["one", "none"], anc_refs=[h5_raw["Misc"]])
    with pytest.warns(UserWarning, match="'quantity'"):
        link(h5_dset, ["quantity"], h5_main=h5_raw["source_main"])
    assert list(h5_dset.attrs) == ["one"]
    for wrong, error in (
        ((np.arange(5), ["a"]), TypeError),
        ((h5_dset, ["a"], "main"), TypeError),
        ((h5_dset, 5, h5_raw["source_main"]), TypeError),
        ((h5_dset, ["a"], None, "ref"), TypeError),
        ((h5_dset, ["a"]), ValueError),
    ):
        with pytest.raises(error):
            link(*wrong)


def test_link_as_main_makes_a_main_of_what_is_described(h5_raw):
    data = h5_raw.create_dataset("new", data=np.zeros((15, 14)))
    every = [h5_raw[f"{kind}_{what}"] for kind in ("Position", "Spectroscopic") for what in ("Indices", "Values")]  # fmt: skip  # noqa: E501
    assert not isinstance(usid.link_as_main(data, *every), usid.USIDataset)
    data.attrs.update({"quantity": "Current", "units": "A"})
    assert isinstance(usid.link_as_main(data, *every), usid.USIDataset)
    for position in range(5):
        arguments = [data, *every]
        arguments[position] = 1.2
        with pytest.raises(TypeError):
            usid.link_as_main(*arguments)
    with pytest.raises(ValueError, match="differ in shape"):
        usid.link_as_main(data, every[0], every[3], *every[2:])
    with pytest.raises(ValueError, match="do not fit"):
        usid.link_as_main(data, *every[2:], *every[:2])


def test_a_dataset_is_copied_once_with_its_attributes(h5_file, other_file):
    h5_source = h5_file.create_dataset("source", data=[1, 2, 3], chunks=(2,), compression="gzip")
    h5_source.attrs.update({"quantity": "blah", "labels": np.array([b"a", b"b"])})
    for alias in (None, "other"):
        for _ in range(2):
            h5_copy = usid.hdf_utils.copy_dataset(h5_source, other_file, alias=alias)
            assert h5_copy.name == f"/{alias or 'source'}"
            assert (h5_copy[:].tolist(), h5_copy.compression) == ([1, 2, 3], "gzip")
            assert h5_copy.attrs["quantity"] == "blah"
    other_file.create_group("group")
    other_file["bare"] = [1, 2, 3]
    assert len(usid.hdf_utils.copy_dataset(h5_source, other_file, alias="bare").attrs) == 2
    h5_source[0] = 8
    before = contents(other_file)
    with pytest.raises(ValueError, match="other contents"):
        usid.hdf_utils.copy_dataset(h5_source, other_file)
    for wrong in ((h5_source, other_file, "group"), (h5_file, other_file), (h5_source, h5_source)):
        with pytest.raises(TypeError):
            usid.hdf_utils.copy_dataset(*wrong)
    assert contents(other_file) == before


def test_linked_datasets_follow_into_another_file(h5_raw, other_file):
    h5_main = h5_raw["source_main"]
    h5_new = other_file.create_dataset("new", data=h5_main[()])
    usid.hdf_utils.copy_linked_objects(h5_main, h5_new)
    usid.copy_attributes(h5_main, h5_new)
    assert usid.check_if_main(h5_new)
    assert usid.USIDataset(h5_new).n_dim_labels == ["X", "Y", "Bias", "Cycle"]
    with pytest.warns(UserWarning, match="already"):
        usid.hdf_utils.copy_linked_objects(h5_main, h5_new)
    h5_group = other_file.create_group("group")
    usid.hdf_utils.copy_linked_objects(h5_main, h5_group)
    assert "Position_Indices" in h5_group
    with pytest.warns(UserWarning, match="share a file"):
        usid.hdf_utils.copy_linked_objects(h5_main, h5_raw["Ancillary"])


def test_copies_that_clash_change_nothing(h5_raw, other_file):
    h5_new = other_file.create_dataset("new", data=[1])
    other_file.create_dataset("Spectroscopic_Indices", data=[[1]])
    before = contents(other_file)
    with pytest.warns(UserWarning, match="already"), pytest.raises(ValueError, match="contents"):
        usid.hdf_utils.copy_linked_objects(h5_raw["source_main"], h5_new)
    assert contents(other_file) == before


def test_an_empty_duplicate_has_shape_storage_and_links(h5_raw):
    h5_new = usid.create_empty_dataset(h5_raw["source_main"], np.float32, "Offsets")
    assert isinstance(h5_new, usid.USIDataset)
    assert (h5_new.name, h5_new.shape, h5_new.dtype) == (
        "/Raw_Measurement/Offsets", (15, 14), np.float32,
    )  # fmt: skip
    assert not h5_new[()].any()
    assert h5_new.h5_pos_inds == h5_raw["Position_Indices"]
    assert "usidstream_version" in h5_new.attrs
    h5_group = h5_raw["Misc"]
    h5_plain = usid.create_empty_dataset(
        h5_raw["source_main"], "u1", "Mask", h5_group, {"by": "hand"}, skip_refs=True
    )
    assert not isinstance(h5_plain, usid.USIDataset)
    assert (h5_plain.parent, h5_plain.attrs["by"]) == (h5_group, "hand")


def test_regions_follow_to_a_dataset_of_the_same_shape(h5_raw, other_file):
    h5_source = h5_raw["source_main"]
    rng = np.random.default_rng(0)
    for h5_dest in (
        h5_raw.create_dataset("same", data=rng.random((15, 14))),
        other_file.create_dataset("foreign", data=rng.random((15, 14))),
    ):
        with warnings.catch_warnings(action="ignore"):
            usid.copy_attributes(h5_source, h5_dest, skip_refs=False)
        even_rows = h5_dest[h5_dest.attrs["even_rows"]]
        np.testing.assert_array_equal(even_rows, h5_dest[::2])
    h5_new = usid.create_empty_dataset(h5_source, "u1", "new")
    assert h5_new[h5_new.attrs["even_rows"]].shape == (8, 14)
    h5_copy = usid.hdf_utils.copy_dataset(h5_raw["Position_Indices"], other_file)
    assert h5_copy[h5_copy.attrs["Y"]].tolist() == [[row] for row in h5_copy[:, 1]]
    for h5_dest in (h5_raw["Misc"], h5_raw.create_dataset("flat", data=np.zeros(15))):
        with pytest.warns(UserWarning, match="not copied.*even_rows"):
            usid.copy_attributes(h5_source, h5_dest, skip_refs=False)
        assert "even_rows" not in h5_dest.attrs


def test_regions_of_other_datasets_are_left_out(h5_file):
    h5_source, h5_other = (h5_file.create_dataset(name, data=[1, 2, 3]) for name in ("a", "b"))
    h5_source.attrs["other"] = h5_other.regionref[:2]
    h5_source.attrs["lost"] = h5_file.create_dataset("c", data=[1, 2, 3]).regionref[:2]
    h5_source.attrs["null"] = h5py.h5r.RegionReference()
    h5_source.attrs["own"] = h5_source.regionref[:2]
    del h5_file["c"]
    with pytest.warns(UserWarning, match="lost, null, other"):
        usid.copy_attributes(h5_source, h5_other, skip_refs=False)
    assert list(h5_other.attrs) == ["own"]
    assert h5_other[h5_other.attrs["own"]].tolist() == [1, 2]


def test_scales_stay_with_their_dataset(h5_file):
    h5_source = h5_file.create_dataset("source", data=np.zeros((2, 3)))
    h5_source.dims[0].attach_scale(h5_file.create_dataset("scale", data=[1, 2]))
    h5_source.attrs["own"] = 1
    usid.copy_attributes(h5_source, h5_file)
    assert list(h5_file.attrs) == ["own"]
    with pytest.warns(UserWarning, match="not copied.*DIMENSION_LIST"):
        h5_new = usid.create_empty_dataset(h5_source, "f4", "new")
    assert list(h5_new.attrs) == ["own"]


def test_an_empty_duplicate_in_another_file_takes_its_ancillaries_along(h5_raw, other_file):
    with pytest.warns(UserWarning, match="another file"):
        h5_new = usid.create_empty_dataset(h5_raw["source_main"], "f4", "New", other_file)
    assert isinstance(h5_new, usid.USIDataset)
    assert h5_new.h5_spec_vals.file == other_file


def test_a_dataset_in_the_way_is_kept_if_alike_and_replaced_if_not(h5_raw):
    h5_source = h5_raw["source_main"]
    h5_raw.create_dataset("Alike", data=np.ones((15, 14), "f4"))
    h5_raw.create_dataset("Other", data=[4, 5, 6])
    with pytest.warns(UserWarning, match="kept"):
        assert usid.create_empty_dataset(h5_source, "f4", "Alike")[()].all()
    with pytest.warns(UserWarning, match="replaced"):
        assert not usid.create_empty_dataset(h5_source, "f4", "Other")[()].any()
    with pytest.warns(UserWarning, match="'-'"):
        assert usid.create_empty_dataset(h5_source, "f4", "A-B").name.endswith("/A_B")


def test_a_refused_duplicate_leaves_the_file_as_it_was(h5_raw, other_file):
    h5_source = h5_raw["source_main"]
    h5_raw.create_dataset("Other", data=[4, 5, 6])
    create = usid.create_empty_dataset
    before = contents(h5_raw.file)
    for call, error in (
        (lambda: create("no dataset", "f4", "New"), TypeError),
        (lambda: create(h5_source, np.arange(5), "New"), TypeError),
        (lambda: create(h5_source, "f4", {"no": "string"}), TypeError),
        (lambda: create(h5_source, "f4", " "), ValueError),
        (lambda: create(h5_source, "f4", "New", new_attrs="no dict"), TypeError),
        (lambda: create(h5_source, "f4", "New", new_attrs={"bad": object()}), TypeError),
        (lambda: create(h5_source, "f4", "Other", new_attrs={"bad": object()}), TypeError),
        (lambda: create(h5_source, "f4", "Other", new_attrs={"deep": {"a": 1}}), ValueError),
        (lambda: create(h5_source, "f4", "New", h5_group=h5_source), TypeError),
        (lambda: create(h5_source, "f4", "Misc"), KeyError),
        (lambda: create(h5_source, "O", "Other"), TypeError),
    ):
        with warnings.catch_warnings(action="ignore"), pytest.raises(error):
            call()
        assert contents(h5_raw.file) == before
    other_file.create_dataset("Spectroscopic_Indices", data=[[1]])
    before = contents(other_file)
    with (
        pytest.warns(UserWarning, match="another file|already"),
        pytest.raises(ValueError, match="other contents"),
    ):
        create(h5_source, "f4", "New", other_file)
    assert contents(other_file) == before


def test_quantity_and_units_are_copied(h5_raw):
    copy, h5_dset = usid.hdf_utils.copy_main_attributes, h5_raw["Ancillary"]
    copy(h5_raw["source_main"], h5_dset)
    assert usid.get_attributes(h5_dset) == {"quantity": "Current", "units": "A"}
    with pytest.raises(KeyError):
        copy(h5_raw["Position_Indices"], h5_dset)
    for wrong in ((h5_raw, h5_dset), (h5_dset, h5_raw)):
        with pytest.raises(TypeError):
            copy(*wrong)


def test_editable_is_told_of_any_object(tmp_path):
    path = band_excitation(tmp_path / "beps.h5")
    for mode, editable in (("r", False), ("r+", True)):
        with h5py.File(path, mode) as file:
            objects = [file, file["Raw_Measurement"], file["Raw_Measurement/Ancillary"]]
            assert [usid.is_editable_h5(item) for item in objects] == [editable] * 3
    for item in objects:
        with pytest.raises(ValueError, match="closed"):
            usid.is_editable_h5(item)
    with pytest.raises(TypeError):
        usid.is_editable_h5(np.arange(4))


def test_shapes_and_dimensions_are_validated(h5_raw):
    hu, shape = usid.hdf_utils, h5_raw["source_main"].shape
    pair = h5_raw["Position_Indices"], h5_raw["Position_Values"]
    hu.validate_anc_h5_dsets(*pair, shape, is_spectroscopic=False)
    hu.validate_anc_h5_dsets(*pair, list(shape), is_spectroscopic=False)
    dims = [usid.Dimension("a", "b", 5), usid.Dimension("a", "b", 3)]
    hu.validate_dims_against_main((1, 15), dims)
    hu.validate_dims_against_main((5, 1), dims[0], is_spectroscopic=False)
    hu.validate_main_dset(h5_raw["source_main"], must_be_h5=True)
    for call, error in (
        (lambda: hu.validate_anc_h5_dsets(*pair, shape), ValueError),
        (lambda: hu.validate_anc_h5_dsets(pair[0], h5_raw["Ancillary"], shape, False), ValueError),
        (lambda: hu.validate_anc_h5_dsets("inds", pair[1], shape, False), TypeError),
        (lambda: hu.validate_anc_h5_dsets(*pair, np.arange(3), False), TypeError),
        (lambda: hu.validate_dims_against_main((1, 25), dims), ValueError),
        (lambda: hu.validate_dims_against_main("hello", dims), TypeError),
        (lambda: hu.validate_dims_against_main((25, 5), "Dimension"), TypeError),
        (lambda: hu.validate_dims_against_main([-5, 1], dims), ValueError),
        (lambda: hu.validate_dims_against_main([5], dims), ValueError),
        (lambda: hu.validate_main_dset(np.zeros((2, 2)), must_be_h5=True), TypeError),
        (lambda: hu.validate_main_dset([1], must_be_h5=False), TypeError),
        (lambda: hu.validate_main_dset(np.zeros(2), must_be_h5=False), ValueError),
        (lambda: hu.lazy_load_array([1, 2, 3]), TypeError),
    ):
        with pytest.raises(error):
            call()
