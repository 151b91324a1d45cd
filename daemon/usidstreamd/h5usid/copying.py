"""Copies datasets from one file to another, compressed chunks and all."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any
from warnings import warn

import h5py
import numpy as np

from .attributes import Creators, copy_attribute, create_attributes, write_simple_attrs
from .checks import (
    last_name,
    require_dataset,
    require_editable,
    require_group,
    require_object,
    require_text,
    say,
)
from .links import referred_object
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
        Leave out object references. Otherwise a warning tells which references are left out
        because they mean nothing on ``dest``: those to another file, and references to regions.
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
    require_editable(dest, "dest")
    same_file = source.file == dest.file
    creators = copied_attributes(source, dest, keep_refs=same_file and not skip_refs)
    left_out = [key for key in source.attrs if key not in creators]
    if left_out and not skip_refs:
        warn(f"references not copied from {source.name}: {', '.join(left_out)}", stacklevel=2)
    create_attributes(dest, creators)
    say(verbose, f"Copied attributes {list(creators)} from {source.name} to {dest.name}")
    return dest


def copied_attributes(source: Any, dest: Any, keep_refs: bool) -> Creators:
    """Return what copies the attributes of one object that mean the same on another."""
    kinds = {None, h5py.Reference} if keep_refs else {None}
    return {
        key: partial(copy_attribute, source, key, dest)
        for key in source.attrs
        if _reference_kind(source, key) in kinds and key not in _BOUND_ATTRIBUTES
    }


def _reference_kind(source: Any, key: str) -> type | None:
    """Return the type of reference that an attribute holds, None if it holds none."""
    kind: type | None = h5py.check_ref_dtype(source.attrs.get_id(key).dtype)
    return kind


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


def copy_linked_objects(h5_source: Any, h5_dest: Any, verbose: bool = False) -> None:
    """Copy the datasets that an object's attributes refer to into another file, and link them.

    Parameters
    ----------
    h5_source : h5py.Group or h5py.Dataset
    h5_dest : h5py.Group or h5py.Dataset
        Gets the attributes; copies go into it, or beside it if it is a dataset, under the names
        of the attributes. A warning tells what is there already or cannot be copied.
    verbose : bool, optional
        Print what is copied.

    Raises
    ------
    TypeError
        If an argument is no HDF5 object, or a group has the name of a copy.
    ValueError
        If a dataset has the name of a copy and other contents, or the file cannot be written to.
    """
    require_object(h5_source, "h5_source")
    require_object(h5_dest, "h5_dest")
    if h5_source.file == h5_dest.file:
        warn(f"{h5_source.name} and {h5_dest.name} share a file: nothing is copied", stacklevel=2)
        return
    with all_or_nothing() as created:
        links = copy_linked(h5_source, h5_dest, created)
        write_simple_attrs(h5_dest, {name: h5_copy.ref for name, h5_copy in links.items()})
    say(verbose, f"Copied {list(links)} with {h5_source.name} to {h5_dest.file.filename}")


def copy_linked(h5_source: Any, h5_dest: Any, created: Created) -> dict[str, Any]:
    """Copy linked datasets into another file and return them by the names of their attributes."""
    h5_group = h5_dest if isinstance(h5_dest, h5py.Group) else h5_dest.parent
    copies = {}
    for name in h5_source.attrs:
        if _reference_kind(h5_source, name) is not h5py.Reference:
            continue
        target = referred_object(h5_source, name)
        if not isinstance(target, h5py.Dataset):
            warn(
                f"attribute {name!r} of {h5_source.name} refers to no dataset: not copied",
                stacklevel=3,
            )
            continue
        if name in h5_group:
            warn(f"{h5_group.name} has a member named {name!r} already", stacklevel=3)
        copies[name] = copy_or_reuse(target, h5_group, name, created)
    return copies


def copy_or_reuse(h5_dset: Any, h5_group: Any, name: str, created: Created) -> Any:
    """Return ``h5_group[name]`` with the contents of a dataset; copy it where it is not there."""
    if name in h5_group:
        h5_present = require_dataset(h5_group[name], f"{h5_group.name}/{name}")
        if not _same_contents(h5_dset, h5_present):
            raise ValueError(f"{h5_present.name} exists with other contents than {h5_dset.name}")
        return copy_attributes(h5_dset, h5_present)
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
