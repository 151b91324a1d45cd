"""Dask arrays, where a caller uses them. Dask is never imported unless one is asked for."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import h5py
import numpy as np


def is_dask(value: object) -> bool:
    """Tell whether a value is a dask array; False wherever dask was never imported."""
    module = sys.modules.get("dask.array")
    return module is not None and isinstance(value, module.Array)


def dask_array() -> ModuleType:
    """Return the module ``dask.array``; ImportError tells what to install."""
    try:
        import dask.array
    except ImportError as error:
        raise ImportError("lazy arrays need dask: pip install dask") from error
    return dask.array


def lazy_load_array(dataset: Any) -> Any:
    """Return a dataset or array as a dask array, which reads nothing yet.

    Parameters
    ----------
    dataset : h5py.Dataset, or a numpy or dask array

    Raises
    ------
    TypeError
        If it is anything else.
    ImportError
        If dask is not installed.
    """
    if is_dask(dataset):
        return dataset
    if not isinstance(dataset, h5py.Dataset | np.ndarray):
        raise TypeError(f"expected a h5py.Dataset or an array, not {type(dataset).__name__}")
    chunks = getattr(dataset, "chunks", None) or "auto"
    return dask_array().from_array(dataset, chunks=chunks)


def store(values: Any, h5_dset: Any) -> None:
    """Write a dask array into a dataset of its shape, block by block."""
    dask_array().store(values, h5_dset, lock=True)
