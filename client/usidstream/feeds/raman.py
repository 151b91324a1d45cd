"""Raman microscopy of graphene on silicon: a spectrum of 1024 CCD channels at every pixel.

Peak positions in 1/cm: silicon 520.7 and 960 (second order); graphene D 1350, G 1582, D' 1620, 2D
2690 (Ferrari and Basko, Nature Nanotechnology 8 (2013) 235).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..layout import Dimension, MainLayout, ScanLayout
from .feed import ALL, Floats, Rows, UnitSquare, make_grid
from .texture import Noise, Texture, hash_numbers, to_counts

N_CHANNELS = 1024
DARK_COUNTS = 420.0
COSMIC_RAY_EVERY = 400

_PEAKS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "silicon": ((520.7, 4.0, 5200.0), (960.0, 28.0, 420.0), (302.0, 9.0, 130.0)),
    "graphene": ((1582.0, 8.0, 1500.0), (2690.0, 15.0, 2900.0)),
    "defects": ((1350.0, 16.0, 1400.0), (1620.0, 9.0, 380.0)),
}
"""Centre (1/cm), half width (1/cm) and height (counts) of each component's peaks."""


class RamanFeed:
    """Flakes with broken edges on a wafer; shot noise, fluorescence and now and then a cosmic ray.

    Parameters
    ----------
    size
        Columns and rows.
    seed
        Chooses the sample.
    dtype
        Of the counts, float32 or uint16.
    """

    DEFAULT_SIZE = (64, 64)
    DTYPES = ("float32", "uint16")

    def __init__(self, size: tuple[int, int], seed: int, dtype: str) -> None:
        shift = Dimension.regular("Raman_Shift", "1/cm", start=150.0, step=2.75, size=N_CHANNELS)
        main = MainLayout(
            "Raw_Data",
            "Intensity",
            "counts",
            dtype,
            spectroscopic=[shift],
            attrs={"integration_time_s": 0.1, "dark_counts": DARK_COUNTS},
        )
        self.layout = ScanLayout(
            positions=make_grid(size, ("X", "Y"), "um", 32.0),
            mains=[main],
            attrs={
                "Instrument": "Simulated Raman microscope",
                "laser_wavelength_nm": 532.0,
                "seed": seed,
            },
            pixel_time_s=0.1,
        )
        self._place = UnitSquare(self.layout)
        self._seed = seed
        self._components = {
            name: _lorentzians(shift.values, peaks) for name, peaks in _PEAKS.items()
        }
        self._fluorescence = (900 * np.exp(-(((shift.values - 1900) / 1400) ** 2))).astype("f4")
        self._noise = Noise(seed, N_CHANNELS)
        self._flakes = Texture(seed, finest=6)
        self._dirt = Texture(seed + 1, finest=9)

    def values(self, main: str, rows: Rows, cols: slice = ALL) -> npt.NDArray[Any]:
        """Return spectra; see `Feed.values`."""
        dtype = self.layout.main(main).np_dtype
        counts = self._expected(rows)
        counts += np.sqrt(counts) * self._noise.spectra(rows, N_CHANNELS)
        self._add_cosmic_rays(counts, rows)
        return np.ascontiguousarray(to_counts(counts, dtype)[:, cols])

    def _expected(self, rows: Rows) -> Floats:
        x, y = self._place(rows)
        flake = self._flakes(x, y)
        cover = 1 / (1 + np.exp(-14 * flake)) + 1 / (1 + np.exp(-14 * (flake - 1.1)))
        amounts = {
            "silicon": 1 / (1 + 0.25 * cover),
            "graphene": cover,
            "defects": np.exp(-((3 * flake) ** 2)) + 0.05 * cover,
        }
        counts: Floats = np.exp(0.5 * self._dirt(x, y))[:, np.newaxis] * self._fluorescence
        for name, amount in amounts.items():
            counts += amount[:, np.newaxis] * self._components[name]
        counts += np.float32(DARK_COUNTS)
        return counts

    def _add_cosmic_rays(self, counts: Floats, rows: Rows) -> None:
        bits = hash_numbers(rows, self._seed + 7)
        struck = np.flatnonzero(bits % np.uint64(COSMIC_RAY_EVERY) == 0)
        channel = (bits[struck] >> np.uint64(32)) % np.uint64(N_CHANNELS)
        counts[struck, channel.astype(np.intp)] += 18000


def _lorentzians(
    shift: npt.NDArray[np.floating[Any]], peaks: tuple[tuple[float, float, float], ...]
) -> Floats:
    spectrum = np.zeros(len(shift))
    for centre, half_width, height in peaks:
        spectrum += height / (1 + ((shift - centre) / half_width) ** 2)
    return spectrum.astype(np.float32)
