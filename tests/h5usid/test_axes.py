"""Dimensions, and the matrices that are made of them piece by piece."""

from itertools import pairwise

import numpy as np
import pytest

from usidstreamd.h5usid import write_utils as wu
from usidstreamd.h5usid.axes import GridAxes, axes_from
from usidstreamd.h5usid.dimension import Dimension, DimType


def test_a_dimension_takes_values_or_a_number_of_steps():
    values = np.random.default_rng(0).random(5)
    assert Dimension("Bias", "V", values).values.tolist() == values.tolist()
    assert Dimension("Bias", "V", 5).values.tolist() == [0, 1, 2, 3, 4]
    assert Dimension(" Bias ", " V ", np.int64(2)).name == "Bias"
    assert (len(Dimension("a", "", 3)), np.sum(Dimension("a", "", 3))) == (3, 3)


def test_a_dimension_prints_all_it_knows():
    dimension = Dimension("Bias", "V", 3)
    assert f"{dimension}" == f"Bias: generic (V) mode:{DimType.DEFAULT} : [0. 1. 2.]"


def test_dimensions_are_equal_by_content():
    first = Dimension("Bias", "V", [0, 1, 2])
    assert first == Dimension("Bias", "V", np.arange(3, dtype="f4"))
    for other in (
        Dimension("Bias", "V", [0, 1, 3]),
        Dimension("Bias", "V", 2),
        Dimension("Other", "V", 3),
        Dimension("Bias", "mV", 3),
        Dimension("Bias", "V", 3, mode=DimType.DEPENDENT),
        Dimension("Bias", "V", 3, quantity="Voltage"),
    ):
        assert first != other
    with pytest.raises(TypeError):
        first.__eq__("Bias")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"name": 14}, TypeError),
        ({"name": " "}, ValueError),
        ({"units": 14}, TypeError),
        ({"values": 0}, ValueError),
        ({"values": []}, TypeError),
        ({"values": "invalid"}, TypeError),
        ({"values": [[1, 2], [3, 4]]}, ValueError),
        ({"values": None}, TypeError),
        ({"values": True}, TypeError),
        ({"mode": "Incomplete"}, TypeError),
    ],
)
def test_a_wrong_dimension_is_refused(arguments, error):
    with pytest.raises(error):
        Dimension(**{"name": "Name", "units": "units", "values": 4, **arguments})


def test_modes_are_ordered_and_compare_with_modes_only():
    assert DimType.DEFAULT < DimType.INCOMPLETE < DimType.DEPENDENT
    assert DimType.DEPENDENT > DimType.DEFAULT
    assert len({DimType.DEFAULT, DimType.DEFAULT}) == 1
    for compare in ("__eq__", "__lt__", "__gt__"):
        with pytest.raises(TypeError):
            getattr(DimType.INCOMPLETE, compare)("Default")


@pytest.mark.parametrize("pieces", [[0, 60], [0, 1, 2, 17, 59, 60], [0, 30, 60], [0, 7, 8, 60]])
def test_pieces_of_a_grid_join_to_the_whole(pieces):
    fast_first = [Dimension("a", "", [3, 1, 2]), Dimension("b", "", 4), Dimension("c", "", 5)]
    axes = GridAxes(fast_first[::-1])
    indices, values = wu.build_ind_val_matrices([dim.values for dim in fast_first])
    bounds = list(pairwise(pieces))
    for column in range(3):
        found = [axes.indices(column, *piece) for piece in bounds]
        assert np.concatenate(found).tolist() == indices[2 - column].tolist()
        found = [axes.values(column, *piece) for piece in bounds]
        assert np.concatenate(found).tolist() == values[2 - column].tolist()
        whole, period = np.concatenate(found), axes.period(column)
        assert (whole == np.resize(whole[:period], 60)).all()


def test_a_piece_of_a_slow_dimension_costs_no_more_than_its_rows():
    axes = axes_from([Dimension("a", "", 3), Dimension("b", "", 2)], is_spectral=False)
    axes._strides[0] = 10**15  # a whole step of it could not be held in memory
    assert axes.indices(0, 10**15 - 2, 10**15 + 2).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ([1, 2, 3], ValueError),
        ([1.2, 2.4], ValueError),
        ([2, "hello"], ValueError),
        ([], ValueError),
        ("23", TypeError),
    ],
)
def test_wrong_numbers_of_steps_are_refused(steps, error):
    with pytest.raises(error):
        wu.make_indices_matrix(steps)


def test_index_matrices_run_fastest_first():
    assert wu.make_indices_matrix([2, 3], is_position=False).tolist() == [
        [0, 1, 0, 1, 0, 1],
        [0, 0, 1, 1, 2, 2],
    ]
    assert wu.make_indices_matrix([4]).tolist() == [[0], [1], [2], [3]]
    assert wu.make_indices_matrix([1]).tolist() == [[0]]
    assert wu.make_indices_matrix(2).dtype == np.uint32


def test_value_matrices_follow_the_unit_values():
    indices, values = wu.build_ind_val_matrices([[5, 7], [1, 2, 3]], is_spectral=False)
    assert (indices.dtype, values.dtype) == (np.uint32, np.float32)
    assert values.tolist() == [[5, 1], [7, 1], [5, 2], [7, 2], [5, 3], [7, 3]]
    for wrong, error in (("text", TypeError), ([[0, 1], [[1, 2]]], ValueError), ([], ValueError)):
        with pytest.raises(error):
            wu.build_ind_val_matrices(wrong)


def test_indices_are_inferred_from_values():
    triangle = np.roll(np.concatenate([np.arange(-4, 4), np.arange(4, -4, -1)]), -4)
    indices, values = wu.build_ind_val_matrices([triangle, [0, 1], [0, 1, 2]])
    assert (wu.create_spec_inds_from_vals(values) == indices).all()
    with pytest.raises(TypeError):
        wu.create_spec_inds_from_vals([[0, 1]])
    with pytest.raises(ValueError, match="2 dimensions"):
        wu.create_spec_inds_from_vals(np.zeros((2, 3, 4)))


@pytest.mark.parametrize(
    ("keywords", "chunks"),
    [
        ({}, (26, 100)),
        ({"unit_chunks": (3, 7)}, (27, 98)),
        ({"max_chunk_mem": 50_000}, (56, 224)),
        ({"unit_chunks": (3, 7), "max_chunk_mem": 50_000}, (57, 224)),
    ],
)
def test_chunks_are_whole_units_of_about_a_size(keywords, chunks):
    assert wu.calc_chunks((16384, 65536), 4, **keywords) == chunks
    assert wu.calc_chunks((5, 7), 4) == (5, 7)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("text", 14), TypeError),
        (((5, 7), 2.1), TypeError),
        (((5, 7), 4, 4), TypeError),
        (((5, 7), 4, (1, 5, 9)), ValueError),
    ],
)
def test_wrong_chunk_arguments_are_refused(arguments, error):
    with pytest.raises(error):
        wu.calc_chunks(*arguments)


def test_slices_pick_a_dimension_from_a_matrix():
    every = slice(None)
    assert wu.get_aux_dset_slicing(["X", "Y"], is_spectroscopic=True) == {
        "X": (slice(0, 1), every),
        "Y": (slice(1, 2), every),
    }
    assert wu.get_aux_dset_slicing(["X"]) == {"X": (every, slice(0, 1))}
    with pytest.raises(TypeError):
        wu.get_aux_dset_slicing([1, "Y"])
    with pytest.raises(ValueError, match="at least one"):
        wu.get_aux_dset_slicing([])
