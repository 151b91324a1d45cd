"""The workloads: what is sent, and by which calls.

One literal table. A workload's data is made before the clock starts and is the same in every run,
so that all contestants are given the same bytes. Nothing here knows processes or clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from usidstream import Dimension, MainLayout, ScanLayout

Data: TypeAlias = Mapping[str, Any]
"""What a workload sends, by main: arrays (units, elements), or lists of single numbers."""

SEED = 20190521
ROWS_A_BLOCK = 64
SPECTRUM_ELEMENTS = 256
FRAME_SIDE = 256
IMAGE_SIDE = 512
ADC_STEP = np.float32(20 / 65536 * 0.37)
"""Of a 16-bit card over +-10 V behind an amplifier of 0.37 nA/V: no round number of anything, as in
a laboratory. Such data is about as compressible as real scans are (docs/performance.md)."""
AFM_CHANNELS = ("Height", "Amplitude", "Phase", "Current")


class Writable(Protocol):
    """A client's scan, as workloads use it."""

    def write(self, row: int, spectrum: Any, main: str | None = None) -> None:
        """Write one pixel."""

    def write_block(self, row: int, block: Any, col: int = 0, main: str | None = None) -> None:
        """Write a rectangle."""


Write: TypeAlias = Callable[[Writable, Data, slice, int], None]
"""Sends the units of a slice of the data as units ``first ...`` of the scan."""


@dataclass(frozen=True)
class Workload:
    """One workload.

    Parameters
    ----------
    name
        As users give it.
    title
        What it is, in words.
    unit
        What is counted, in the plural.
    units
        How many of them at scale 1.
    call_units
        How many one call sends.
    slice_units
        How many are sent between two looks at the clock.
    loop_units
        How many the guide's loop is given: some seconds of its time.
    make_layout, make_data
        Of a number of units.
    write
        See `Write`.
    compares_blocks
        Whether blocks written by plain h5py are a reference for it.
    compares_codecs
        Whether other codecs and rare commits are measured with it.
    """

    name: str
    title: str
    unit: str
    units: int
    call_units: int
    slice_units: int
    loop_units: int
    make_layout: Callable[[int], ScanLayout]
    make_data: Callable[[int], Data]
    write: Write
    compares_blocks: bool = False
    compares_codecs: bool = False

    def units_at(self, scale: float) -> int:
        """Return the number of units at a scale, at least one call's."""
        return max(self.call_units, round(self.units * scale))


# ---------------------------------------------------------------- layouts


def _one_main(n_positions: int, main: MainLayout) -> ScanLayout:
    return ScanLayout(positions=[Dimension("Position", "", n_positions)], mains=[main])


def _spectra_layout(units: int) -> ScanLayout:
    bias = Dimension("Bias", "V", SPECTRUM_ELEMENTS)
    return _one_main(
        units, MainLayout("Raw_Data", "Current", "nA", "float32", spectroscopic=[bias])
    )


def _stem_layout(units: int) -> ScanLayout:
    detector = [Dimension(label, "1/A", FRAME_SIDE) for label in ("Kx", "Ky")]
    return _one_main(
        units, MainLayout("Raw_Data", "Intensity", "counts", "uint16", spectroscopic=detector)
    )


def _afm_layout(units: int) -> ScanLayout:
    return ScanLayout(
        positions=[Dimension("Position", "", units)],
        mains=[MainLayout(name, name, "a. u.", "float32") for name in AFM_CHANNELS],
    )


def _timeseries_layout(units: int) -> ScanLayout:
    time = Dimension("Time", "s", units)
    main = MainLayout(
        "Image_Stack", "Intensity", "counts", "uint16", spectroscopic=[time], order="columns"
    )
    image = [Dimension(label, "um", IMAGE_SIDE) for label in ("X", "Y")]
    return ScanLayout(positions=image, mains=[main])


# ---------------------------------------------------------------- data


