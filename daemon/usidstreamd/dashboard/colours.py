"""Palettes for data: perceptually uniform, and safe for colour-blind eyes.

Viridis, cividis, magma and inferno are Bokeh's. None of its palettes is cyclic; one is made here
for angles: an ellipse in OKLab (Björn Ottosson 2020, https://bottosson.github.io/posts/oklab/)
through dark, blue, light and orange, walked at constant speed. Its ends meet, lightness alone tells
two opposite angles apart, and blue and orange differ for every kind of colour-blindness.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

AUTOMATIC = "automatic"
CYCLIC = "phase (cyclic)"
PALETTES = ("viridis", "cividis", "magma", "inferno", CYCLIC)
N_COLOURS = 256

_MEAN_LIGHTNESS, _LIGHTNESS_RADIUS = 0.60, 0.32
_CHROMA_RADIUS, _BLUE_DEGREES = 0.13, 252.0

# OKLab to cone responses, and these to linear sRGB.
_LAB_TO_CONES = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_CONES_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)
_NAMES: Mapping[str, str] = MappingProxyType(
    {"viridis": "Viridis256", "cividis": "Cividis256", "magma": "Magma256", "inferno": "Inferno256"}
)


@cache
def palette(name: str) -> tuple[str, ...]:
    """Return a palette of `PALETTES` as 256 colours ``#rrggbb``."""
    if name == CYCLIC:
        return cyclic_palette(N_COLOURS)
    import bokeh.palettes

    return tuple(getattr(bokeh.palettes, _NAMES[name]))


def cyclic_palette(n_colours: int) -> tuple[str, ...]:
    """Return colours for angles: evenly spaced for the eye, the last one next to the first."""
    rgb = np.round(255 * _oklab_to_srgb(_ellipse(n_colours))).astype(int)
    return tuple(f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in rgb.tolist())


def _ellipse(n_points: int) -> npt.NDArray[Any]:
    """Return points (n, 3) at equal distances along the ellipse, from its dark end on."""
    fine = np.linspace(0, 2 * np.pi, 4096)
    way = _on_ellipse(fine)
    lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(way, axis=0), axis=1))])
    wanted = np.arange(n_points) / n_points * lengths[-1]
    return _on_ellipse(np.interp(wanted, lengths, fine))


def _on_ellipse(angles: npt.NDArray[Any]) -> npt.NDArray[Any]:
    hue = np.deg2rad(_BLUE_DEGREES)
    chroma = _CHROMA_RADIUS * np.sin(angles)
    lightness = _MEAN_LIGHTNESS - _LIGHTNESS_RADIUS * np.cos(angles)
    return np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)


def _oklab_to_srgb(lab: npt.NDArray[Any]) -> npt.NDArray[Any]:
    linear = np.clip((lab @ _LAB_TO_CONES.T) ** 3 @ _CONES_TO_RGB.T, 0.0, 1.0)
    curved = 1.055 * linear ** (1 / 2.4) - 0.055
    return np.asarray(np.where(linear <= 0.0031308, 12.92 * linear, curved))
