"""Attributes: whole or not at all, and read back as they were written."""

from enum import Enum

import h5py
import numpy as np
import pytest

import usidstreamd.h5usid as usid
from support.usid_files import contents

SCRIPTS = ["bias", "Größe", "Напряжение", "電圧", "µ", ""]


class Colour(Enum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("string", "string"),
        ("Größe 電圧", "Größe 電圧"),
        (np.str_("text"), "text"),
        (b"bytes", "bytes"),
        (1.2345, 1.2345),
        (9, 9),
        (2**63 + 5, 2**63 + 5),
        (True, True),
        (3 - 4j, 3 - 4j),
        ([1, 2, 3.14, 4], [1, 2, 3.14, 4]),
        ([True, False], [True, False]),
        ((1, 2), [1, 2]),
        ([[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        (SCRIPTS, SCRIPTS),
        ([["a", "bc"], ["def", ""]], [["a", "bc"], ["def", ""]]),
        (np.array(SCRIPTS), SCRIPTS),
        (np.array(SCRIPTS, dtype=object), SCRIPTS),
        (np.float32(0.5), 0.5),
        ([], []),
        (Colour.RED, "RED"),
    ],
)
def test_every_simple_kind_survives_a_round_trip(h5_file, other_file, value, expected):
    usid.write_simple_attrs(h5_file, {"key": value})
    usid.copy_attributes(h5_file, other_file)
    for target in (h5_file, other_file):
        found = usid.get_attr(target, "key")
        assert np.shape(found) == np.shape(expected)
        assert np.all(np.asarray(found) == np.asarray(expected))


def test_lists_of_strings_are_stored_as_fixed_length_bytes(h5_file):
    usid.write_simple_attrs(h5_file, {"labels": ["Cols", "Rows"]})
    assert h5_file.attrs["labels"].dtype == "S4"


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        [1, None],
        ["text", 1],
        [2**70, 1],
        [-1, 2**63],
        [[1], [2, 3]],
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.ma.masked_array([1, 2], mask=[True, False]),
        b"nul at the end\0",
        [b"fine", b"nul\0inside"],
        "nul\0inside",
        ["fine", "nul\0inside"],
        "\ud800",
        lambda: None,
    ],
)
def test_what_hdf5_cannot_hold_raises_names_the_key_and_changes_nothing(h5_file, value):
    usid.write_simple_attrs(h5_file, {"old": 1})
    before = contents(h5_file)
    with pytest.raises((TypeError, ValueError), match="'broken'"):
        usid.write_simple_attrs(h5_file, {"old": 2, "new": {"deep": 1}, "broken": value})
    assert contents(h5_file) == before


def test_an_attribute_too_large_for_the_format_raises_and_changes_nothing(tmp_path):
    with h5py.File(tmp_path / "earliest.h5", "w", libver="earliest") as file:
        before = contents(file)
        with pytest.raises(ValueError, match="'huge'"):
            usid.write_simple_attrs(file, {"first": 1, "huge": np.zeros(100_000)})
        assert contents(file) == before


def test_keys_are_strings_without_blanks_around(h5_file):
    usid.write_simple_attrs(h5_file, {"  before": 1, "after  ": 2, "in side": 3})
    assert set(h5_file.attrs) == {"before", "after", "in side"}
    with pytest.raises(ValueError, match="both be named 'before'"):
        usid.write_simple_attrs(h5_file, {"before": 1, " before": 2})
    with pytest.raises(ValueError, match="empty"):
        usid.write_simple_attrs(h5_file, {" ": 1})


@pytest.mark.parametrize("key", [15, None, 15.234, True])
def test_other_keys_are_converted_or_left_out_with_a_warning(h5_file, key):
    with pytest.warns(UserWarning, match="left out"):
        usid.write_simple_attrs(h5_file, {key: 1}, force_to_str=False)
    assert len(h5_file.attrs) == 0
    with pytest.warns(UserWarning, match="converted"):
        usid.write_simple_attrs(h5_file, {key: 1}, force_to_str=True)
    assert list(h5_file.attrs) == [str(key)]


def test_none_is_left_out_with_a_warning(h5_file):
    with pytest.warns(UserWarning, match="'nothing' is None"):
        usid.write_simple_attrs(h5_file, {"nothing": None, "one": 1})
    assert list(h5_file.attrs) == ["one"]


def test_nested_dictionaries_become_groups_but_not_on_a_dataset(h5_file):
    usid.write_simple_attrs(h5_file, {"a": {"b": 1, "c": {"d": "x"}}, "list": [{"e": 2}, {"f": 3}]})
    assert h5_file["a"].attrs["b"] == 1
    assert h5_file["a/c"].attrs["d"] == "x"
    assert h5_file["list/1"].attrs["f"] == 3
    h5_dset = h5_file.create_dataset("dset", data=[1])
    with pytest.raises(ValueError, match="nested"):
        usid.write_simple_attrs(h5_dset, {"a": {"b": 1}})


