"""What ancillary datasets hold, column by column and piece by piece. Pure numpy, no file.

Rows of a position ancillary (columns of a spectroscopic one) are numbered along the main's axis. On
a grid the index of a dimension at row ``r`` is ``(r // stride) % size``, where ``stride`` is the
product of the sizes of all faster dimensions; a table has its row number as the index of every
dimension. Pieces are made on demand, so that memory does not grow with the grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .dimension import Dimension, DimType, require_distinct, validate_dimensions

INDICES_DTYPE = np.uint32
VALUES_DTYPE = np.float32

Array = np.ndarray[Any, np.dtype[Any]]

# Differences below this many float64 steps are rounding noise, as in sin(x) against sin(pi - x).
_NOISE_STEPS = 8
# A float32 may move a value by this part of a step without anyone being able to tell.
_TOLERABLE_SHIFT = 0.01


class Axes(Protocol):
    """The dimensions along one axis of a main dataset, in the order of their storage.

    ``length`` is the size of that axis, ``period(d)`` the number of rows after which column ``d``
    repeats.
    """

    labels: list[str]
    units: list[str]
    types: list[int]
    length: int
    indices_dtype: np.dtype[Any]
    values_dtype: np.dtype[Any]

    def period(self, column: int) -> int:
        """Return after how many rows a column repeats."""
        ...

    def indices(self, column: int, start: int, stop: int) -> Array:
        """Return the indices of one dimension for rows ``start`` to ``stop``."""
        ...

    def values(self, column: int, start: int, stop: int) -> Array:
        """Return the values of one dimension for rows ``start`` to ``stop``."""
        ...


class GridAxes:
    """A grid of dimensions, of which the slowest may be incomplete.

    Parameters
    ----------
    dimensions : sequence of Dimension
        Slowest first, as they are stored.
    length : int, optional
        The number of rows. Default: the product of the sizes. Less if the slowest dimension was
        not finished.
    """

    def __init__(self, dimensions: Sequence[Dimension], length: int | None = None) -> None:
        self.labels = [dim.name for dim in dimensions]
        self.units = [dim.units for dim in dimensions]
        self.types = [dim.mode.value for dim in dimensions]
        sizes = [len(dim) for dim in dimensions]
        self._sizes = sizes
        self._strides = [math.prod(sizes[number + 1 :]) for number in range(len(sizes))]
        self.length: int = math.prod(sizes) if length is None else length
        self.indices_dtype = np.dtype(INDICES_DTYPE)
        self.values_dtype = _grid_dtype(dimensions)
        self._unit_values = [dim.values.astype(self.values_dtype) for dim in dimensions]
        self._unit_indices = [np.arange(size, dtype=INDICES_DTYPE) for size in sizes]

    def period(self, column: int) -> int:
        """Return after how many rows a column repeats."""
        return self._strides[column] * self._sizes[column]

    def indices(self, column: int, start: int, stop: int) -> Array:
        """Return the indices of one dimension for rows ``start`` to ``stop``, uint32."""
        return self._piece(self._unit_indices[column], column, start, stop)

    def values(self, column: int, start: int, stop: int) -> Array:
        """Return the values of one dimension for rows ``start`` to ``stop``."""
        return self._piece(self._unit_values[column], column, start, stop)

    def _piece(self, unit: Array, column: int, start: int, stop: int) -> Array:
        stride = self._strides[column]
        first, last = start // stride, -(-stop // stride)
        steps = unit[np.arange(first, last) % self._sizes[column]]
        if stride == 1:
            return steps
        counts = np.full(last - first, stride)
        counts[0] -= start - first * stride
        counts[-1] -= last * stride - stop
        return np.repeat(steps, counts)


class TableAxes:
    """Positions given one by one: spiral, sparse, random and drift-corrected scans.

    Parameters
    ----------
    labels, units : list of str
        One for each column.
    table : (N, P) array of float
    """

    def __init__(self, labels: Sequence[str], units: Sequence[str], table: Any) -> None:
        self._table = np.asarray(table)
        if self._table.ndim != 2 or self._table.dtype.kind not in "iuf" or not self._table.size:
            raise ValueError("a table of positions should be a 2-D array of numbers, (N, P)")
        self.labels, self.units = list(labels), list(units)
        if not len(self.labels) == len(self.units) == self._table.shape[1]:
            raise ValueError(
                f"a table of shape {self._table.shape} needs as many labels ({len(self.labels)}) "
                f"and units ({len(self.units)}) as columns"
            )
        require_distinct(self.labels, "the table's")
        self.types = [DimType.INCOMPLETE.value] * len(self.labels)
        self.length = int(self._table.shape[0])
        self.indices_dtype = np.dtype(INDICES_DTYPE)
        self.values_dtype = _table_dtype(self._table)

    def period(self, column: int) -> int:  # noqa: ARG002 - every column counts all rows
        """Return the length: no column repeats."""
        return self.length

    def indices(self, column: int, start: int, stop: int) -> Array:  # noqa: ARG002 - as above
        """Return the row numbers, uint32."""
        return np.arange(start, stop, dtype=INDICES_DTYPE)

    def values(self, column: int, start: int, stop: int) -> Array:
        """Return the values of one column for rows ``start`` to ``stop``."""
        return self._table[start:stop, column].astype(self.values_dtype)


@dataclass(frozen=True)
class _Kind:
    """Names of an axis in messages."""

    name: str
    axis: str


_KINDS = {False: _Kind("Position", "first"), True: _Kind("Spectroscopic", "second")}


def axes_from(
    dimensions: Any, is_spectral: bool, slow_to_fast: bool = False, length: int | None = None
) -> Axes:
    """Turn what a caller gives for one axis into what is stored.

    Parameters
    ----------
    dimensions : Dimension, list of Dimension, or a table
        Dimensions run fastest first unless ``slow_to_fast``. A table has ``labels``, ``units`` and
        ``values`` (N, P), like ``usidstream.PositionTable``.
    is_spectral : bool
        Named in errors.
    slow_to_fast : bool, optional
        Dimensions run slowest first.
    length : int, optional
        The size of the main dataset's axis, which the dimensions must fill. A slowest dimension of
        mode INCOMPLETE may be filled in part.

    Raises
    ------
    TypeError
        If it is no Dimension, no list of them and no table.
    ValueError
        If names repeat, modes cannot be combined, or the size differs from ``length``.
    """
    kind = _KINDS[is_spectral]
    if hasattr(dimensions, "labels") and hasattr(dimensions, "values"):
        axes: Axes = TableAxes(dimensions.labels, dimensions.units, dimensions.values)
    else:
        checked = validate_dimensions(dimensions, kind.name)
        axes = _axes_from_dimensions(checked, kind, slow_to_fast, length)
    if length is not None and axes.length != length:
        raise ValueError(
            f"{kind.name} dimensions make {axes.length} combinations, "
            f"but the {kind.axis} axis of the main dataset has {length}"
        )
    return axes


def _axes_from_dimensions(
    dimensions: list[Dimension], kind: _Kind, slow_to_fast: bool, length: int | None
) -> Axes:
    modes = [dim.mode for dim in dimensions]
    stored = dimensions if slow_to_fast else dimensions[::-1]
    if all(mode is DimType.DEFAULT for mode in modes):
        return GridAxes(stored)
    if all(mode is DimType.INCOMPLETE for mode in modes) and len(modes) > 1:
        return _table_from(dimensions, kind)
    if stored[0].mode is DimType.INCOMPLETE and all(
        dim.mode is DimType.DEFAULT for dim in stored[1:]
    ):
        return GridAxes(stored, _incomplete_length(stored, kind, length))
    raise ValueError(
        f"{kind.name} dimensions of modes {[mode.name for mode in modes]} cannot be combined: "
        "give positions as a table of values instead"
    )


def _table_from(dimensions: list[Dimension], kind: _Kind) -> TableAxes:
    if len({len(dim) for dim in dimensions}) > 1:
        raise ValueError(f"{kind.name} dimensions of mode INCOMPLETE should be equally long")
    return TableAxes(
        [dim.name for dim in dimensions],
        [dim.units for dim in dimensions],
        np.stack([dim.values for dim in dimensions], axis=1),
    )


def _incomplete_length(stored: list[Dimension], kind: _Kind, length: int | None) -> int:
    inner = math.prod(len(dim) for dim in stored[1:])
    full = inner * len(stored[0])
    if length is None:
        return full
    if not full - inner < length <= full:
        raise ValueError(
            f"{kind.name} dimensions end in an incomplete {stored[0].name} of {len(stored[0])} "
            f"steps: the {kind.axis} axis should have {full - inner + 1} to {full}, not {length}"
        )
    return length


def _grid_dtype(dimensions: Sequence[Dimension]) -> np.dtype[Any]:
    lossy = any(loses_in_float32(dim.values) for dim in dimensions)
    return np.dtype(np.float64 if lossy else VALUES_DTYPE)


def _table_dtype(table: Array) -> np.dtype[Any]:
    lossy = any(loses_in_float32(column, sort=False) for column in table.T)
    return np.dtype(np.float64 if lossy else VALUES_DTYPE)


def loses_in_float32(values: Array, sort: bool = True) -> bool:
    """Tell whether float32 would merge values or move them by a noticeable part of a step.

    Parameters
    ----------
    values : 1-D array
    sort : bool, optional
        Whether values are compared with their nearest ones in size, or only with the next ones in
        time: measured positions come arbitrarily close to each other by chance.
    """
    wide = np.asarray(values, dtype=np.float64)
    with np.errstate(over="ignore"):  # what overflows is found below
        narrow = wide.astype(VALUES_DTYPE).astype(np.float64)
    if np.array_equal(wide, narrow, equal_nan=True):
        return False
    if not np.array_equal(np.isfinite(wide), np.isfinite(narrow)):
        return True  # beyond the range of float32
    noise = _NOISE_STEPS * np.spacing(np.nanmax(np.abs(wide), initial=0.0))
    order = np.argsort(wide) if sort else slice(None)
    merged = (np.abs(np.diff(wide[order])) > noise) & (np.diff(narrow[order]) == 0)
    if merged.any():
        return True
    steps = np.abs(np.diff(wide))
    steps = steps[steps > noise]
    if not steps.size:
        return False
    step = steps.min() if sort else np.median(steps)
    return bool(np.nanmax(np.abs(wide - narrow)) > _TOLERABLE_SHIFT * step)


class ListedAxes:
    """Indices and values that are at hand already, as when dimensions are taken away.

    Parameters
    ----------
    labels, units : list of str
        One for each column.
    types : list of int
        The value of each dimension's DimType.
    indices, values : (N, D) arrays
        Stored in their own types.
    """

    def __init__(
        self, labels: list[str], units: list[str], types: list[int], indices: Array, values: Array
    ) -> None:
        self.labels, self.units, self.types = labels, units, types
        self._indices, self._values = indices, values
        self.length = int(indices.shape[0])
        self.indices_dtype, self.values_dtype = indices.dtype, values.dtype

    def period(self, column: int) -> int:  # noqa: ARG002 - nothing is known of repetitions
        """Return the length."""
        return self.length

    def indices(self, column: int, start: int, stop: int) -> Array:
        """Return the indices of one dimension for rows ``start`` to ``stop``."""
        return self._indices[start:stop, column]

    def values(self, column: int, start: int, stop: int) -> Array:
        """Return the values of one dimension for rows ``start`` to ``stop``."""
        return self._values[start:stop, column]
