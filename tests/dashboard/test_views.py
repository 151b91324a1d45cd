"""What kind of picture a layout needs, over which axes, and which row stands where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from usidstream import Dimension, MainLayout, PositionTable, ScanLayout
from usidstream.feeds import PRESETS, preset
from usidstreamd.dashboard.views import Axis, Kind, MainView, views_of_layout


def view_of(positions: Any, *spectroscopic: Dimension, **more: Any) -> MainView:
    main: dict[str, Any] = {"quantity": "Current", "units": "nA", "dtype": "f4", **more}
    if spectroscopic:
        main["spectroscopic"] = list(spectroscopic)
    layout = ScanLayout(positions=positions, mains=[MainLayout("Raw_Data", **main)])
    (view,) = views_of_layout(layout)
    return view


def axis(*values: float, units: str = "m") -> Axis:
    return Axis("X", units, np.array(values, np.float64))


X, Y = Dimension("X", "um", np.linspace(0, 3, 4)), Dimension("Y", "um", np.linspace(10, 12, 3))


@pytest.mark.parametrize(
    ("positions", "kind", "shape"),
    [
        ([X, Y], Kind.MAP, (3, 4, 1)),
        ([Dimension("X", "um", 4), Dimension("Y", "um", 1)], Kind.LINE, (1, 4, 1)),
        ([Dimension("Cycle", "", 1), X, Y], Kind.MAP, (3, 4, 1)),
        ([X, Y, Dimension("Z", "um", 5)], Kind.MAP, (3, 4, 5)),
        ([Dimension("Point", "", 1)], Kind.POINT, (1, 1, 1)),
        (PositionTable(["X", "Y"], ["um", "um"], np.eye(3)[:, :2]), Kind.CLOUD, (1, 3, 1)),
        (PositionTable(["T"], ["s"], np.arange(3.0)[:, None]), Kind.LINE, (1, 3, 1)),
        (PositionTable(["X", "Y"], ["um", "um"], np.zeros((1, 2))), Kind.POINT, (1, 1, 1)),
    ],
)
def test_a_layout_is_shown_by_what_moves(
    positions: Any, kind: Kind, shape: tuple[int, ...]
) -> None:
    view = view_of(positions)
    assert view.kind is kind
    assert (view.height, view.width, view.n_planes) == shape


def test_rows_and_places_of_a_grid_are_each_others_inverse() -> None:
    view = view_of([X, Y, Dimension("Z", "um", 2)])
    for row in range(view.n_positions):
        assert view.row_at(*view.place_of(row), view.plane_of(row)) == row
    assert view.place_of(5) == (1.0, 11.0)
    assert view.row_at(-100, 100) == 8, "clicks beside the map take the nearest pixel"
    assert view.words_for(23) == "X 3 um, Y 12 um, Z 1 um"


def test_rows_and_places_of_a_table_are_each_others_inverse() -> None:
    places = np.random.default_rng(1).random((50, 2)) * [1e-6, 20]
    view = view_of(PositionTable(["X", "Y"], ["m", "um"], places))
    assert view.positions[0].value_label == "X (10⁻⁹ m)"
    for row in (0, 7, 49):
        assert view.row_at(*view.place_of(row)) == row


def test_a_grid_in_another_order_is_put_in_order() -> None:
    serpentine = np.array([0, 1, 2, 3, 7, 6, 5, 4, 8, 9, 10, 11])
    plain = view_of([X, Y])
    view = MainView(**{**vars(plain), "row_of_cell": serpentine})
    assert view.row_at(0, 11) == 7
    assert view.place_of(7) == (0.0, 11.0)


def test_axes_tell_what_stands_at_them() -> None:
    assert (axis(0, 1e-6).value_label, axis(0, 1e-6).power) == ("X (10⁻⁶ m)", -6)
    assert axis(0, 5, units="").value_label == "X"
    assert axis(0, 5, units="a. u.").value_label == "X"
    np.testing.assert_allclose(axis(0, 2e-6, 4e-6).scaled, [0, 2, 4])
    assert axis(0, 1, 2).edges == (-0.5, 2.5)
    assert axis(7).edges == (6.5, 7.5)


def test_falling_and_uneven_steps_are_told_apart() -> None:
    falling = axis(3, 2, 1)
    assert (falling.is_descending, falling.edges, falling.step_at(3.2)) == (True, (0.5, 3.5), 0)
    uneven = axis(0, 1, 10)
    assert (uneven.is_even, uneven.label) == (False, "X, step number")
    np.testing.assert_array_equal(uneven.shown, [0, 1, 2])
    assert not axis(1, 1, 1).is_even


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_shown(name: str) -> None:
    for view in views_of_layout(preset(name).layout):
        assert view.kind is Kind.MAP
        assert view.label
        assert all(shown.value_label for shown in (*view.positions, *view.spectrum))


def test_angles_want_a_cyclic_palette() -> None:
    assert view_of([X, Y], quantity="Phase", units="deg").is_phase
    assert not view_of([X, Y], quantity="Phase", units="V").is_phase
    assert not view_of([X, Y], quantity="Tilt", units="deg").is_phase