def test_references_are_written_alone_and_in_lists(h5_file):
    h5_dset = h5_file.create_dataset("dset", data=[1])
    usid.write_simple_attrs(h5_file, {"one": h5_dset.ref, "two": [h5_dset.ref, h5_file.ref]})
    assert h5_file[h5_file.attrs["one"]] == h5_dset
    assert h5_file[h5_file.attrs["two"][1]] == h5_file


def test_wrong_arguments_are_refused(h5_file):
    with pytest.raises(TypeError):
        usid.write_simple_attrs(np.arange(4), {"a": 3})
    with pytest.raises(TypeError):
        usid.write_simple_attrs(h5_file, ["no", "dict"])
    with pytest.raises(TypeError):
        usid.get_attr(np.arange(3), "units")
    for name in (14, ["one", "two"]):
        with pytest.raises(TypeError):
            usid.get_attr(h5_file, name)
    with pytest.raises(KeyError):
        usid.get_attr(h5_file, "missing")
    with pytest.raises(TypeError):
        usid.get_attributes(h5_file, ["a", 15])
    with pytest.raises(KeyError):
        usid.get_attributes(h5_file, ["missing"])
    with pytest.raises(TypeError):
        usid.write_book_keeping_attrs("file")


def test_book_keeping_tells_machine_time_and_version(h5_file):
    usid.write_book_keeping_attrs(h5_file)
    found = usid.get_attributes(h5_file)
    assert set(found) == {"machine_id", "timestamp", "platform", "usidstream_version"}
    assert all(isinstance(value, str) and value for value in found.values())


def test_copying_keeps_references_only_where_they_mean_the_same(h5_file, other_file):
    h5_dset = h5_file.create_dataset("source", data=np.arange(6).reshape(2, 3))
    h5_dset.attrs["plain"] = np.array([b"a", b"b"])
    h5_dset.attrs["object"] = h5_file.ref
    h5_dset.attrs["region"] = h5_dset.regionref[0]
    h5_copy, h5_other = h5_file.create_group("copy"), other_file.create_group("copy")
    usid.copy_attributes(h5_dset, h5_copy)
    assert set(h5_copy.attrs) == {"plain"}
    with pytest.warns(UserWarning, match="region"):
        usid.copy_attributes(h5_dset, h5_copy, skip_refs=False)
    assert set(h5_copy.attrs) == {"plain", "object"}
    with pytest.warns(UserWarning, match="object"):
        usid.copy_attributes(h5_dset, h5_other, skip_refs=False)
    assert set(h5_other.attrs) == {"plain"}
    for pair in ((h5_file, np.arange(4)), (np.arange(4), h5_file)):
        with pytest.raises(TypeError):
            usid.copy_attributes(*pair)


def test_copying_keeps_types_that_python_has_not(h5_file, other_file):
    vlen = h5py.vlen_dtype(np.int32)
    ragged = np.empty(2, dtype=object)
    ragged[:] = [np.arange(2, dtype="i4"), np.arange(3, dtype="i4")]
    h5_file.attrs.create("ragged", ragged, dtype=vlen)
    h5_file.attrs.create("enum", 1, dtype=h5py.enum_dtype({"A": 0, "B": 1}, basetype="i1"))
    h5_file.attrs["empty"] = h5py.Empty("f4")
    usid.copy_attributes(h5_file, other_file)
    assert [item.tolist() for item in other_file.attrs["ragged"]] == [[0, 1], [0, 1, 2]]
    assert h5py.check_enum_dtype(other_file.attrs.get_id("enum").dtype) == {"A": 0, "B": 1}
    assert other_file.attrs["empty"] == h5py.Empty("f4")


def test_names_with_blanks_around_are_found_as_they_are(h5_file):
    h5_file.attrs.update({" padded ": 1, "plain": 2})
    assert usid.get_attributes(h5_file) == {" padded ": 1, "plain": 2}
    assert [usid.get_attr(h5_file, name) for name in (" padded ", " plain")] == [1, 2]


def test_an_attribute_of_any_type_gives_way_to_another(h5_file):
    h5_file.attrs.update({"empty": h5py.Empty("f4"), "link": h5_file.ref, "list": ["a", "b"]})
    usid.write_simple_attrs(h5_file, {"empty": 1, "link": "text", "list": 2.5})
    assert usid.get_attributes(h5_file) == {"empty": 1, "link": "text", "list": 2.5}
