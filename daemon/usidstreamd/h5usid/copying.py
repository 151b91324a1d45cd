"""Copies datasets from one file to another, compressed chunks and all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from warnings import warn

import h5py
import numpy as np

from .attributes import get_attributes, write_simple_attrs
from .checks import (
    last_name,
    require_dataset,
    require_editable,
    require_group,
    require_object,
    require_text,
    say,
)
from .undo import Created, all_or_nothing

# Attributes of HDF5 dimension scales refer to objects of their own file.
_BOUND_ATTRIBUTES = frozenset({"DIMENSION_LIST", "REFERENCE_LIST"})
_PIECE_BYTES = 4 * 1024 * 1024


def copy_attributes(source: Any, dest: Any, skip_refs: bool = True, verbose: bool = False) -> Any:
    """Copy attributes from one object to another, also between files.

    Parameters
    ----------
    source, dest : h5py.File, h5py.Group or h5py.Dataset
    skip_refs : bool, optional
        Leave out object references. Between files they lead nowhere and are left out in any case,
        with a warning. Region references belong to their dataset and are always left out.
    verbose : bool, optional
        Print what is copied.

    Returns
    -------
    h5py.File, h5py.Group or h5py.Dataset
        ``dest``.

    Raises
    ------
    TypeError
        If ``source`` or ``dest`` is no HDF5 object.
    ValueError
        If the file of ``dest`` cannot be written to or cannot hold an attribute.
    """
    require_object(source, "source")
    require_object(dest, "dest")
    same_file = source.file == dest.file
    attrs = {name: value for name, value in get_attributes(source).items() if _is_free(name, value)}
    if not skip_refs and not same_file:
        warn(f"references are not copied from {source} to another file", stacklevel=2)
    if not skip_refs and same_file:
        attrs |= _object_references(source)
    write_simple_attrs(dest, attrs, verbose=verbose)
    return dest


def _is_free(name: str, value: Any) -> bool:
    """Tell whether an attribute means the same on another object."""
    kinds = h5py.Reference | h5py.RegionReference
    refers = isinstance(value, kinds) or (
        isinstance(value, np.ndarray) and h5py.check_ref_dtype(value.dtype) is not None
    )
    return not refers and name not in _BOUND_ATTRIBUTES


def _object_references(source: Any) -> dict[str, Any]:
    return {
        name: value
        for name, value in get_attributes(source).items()
        if isinstance(value, h5py.Reference)
        and not isinstance(value, h5py.RegionReference)
        and name not in _BOUND_ATTRIBUTES
    }


def copy_dataset(
    h5_orig_dset: Any, h5_dest_grp: Any, alias: str | None = None, verbose: bool = False
) -> Any:
    """Copy a dataset and its simple attributes into a group, also of another file.

    Parameters
    ----------
    h5_orig_dset : h5py.Dataset
    h5_dest_grp : h5py.File or h5py.Group
    alias : str, optional
        Name of the copy. Default: the same name.
    verbose : bool, optional
        Print what is copied.

    Returns
    -------
    h5py.Dataset
        The copy, or a dataset of that name which already holds the same values.

    Raises
    ------
    TypeError
        If an argument is of another kind, or the name belongs to a group.
    ValueError
        If the name belongs to a dataset with other contents.
    """
    require_dataset(h5_orig_dset, "h5_orig_dset")
    require_group(h5_dest_grp, "h5_dest_grp")
    name = last_name(h5_orig_dset) if alias is None else require_text(alias, "alias")
    with all_or_nothing() as created:
        h5_copy = copy_or_reuse(h5_orig_dset, h5_dest_grp, name, created)
    say(verbose, f"Copied {h5_orig_dset.name} to {h5_copy.name}")
    return h5_copy


def copy_or_reuse(h5_dset: Any, h5_group: Any, name: str, created: Created) -> Any:
    """Return ``h5_group[name]`` with the contents of a dataset; copy it where it is not there."""
    if name in h5_group:
        h5_present = require_dataset(h5_group[name], f"{h5_group.name}/{name}")
        if not _same_contents(h5_dset, h5_present):
            raise ValueError(f"{h5_present.name} exists with other contents than {h5_dset.name}")
        return h5_present
    require_editable(h5_group, "h5_dest_grp")
    created.add(h5_group, name)
    h5_group.copy(h5_dset, h5_group, name, without_attrs=True)
    return copy_attributes(h5_dset, h5_group[name])


def _same_contents(h5_left: Any, h5_right: Any) -> bool:
    if h5_left.shape != h5_right.shape:
        return False
    return all(np.array_equal(h5_left[rows], h5_right[rows]) for rows in piece_slices(h5_left))


def piece_slices(h5_dset: Any) -> Iterator[Any]:
    """Yield slices along the first axis whose data make a few MiB; ``()`` for a scalar."""
    if not h5_dset.shape:
        yield ()
        return
    row_bytes = max(h5_dset.dtype.itemsize * h5_dset.size // max(h5_dset.shape[0], 1), 1)
    rows = max(_PIECE_BYTES // row_bytes, 1)
    for start in range(0, h5_dset.shape[0], rows):
        yield slice(start, start + rows)
