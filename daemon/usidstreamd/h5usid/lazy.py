"""Dask arrays, where a caller uses them. Dask is never imported unless one is asked for."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


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


def store(values: Any, h5_dset: Any) -> None:
    """Write a dask array into a dataset of its shape, block by block."""
    dask_array().store(values, h5_dset, lock=True)
