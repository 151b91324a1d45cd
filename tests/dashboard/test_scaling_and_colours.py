"""Limits of colours, and palettes: steady, uniform, cyclic."""

from __future__ import annotations

import numpy as np
import pytest

from usidstreamd.dashboard import colours, scaling


def test_a_spike_does_not_hide_the_rest() -> None:
    values = np.append(np.linspace(0, 1, 1000), 1e9).astype("f4")
    low, high = scaling.limits_of(values, "1 to 99 %") or (0, 0)
    assert (low, high) == pytest.approx((0.01, 0.99), abs=0.01)
    assert scaling.limits_of(values, "all values") == (0, 1e9)


def test_odd_values_have_limits_too() -> None:
    assert scaling.limits_of(np.full(4, np.nan), "all values") is None
    assert scaling.limits_of(np.array([np.nan, np.inf, 3.0]), "all values") == (2.85, 3.15)
    assert scaling.limits_of(np.zeros(5), "1 to 99 %") == (-0.5, 0.5)
    mostly_flat = np.zeros(1000)
    mostly_flat[0] = 8
    assert scaling.limits_of(mostly_flat, "1 to 99 %") == (0, 8)


def test_colours_do_not_flicker() -> None:
    assert scaling.has_moved(None, (0, 1))
    assert not scaling.has_moved((0, 1), (0.001, 1.01))
    assert scaling.has_moved((0, 1), (0, 1.1))


@pytest.mark.parametrize(
    ("values", "units", "turn"),
    [
        ([-170, 170], "deg", (-180, 180)),
        ([10, 350], "deg", (0, 360)),
        ([-3, 3], "rad", (-np.pi, np.pi)),
        ([-400, 10], "deg", None),
        ([1, 2], "V", None),
        ([np.nan], "deg", None),
    ],
)
def test_angles_span_a_whole_turn(
    values: list[float], units: str, turn: tuple[float, float] | None
) -> None:
    found = scaling.full_turn(np.array(values), units)
    assert found == (turn if turn is None else pytest.approx(turn))


@pytest.mark.parametrize("name", colours.PALETTES)
def test_palettes_have_256_colours(name: str) -> None:
    found = colours.palette(name)
    assert len(set(found)) > 200
    assert all(len(colour) == 7 and int(colour[1:], 16) >= 0 for colour in found)
    assert len(found) == 256


def lightness(palette: tuple[str, ...]) -> np.ndarray:
    """CIE L* of sRGB colours."""
    rgb = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in palette]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return 116 * np.cbrt(np.maximum(luminance, 0.0089)) - 16


def test_the_cyclic_palette_closes_and_climbs_once() -> None:
    palette = colours.palette(colours.CYCLIC)
    light = lightness(palette)
    steps = np.diff(np.append(light, light[0]))
    assert np.abs(steps).max() < 3, "no jump, also not where it closes"
    top = int(light.argmax())
    assert 118 <= top <= 138
    assert (np.diff(light[: top + 1]) > -0.3).all(), "but for the rounding to 8 bits"
    assert (np.diff(light[top:]) < 0.3).all()
