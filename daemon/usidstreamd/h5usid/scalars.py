"""Complex and compound values as plain real ones, part after part."""

from __future__ import annotations

from typing import Any

import numpy as np

from .lazy import dask_array, is_dask


def flatten_to_real(values: Any) -> Any:
    """Lay the parts of complex or compound values side by side along the last axis.

    Parameters
    ----------
    values : numpy or dask array
        (..., K).

    Returns
    -------
    numpy or dask array
        (..., parts x K): real, then imaginary parts; or field after field. Real values as they are.
    """
    library = dask_array() if is_dask(values) else np
    if values.dtype.names:
        parts = [values[name] for name in values.dtype.names]
    elif values.dtype.kind == "c":
        parts = [library.real(values), library.imag(values)]
    else:
        return values
    return library.concatenate(parts, axis=-1)
