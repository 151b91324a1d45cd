"""Indices and values as whole arrays, for those who build ancillary datasets by hand. No file."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from .axes import INDICES_DTYPE, VALUES_DTYPE, Array
from .checks import require_texts


def make_indices_matrix(num_steps: Any, is_position: bool = True) -> Array:
    """Make the indices of a grid.

    Parameters
    ----------
    num_steps : list, tuple or array of int
        The size of every dimension, the fastest first.
    is_position : bool, optional
        Position (N x P) or spectroscopic (S x M).

    Returns
    -------
    ndarray of uint32
        Dimensions in the order given.

    Raises
    ------
    TypeError
        If ``num_steps`` is no sequence.
    ValueError
        If it is empty or a size is no integer of at least 2; a single dimension may have size 1.
    """
    if isinstance(num_steps, int):
        num_steps = [num_steps]
    if not isinstance(num_steps, list | tuple | np.ndarray):
        raise TypeError("num_steps should be a list, tuple or array")
    sizes = _sizes(np.atleast_1d(num_steps).tolist())
    matrix = np.stack(
        [_column(np.arange(size), sizes, number) for number, size in enumerate(sizes)]
    )
    matrix = matrix.astype(INDICES_DTYPE)
    return matrix.T if is_position else matrix


def _sizes(num_steps: list[Any]) -> list[int]:
    lowest = 1 if len(num_steps) == 1 else 2
    try:
        sizes = [operator.index(size) for size in num_steps]
    except TypeError:
        raise ValueError(f"num_steps should be integers, not {num_steps}") from None
    if not sizes or min(sizes) < lowest:
        raise ValueError(f"num_steps should be integers of at least {lowest}, not {num_steps}")
    return sizes


def _column(unit: Array, sizes: Sequence[int], number: int) -> Array:
    """Spread the steps of one dimension over all combinations, the fastest dimension first."""
    return np.tile(np.repeat(unit, math.prod(sizes[:number])), math.prod(sizes[number + 1 :]))


def build_ind_val_matrices(unit_values: Any, is_spectral: bool = True) -> tuple[Array, Array]:
    """Make the indices and values of a grid.

    Parameters
    ----------
    unit_values : list or tuple of 1-D arrays
        The values of every dimension, the fastest first.
    is_spectral : bool, optional
        Spectroscopic (S x M) or position (N x P).

    Returns
    -------
    indices : ndarray of uint32
    values : ndarray of float32
        Dimensions in the order given.

    Raises
    ------
    TypeError
        If ``unit_values`` is no list or tuple.
    ValueError
        If it is empty or an item is not one-dimensional.
    """
    if not isinstance(unit_values, list | tuple):
        raise TypeError("unit_values should be a list or tuple of arrays")
    units = [np.asarray(unit) for unit in unit_values]
    if not units or any(unit.ndim != 1 for unit in units):
        raise ValueError("unit_values should hold one-dimensional arrays")
    sizes = [unit.size for unit in units]
    numbers = range(len(units))
    values = np.stack([_column(units[number], sizes, number) for number in numbers])
    indices = np.stack([_column(np.arange(sizes[number]), sizes, number) for number in numbers])
    indices, values = indices.astype(INDICES_DTYPE), values.astype(VALUES_DTYPE)
    return (indices, values) if is_spectral else (indices.T, values.T)


def create_spec_inds_from_vals(ds_spec_val_mat: Any) -> Array:
    """Infer spectroscopic indices from the changes of the values.

    Parameters
    ----------
    ds_spec_val_mat : (S, M) array
        Spectroscopic values.

    Returns
    -------
    (S, M) array of int32
        An index goes up where its values change and no slower dimension's do; where one does, it
        starts again at 0.

    Raises
    ------
    TypeError
        If it is no array.
    ValueError
        If it is not two-dimensional.
    """
    if not isinstance(ds_spec_val_mat, np.ndarray):
        raise TypeError("ds_spec_val_mat should be an array")
    if ds_spec_val_mat.ndim != 2:
        raise ValueError(f"ds_spec_val_mat should have 2 dimensions, not {ds_spec_val_mat.ndim}")
    changed = ds_spec_val_mat != np.roll(ds_spec_val_mat, 1, axis=1)
    slow_to_fast = np.argsort(np.count_nonzero(changed, axis=1), kind="stable")
    indices = np.zeros(ds_spec_val_mat.shape, dtype=np.int32)
    restart = np.zeros(ds_spec_val_mat.shape[1], dtype=bool)
    restart[0] = True
    for row in slow_to_fast:
        steps = np.cumsum(changed[row] & ~restart)
        begin = np.maximum.accumulate(np.where(restart, np.arange(len(steps)), 0))
        indices[row] = steps - steps[begin]
        restart |= changed[row]
    return indices


def get_aux_dset_slicing(
    dim_names: Any, last_ind: int | None = None, is_spectroscopic: bool = False
) -> dict[str, tuple[slice, slice]]:
    """Return for every dimension the slices that pick it from an ancillary dataset.

    Parameters
    ----------
    dim_names : list of str
        In the order of the dataset.
    last_ind : int, optional
        The end of the slice along the main dataset's axis.
    is_spectroscopic : bool, optional
        Spectroscopic (S x M) or position (N x P).

    Raises
    ------
    TypeError
        If a name is no string.
    ValueError
        If there is no name.
    """
    names = require_texts(dim_names, "dim_names")
    if not names:
        raise ValueError("dim_names should hold at least one name")
    along = slice(last_ind)
    across = [slice(number, number + 1) for number in range(len(names))]
    return {
        name: (one, along) if is_spectroscopic else (along, one)
        for name, one in zip(names, across, strict=True)
    }


def calc_chunks(
    dimensions: Any, dtype_byte_size: int, unit_chunks: Any = None, max_chunk_mem: int = 10240
) -> tuple[int, ...]:
    """Choose a chunk shape of whole units that is just larger than a number of bytes.

    Parameters
    ----------
    dimensions : list or tuple of int
        Shape of the dataset.
    dtype_byte_size : int
        Bytes of an element.
    unit_chunks : list or tuple of int, optional
        Shape of a unit; chunks are whole multiples of it. Default: 1 in every dimension.
    max_chunk_mem : int, optional
        The number of bytes at which chunks stop to grow.

    Returns
    -------
    tuple of int
        Never larger than the dataset.

    Raises
    ------
    TypeError
        If an argument is of another kind.
    ValueError
        If the unit has not as many dimensions as the dataset.
    """
    if not isinstance(dimensions, list | tuple):
        raise TypeError("dimensions should be a tuple or list")
    if not isinstance(dtype_byte_size, int):
        raise TypeError("dtype_byte_size should be an integer")
    if not isinstance(unit_chunks, list | tuple | None):
        raise TypeError("unit_chunks should be a tuple or list")
    units = [1] * len(dimensions) if unit_chunks is None else list(unit_chunks)
    if len(units) != len(dimensions):
        raise ValueError(f"unit_chunks {units} should have {len(dimensions)} dimensions")
    chunks = list(units)
    while math.prod(chunks) * dtype_byte_size <= max_chunk_mem:
        if all(chunk >= size for chunk, size in zip(chunks, dimensions, strict=True)):
            break
        shares = [size / chunk for size, chunk in zip(dimensions, chunks, strict=True)]
        grown = shares.index(max(shares))
        chunks[grown] += units[grown]
    return tuple(min(chunk, size) for chunk, size in zip(chunks, dimensions, strict=True))
