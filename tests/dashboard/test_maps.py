"""The values of a map: increments in any order and over some columns, and which lines are new."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from usidstream import Dimension, MainLayout, ScanLayout
from usidstreamd.dashboard.maps import MapModel, envelope, envelope_places, runs
from usidstreamd.dashboard.views import MainView, views_of_layout

WIDTH, HEIGHT, N_COLS = 8, 6, 12
N = WIDTH * HEIGHT


def make_view(width: int = WIDTH, height: int = HEIGHT, planes: int = 1) -> MainView:
    sizes = zip("XYZ", (width, height, planes), strict=True)
    layout = ScanLayout(
        positions=[Dimension(name, "um", size) for name, size in sizes],
        mains=[MainLayout("Raw", "Current", "nA", "f4", [Dimension("Bias", "V", N_COLS)])],
    )
    return views_of_layout(layout)[0]


def make_map(reduction: str = "mean") -> MapModel:
    return MapModel(make_view(), reduction)


def rows(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


@pytest.mark.parametrize(("reduction", "exact"), [("mean", np.mean), ("max", np.max)])
def test_parts_of_spectra_in_any_order_combine_to_the_whole(reduction: str, exact: object) -> None:
    assert callable(exact)
    rng = np.random.default_rng(2)
    data = rng.normal(size=(N, N_COLS)).astype("f4")
    model = make_map(reduction)
    edges = [0, 3, 4, 9, N_COLS]
    parts = [slice(a, b) for a, b in pairwise(edges)]
    for part in rng.permutation(len(parts)):
        columns = parts[part]
        order = rng.permutation(N)
        reduced = exact(data[order, columns], axis=1).astype("f4")
        model.apply(order, reduced, columns.stop - columns.start, N_COLS)
    np.testing.assert_allclose(model.values, exact(data, axis=1), rtol=1e-5)
    assert not len(model.lacking(np.ones(N, bool), N_COLS, N))


def test_a_whole_spectrum_replaces_what_was_known() -> None:
    model = make_map()
    model.apply(rows(3), np.float32([5]), 4, N_COLS)
    model.apply(rows(3), np.float32([7]), N_COLS, N_COLS)
    assert model.values[3] == 7
    at_column = make_map("at:2")
    at_column.apply(rows(3), np.float32([9]), 1, N_COLS)
    assert (at_column.values[3], at_column.n_known) == (9, 1)


def test_rows_outside_of_the_main_are_passed_over() -> None:
    model = make_map()
    model.apply(rows(-1, N, 2), np.float32([1, 2, 3]), N_COLS, N_COLS)
    assert model.n_known == 1
    model.apply(rows(N), np.float32([1]), N_COLS, N_COLS)
    assert model.version == 1


def test_each_line_is_new_once_to_each_browser() -> None:
    model = make_map()
    model.apply(np.arange(10), np.ones(10, "f4"), N_COLS, N_COLS)
    assert runs(model.lines_since(0)) == [(0, 2)]
    seen = model.version
    model.apply(rows(30), np.float32([1]), N_COLS, N_COLS)
    assert runs(model.lines_since(seen)) == [(3, 4)]
    assert runs(model.lines_since(0)) == [(0, 2), (3, 4)], "another browser has looked before"
    assert not model.lines_since(model.version).any()


def test_what_the_file_tells_again_is_not_sent_again() -> None:
    model = make_map()
    model.apply(np.arange(20), np.ones(20, "f4"), N_COLS, N_COLS)
    seen = model.version
    model.fill(np.arange(20), np.ones(20), N_COLS)
    assert model.version == seen
    model.fill(rows(5), np.array([2.0]), N_COLS)
    assert runs(model.lines_since(seen)) == [(0, 1)]
    assert model.newest_row == 19, "the file's old rows are no news"


def test_the_file_is_asked_for_what_is_lacking_only() -> None:
    model = make_map()
    model.apply(np.arange(10), np.ones(10, "f4"), N_COLS, N_COLS)
    model.apply(rows(10), np.float32([1]), 3, N_COLS)
    complete = np.zeros(N, bool)
    complete[5:14] = True
    np.testing.assert_array_equal(model.lacking(complete, N_COLS, 100), [10, 11, 12, 13])
    np.testing.assert_array_equal(model.lacking(complete, N_COLS, 2), [10, 11])
    model.forget_progress()
    assert len(model.lacking(complete, N_COLS, 100)) == 9
    assert model.n_known == 11, "what was seen before a restart stays on the screen"


def test_planes_are_pictures_of_their_own() -> None:
    model = MapModel(make_view(4, 3, 2), "mean")
    model.apply(np.arange(24), np.arange(24, dtype="f4"), N_COLS, N_COLS)
    np.testing.assert_array_equal(model.picture(1), np.arange(12, 24).reshape(3, 4))
    seen = model.version
    model.apply(rows(16), np.float32([0]), N_COLS, N_COLS)
    assert not model.lines_since(seen, 0).any()
    assert runs(model.lines_since(seen, 1)) == [(1, 2)]


def test_large_pictures_are_thinned() -> None:
    assert MapModel(make_view(3000, 1024), "mean").thinning == (1, 3)


def test_the_latest_column_takes_the_place_of_the_one_before() -> None:
    model = make_map("latest")
    model.apply(rows(0, 1, 2), np.float32([1, 2, 3]), 1, N_COLS, 4)
    seen = model.version
    model.apply(rows(9), np.float32([7]), 1, N_COLS, 5)
    assert model.column == 5
    assert np.flatnonzero(np.isfinite(model.values)).tolist() == [9]
    assert model.lines_since(seen).all(), "what was forgotten is drawn, too"
    assert model.has_just_turned
    # the file has more of it; of another column nothing here is known
    held = np.zeros(N, bool)
    held[:20] = True
    assert 9 not in model.lacking(held, N_COLS, N, 5)
    assert 9 in model.lacking(held, N_COLS, N, 6)
    model.fill(np.arange(N), np.arange(N), N_COLS, 6)
    assert (model.column, model.n_known, model.has_just_turned) == (6, N, False)


@pytest.mark.parametrize("n", [7, 40, 41, 399, 1_000])
def test_a_long_lines_envelope_has_every_peak_and_no_more_points(n: int) -> None:
    values = np.random.default_rng(1).normal(size=n).astype("f4")
    values[3:6] = np.nan
    values[n // 2], values[n - 1] = 50.0, -50.0
    places = np.arange(n) * 0.5
    drawn, at = envelope(values, 40), envelope_places(places, 40)
    assert len(drawn) == len(at) <= 40
    assert (np.nanmax(drawn), np.nanmin(drawn)) == (50.0, -50.0)
    assert (np.diff(at) >= 0).all()
    assert abs(at[np.nanargmax(drawn)] - places[n // 2]) <= places[-1] * 2 / 40 + 0.5
    nothing = envelope(np.full(n, np.nan, "f4"), 40)
    assert np.isnan(nothing).all()
