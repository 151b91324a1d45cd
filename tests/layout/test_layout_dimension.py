"""Dimensions and position tables: what they keep, what they refuse, when they are equal."""

import copy
import pickle

import numpy as np
import pytest

from usidstream.errors import LayoutError
from usidstream.layout import Dimension, PositionTable


def test_a_number_of_steps_counts_from_zero():
    dimension = Dimension("Cycle", "", 3)
    assert dimension.size == 3
    assert dimension.values.dtype == np.float64
    np.testing.assert_array_equal(dimension.values, [0, 1, 2])


def test_numpy_integer_is_a_number_of_steps():
    assert Dimension("Cycle", "", np.int32(4)).size == 4


def test_regular_dimension_has_its_formula():
    dimension = Dimension.regular("Bias", "V", start=-5, step=0.1, size=101)
    np.testing.assert_array_equal(dimension.values, -5 + 0.1 * np.arange(101))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.float32([1, 2]), "<f4"),
        (np.float64([1, 2]), "<f8"),
        (np.array([1, 2], dtype=">f4"), "<f4"),
        (np.array([1, 2], dtype=">f8"), "<f8"),
        (np.float16([1, 2]), "<f8"),
        (np.uint8([1, 2]), "<f8"),
        ([1, 2.5], "<f8"),
        ((1, 2), "<f8"),
    ],
)
def test_precision_of_values(given, kept):
    values = Dimension("X", "m", given).values
    assert values.dtype == np.dtype(kept)
    np.testing.assert_array_equal(values, np.asarray(given).astype(kept))


def test_values_are_a_read_only_copy():
    given = np.arange(4.0)
    dimension = Dimension("X", "m", given)
    given[0] = 9
    assert dimension.values[0] == 0
    for values in (dimension.values, Dimension("X", "m", 4).values):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 1


def test_dimension_is_frozen_and_unhashable():
    dimension = Dimension("X", "m", 4)
    with pytest.raises(AttributeError):
        dimension.name = "Y"
    with pytest.raises(TypeError):
        hash(dimension)


def test_equality_is_by_content_not_by_form():
    steps = Dimension("X", "m", 4)
    assert steps == Dimension("X", "m", [0, 1, 2, 3])
    assert steps == Dimension.regular("X", "m", start=0, step=1, size=4)
    assert steps != Dimension("X", "nm", 4)
    assert steps != Dimension("Y", "m", 4)
    assert steps != Dimension("X", "m", 5)
    assert steps != Dimension("X", "m", [0, 1, 2, 4])
    assert steps != Dimension("X", "m", np.float32([0, 1, 2, 3]))
    assert steps != "X"


def test_huge_dimension_costs_nothing_until_its_values_are_read():
    huge = Dimension("T", "s", 2**32 - 1)
    assert huge == Dimension("T", "s", 2**32 - 1)
    assert huge.size == 2**32 - 1
    assert "values" not in vars(huge)


def _pickled(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - made on the line itself


@pytest.mark.parametrize("copied", [copy.deepcopy, _pickled])
def test_copies_are_equal(copied):
    for dimension in (Dimension("X", "m", 4), Dimension("X", "m", [1.0, 5.0])):
        assert copied(dimension) == dimension


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (0, "1 to 4294967295"),
        (-1, "1 to 4294967295"),
        (2**32, "1 to 4294967295"),
        (True, "real numbers"),
        (2.0, r"shape \(\)"),
        ([], "at least one"),
        ([[1, 2]], "1-D"),
        ([1, float("nan")], "value 1 is nan"),
        ([1, float("inf")], "value 1 is inf"),
        (["a"], "real numbers"),
        ([1j], "real numbers"),
        ([True, False], "real numbers"),
        ([[1], [2, 3]], "no array"),
        (None, "real numbers"),
        ([2**70], "real numbers"),
        (np.array([2**53 + 1]), "float64 cannot hold"),
        (np.array([2**64 - 1], dtype=np.uint64), "float64 cannot hold"),
        (np.longdouble([1]), "real numbers"),
    ],
)
def test_bad_values_name_the_field(values, message):
    with pytest.raises(LayoutError, match=message) as caught:
        Dimension("X", "m", values)
    assert caught.value.field == "values"
    assert caught.value.code == "bad_layout"
    assert caught.value.hint


@pytest.mark.parametrize("name", ["", "a\0b", 5, None, "x" * 256, "\ud800"])
def test_bad_dimension_names(name):
    with pytest.raises(LayoutError) as caught:
        Dimension(name, "m", 3)
    assert caught.value.field == "name"
    assert caught.value.code == "bad_name"


def test_dimension_names_may_hold_what_group_names_may_not():
    assert Dimension("Δf / Δt - offset", "Hz/s", 3).name == "Δf / Δt - offset"


