"""Pictures: what is drawn where, and what the axes say."""

import sys

import h5py
import matplotlib as mpl
import numpy as np
import pytest

import usidstreamd.h5usid as usid
from support.usid_files import aborted, band_excitation, spiral

mpl.use("Agg")


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    from matplotlib import pyplot as plt

    plt.close("all")


@pytest.fixture
def h5_old(tmp_path):
    with h5py.File(band_excitation(tmp_path / "beps.h5"), "r") as file:
        yield usid.USIDataset(file["Raw_Measurement/source_main"])


def texts(labels):
    return [float(label.get_text().replace("\N{MINUS SIGN}", "-")) for label in labels]


def image_of(axis):
    [image] = axis.get_images()
    return image.get_array()


@pytest.mark.parametrize(
    ("picks", "upwards", "rightwards"),
    [
        ({"Bias": 0, "Cycle": 1}, "X (nm)", "Y (um)"),
        ({"X": 3, "Y": 2}, "Bias (V)", "Cycle ()"),
        ({"X": 3, "Bias": 2}, "Y (um)", "Cycle ()"),
    ],
)
def test_two_dimensions_make_a_map(h5_old, picks, upwards, rightwards):
    _, axis = h5_old.plot(picks)
    np.testing.assert_allclose(image_of(axis), h5_old.slice(picks)[0])
    assert (axis.get_ylabel(), axis.get_xlabel()) == (upwards, rightwards)
    assert axis.get_title() == "/Raw_Measurement/source_main"
    assert axis.get_images()[0].colorbar.ax.get_ylabel() == "Current (A)"
    name = rightwards.split(" ")[0]
    read = h5_old.get_pos_values if name in h5_old.pos_dim_labels else h5_old.get_spec_values
    shown = texts(axis.get_xticklabels())
    assert (shown[0], shown[-1]) == tuple(np.round(read(name)[[0, -1]].astype(float), 2))


def test_the_look_is_the_callers_choice(h5_old, tmp_path, capsys):
    _, axis = h5_old.visualize({"Bias": 0, "Cycle": 1}, verbose=True, cmap="magma", vmin=0)
    assert "Sliced" in capsys.readouterr().out
    [image] = axis.get_images()
    assert (image.get_cmap().name, image.norm.vmin) == ("magma", 0)
    _, axis = h5_old.plot({"X": 1, "Y": 2, "Cycle": 0}, color="red")
    assert axis.get_lines()[0].get_color() == "red"
    with h5py.File(spiral(tmp_path / "spiral.h5"), "r") as file:
        _, axis = usid.USIDataset(file["Raw_Data"]).plot({"Frequency": 1}, s=30)
    assert axis.collections[0].get_sizes().tolist() == [30]


@pytest.mark.parametrize(
    ("picks", "label", "name"),
    [
        ({"Bias": 4, "Cycle": 1, "Y": 2}, "X (nm)", "X"),
        ({"X": 1, "Y": 2, "Bias": 4}, "Cycle ()", "Cycle"),
    ],
)
def test_one_dimension_makes_a_curve(h5_old, picks, label, name):
    _, axis = h5_old.plot(picks)
    [line] = axis.get_lines()
    read = h5_old.get_pos_values if name == "X" else h5_old.get_spec_values
    np.testing.assert_allclose(line.get_xdata(), read(name))
    np.testing.assert_allclose(line.get_ydata(), h5_old.slice(picks)[0])
    assert (axis.get_xlabel(), axis.get_ylabel()) == (label, "Current (A)")


def test_more_or_fewer_dimensions_are_refused(h5_old):
    for picks in (None, {"X": 1}, {"X": 1, "Y": 2, "Bias": 4, "Cycle": 1}):
        with pytest.raises(ValueError, match="one or two dimensions"):
            h5_old.plot(picks)
    with pytest.raises(KeyError):
        h5_old.plot({"blah": 1})


def test_complex_and_compound_values_are_drawn_part_by_part(h5_old):
    h5_group = h5_old.parent
    waves = usid.USIDataset(h5_group["source_main-Fitter_001/results_main"])
    _, axes = waves.plot({"Bias": 3})
    data, _ = waves.slice({"Bias": 3})
    np.testing.assert_allclose(image_of(axes[0]), np.abs(data))
    np.testing.assert_allclose(image_of(axes[1]), np.angle(data))
    assert axes[1].get_images()[0].colorbar.ax.get_ylabel() == "Phase (rad)"
    compound = usid.USIDataset(h5_group["source_main-Fitter_000/results_main"])
    _, axes = compound.plot({"X": 1, "Y": 1})
    assert [axis.get_title().split("\n")[1] for axis in axes] == ["(r)", "(g)", "(b)"]


def test_small_values_are_shown_with_their_power_of_ten(h5_file):
    across = usid.Dimension("X", "m", 1e-9 * np.arange(1, 5))
    upwards = usid.Dimension("Y", "m", 3e-9 * np.arange(3))
    h5_main = usid.write_main_dataset(
        h5_file, np.zeros((12, 1)), "Map", "Height", "m", [across, upwards],
        usid.Dimension("None", "", 1),
    )  # fmt: skip
    _, axis = h5_main.plot()
    assert axis.get_xlabel() == "X (m) x $10^{-9}$"
    assert texts(axis.get_xticklabels()) == [1, 2, 3, 4]
    assert axis.get_aspect() == pytest.approx(3)


def test_ticks_close_together_have_more_decimals(h5_file):
    dims = [usid.Dimension("X", "um", np.linspace(0, 0.06, 5)), usid.Dimension("Y", "um", 3)]
    h5_main = usid.write_main_dataset(
        h5_file, np.ones((15, 1)), "Raw", "Height", "m", dims, usid.Dimension("None", "", 1)
    )
    _, axis = h5_main.plot()
    assert texts(axis.get_xticklabels()) == [0, 0.015, 0.03, 0.045, 0.06]


def test_positions_without_a_grid_are_drawn_as_points(tmp_path):
    with h5py.File(spiral(tmp_path / "spiral.h5"), "r") as file:
        h5_main = usid.USIDataset(file["Raw_Data"])
        _, axis = h5_main.plot({"Frequency": 1})
        [points] = axis.collections
        np.testing.assert_allclose(points.get_offsets(), h5_main.h5_pos_vals)
        np.testing.assert_allclose(points.get_array(), h5_main[:, 1])
        assert (axis.get_xlabel(), axis.get_ylabel()) == ("X (nm)", "Y (um)")
        _, axis = h5_main.plot({"X": 3})
        np.testing.assert_allclose(axis.get_lines()[0].get_ydata(), h5_main[3])
        with pytest.raises(ValueError, match="without a grid"):
            h5_main.plot()


def test_an_aborted_map_is_drawn_as_far_as_it_came(tmp_path):
    with h5py.File(aborted(tmp_path / "aborted.h5"), "r") as file:
        h5_main = usid.USIDataset(file["Raw_Data"])
        _, axis = h5_main.plot({"Frequency": 0})
        np.testing.assert_allclose(axis.collections[0].get_offsets(), h5_main.h5_pos_vals)
        assert axis.get_xlabel() == "X (nm)"


def test_without_matplotlib_the_extra_is_named(h5_old, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"usidstream\[plot\]"):
        h5_old.plot({"Bias": 0, "Cycle": 1})
