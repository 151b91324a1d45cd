"""Four-dimensional scanning transmission electron microscopy: a diffraction pattern at every pixel.

Patterns of a few grain orientations and thicknesses are drawn once, with Poisson noise, in several
variants; a pixel's frame is one of them plus a diffuse background of its own. The sum of two
Poisson numbers is a Poisson number, so frames keep the statistics of counted electrons.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..layout import Dimension, MainLayout, ScanLayout
from .feed import ALL, Rows, UnitSquare, make_grid
from .texture import Texture, hash_numbers, uniform

DETECTOR = 128
N_ELEMENTS = DETECTOR * DETECTOR

N_GRAINS = 6
N_THICKNESSES = 6
N_VARIANTS = 3
N_DIFFUSE = 16

LATTICE_PIXELS = 24.0
DISK_PIXELS = 6.0


class StemFeed:
    """A polycrystalline foil of varying thickness under a convergent beam; frames of 128 x 128.

    Parameters
    ----------
    size
        Columns and rows of the scan.
    seed
        Chooses the sample.
    """

    DEFAULT_SIZE = (32, 32)
    DTYPES = ("uint16",)

    def __init__(self, size: tuple[int, int], seed: int, dtype: str) -> None:
        pitch = 0.025
        detector = [
            Dimension.regular(label, "1/A", start=-pitch * DETECTOR / 2, step=pitch, size=DETECTOR)
            for label in ("Kx", "Ky")
        ]
        main = MainLayout(
            "Raw_Data",
            "Intensity",
            "counts",
            dtype,
            spectroscopic=detector,
            attrs={"acceleration_voltage_kV": 200.0, "convergence_mrad": 2.0},
        )
        self.layout = ScanLayout(
            positions=make_grid(size, ("X", "Y"), "nm", 40.0),
            mains=[main],
            attrs={"Instrument": "Simulated pixelated STEM detector", "seed": seed},
            pixel_time_s=0.001,
        )
        self._place = UnitSquare(self.layout)
        self._seed = seed
        self._patterns, self._diffuse = _draw_patterns(seed)
        self._grains = [Texture(seed + i, finest=3) for i in range(N_GRAINS)]
        self._thickness = Texture(seed + N_GRAINS, finest=8)

    def values(self, main: str, rows: Rows, cols: slice = ALL) -> npt.NDArray[Any]:
        """Return frames, Kx fastest; see `Feed.values`."""
        dtype = self.layout.main(main).np_dtype
        x, y = self._place(rows)
        grain = np.argmax([texture(x, y) for texture in self._grains], axis=0)
        # Dithered, so that a map of the few thicknesses shows the smooth ramp between them.
        level = (
            (self._thickness(x, y) / 5 + 0.5) * N_THICKNESSES + uniform(rows, self._seed + 1) - 0.5
        )
        level = np.clip(level, 0, N_THICKNESSES - 1)
        bits = hash_numbers(rows, self._seed)
        variant = (bits % np.uint64(N_VARIANTS)).astype(np.intp)
        frames = self._patterns[grain, level.astype(np.intp), variant]
        diffuse = ((bits >> np.uint64(8)) % np.uint64(N_DIFFUSE)).astype(np.intp)
        start = ((bits >> np.uint64(16)) % np.uint64(N_ELEMENTS)).astype(np.intp)
        frames += self._diffuse[
            diffuse[:, np.newaxis], start[:, np.newaxis] + np.arange(N_ELEMENTS)
        ]
        return np.ascontiguousarray(frames[:, cols].astype(dtype, copy=False))


def _draw_patterns(seed: int) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """Draw the library of Bragg patterns, and diffuse backgrounds of twice a frame's length."""
    random = np.random.default_rng([seed, 0x7374656D])
    angles = random.uniform(0, np.pi / 3, N_GRAINS)
    thickness = np.linspace(0.5, 2.0, N_THICKNESSES)
    expected = np.stack([[_expected(angle, thick) for thick in thickness] for angle in angles])[
        :, :, np.newaxis
    ]
    shape = (N_GRAINS, N_THICKNESSES, N_VARIANTS, N_ELEMENTS)
    patterns = random.poisson(np.broadcast_to(expected, shape)).astype(np.uint16)
    diffuse = random.poisson(0.3, (N_DIFFUSE, 2 * N_ELEMENTS)).astype(np.uint16)
    return patterns, diffuse


def _expected(angle: float, thickness: float) -> npt.NDArray[np.float64]:
    """Return the counts of a hexagonal pattern: disks on a lattice, and a thermal diffuse halo."""
    along = np.arange(DETECTOR) - (DETECTOR - 1) / 2
    kx, ky = along[np.newaxis, :], along[:, np.newaxis]
    frame: npt.NDArray[np.float64] = 1.5 * thickness * np.exp(-np.hypot(kx, ky) / 22)
    for order_a in range(-3, 4):
        for order_b in range(-3, 4):
            a, b = order_a + order_b / 2, order_b * np.sqrt(3) / 2
            spot_x = LATTICE_PIXELS * (a * np.cos(angle) - b * np.sin(angle))
            spot_y = LATTICE_PIXELS * (a * np.sin(angle) + b * np.cos(angle))
            is_direct = order_a == order_b == 0
            counts = (
                160 / thickness if is_direct else 60 * thickness * np.exp(-0.9 * np.hypot(a, b))
            )
            edge = np.hypot(kx - spot_x, ky - spot_y) - DISK_PIXELS
            frame += counts / (1 + np.exp(2 * np.clip(edge, -20, 20)))
    return frame.reshape(N_ELEMENTS)
