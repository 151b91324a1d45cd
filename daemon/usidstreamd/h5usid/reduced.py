"""Ancillary datasets with dimensions taken away, as after an average or a fit."""

from __future__ import annotations

from typing import Any

import numpy as np

from .ancillary import ancillary_prefix, create_ancillaries, default_prefix
from .arrangement import Array, pieces
from .attributes import get_attr
from .axes import INDICES_DTYPE, VALUES_DTYPE, Axes, ListedAxes
from .checks import require_dataset, require_editable, require_group, require_texts, say
from .conformity import labels_of
from .dimension import DimType
from .reading import arrangement_of, row_reader
from .undo import all_or_nothing


def write_reduced_anc_dsets(  # noqa: PLR0917 - pyUSID fixes the signature
    h5_parent_group: Any,
    h5_inds: Any,
    h5_vals: Any,
    dim_name: str | list[str],
    basename: str | None = None,
    is_spec: bool | None = None,
    verbose: bool = False,
) -> tuple[Any, Any]:
    """Create ancillary datasets that lack some dimensions of others.

    Parameters
    ----------
    h5_parent_group : h5py.File or h5py.Group
        Where the datasets are created; may be in another file.
    h5_inds, h5_vals : h5py.Dataset
        The indices and values to reduce, spectroscopic (S x M) or position (N x P).
    dim_name : str or list of str
        The dimensions to take away.
    basename : str, optional
        Prefix of the names. Default: ``Spectroscopic`` or ``Position``.
    is_spec : bool, optional
        Which way the datasets lie. Default: guessed from the shape.
    verbose : bool, optional
        Print what is created.

    Returns
    -------
    h5_indices, h5_values : h5py.Dataset
        In the types of the originals. Without any dimension left, both are 0 of shape (1, 1),
        labelled ``Single_Step``.

    Raises
    ------
    TypeError
        If an argument is of another kind.
    KeyError
        If there is no dimension of a name, or a dataset of that name exists.
    ValueError
        If the shape does not tell which way the datasets lie, if the rows make no grid, or if the
        file cannot be written to.
    """
    require_group(h5_parent_group, "h5_parent_group")
    require_dataset(h5_inds, "h5_inds")
    require_dataset(h5_vals, "h5_vals")
    labels = labels_of(h5_inds)
    removed = require_texts(dim_name, "dim_name")
    for name in removed:
        if name not in labels:
            raise KeyError(f"no dimension {name!r} among {labels}")
    spectral = _require_orientation(h5_inds, is_spec)
    require_editable(h5_parent_group, "h5_parent_group")
    prefix = ancillary_prefix(h5_parent_group, basename or default_prefix(spectral))
    if set(removed) == set(labels):
        axes: Axes = _single_step()
    else:
        axes = _reduced_axes(h5_inds, h5_vals, labels, removed, spectral)
    with all_or_nothing() as undo:
        pair = create_ancillaries(h5_parent_group, prefix, axes, spectral, undo)
        say(verbose, f"Created {pair[0].name} and {pair[1].name} of shape {pair[0].shape}")
    return pair


def write_reduced_spec_dsets(
    h5_parent_group: Any,
    h5_spec_inds: Any,
    h5_spec_vals: Any,
    dim_name: str | list[str],
    basename: str = "Spectroscopic",
) -> tuple[Any, Any]:
    """Create spectroscopic datasets that lack some dimensions of others.

    The guide's name for :func:`write_reduced_anc_dsets` with ``is_spec=True``, which see.
    """
    return write_reduced_anc_dsets(
        h5_parent_group, h5_spec_inds, h5_spec_vals, dim_name, basename, is_spec=True
    )


def _require_orientation(h5_inds: Any, is_spec: Any) -> bool:
    if is_spec is None:
        if h5_inds.shape[0] == h5_inds.shape[1]:
            raise ValueError(
                f"shape {h5_inds.shape} does not tell position from spectroscopic: give is_spec"
            )
        return bool(h5_inds.shape[0] < h5_inds.shape[1])
    if not isinstance(is_spec, bool):
        raise TypeError(f"is_spec should be a bool, not {type(is_spec).__name__}")
    return is_spec


def _single_step() -> ListedAxes:
    zero = np.zeros((1, 1))
    return ListedAxes(
        ["Single_Step"],
        ["a. u."],
        [DimType.DEFAULT.value],
        zero.astype(INDICES_DTYPE),
        zero.astype(VALUES_DTYPE),
    )


def _reduced_axes(
    h5_inds: Any, h5_vals: Any, labels: list[str], removed: list[str], is_spec: bool
) -> ListedAxes:
    arrangement = arrangement_of(h5_inds, is_spec)
    if not arrangement.unit_indices:
        raise ValueError(f"{h5_inds.name} has no grid to take {removed} from: {arrangement.gap}")
    gone = [labels.index(name) for name in removed]
    kept = [column for column in range(len(labels)) if column not in gone]
    lowest = [arrangement.unit_indices[column].min() for column in gone]
    indices, values = _rows_at(h5_inds, h5_vals, gone, lowest, is_spec)
    units = labels_of(h5_inds, "units")
    types = get_attr(h5_inds, "type") if "type" in h5_inds.attrs else [0] * len(labels)
    return ListedAxes(
        [labels[column] for column in kept],
        [units[column] for column in kept],
        [int(types[column]) for column in kept],
        indices[:, kept],
        values[:, kept],
    )


def _rows_at(
    h5_inds: Any, h5_vals: Any, columns: list[int], lowest: list[Any], is_spec: bool
) -> tuple[Array, Array]:
    """Return the rows of both datasets where some dimensions have their lowest index."""
    read_inds, read_vals = row_reader(h5_inds, is_spec), row_reader(h5_vals, is_spec)
    indices, values = [], []
    for start, stop in pieces(h5_inds.shape[is_spec]):
        rows = read_inds(start, stop)
        chosen = (rows[:, columns] == lowest).all(axis=1)
        if chosen.any():
            indices.append(rows[chosen])
            values.append(read_vals(start, stop)[chosen])
    return np.concatenate(indices), np.concatenate(values)