def test_units_may_be_empty_but_not_missing():
    assert Dimension("X", "", 3).units == ""
    with pytest.raises(LayoutError, match="units"):
        Dimension("X", None, 3)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"start": float("nan"), "step": 1, "size": 2}, "start"),
        ({"start": 0, "step": float("inf"), "size": 2}, "step"),
        ({"start": 0, "step": 1e308, "size": 100}, "step"),
        ({"start": 10**400, "step": 1, "size": 2}, "start"),
        ({"start": 0, "step": "1", "size": 2}, "step"),
        ({"start": 0, "step": 1, "size": 2.0}, "size"),
        ({"start": 0, "step": 1, "size": 0}, "size"),
    ],
)
def test_bad_regular_dimensions(arguments, field):
    with pytest.raises(LayoutError) as caught:
        Dimension.regular("X", "m", **arguments)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"name": "X", "units": "m", "size": 3}, Dimension("X", "m", 3)),
        ({"name": "X", "units": "m", "values": [1, 5]}, Dimension("X", "m", [1, 5])),
        (
            {"name": "X", "units": "m", "values": [1, 5], "dtype": "float32"},
            Dimension("X", "m", np.float32([1, 5])),
        ),
        (
            {"name": "X", "units": "m", "start": 1, "step": 2, "size": 2},
            Dimension("X", "m", [1.0, 3.0]),
        ),
    ],
)
def test_three_ways_in_a_table(table, expected):
    assert Dimension.from_dict(table) == expected


def test_dict_form_stays_compact():
    assert Dimension("X", "m", 4096).to_dict() == {"name": "X", "units": "m", "size": 4096}
    regular = Dimension.regular("X", "m", start=1, step=2, size=3)
    assert regular.to_dict() == {"name": "X", "units": "m", "start": 1, "step": 2, "size": 3}


@pytest.mark.parametrize(
    ("table", "field", "hint"),
    [
        ({"name": "X", "units": "m"}, "values", "start, step and size"),
        ({"name": "X", "units": "m", "start": 0, "size": 3}, "values", "start, step and size"),
        ({"name": "X", "units": "m", "size": 3, "values": [1]}, "values", "start, step and size"),
        ({"name": "X", "size": 3}, "units", "Add 'units'"),
        ({"name": "X", "unit": "m", "size": 3}, "unit", "'units'"),
        ({"name": "X", "units": "m", "values": 3}, "values", "size = n"),
        ({"name": "X", "units": "m", "size": [3]}, "size", "whole number"),
        ({"name": "X", "units": "m", "values": [1], "dtype": "int8"}, "dtype", "float64"),
        ({"name": "X", "units": "m", 7: 1, "size": 2}, "7", "name, units"),
    ],
)
def test_bad_tables(table, field, hint):
    with pytest.raises(LayoutError) as caught:
        Dimension.from_dict(table)
    assert caught.value.field == field
    assert hint in caught.value.hint


def test_open_ended_dimension_is_reserved():
    with pytest.raises(LayoutError) as caught:
        Dimension.from_dict({"name": "X", "units": "m", "size": 2, "open_ended": True})
    assert caught.value.code == "unsupported_feature"


def test_position_table():
    table = PositionTable(["X", "Y"], ["um", "um"], [[0, 1], [2, 3], [4, 5]])
    assert table.size == 3
    assert table.values.dtype == np.float64
    assert table == PositionTable.from_dict(table.to_dict())
    assert table != PositionTable(["X", "Z"], ["um", "um"], [[0, 1], [2, 3], [4, 5]])
    assert table != PositionTable(["X", "Y"], ["um", "um"], [[0, 1], [2, 3], [4, 6]])


@pytest.mark.parametrize(
    ("labels", "units", "values", "field"),
    [
        (["X"], ["m", "m"], [[0, 1]], "labels"),
        (["X", "Y"], ["m"], [[0, 1]], "units"),
        ("XY", ["m", "m"], [[0, 1]], "labels"),
        (["X", "X"], ["m", "m"], [[0, 1]], "labels[1]"),
        (["X", ""], ["m", "m"], [[0, 1]], "labels[1]"),
        (["X", "Y"], ["m", 3], [[0, 1]], "units[1]"),
        (["X", "Y"], ["m", "m"], [0, 1], "values"),
        (["X", "Y"], ["m", "m"], [[0, np.nan]], "values"),
        (["X"], ["m"], np.empty((0, 1)), "values"),
    ],
)
def test_bad_position_tables(labels, units, values, field):
    with pytest.raises(LayoutError) as caught:
        PositionTable(labels, units, values)
    assert caught.value.field == field
