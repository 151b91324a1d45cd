"""An atomic force microscope in piezoresponse mode: four channels of one value a pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..layout import MainLayout, ScanLayout
from .feed import ALL, Coordinate, Floats, Rows, UnitSquare, make_grid
from .texture import Noise, Texture, quantise, uniform


class AfmFeed:
    """Grainy topography, ferroelectric domains with conducting walls; 16-bit ADC in every channel.

    Parameters
    ----------
    size
        Columns and rows.
    seed
        Chooses the sample.
    """

    DEFAULT_SIZE = (256, 256)
    DTYPES = ("float32",)

    def __init__(self, size: tuple[int, int], seed: int, dtype: str) -> None:
        self.layout = ScanLayout(
            positions=make_grid(size, ("X", "Y"), "um", 5.0),
            mains=[
                MainLayout(name, name, units, dtype, attrs={"adc_step": step})
                for name, (units, step) in _CHANNELS.items()
            ],
            attrs={
                "Instrument": "Simulated atomic force microscope",
                "mode": "piezoresponse",
                "seed": seed,
            },
            pixel_time_s=0.001,
        )
        self._place = UnitSquare(self.layout)
        self._seed = seed
        self._noise = Noise(seed)
        self._relief = Texture(seed, finest=24, roughness=1.1)
        self._grain = Texture(seed + 1, finest=60, roughness=0.4)
        self._polarity = Texture(seed + 2, finest=7)
        self._leak = Texture(seed + 3, finest=30, roughness=0.2)

    def values(self, main: str, rows: Rows, cols: slice = ALL) -> npt.NDArray[Any]:
        """Return a channel's values; see `Feed.values`."""
        x, y = self._place(rows)
        channel = {
            "Height": self._height,
            "Amplitude": self._amplitude,
            "Phase": self._phase,
            "Current": self._current,
        }[self.layout.main(main).name]
        values = quantise(channel(rows, x, y), _CHANNELS[main][1])
        return values[:, np.newaxis][:, cols]

    def _domain(self, x: Coordinate, y: Coordinate) -> Floats:
        """Polarity from -1 to 1, steep at the walls."""
        polarity: Floats = np.tanh(6 * self._polarity(x, y))
        return polarity

    def _height(self, rows: Rows, x: Coordinate, y: Coordinate) -> Floats:
        line = np.asarray(rows) // self.layout.position_shape[0]
        streak = 0.25 * (uniform(line, self._seed) - 0.5).astype(np.float32)
        relief: Floats = 9 * self._relief(x, y) + 1.2 * self._grain(x, y) + streak
        relief += np.float32(0.15) * self._noise.scalars(rows, 1)
        return relief

    def _amplitude(self, rows: Rows, x: Coordinate, y: Coordinate) -> Floats:
        strength = 160 + 12 * self._grain(x, y)
        response: Floats = strength * self._domain(x, y) + 3 * self._noise.scalars(rows, 2)
        return np.abs(response)

    def _phase(self, rows: Rows, x: Coordinate, y: Coordinate) -> Floats:
        return 88 * self._domain(x, y) + np.float32(2.5) * self._noise.scalars(rows, 3)

    def _current(self, rows: Rows, x: Coordinate, y: Coordinate) -> Floats:
        wall = 1 - self._domain(x, y) ** 2
        leaking: Floats = np.exp(self._leak(x, y) + 3 * wall)
        return leaking + np.float32(0.4) * self._noise.scalars(rows, 4)


_CHANNELS = {
    "Height": ("nm", 0.0016),
    "Amplitude": ("pm", 0.02),
    "Phase": ("deg", 0.0055),
    "Current": ("pA", 0.0031),
}
"""Units and the step of a 16-bit ADC over each channel's range."""
