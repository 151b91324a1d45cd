"""The two sides of a main dataset, positions and spectroscopic: names, units, arrangement.

Rows and columns of a main dataset count through their dimensions, the fastest running quickest: a
reshape in C order gives an axis for each dimension, the slowest first. Where they stand in another
order, they are put into this one before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrangement import Arrangement, Array, fully_confirmed
from .checks import require_text
from .conformity import labels_of
from .dimension import Dimension
from .reading import arrangement_of, first_tile_steps, grid_values, row_reader
from .selection import grid_rows, matching_rows, picked_steps


@dataclass(frozen=True)
class Side:
    """The dimensions along one axis of a main dataset, in the order of the file.

    Attributes
    ----------
    labels, units : list of str
    arrangement : Arrangement
    indices : h5py.Dataset or ndarray
    is_spec : bool
        Spectroscopic, the second axis, or position, the first.
    """

    labels: list[str]
    units: list[str]
    arrangement: Arrangement
    indices: Any
    is_spec: bool

    @property
    def slow_to_fast(self) -> list[int]:
        """Column numbers from the slowest dimension to the fastest."""
        return self.arrangement.fast_to_slow[::-1]

    @property
    def sorted_sizes(self) -> list[int]:
        """Sizes from the slowest dimension to the fastest."""
        return [self.arrangement.sizes[column] for column in self.slow_to_fast]

    def file_axes(self, first: int) -> list[int]:
        """Return for each stored column its axis among sorted ones that begin at ``first``."""
        return [first + self.slow_to_fast.index(column) for column in range(len(self.labels))]

    def listed(self, sort_dims: bool) -> tuple[list[str], list[int]]:
        """Return labels and sizes, from slow to fast or as the file has them."""
        columns = self.slow_to_fast if sort_dims else range(len(self.labels))
        return (
            [self.labels[column] for column in columns],
            [self.arrangement.sizes[column] for column in columns],
        )

    def descriptors(self) -> list[str]:
        """Return ``label (units)`` of every dimension."""
        return [f"{label} ({unit})" for label, unit in zip(self.labels, self.units, strict=True)]

    def size_lines(self) -> list[str]:
        """Return the lines of the printed form."""
        sizes = self.arrangement.sizes
        return [f"\t{label} - size: {n}" for label, n in zip(self.labels, sizes, strict=True)]

    def steps(self, picks: Mapping[str, Any], allow_negative: bool = True) -> dict[int, Array]:
        """Return for each sliced column the steps that are picked."""
        return {
            column: picked_steps(picks[label], size, label, allow_negative)
            for column, (label, size) in enumerate(
                zip(self.labels, self.arrangement.sizes, strict=True)
            )
            if label in picks
        }

    def sliced_shape(self, steps: Mapping[int, Array]) -> list[int]:
        """Return the sizes that a slice leaves, from slow to fast."""
        sizes = self.arrangement.sizes
        return [len(steps.get(column, range(sizes[column]))) for column in self.slow_to_fast]

    def nested(self, steps: Mapping[int, Array]) -> Array | slice:
        """Return the numbers of the rows that a slice picks from a grid, in nested order.

        All of them are a slice, so that a whole axis costs no list of its numbers.
        """
        if not steps and self.arrangement.is_grid and self.arrangement.rows is None:
            return slice(0, self.arrangement.length)
        return grid_rows(self.arrangement, steps)

    def coordinates(self, h5_vals: Any, rows: Array) -> list[Dimension]:
        """Return the positions of some rows: the dimension for the right, then the one upwards."""
        in_table = not self.arrangement.unit_indices
        columns = range(len(self.labels)) if in_table else self.arrangement.fast_to_slow
        return [
            Dimension(self.labels[column], self.units[column], h5_vals[:, column][rows])
            for column in columns
        ][:2]

    def matching(self, picks: Mapping[str, Any]) -> Array:
        """Return the numbers of the rows that a slice picks, in ascending order."""
        steps = self.steps(picks, allow_negative=False)
        length = self.arrangement.length
        if not steps:
            return np.arange(length)
        if self.arrangement.is_grid:
            return np.unique(grid_rows(self.arrangement, steps))
        units = self.arrangement.unit_indices
        wanted = {column: units[column][at] if units else at for column, at in steps.items()}
        return matching_rows(row_reader(self.indices, self.is_spec)(0, length), wanted)

    def values(self, h5_vals: Any, dim_name: str) -> Array:
        """Read the values of one dimension: one for each step, or for each row of a table."""
        name = require_text(dim_name, "dim_name")
        if name not in self.labels:
            raise KeyError(f"no dimension {name!r} among {self.labels}")
        column = self.labels.index(name)
        if self.arrangement.unit_indices:
            return grid_values(self.arrangement, h5_vals, column, self.is_spec)
        where = (column, slice(None)) if self.is_spec else (slice(None), column)
        return np.asarray(h5_vals[where])[first_tile_steps(np.asarray(self.indices[where]))]

    def dimensions_left(
        self, h5_vals: Any, picks: Mapping[str, Any], sort_dims: bool
    ) -> list[Dimension]:
        """Return the dimensions that a slice leaves with more than one step.

        Where it leaves none there is a single step named ``arb.``.
        """
        steps, left = self.steps(picks), []
        for column in self.slow_to_fast if sort_dims else range(len(self.labels)):
            values = self.values(h5_vals, self.labels[column])
            values = values[steps[column]] if column in steps else values
            if values.size > 1:
                left.append(Dimension(self.labels[column], self.units[column], values))
        return left or [Dimension("arb.", "a. u.", [1])]


def side_of(h5_inds: Any, is_spec: bool) -> Side:
    """Return the side that an indices dataset describes."""
    labels, units = labels_of(h5_inds), labels_of(h5_inds, "units")
    return Side(labels, units, arrangement_of(h5_inds, is_spec), h5_inds, is_spec)


def n_dim_shape(positions: Side, spectra: Side) -> list[int]:
    """Return the shape of the sorted N-dimensional form."""
    return positions.sorted_sizes + spectra.sorted_sizes


def n_dim_form(flat: Any, positions: Side, spectra: Side, sort_dims: bool) -> Any:
    """Return a main's data with one axis for each dimension; see :func:`require_grid` before.

    Parameters
    ----------
    flat : numpy or dask array
        (N, M).
    positions, spectra : Side
        Both of them grids.
    sort_dims : bool
        Axes run from slow to fast instead of in the order of the file.
    """
    if positions.arrangement.rows is not None:
        flat = flat[positions.arrangement.rows]
    if spectra.arrangement.rows is not None:
        flat = flat[:, spectra.arrangement.rows]
    n_dim = flat.reshape(n_dim_shape(positions, spectra))
    return n_dim if sort_dims else n_dim.transpose(file_order(positions, spectra))


def file_order(positions: Side, spectra: Side) -> list[int]:
    """Return the axes of the sorted form in the order in which the file lists dimensions."""
    return positions.file_axes(0) + spectra.file_axes(len(positions.labels))


def require_grid(*sides: Side) -> None:
    """Raise ValueError, with the reason, unless the rows of every side fill a grid.

    What samples have suggested is compared in full first.
    """
    for side in sides:
        reader = row_reader(side.indices, side.is_spec)
        if side.arrangement.sampled and not fully_confirmed(side.arrangement, reader):
            raise ValueError(f"there is no N-dimensional form: {side.labels} only begin as a grid")
        if not side.arrangement.is_grid:
            kind = "spectroscopic" if side.is_spec else "position"
            raise ValueError(
                f"there is no N-dimensional form: along the {kind} dimensions {side.labels}, "
                f"{side.arrangement.gap}"
            )
