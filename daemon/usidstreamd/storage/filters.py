"""HDF5 filters by number: HDF5's own, and those that the package hdf5plugin brings when needed."""

from __future__ import annotations

import importlib

import h5py

from usidstream.errors import UsidstreamError

_BUILT_IN_BELOW = 256
"""Numbers of filters that come with HDF5; higher ones are registered for plugins."""


def is_filter_available(number: int) -> bool:
    """Whether HDF5 can apply a filter, once the plugins were looked for."""
    if h5py.h5z.filter_avail(number):
        return True
    if number < _BUILT_IN_BELOW:
        return False
    try:
        importlib.import_module("hdf5plugin")  # which registers its filters
    except ImportError:
        return False
    return bool(h5py.h5z.filter_avail(number))


def require_filter(number: int, where: str) -> None:
    """Raise ``unsupported_feature`` if a filter cannot be had."""
    if not is_filter_available(number):
        raise UsidstreamError(
            f"{where} needs the HDF5 filter {number}, which is not installed.",
            code="unsupported_feature",
            hint="Install usidstream[plugins] beside the daemon.",
        )