def _quantised(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Round to an ADC's steps, in place."""
    values /= ADC_STEP
    np.rint(values, out=values)
    values *= ADC_STEP
    return values


def _spectra(units: int) -> Data:
    """Resonances that wander over the sample, under a tenth of noise."""
    random = np.random.default_rng(SEED)
    data = random.standard_normal((units, SPECTRUM_ELEMENTS), dtype=np.float32)
    data *= np.float32(0.1)
    along = np.arange(SPECTRUM_ELEMENTS, dtype=np.float32)
    resonances = [1 / (1 + ((along - centre) / 12) ** 2) for centre in range(64, 192)]
    library = np.array(resonances, np.float32)
    wander = 63.5 * (1 + np.sin(np.arange(units) / 777))
    data += library[wander.astype(np.intp)]
    return {"Raw_Data": _quantised(data)}


def _frames(units: int) -> Data:
    """Counted electrons in disks over a diffuse halo; no frame repeats within deflate's reach."""
    random = np.random.default_rng(SEED)
    along = np.arange(FRAME_SIDE) - FRAME_SIDE / 2
    radius = np.hypot(along[:, np.newaxis], along)
    spots = np.cos(along / 7)[:, np.newaxis] * np.cos(along / 7) > 0.8
    expected = 3 * np.exp(-radius / 40) + spots * 60 * np.exp(-radius / 30) + 0.2
    patterns = random.poisson(expected.reshape(-1), (32, FRAME_SIDE**2)).astype(np.uint16)
    frames = np.empty((units, FRAME_SIDE**2), np.uint16)
    shifts = random.integers(0, 1000, units)
    for number, frame in enumerate(frames):
        frame[:] = np.roll(patterns[number % len(patterns)], shifts[number])
    return {"Raw_Data": frames}


def _channels(units: int) -> Data:
    """Four channels as instruments hand them over, one Python number at a time."""
    random = np.random.default_rng(SEED)
    along = np.arange(units, dtype=np.float32)
    channels = {}
    for number, name in enumerate(AFM_CHANNELS):
        relief = 2 * np.sin(along / (300 + 37 * number)) + 0.5 * np.sin(along / 23)
        noise = random.standard_normal(units, dtype=np.float32)
        channels[name] = _quantised(relief.astype(np.float32) + np.float32(0.04) * noise).tolist()
    return channels


def _images(units: int) -> Data:
    """Camera images, (units, pixels): each is one column of the main."""
    random = np.random.default_rng(SEED)
    along = np.arange(IMAGE_SIDE) / 40
    scene = 300 + 100 * np.sin(along)[:, np.newaxis] * np.cos(along)
    expected = scene.reshape(-1).astype(np.float32)
    noise = random.standard_normal(4 * IMAGE_SIDE**2, dtype=np.float32)
    starts = random.integers(0, 3 * IMAGE_SIDE**2, units)
    images = np.empty((units, IMAGE_SIDE**2), np.uint16)
    for image, start in zip(images, starts, strict=True):
        image[:] = expected + np.sqrt(expected) * noise[start : start + IMAGE_SIDE**2]
    return {"Image_Stack": images}


# ---------------------------------------------------------------- calls


def _write_pixels(scan: Writable, data: Data, part: slice, first: int) -> None:
    write = scan.write
    for row, spectrum in enumerate(data["Raw_Data"][part], first):
        write(row, spectrum)


def _write_blocks(scan: Writable, data: Data, part: slice, first: int) -> None:
    spectra = data["Raw_Data"][part]
    for start in range(0, len(spectra), ROWS_A_BLOCK):
        scan.write_block(first + start, spectra[start : start + ROWS_A_BLOCK])


def _write_channels(scan: Writable, data: Data, part: slice, first: int) -> None:
    write = scan.write
    columns = [data[name][part] for name in AFM_CHANNELS]
    for row, (height, amplitude, phase, current) in enumerate(zip(*columns, strict=True), first):
        write(row, height, "Height")
        write(row, amplitude, "Amplitude")
        write(row, phase, "Phase")
        write(row, current, "Current")


def _write_channels_at_once(scan: Writable, data: Data, part: slice, first: int) -> None:
    write = scan.write
    columns = [data[name][part] for name in AFM_CHANNELS]
    for row, (height, amplitude, phase, current) in enumerate(zip(*columns, strict=True), first):
        write(row, {"Height": height, "Amplitude": amplitude, "Phase": phase, "Current": current})


def _write_images(scan: Writable, data: Data, part: slice, first: int) -> None:
    for col, image in enumerate(data["Image_Stack"][part], first):
        scan.write_block(0, image[:, np.newaxis], col=col)


_ALL = (
    Workload(
        "spectra",
        "256 float32 a pixel, one write a pixel",
        "pixels",
        65536,
        1,
        1024,
        8192,
        _spectra_layout,
        _spectra,
        _write_pixels,
        compares_blocks=True,
    ),
    Workload(
        "spectra-blocks",
        "the same, 64 pixels a block",
        "pixels",
        65536,
        ROWS_A_BLOCK,
        1024,
        8192,
        _spectra_layout,
        _spectra,
        _write_blocks,
        compares_blocks=True,
        compares_codecs=True,
    ),
    Workload(
        "stem",
        "frames of 256 x 256 uint16, one frame a write",
        "frames",
        512,
        1,
        16,
        512,
        _stem_layout,
        _frames,
        _write_pixels,
        compares_blocks=True,
        compares_codecs=True,
    ),
    Workload(
        "afm",
        "4 mains of one float32 a pixel, four calls",
        "pixels",
        1 << 20,
        1,
        4096,
        8192,
        _afm_layout,
        _channels,
        _write_channels,
    ),
    Workload(
        "afm-one-call",
        "the same, one call a pixel",
        "pixels",
        1 << 20,
        1,
        4096,
        8192,
        _afm_layout,
        _channels,
        _write_channels_at_once,
    ),
    Workload(
        "timeseries",
        "images of 512 x 512 uint16, each a column of the main",
        "images",
        128,
        1,
        1,
        32,
        _timeseries_layout,
        _images,
        _write_images,
    ),
)

WORKLOADS: Mapping[str, Workload] = MappingProxyType({work.name: work for work in _ALL})
