"""A movie: fluorescent particles that diffuse and bleach. Each image is one column of the main."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..layout import Dimension, MainLayout, ScanLayout
from .feed import ALL, Coordinate, Rows, UnitSquare, make_grid
from .texture import POOL_SIZE, Noise, Texture, hash_numbers, to_counts

N_IMAGES = 64
N_PARTICLES = 18
DARK_COUNTS = 100.0


class TimeSeriesFeed:
    """An image stack whose images arrive one after another, ``order="columns"``.

    Parameters
    ----------
    size
        Columns and rows of an image, and optionally the number of images.
    seed
        Chooses the particles.
    dtype
        Of the counts, uint16 or float32.
    """

    DEFAULT_SIZE = (128, 128, N_IMAGES)
    DTYPES = ("uint16", "float32")

    def __init__(self, size: tuple[int, int, int], seed: int, dtype: str) -> None:
        *image, n_images = size
        main = MainLayout(
            "Image_Stack",
            "Intensity",
            "counts",
            dtype,
            spectroscopic=[Dimension.regular("Time", "s", start=0.0, step=0.05, size=n_images)],
            order="columns",
            attrs={"exposure_s": 0.05, "dark_counts": DARK_COUNTS},
        )
        self.layout = ScanLayout(
            positions=make_grid(tuple(image), ("X", "Y"), "um", 20.0),
            mains=[main],
            attrs={"Instrument": "Simulated fluorescence camera", "seed": seed},
        )
        self._place = UnitSquare(self.layout)
        self._seed = seed
        self._noise = Noise(seed)
        self._cells = Texture(seed, finest=5)
        self._paths, self._brightness, self._width = _wander(seed, n_images)

    def values(self, main: str, rows: Rows, cols: slice = ALL) -> npt.NDArray[Any]:
        """Return pixels of images, shape (len(rows), images); see `Feed.values`."""
        layout = self.layout.main(main)
        times = range(layout.n_spectroscopic)[cols]
        x, y = self._place(rows)
        background = DARK_COUNTS + 120 * np.exp(0.7 * self._cells(x, y))
        images = np.empty((len(times), len(x)), dtype=np.float32)
        for i, time in enumerate(times):
            images[i] = background * (0.4 + 0.6 * 0.99**time)
            self._add_particles(images[i], time, x, y)
            images[i] += np.sqrt(images[i]) * self._grain(rows, time)
        return np.ascontiguousarray(to_counts(images, layout.np_dtype).T)

    def _add_particles(
        self, image: npt.NDArray[np.float32], time: int, x: Coordinate, y: Coordinate
    ) -> None:
        particles = zip(self._paths[:, time], self._brightness, self._width, strict=True)
        for (x0, y0), brightness, width in particles:
            distance = ((x - x0) ** 2 + (y - y0) ** 2) / (2 * width**2)
            near = np.flatnonzero(distance < 12)
            image[near] += 0.985**time * brightness * np.exp(-distance[near])

    def _grain(self, rows: Rows, time: int) -> npt.NDArray[np.float32]:
        start = int(hash_numbers(time, self._seed)[0] % POOL_SIZE)
        return self._noise.at((np.asarray(rows) + start) % POOL_SIZE)


def _wander(
    seed: int, n_images: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return paths (particles, images, 2) of a random walk, brightness and width of each."""
    random = np.random.default_rng([seed, 0x6D6F7665])
    start = random.uniform(0.05, 0.95, (N_PARTICLES, 1, 2))
    steps = random.normal(0, 0.008, (N_PARTICLES, n_images, 2))
    paths = np.clip(start + np.cumsum(steps, axis=1), 0, 1)
    return paths, random.uniform(800, 4000, N_PARTICLES), random.uniform(0.012, 0.035, N_PARTICLES)
