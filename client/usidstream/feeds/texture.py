"""Random fields and noise as functions of their arguments: the same tomorrow, and in any order.

Fields are sums of a few plane waves, noise is drawn from a fixed pool at a place that a hash of the
position chooses. Everything is computed element by element (no sums whose order depends on the
number of elements), so that a single value equals the same value computed within a block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .feed import Coordinate, Floats, Rows

POOL_SIZE = 2**20
"""Numbers in the noise pool beyond the longest spectrum: 4 MiB."""


class Texture:
    """A smooth random field over the unit square, with zero mean and unit variance.

    Parameters
    ----------
    seed
        Fields of different seeds are independent.
    finest
        The highest number of periods over the square; the lowest is 1.
    roughness
        Amplitude falls as frequency ** -roughness.
    """

    N_WAVES = 10

    def __init__(self, seed: int, *, finest: float = 8.0, roughness: float = 0.7) -> None:
        random = np.random.default_rng(seed)
        frequency = np.geomspace(1.0, finest, self.N_WAVES)
        angle = random.uniform(0, 2 * np.pi, self.N_WAVES)
        self._kx = 2 * np.pi * frequency * np.cos(angle)
        self._ky = 2 * np.pi * frequency * np.sin(angle)
        self._phase = random.uniform(0, 2 * np.pi, self.N_WAVES)
        amplitude = frequency**-roughness
        self._amplitude = amplitude * np.sqrt(2 / np.sum(amplitude**2))

    def __call__(self, x: Coordinate, y: Coordinate) -> Floats:
        """Return the field at x, y, shape of both."""
        field = np.zeros(np.shape(x))
        waves = zip(self._kx, self._ky, self._phase, self._amplitude, strict=True)
        for kx, ky, phase, amplitude in waves:
            field += amplitude * np.cos(kx * x + ky * y + phase)
        return field.astype(np.float32)


def hash_numbers(numbers: npt.ArrayLike, salt: int) -> npt.NDArray[np.uint64]:
    """Mix integers to 64 random-looking bits each.

    The finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014, doi:10.1145/2660193.2660195).
    """
    bits = np.atleast_1d(np.asarray(numbers)).astype(np.uint64)
    bits = bits + np.uint64((salt * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def uniform(numbers: npt.ArrayLike, salt: int) -> npt.NDArray[np.float64]:
    """Return a uniform random number in [0, 1) for each integer."""
    bits = hash_numbers(numbers, salt) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


class Noise:
    """Normal noise, zero mean and unit variance, for spectra of up to ``length`` elements."""

    def __init__(self, seed: int, length: int = 1) -> None:
        random = np.random.default_rng([seed, 0x6E6F6973])
        self._pool = random.standard_normal(POOL_SIZE + length, dtype=np.float32)

    def __len__(self) -> int:
        return POOL_SIZE

    def spectra(self, rows: Rows, length: int, salt: int = 0) -> Floats:
        """Return the noise of whole spectra, shape (len(rows), length)."""
        windows: Floats = np.lib.stride_tricks.sliding_window_view(self._pool, length)
        spectra: Floats = windows[self._places(rows, salt)]
        return spectra

    def scalars(self, rows: Rows, salt: int = 0) -> Floats:
        """Return one number a position, shape (len(rows),)."""
        return self.at(self._places(rows, salt))

    def at(self, places: npt.NDArray[np.integer[Any]]) -> Floats:
        """Return the noise at places of the pool, 0 to POOL_SIZE - 1."""
        numbers: Floats = self._pool[places]
        return numbers

    def _places(self, rows: Rows, salt: int) -> npt.NDArray[np.uint64]:
        return hash_numbers(rows, salt) % np.uint64(POOL_SIZE)


def quantise(values: Floats, step: float) -> Floats:
    """Round to multiples of an ADC's step, in place, and return the same array."""
    values *= np.float32(1 / step)
    np.rint(values, out=values)
    values *= np.float32(step)
    return values


def to_counts(values: Floats, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Round to whole counts, clipped to the range of an integer type; a float type keeps them."""
    np.rint(values, out=values)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        np.clip(values, limits.min, limits.max, out=values)
    return values.astype(dtype, copy=False)
