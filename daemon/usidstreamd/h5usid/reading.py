"""Reads ancillary datasets of any age: piece by piece, whichever way they lie.

The size and order of dimensions come from the indices alone; the values of a dimension are read
where its index changes.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from .arrangement import Arrangement, Array, ReadRows, infer_arrangement
from .attributes import get_attr
from .checks import require_texts, say
from .conformity import labels_of
from .lazy import is_dask

_INCOMPLETE = "incomplete_dimensions"


def row_reader(indices: Any, is_spec: bool) -> ReadRows:
    """Return a function that reads rows of an ancillary dataset as (rows, dimensions).

    Parameters
    ----------
    indices : h5py.Dataset or ndarray
        Spectroscopic (S x M) or position (N x P).
    is_spec : bool
    """

    def read(start: int, stop: int) -> Array:
        return np.asarray(indices[:, start:stop]).T if is_spec else np.asarray(indices[start:stop])

    return read


def arrangement_of(indices: Any, is_spec: bool) -> Arrangement:
    """Infer sizes and order of dimensions from an indices dataset or array."""
    n_columns, length = indices.shape if is_spec else indices.shape[::-1]
    return infer_arrangement(row_reader(indices, is_spec), length, n_columns)


def as_indices(ds_index: Any, name: str) -> Any:
    """Return an indices dataset or array, a dask array computed; TypeError for anything else."""
    if is_dask(ds_index):
        return ds_index.compute()
    if not isinstance(ds_index, np.ndarray | h5py.Dataset):
        raise TypeError(f"{name} should be an array or a h5py.Dataset")
    return ds_index


def looks_spectroscopic(ds_index: Any) -> bool:
    """Guess which way an ancillary dataset lies: there are fewer dimensions than combinations."""
    return bool(ds_index.shape[0] <= ds_index.shape[1])


def get_dimensionality(ds_index: Any, index_sort: Any = None) -> list[int]:
    """Count the different indices of every dimension.

    Parameters
    ----------
    ds_index : h5py.Dataset or array
        Indices, spectroscopic (S x M) or position (N x P): the shorter axis counts dimensions.
    index_sort : sequence of int, optional
        The order in which dimensions are counted. Default: as they are stored.

    Returns
    -------
    list of int

    Raises
    ------
    TypeError
        If ``ds_index`` is no dataset and no array.
    ValueError
        If ``index_sort`` does not name every dimension once.
    """
    indices = as_indices(ds_index, "ds_index")
    sizes = arrangement_of(indices, looks_spectroscopic(indices)).sizes
    if index_sort is None:
        return sizes
    order = list(index_sort)
    if sorted(order) != list(range(len(sizes))):
        raise ValueError(f"index_sort {order} should name each of {len(sizes)} dimensions once")
    return [sizes[column] for column in order]


def get_sort_order(ds_spec: Any) -> Array:
    """Order dimensions from the fastest varying to the slowest.

    Parameters
    ----------
    ds_spec : h5py.Dataset or array
        Indices, spectroscopic (S x M) or position (N x P): the shorter axis counts dimensions.

    Returns
    -------
    ndarray of int
        The numbers of the dimensions as they are stored, the fastest first.

    Raises
    ------
    TypeError
        If ``ds_spec`` is no dataset and no array.
    """
    indices = as_indices(ds_spec, "ds_spec")
    return np.array(arrangement_of(indices, looks_spectroscopic(indices)).fast_to_slow)


def get_unit_values(  # noqa: PLR0917 - pyUSID fixes the signature
    ds_inds: Any,
    ds_vals: Any,
    dim_names: str | list[str] | None = None,
    all_dim_names: list[str] | None = None,
    is_spec: bool | None = None,
    verbose: bool = False,
) -> dict[str, Array]:
    """Read the values over which each dimension was varied.

    Parameters
    ----------
    ds_inds, ds_vals : h5py.Dataset, or arrays if ``all_dim_names`` is given
        Indices and values, spectroscopic (S x M) or position (N x P).
    dim_names : str or list of str, optional
        The dimensions asked for. Default: all.
    all_dim_names : list of str, optional
        The names of all dimensions, for arrays.
    is_spec : bool, optional
        Which way the datasets lie. Default: guessed from the shape.
    verbose : bool, optional
        Print what is found.

    Returns
    -------
    dict
        For each name, a 1-D array. In a table of positions these are all its rows.

    Raises
    ------
    TypeError
        If arrays come without ``all_dim_names``, or an argument is of another kind.
    KeyError
        If there is no dimension of a name.
    ValueError
        If shapes differ or a dimension has no such values: it is incomplete or irregular.
    """
    labels = _all_names(ds_inds, ds_vals, all_dim_names)
    if ds_inds.shape != ds_vals.shape:
        raise ValueError(f"ds_inds {ds_inds.shape} and ds_vals {ds_vals.shape} differ in shape")
    if is_spec is not None and not isinstance(is_spec, bool):
        raise TypeError(f"is_spec should be a bool, not {type(is_spec).__name__}")
    spectral = is_spec if is_spec is not None else ds_inds.shape[0] < ds_inds.shape[1]
    wanted = labels if dim_names is None else require_texts(dim_names, "dim_names")
    for name in wanted:
        if name not in labels:
            raise KeyError(f"no dimension {name!r} among {labels}")
    _require_complete(ds_inds, ds_vals)
    arrangement = arrangement_of(ds_inds, spectral)
    if len(labels) != len(arrangement.sizes):
        raise ValueError(f"{len(labels)} names for {len(arrangement.sizes)} dimensions")
    units = {
        name: _unit_values(arrangement, ds_inds, ds_vals, column, spectral)
        for column, name in enumerate(labels)
    }
    say(verbose, f"Values of {labels}: {[len(values) for values in units.values()]}")
    return {name: units[name] for name in labels if name in wanted}


def _all_names(ds_inds: Any, ds_vals: Any, all_dim_names: Any) -> list[str]:
    allowed = h5py.Dataset if all_dim_names is None else h5py.Dataset | np.ndarray
    for name, value in (("ds_inds", ds_inds), ("ds_vals", ds_vals)):
        if not isinstance(value, allowed):
            raise TypeError(f"{name} should be a h5py.Dataset, or an array with all_dim_names")
    if all_dim_names is None:
        return labels_of(ds_inds)
    return require_texts(list(all_dim_names), "all_dim_names")


def _require_complete(ds_inds: Any, ds_vals: Any) -> None:
    """Raise for datasets that files of earlier versions mark as incomplete."""
    for dset in (ds_inds, ds_vals):
        if isinstance(dset, h5py.Dataset) and _INCOMPLETE in dset.attrs:
            names = list(np.atleast_1d(get_attr(dset, _INCOMPLETE)))
            raise ValueError(f"dimensions {names} of {dset.name} are marked as incomplete")


def _unit_values(
    arrangement: Arrangement, ds_inds: Any, ds_vals: Any, column: int, is_spec: bool
) -> Array:
    if arrangement.is_grid:
        return grid_values(arrangement, ds_vals, column, is_spec)
    whole = slice(None)
    where = (column, whole) if is_spec else (whole, column)
    indices, values = np.asarray(ds_inds[where]), np.asarray(ds_vals[where])
    return values[first_tile_steps(indices)]


def grid_values(arrangement: Arrangement, ds_vals: Any, column: int, is_spec: bool) -> Array:
    """Read the values of a dimension at the cells where a grid's first round changes its index."""
    stride, size = arrangement.strides[column], arrangement.sizes[column]
    cells = slice(0, min(stride * size, arrangement.length), stride)
    if arrangement.rows is None:
        return np.asarray(ds_vals[column, cells] if is_spec else ds_vals[cells, column])
    return np.asarray(ds_vals[column] if is_spec else ds_vals[:, column])[arrangement.rows[cells]]


def first_tile_steps(indices: Array) -> Array:
    """Return the rows at which a dimension's index changes within its first round.

    Parameters
    ----------
    indices : 1-D array
        The indices of one dimension, which must repeat the same round again and again.

    Raises
    ------
    ValueError
        If rounds differ, or do not begin with the lowest index.
    """
    changes = np.concatenate([[0], np.flatnonzero(np.diff(indices)) + 1])
    lowest = indices[changes] == indices.min()
    begins = changes[lowest]
    if begins[0] != 0:
        raise ValueError("the indices of a dimension do not begin with the lowest one")
    period = begins[1] if len(begins) > 1 else len(indices)
    rounds, rest = divmod(len(indices), int(period))
    if rest or (indices.reshape(rounds, period) != indices[:period]).any():
        raise ValueError("the rounds of a dimension differ: it is incomplete or irregular")
    return changes[changes < period]
