"""One value for each position's spectrum: what a map shows. Pure numpy."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrangement import Array

Reduction = str | int
"""``mean`` or ``max`` over a position's spectrum, or the number of one of its columns."""


def reduce_rows(block: Array, reduction: Reduction) -> Array:
    """Reduce the spectra of some positions, (n, M), to one value each; see `LiveMain.reduced`."""
    if block.dtype.names:
        values = np.zeros(len(block), reduced_dtype(block.dtype))
        for name in block.dtype.names:
            values[name] = reduce_rows(block[name], reduction)
        return values
    if not isinstance(reduction, str):
        column: Array = block[:, 0]
        return column
    if reduction == "max":
        # complex values have no order of their own
        order = np.abs(block) if block.dtype.kind == "c" else block
        return np.asarray(block[np.arange(len(block)), order.argmax(axis=1)])
    if reduction != "mean":
        raise ValueError(f"reduction should be 'mean', 'max' or a column, not {reduction!r}")
    return np.asarray(block.mean(axis=1, dtype=reduced_dtype(block.dtype)))


def reduced_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type in which reduced values are kept: as wide as there is."""
    if dtype.names:
        return np.dtype([(name, reduced_dtype(dtype[name])) for name in dtype.names])
    return np.dtype(np.complex128 if dtype.kind == "c" else np.float64)
