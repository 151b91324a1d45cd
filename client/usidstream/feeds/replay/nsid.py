"""Main datasets of NSID files: N-dimensional, with an HDF5 dimension scale for each axis.

The attribute ``dimension_type`` of a scale tells whether the axis counts positions or spectroscopic
steps. Axes keep their order, the last one fastest, so that the N-dimensional form of the new file
is the old array again, positions first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ...layout import SINGLE_STEP, Dimension, MainLayout
from .carry import STRUCTURAL, Luggage, plain_value, text_of
from .errors import SourceError
from .model import Piece, Positions, SourceMain

POSITION_TYPES = frozenset({"SPATIAL", "POINT_CLOUD", "1", "6"})
"""Names and numbers of sidpy.DimensionType that are positions; all others are spectroscopic."""

POINT = Dimension("Point", "", 1)


def is_main(dataset: Any) -> bool:
    """Tell whether a dataset is a main: its axes have scales, and those a ``dimension_type``."""
    if not dataset.shape or text_of(dataset, "CLASS") == "DIMENSION_SCALE":
        return False
    scales = [_scale(dataset, axis) for axis in range(len(dataset.shape))]
    return any(scale is not None and "dimension_type" in scale.attrs for scale in scales)


def read_main(dataset: Any, luggage: Luggage, notes: list[str]) -> SourceMain:
    """Read what a main dataset is; see `usid.read_main`."""
    axes = [_read_axis(dataset, axis, luggage, notes) for axis in range(len(dataset.shape))]
    position_axes = [axis for axis in axes if axis.is_position]
    spectral_axes = [axis for axis in axes if not axis.is_position]
    luggage.take(dataset, skip=STRUCTURAL)
    _take_metadata(dataset.parent, luggage)
    layout = MainLayout(
        "main",
        text_of(dataset, "quantity") or "generic",
        text_of(dataset, "units"),
        dataset.dtype,
        spectroscopic=[axis.dimension for axis in reversed(spectral_axes)] or [SINGLE_STEP],
        order="columns" if _is_stack(axes) else "rows",
        attrs=luggage.attrs,
    )
    dimensions = [axis.dimension for axis in reversed(position_axes)] or [POINT]
    scales = frozenset(axis.path for axis in axes if axis.path)

    def pieces(block_bytes: int) -> Iterator[Piece]:
        return _pieces(dataset, [axis.is_position for axis in axes], layout.np_dtype, block_bytes)

    return SourceMain(dataset.name, Positions(dimensions), layout, scales, pieces, is_nsid=True)


class _Axis(NamedTuple):
    dimension: Dimension
    is_position: bool
    path: str


def _scale(dataset: Any, axis: int) -> Any:
    scales = dataset.dims[axis]
    return scales[0] if len(scales) else None


def _read_axis(dataset: Any, axis: int, luggage: Luggage, notes: list[str]) -> _Axis:
    size = dataset.shape[axis]
    scale = _scale(dataset, axis)
    if scale is None:
        notes.append(f"axis {axis} of {dataset.name} has no scale; its steps are counted")
        return _Axis(Dimension(f"Dimension_{axis}", "", size), is_position=False, path="")
    name = text_of(scale, "name") or scale.name.rsplit("/", 1)[-1]
    luggage.take(scale, prefix=f"{name}.", skip={*STRUCTURAL - {"quantity"}, "name"})
    kind = str(plain_value(scale.attrs.get("dimension_type", "UNKNOWN")))
    kind = kind.upper().removeprefix("DIMENSIONTYPE.")
    if kind in {"UNKNOWN", "-1"}:
        notes.append(f"{scale.name} has no dimension_type; it is taken as spectroscopic")
    dimension = Dimension(name, text_of(scale, "units"), scale[()])
    return _Axis(dimension, kind in POSITION_TYPES, scale.name)


def _take_metadata(group: Any, luggage: Luggage) -> None:
    """Take the attributes of the groups beside a main: metadata, original_metadata, provenance."""

    def take(path: str, found: Any) -> None:
        if is_plain_group(found):
            luggage.take(found, prefix=f"{path.replace('/', '.')}.")

    if group.name != "/":
        group.visititems(take)


def is_plain_group(found: Any) -> bool:
    """Tell whether an HDF5 object is a group without datasets of its own."""
    return not hasattr(found, "dtype") and not any(hasattr(e, "dtype") for e in found.values())


def _is_stack(axes: list[_Axis]) -> bool:
    """Tell whether data lies image by image: the slowest axis that moves is spectroscopic."""
    moving = [axis for axis in axes if axis.dimension.size > 1]
    return bool(moving) and not moving[0].is_position and any(a.is_position for a in moving)


def _pieces(
    dataset: Any, is_position: list[bool], dtype: np.dtype[Any], block_bytes: int
) -> Iterator[Piece]:
    shape = dataset.shape
    rows_first = [a for a, is_row in enumerate(is_position) if is_row]
    n_row_axes = len(rows_first)
    rows_first += [a for a, is_row in enumerate(is_position) if not is_row]
    for slab in _slabs(shape, dataset.chunks, dtype.itemsize, block_bytes):
        try:
            array = dataset[slab]
        except OSError as error:
            raise SourceError(
                f"{dataset.name}{[[s.start, s.stop] for s in slab]} cannot be read: {error}.",
                hint="The file is damaged there, or a compression filter is not installed.",
            ) from error
        array = array.astype(dtype, copy=False).transpose(rows_first)
        starts = [slab[a].start for a in rows_first]
        sizes = [shape[a] for a in rows_first]
        row = _ravel(starts[:n_row_axes], sizes[:n_row_axes])
        col = _ravel(starts[n_row_axes:], sizes[n_row_axes:])
        yield Piece(row, col, array.reshape(math.prod(array.shape[:n_row_axes]), -1))


def _ravel(starts: list[int], sizes: list[int]) -> int:
    """Return the number of a grid's point, the last dimension fastest."""
    number = 0
    for start, size in zip(starts, sizes, strict=True):
        number = number * size + start
    return number


def _slabs(
    shape: tuple[int, ...], chunks: tuple[int, ...] | None, itemsize: int, block_bytes: int
) -> Iterator[tuple[slice, ...]]:
    """Divide an array in slabs of at most about ``block_bytes``.

    A slab is one step of some leading axes, a range of the next, and all of the others, so that its
    rows and its columns are runs of numbers whichever axes are rows.
    """
    inner_nbytes = [math.prod(shape[axis + 1 :]) * itemsize for axis in range(len(shape))]
    fits = (axis for axis, nbytes in enumerate(inner_nbytes) if nbytes <= block_bytes)
    cut = next(fits, len(shape) - 1)
    count = max(1, block_bytes // inner_nbytes[cut])
    if chunks and count > chunks[cut]:
        count -= count % chunks[cut]
    rest = tuple(slice(0, size) for size in shape[cut + 1 :])
    for lead in np.ndindex(shape[:cut]):
        steps = tuple(slice(step, step + 1) for step in lead)
        for start in range(0, shape[cut], count):
            yield (*steps, slice(start, min(start + count, shape[cut])), *rest)
