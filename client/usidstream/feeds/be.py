"""Band-excitation piezoresponse spectroscopy: a resonance at every step of a bias waveform.

The response is that of a damped harmonic oscillator, A(f) = A0 f0^2 / (f0^2 - f^2 + i f f0 / Q),
whose strength A0 follows the ferroelectric loop (Jesse et al., Nanotechnology 18 (2007) 435503).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..layout import Dimension, MainLayout, ScanLayout
from .feed import ALL, Floats, Rows, UnitSquare, make_grid
from .texture import Noise, Texture, quantise

N_FREQUENCIES = 64
N_BIASES = 24
N_CYCLES = 2
N_STEPS = N_FREQUENCIES * N_BIASES * N_CYCLES

N_LOOPS = 32
N_RESONANCES = 64

ADC_STEP_PM = 0.05
NOISE_PM = 0.6


class BandExcitationFeed:
    """Spectra over frequency, bias and cycle (fastest first): 3072 steps a pixel.

    Parameters
    ----------
    size
        Columns and rows.
    seed
        Chooses the sample.
    dtype
        float32 holds the amplitude, complex64 the whole response.
    """

    DEFAULT_SIZE = (64, 64)
    DTYPES = ("float32", "complex64")

    def __init__(self, size: tuple[int, int], seed: int, dtype: str) -> None:
        frequency = Dimension.regular(
            "Frequency", "kHz", start=320.0, step=0.9375, size=N_FREQUENCIES
        )
        main = MainLayout(
            "Raw_Data",
            "Response" if dtype == "complex64" else "Amplitude",
            "pm",
            dtype,
            spectroscopic=[
                frequency,
                Dimension("Bias", "V", _bias_waveform()),
                Dimension("Cycle", "", N_CYCLES),
            ],
            attrs={"adc_step": ADC_STEP_PM, "excitation": "chirp"},
        )
        self.layout = ScanLayout(
            positions=make_grid(size, ("X", "Y"), "um", 2.0),
            mains=[main],
            attrs={"Instrument": "Simulated band-excitation microscope", "seed": seed},
            pixel_time_s=0.2,
        )
        self._place = UnitSquare(self.layout)
        self._loops = _loops()
        responses = _resonances(frequency.values)
        self._resonances: npt.NDArray[Any] = (
            responses if dtype == "complex64" else np.abs(responses)
        )
        self._noise = Noise(seed, 2 * N_STEPS)
        self._stiffness = Texture(seed, finest=12)
        self._coercivity = Texture(seed + 1, finest=6)
        self._strength = Texture(seed + 2, finest=5)

    def values(self, main: str, rows: Rows, cols: slice = ALL) -> npt.NDArray[Any]:
        """Return spectra; see `Feed.values`."""
        dtype = self.layout.main(main).np_dtype
        x, y = self._place(rows)
        resonance = self._resonances[_choose(self._stiffness(x, y), N_RESONANCES)]
        loop = self._loops[_choose(self._coercivity(x, y), N_LOOPS)]
        if dtype.kind == "f":
            loop = np.abs(loop)
        strength = 6 * np.exp(0.35 * self._strength(x, y))
        spectra = (loop * strength[:, np.newaxis])[:, :, np.newaxis] * resonance[:, np.newaxis, :]
        spectra = spectra.reshape(len(x), N_STEPS)
        parts = spectra.view(np.float32)
        parts += np.float32(NOISE_PM) * self._noise.spectra(rows, parts.shape[1])
        quantise(parts, ADC_STEP_PM)
        return np.ascontiguousarray(spectra[:, cols])


def _choose(field: Floats, n_choices: int) -> npt.NDArray[np.intp]:
    """Turn a field of unit variance into indices; 3 sigma on each side are told apart."""
    return np.clip((field / 6 + 0.5) * n_choices, 0, n_choices - 1).astype(np.intp)


def _bias_waveform() -> npt.NDArray[np.float64]:
    """One triangle 0, +6, -6, 0 V."""
    return np.round(np.interp(np.arange(N_BIASES), [0, 6, 18, 24], [0.0, 6.0, -6.0, 0.0]), 3)


def _loops() -> Floats:
    """Loops of N_LOOPS coercive voltages over cycle and bias, shape (N_LOOPS, cycles x biases)."""
    bias = np.tile(_bias_waveform(), N_CYCLES)
    rising = np.tile(np.abs(np.arange(N_BIASES) - 11.5) > 6, N_CYCLES)
    fatigue = np.repeat(0.92 ** np.arange(N_CYCLES), N_BIASES)
    coercive = np.linspace(1.0, 4.0, N_LOOPS)[:, np.newaxis]
    switched = np.tanh((bias - np.where(rising, coercive, -coercive)) / 0.8)
    return (fatigue * switched + 0.02 * bias + 0.08).astype(np.float32)


def _resonances(frequency: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.complex64]:
    """Responses of unit strength at N_RESONANCES frequencies, shape (N_RESONANCES, frequencies)."""
    quality = 55.0
    centre = np.linspace(332.0, 368.0, N_RESONANCES)[:, np.newaxis]
    damping = 1j * frequency * centre / quality
    response: npt.NDArray[np.complex128] = centre**2 / (centre**2 - frequency**2 + damping)
    return response.astype(np.complex64)
