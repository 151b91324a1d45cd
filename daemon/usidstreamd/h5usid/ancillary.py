"""Ancillary datasets: the indices and values of the dimensions along one axis of a main dataset.

Written piece by piece through the chunks' compressed bytes, so that a grid of any size costs linear
time and constant memory. Everything is in the file when a function returns: nothing is left for
HDF5 to create later, as a file needs that is about to enter SWMR mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .attributes import write_simple_attrs
from .axes import Array, Axes, axes_from
from .checks import require_editable, require_group, require_link_name, say
from .deflate import FAST_LEVEL, shuffled_deflate
from .undo import Undo, all_or_nothing

# Smaller datasets are stored contiguously: chunking would only make them larger.
CHUNKED_FROM_BYTES = 64 * 1024
CHUNK_BYTES = 1024 * 1024


def write_ind_val_dsets(  # noqa: PLR0917 - the guide fixes the signature
    h5_parent_group: Any,
    dimensions: Any,
    is_spectral: bool = True,
    verbose: bool = False,
    base_name: str | None = None,
    slow_to_fast: bool = False,
) -> tuple[Any, Any]:
    """Create the indices and values datasets of the dimensions along one axis.

    Parameters
    ----------
    h5_parent_group : h5py.File or h5py.Group
        Where the datasets are created.
    dimensions : Dimension, list of Dimension, or a table
        Fastest first. A table has ``labels``, ``units`` and ``values`` (N, P), like
        ``usidstream.PositionTable``.
    is_spectral : bool, optional
        Spectroscopic (S x M) or position (N x P) datasets.
    verbose : bool, optional
        Print what is created.
    base_name : str, optional
        Prefix of the names. Default: ``Spectroscopic`` or ``Position``.
    slow_to_fast : bool, optional
        The dimensions run slowest first.

    Returns
    -------
    h5_indices : h5py.Dataset
        uint32.
    h5_values : h5py.Dataset
        float32, or float64 where float32 could not tell the values apart.

    Raises
    ------
    TypeError
        If the parent is no group or the dimensions are none.
    ValueError
        If dimension names repeat or the file cannot be written to.
    KeyError
        If a dataset of that name exists.
    """
    axes = axes_from(dimensions, is_spectral, slow_to_fast)
    require_group(h5_parent_group, "h5_parent_group")
    require_editable(h5_parent_group, "h5_parent_group")
    prefix = ancillary_prefix(h5_parent_group, base_name or default_prefix(is_spectral))
    with all_or_nothing() as undo:
        pair = create_ancillaries(h5_parent_group, prefix, axes, is_spectral, undo)
        say(verbose, f"Created {pair[0].name} and {pair[1].name}")
    return pair


def default_prefix(is_spectral: bool) -> str:
    """Return the prefix of ancillary datasets that are given none."""
    return "Spectroscopic_" if is_spectral else "Position_"


def ancillary_prefix(h5_group: Any, base_name: str) -> str:
    """Return a checked prefix, ending in ``_``; KeyError if its datasets exist in the group."""
    prefix = require_link_name(base_name, "the prefix of the ancillary datasets")
    prefix = prefix if prefix.endswith("_") else f"{prefix}_"
    for name in (f"{prefix}Indices", f"{prefix}Values"):
        if name in h5_group:
            raise KeyError(
                f"{h5_group.name} already has a dataset {name}: pass it on as h5_..._inds and "
                "h5_..._vals, or choose another prefix"
            )
    return prefix


def create_ancillaries(
    h5_group: Any, prefix: str, axes: Axes, is_spectral: bool, undo: Undo
) -> tuple[Any, Any]:
    """Create ``<prefix>Indices`` and ``<prefix>Values`` from axes that are known to be sound."""
    pair = []
    for suffix, dtype, column in (
        ("Indices", axes.indices_dtype, axes.indices),
        ("Values", axes.values_dtype, axes.values),
    ):
        undo.creates(h5_group, prefix + suffix)
        create = _create_chunked if _is_large(axes, dtype) else _create_contiguous
        h5_dset = create(h5_group, prefix + suffix, _Table(axes, dtype, column, is_spectral))
        described = {"labels": axes.labels, "units": axes.units, "type": axes.types}
        write_simple_attrs(h5_dset, described)
        pair.append(h5_dset)
    return pair[0], pair[1]


@dataclass(frozen=True)
class _Table:
    """The contents of one ancillary dataset, made column by column and piece by piece."""

    axes: Axes
    dtype: np.dtype[Any]
    column: Callable[[int, int, int], Array]
    is_spectral: bool

    def oriented(self, along: Any, across: Any) -> tuple[Any, Any]:
        """Return something along the main's axis and something across in the file's order."""
        return (across, along) if self.is_spectral else (along, across)


def _is_large(axes: Axes, dtype: np.dtype[Any]) -> bool:
    return axes.length * len(axes.labels) * dtype.itemsize >= CHUNKED_FROM_BYTES


def _create_contiguous(h5_group: Any, name: str, table: _Table) -> Any:
    length, n_columns = table.axes.length, len(table.axes.labels)
    columns = [table.column(number, 0, length) for number in range(n_columns)]
    whole = np.stack(columns, axis=0 if table.is_spectral else 1)
    return h5_group.create_dataset(name, data=whole, dtype=table.dtype)


def _create_chunked(h5_group: Any, name: str, table: _Table) -> Any:
    """Create a dataset of one column a chunk: a column alone compresses a hundred times better."""
    rows = _chunk_rows(table)
    h5_dset = h5_group.create_dataset(
        name,
        shape=table.oriented(table.axes.length, len(table.axes.labels)),
        dtype=table.dtype,
        chunks=table.oriented(rows, 1),
        compression="gzip",
        compression_opts=FAST_LEVEL,
        shuffle=True,
    )
    for number in range(len(table.axes.labels)):
        _write_column(h5_dset, number, rows, table)
    return h5_dset


def _chunk_rows(table: _Table) -> int:
    """Return the rows of a chunk: whole periods of the fastest dimension, so that chunks repeat."""
    rows = min(table.axes.length, CHUNK_BYTES // table.dtype.itemsize)
    period = min(table.axes.period(number) for number in range(len(table.axes.labels)))
    return rows - rows % period if period <= rows else rows


def _write_column(h5_dset: Any, number: int, rows: int, table: _Table) -> None:
    length, period = table.axes.length, table.axes.period(number)
    encoded, encoded_phase = b"", None
    for start in range(0, length, rows):
        stop = min(start + rows, length)
        phase = (start % period, stop - start)
        if phase != encoded_phase:
            chunk = np.zeros(rows, dtype=table.dtype)
            chunk[: stop - start] = table.column(number, start, stop)
            encoded, encoded_phase = shuffled_deflate(chunk), phase
        h5_dset.id.write_direct_chunk(table.oriented(start, number), encoded)
