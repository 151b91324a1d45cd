"""Which rows and columns of a main dataset a slice by dimensions means. Pure numpy, no file.

A slice gives indices for some dimensions; the others stay whole. On a grid the number of a cell is
the sum of index times stride over all dimensions, and mostly that of its row. Cells are listed with
the slowest dimension outermost, so that whole dimensions give whole ranges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .arrangement import Arrangement, Array

Picks = Mapping[str, Any]
_PICK_KINDS = (slice, list, tuple, int, np.integer, np.ndarray)


def checked_picks(slice_dict: Any, labels: Sequence[str]) -> dict[str, Any]:
    """Return a slice dictionary; raise for what is none.

    Raises
    ------
    TypeError
        If it is no dictionary, or a value no slice, integer or sequence of integers.
    KeyError
        If there is no dimension of a name, or more than one.
    """
    if slice_dict is None:
        return {}
    if not isinstance(slice_dict, Mapping):
        raise TypeError(f"slice_dict should be a dictionary, not {type(slice_dict).__name__}")
    for name, pick in slice_dict.items():
        if labels.count(name) != 1:
            raise KeyError(f"cannot slice by {name!r}: dimensions are {list(labels)}")
        if not isinstance(pick, _PICK_KINDS) or isinstance(pick, bool):
            raise TypeError(
                f"a slice of {name!r} should be a slice, an integer or a list of integers, "
                f"not {type(pick).__name__}"
            )
    return dict(slice_dict)


def picked_steps(pick: Any, size: int, name: str, allow_negative: bool = True) -> Array:
    """Return the step numbers of one dimension that a slice, integer or list picks.

    Raises
    ------
    IndexError
        If a number is out of bounds.
    ValueError
        If a number is negative where that is not allowed, or nothing is picked.
    """
    if isinstance(pick, slice):
        steps = np.arange(size)[pick]
    else:
        given = np.atleast_1d(np.asarray(pick)).ravel()
        steps = np.flatnonzero(given) if given.dtype == bool else given
        if steps.size and steps.dtype.kind not in "iu":
            raise ValueError(f"a slice of {name!r} should hold integers, not {steps.dtype}")
        if not allow_negative and (steps < 0).any():
            raise ValueError(f"a slice of {name!r} to two dimensions should hold indices >= 0")
        if (steps >= size).any() or (steps < -size).any():
            raise IndexError(f"a slice of {name!r} is out of bounds: it has {size} steps")
        steps = np.where(steps < 0, steps + size, steps)
    if not steps.size:
        raise ValueError(f"a slice of {name!r} picks nothing")
    return steps


def grid_rows(arrangement: Arrangement, steps: Mapping[int, Array]) -> Array:
    """Return the row numbers of a grid for the steps picked from some columns.

    Parameters
    ----------
    arrangement : Arrangement
        A grid, complete or with an incomplete slowest dimension.
    steps : dict
        For column numbers, the steps picked; other columns stay whole.

    Returns
    -------
    ndarray
        In the order of nested loops, the slowest dimension outermost.

    Raises
    ------
    IndexError
        If the slowest dimension is incomplete and rows are picked that were not measured.
    """
    cells = np.zeros(1, dtype=np.int64)
    for column in arrangement.fast_to_slow[::-1]:
        picked = steps.get(column, np.arange(arrangement.sizes[column]))
        cells = (cells[:, None] + picked * arrangement.strides[column]).ravel()
    if cells.max() >= arrangement.length:
        raise IndexError(f"the slice reaches beyond what was measured: {arrangement.gap}")
    return cells if arrangement.rows is None else arrangement.rows[cells].astype(np.int64)


def matching_rows(indices: Array, steps: Mapping[int, Array]) -> Array:
    """Return the row numbers whose indices are among those picked, in ascending order.

    Parameters
    ----------
    indices : (n, D) array
    steps : dict
        For column numbers, the indices picked.
    """
    chosen = np.ones(len(indices), dtype=bool)
    for column, picked in steps.items():
        chosen &= np.isin(indices[:, column], picked)
    return np.flatnonzero(chosen)
