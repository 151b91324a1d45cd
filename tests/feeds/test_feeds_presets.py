"""The simulated instruments: layouts as in config/layouts, values that depend on place alone."""

from pathlib import Path

import numpy as np
import pytest

from usidstream.errors import LayoutError
from usidstream.feeds import PRESETS, load_feed, preset
from usidstream.feeds.generic import GenericFeed
from usidstream.layout import Dimension, MainLayout, PositionTable, ScanLayout

LAYOUTS = Path(__file__).resolve().parents[2] / "config" / "layouts"
SMALL = {"afm": (16, 12), "be": (4, 3), "raman": (5, 4), "4dstem": (3, 2), "timeseries": (12, 9, 5)}
VARIANTS = [(name, dtype) for name, kind in PRESETS.items() for dtype in kind.DTYPES]


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda v: f"{v[0]}-{v[1]}")
def feed(request):
    name, dtype = request.param
    return preset(name, size=SMALL[name], seed=5, dtype=dtype)


def test_layout_files_are_the_presets():
    assert {path.stem for path in LAYOUTS.glob("*.toml")} == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_each_layout_file_equals_its_preset(name):
    assert ScanLayout.load(LAYOUTS / f"{name}.toml") == preset(name).layout


def test_the_presets_are_what_the_design_calls_for():
    assert [main.name for main in preset("afm").layout.mains] == [
        "Height", "Amplitude", "Phase", "Current",
    ]  # fmt: skip
    assert all(main.row_nbytes == 4 for main in preset("afm").layout.mains)
    (be,) = preset("be").layout.mains
    assert [d.name for d in be.spectroscopic] == ["Frequency", "Bias", "Cycle"]
    assert preset("raman").layout.mains[0].n_spectroscopic == 1024
    assert preset("4dstem").layout.mains[0].dtype == "uint16"
    assert preset("timeseries").layout.mains[0].order == "columns"


def test_values_have_the_layouts_shape_and_type(feed):
    rows = np.arange(feed.layout.n_positions)
    for main in feed.layout.mains:
        values = feed.values(main.name, rows)
        assert values.shape == feed.layout.shape(main.name)
        assert values.dtype == main.np_dtype
        assert values.flags.c_contiguous
        assert np.isfinite(values).all()


def test_values_depend_on_the_place_alone(feed):
    rows = np.arange(feed.layout.n_positions)
    picked = np.random.default_rng(0).permutation(rows)[: max(2, len(rows) // 2)]
    for main in feed.layout.mains:
        whole = feed.values(main.name, rows)
        np.testing.assert_array_equal(feed.values(main.name, picked), whole[picked])
        np.testing.assert_array_equal(feed.values(main.name, picked[:1]), whole[picked[:1]])
        cols = slice(main.n_spectroscopic // 2, main.n_spectroscopic)
        np.testing.assert_array_equal(feed.values(main.name, rows[:2], cols), whole[:2, cols])


def test_same_seed_same_data_and_another_seed_other_data(feed):
    name = feed.layout.mains[0].name
    rows = np.arange(feed.layout.n_positions)
    kind = type(feed)
    shape = [*feed.layout.position_shape]
    if feed.layout.mains[0].order == "columns":
        shape.append(feed.layout.mains[0].n_spectroscopic)
    dtype = feed.layout.mains[0].dtype
    again, other = (kind(tuple(shape), seed, dtype) for seed in (5, 6))
    np.testing.assert_array_equal(again.values(name, rows), feed.values(name, rows))
    assert not np.array_equal(other.values(name, rows), feed.values(name, rows))


def test_every_value_but_few_is_worth_storing(feed):
    """Neither constant nor pure noise: pixels differ, and neighbours resemble each other."""
    rows = np.arange(feed.layout.n_positions)
    for main in feed.layout.mains:
        values = np.abs(feed.values(main.name, rows)).astype(np.float64)
        assert len(np.unique(values)) > 20
        assert values.std() > 0


def test_sizes():
    assert preset("be", size=(7,)).layout.position_shape == (7, 64)
    assert preset("timeseries", size=(8, 6, 3)).layout.shape("Image_Stack") == (48, 3)


@pytest.mark.parametrize(
    ("arguments", "field", "hint"),
    [
        ({"name": "raman2"}, "preset", "'raman'"),
        ({"name": "xyz"}, "preset", "timeseries"),
        ({"name": "be", "size": (0, 4)}, "size", "(64, 64)"),
        ({"name": "be", "size": (1, 2, 3)}, "size", "up to 2"),
        ({"name": "be", "dtype": "int8"}, "dtype", "complex64"),
    ],
)
def test_bad_choices(arguments, field, hint):
    with pytest.raises(LayoutError) as caught:
        preset(**arguments)
    assert caught.value.field == field
    assert hint in caught.value.hint


def test_a_layout_file_gets_a_generic_feed(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        (LAYOUTS / "be.toml").read_text().replace("size = 64", "size = 3"), encoding="utf-8"
    )
    feed = load_feed(str(path), seed=1)
    assert isinstance(feed, GenericFeed)
    assert feed.layout.position_shape == (3, 3)
    assert type(load_feed("be")) is PRESETS["be"]


def test_neither_preset_nor_file():
    with pytest.raises(LayoutError, match="neither"):
        load_feed("no_such.toml")


def test_a_layout_file_has_its_own_size():
    with pytest.raises(LayoutError, match="its own"):
        load_feed(str(LAYOUTS / "be.toml"), size=(3, 3))


@pytest.mark.parametrize(
    "dtype",
    [
        "int8",
        "uint8",
        "int16",
        "uint64",
        "float16",
        "float64",
        "complex128",
        [["a", "f4"], ["b", "u1"]],
    ],
)
@pytest.mark.parametrize(
    "positions",
    [
        [Dimension("X", "m", 6)],
        [Dimension("X", "m", 3), Dimension("Y", "m", 2), Dimension("Z", "m", 2)],
        PositionTable(["X"], ["m"], [[1.0], [1.0], [1.0]]),
        PositionTable(["X", "Y", "Z"], ["m"] * 3, np.random.default_rng(0).random((9, 3))),
    ],
)
def test_generic_feed_fits_any_layout(positions, dtype):
    spectroscopic = [Dimension("Bias", "V", 5), Dimension("Cycle", "", 2)]
    main = MainLayout("Raw", "Current", "A", dtype, spectroscopic=spectroscopic)
    feed = GenericFeed(ScanLayout(positions=positions, mains=[main]))
    rows = np.arange(feed.layout.n_positions)
    values = feed.values("Raw", rows)
    assert values.shape == feed.layout.shape("Raw")
    assert values.dtype == main.np_dtype
    np.testing.assert_array_equal(feed.values("Raw", rows[::-1]), values[::-1])
    np.testing.assert_array_equal(feed.values("Raw", rows, slice(3, 7)), values[:, 3:7])
    assert len(np.unique(values)) > 2
