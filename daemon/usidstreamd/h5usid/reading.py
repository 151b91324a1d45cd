"""Reads ancillary datasets of any age: piece by piece, whichever way they lie."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrangement import Arrangement, Array, ReadRows, infer_arrangement


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
