"""A feed for any layout: smooth maps whose spectra are waves, in whatever type the mains have."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..layout import ScanLayout
from .feed import ALL, Floats, Rows, UnitSquare
from .texture import Noise, Texture, hash_numbers

COUNTS = 1000
"""Integer mains swing by so many counts, or by a third of their type's range if that is smaller."""


class GenericFeed:
    """Plausible data for a layout that nothing else is known of."""

    def __init__(self, layout: ScanLayout, seed: int = 0) -> None:
        self.layout = layout
        self._place = UnitSquare(layout)
        self._noise = Noise(seed)
        self._salts = {main.name: seed + 2 * i for i, main in enumerate(layout.mains)}
        self._maps = {
            name: (Texture(salt), Texture(salt + 1, finest=20))
            for name, salt in self._salts.items()
        }

    def values(self, main: str, rows: Rows, cols: slice = ALL) -> npt.NDArray[Any]:
        """Return values of any main; see `Feed.values`."""
        layout = self.layout.main(main)
        steps = np.arange(layout.n_spectroscopic)[cols]
        signal = self._signal(main, rows, steps)
        dtype = layout.np_dtype
        if dtype.names is None:
            return _convert(signal, dtype)
        values = np.empty(signal.shape, dtype)
        for i, name in enumerate(dtype.names):
            values[name] = _convert(signal / np.float32(i + 1), dtype[name])
        return values

    def _signal(self, main: str, rows: Rows, steps: npt.NDArray[np.intp]) -> Floats:
        """Return shape (rows, steps), within about -1 to 1."""
        strength, phase = (texture(*self._place(rows)) for texture in self._maps[main])
        turn = (2 * np.pi * steps / self.layout.main(main).n_spectroscopic).astype(np.float32)
        wave = np.cos(3 * turn + phase[:, np.newaxis])
        place = hash_numbers(rows, self._salts[main])[:, np.newaxis] + steps.astype(np.uint64)
        noise = self._noise.at(place % np.uint64(len(self._noise)))
        signal: Floats = 0.3 * strength[:, np.newaxis] * wave + np.float32(0.01) * noise
        return signal


def _convert(signal: Floats, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if dtype.kind in "fc":
        values: npt.NDArray[Any] = signal * dtype.type(1 + 0.5j if dtype.kind == "c" else 1)
        return values.astype(dtype)
    swing = min(COUNTS, np.iinfo(dtype).max // 3)
    middle = np.iinfo(dtype).max // 2 if dtype.itemsize == 1 else 2 * swing
    centre = middle if dtype.kind == "u" else 0
    counts: Floats = np.rint(np.clip(signal, -1, 1) * np.float32(swing) + np.float32(centre))
    return counts.astype(dtype)
