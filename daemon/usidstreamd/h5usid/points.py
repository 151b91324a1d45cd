"""Reads chosen rows and columns of a dataset, each chunk once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from .arrangement import Array

BAND_BYTES = 4 * 1024 * 1024


def read_crossing(h5_dset: Any, rows: Array | slice, columns: Array | slice) -> Array:
    """Read the elements where chosen rows and columns cross.

    h5py's own lists of numbers cost time for every number, and take them in ascending order only;
    here whole bands of chunks are read and picked from in memory.

    Parameters
    ----------
    h5_dset : h5py.Dataset
        (N, M).
    rows, columns : 1-D array of int, or slice
        In any order; numbers may repeat.

    Returns
    -------
    ndarray
        (number of rows, number of columns).
    """
    rows, columns = _as_slice(rows), _as_slice(columns)
    if isinstance(rows, slice) and isinstance(columns, slice):
        return _read_block(h5_dset, rows, columns)
    row_numbers, column_numbers = _as_numbers(rows), _as_numbers(columns)
    picked = np.empty((len(row_numbers), len(column_numbers)), dtype=h5_dset.dtype)
    heights, widths = _band_shape(h5_dset)
    for row_band in _bands(row_numbers, heights):
        for column_band in _bands(column_numbers, widths):
            top, left = row_numbers[row_band], column_numbers[column_band]
            block = h5_dset[top.min() : top.max() + 1, left.min() : left.max() + 1]
            inside = np.ix_(top - top.min(), left - left.min())
            picked[np.ix_(row_band, column_band)] = block[inside]
    return picked


def _read_block(h5_dset: Any, rows: slice, columns: slice) -> Array:
    """Read a block band after band: HDF5 takes several kB for every chunk that a read touches."""
    first, end, _ = rows.indices(h5_dset.shape[0])
    block = np.empty((end - first, len(range(h5_dset.shape[1])[columns])), dtype=h5_dset.dtype)
    height, _ = _band_shape(h5_dset)
    bounds = [first, *range((first // height + 1) * height, end, height), end]
    for start, stop in itertools.pairwise(bounds):
        inside = np.s_[start - first : stop - first]
        h5_dset.read_direct(block, np.s_[start:stop, columns], inside)
    return block


def _as_slice(numbers: Array | slice) -> Array | slice:
    """Return consecutive numbers as a slice."""
    if isinstance(numbers, slice) or not len(numbers) or (np.diff(numbers) != 1).any():
        return numbers
    return slice(int(numbers[0]), int(numbers[-1]) + 1)


def _as_numbers(numbers: Array | slice) -> Array:
    return np.arange(numbers.start, numbers.stop) if isinstance(numbers, slice) else numbers


def _band_shape(h5_dset: Any) -> tuple[int, int]:
    """Return the rows and columns that are read at once: whole chunks, a few MiB."""
    n_rows, n_columns = h5_dset.chunks or (1, h5_dset.shape[1])
    chunk_bytes = max(n_rows * n_columns * h5_dset.dtype.itemsize, 1)
    return n_rows * max(BAND_BYTES // chunk_bytes, 1), n_columns


def _bands(numbers: Array, width: int) -> Iterator[Array]:
    """Yield where in ``numbers`` those of one band after the other stand."""
    order = np.argsort(numbers, kind="stable")
    begins = np.flatnonzero(np.diff(numbers[order] // width)) + 1
    yield from np.split(order, begins)
