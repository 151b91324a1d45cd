"""Copies datasets from one file to another, compressed chunks and all."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any
from warnings import warn

import h5py
import numpy as np

from .attributes import Creators, create_attributes, held_attribute, new_attributes
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
from .undo import Undo, all_or_nothing

_PIECE_BYTES = 4 * 1024 * 1024


def copy_attributes(source: Any, dest: Any, skip_refs: bool = True, verbose: bool = False) -> Any:
    """Copy attributes from one object to another, also between files.

    Parameters
    ----------
    source, dest : h5py.File, h5py.Group or h5py.Dataset
    skip_refs : bool, optional
        Leave out references. Otherwise those to objects are kept within a file, and those to
        regions of ``source`` become references to the same regions of ``dest``, if that is a
        dataset of the same shape. A warning tells which are left out because they would mean
        nothing on ``dest``.
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
    with all_or_nothing() as undo:
        creators = copied_attributes(source, dest, keep_refs=not skip_refs)
        if not skip_refs:
            warn_of_left_out(source, creators)
        create_attributes(dest, creators, undo)
        say(verbose, f"Copied attributes {list(creators)} from {source.name} to {dest.name}")
    return dest


def copied_attributes(source: Any, dest: Any, keep_refs: bool) -> Creators:
    """Return what copies the attributes of one object that mean the same on another."""
    creators: Creators = {}
    for key in source.attrs:
        kind = _reference_kind(source, key)
        if kind is None or (keep_refs and kind is h5py.Reference and source.file == dest.file):
            creators[key] = partial(held_attribute(source, key), dest)
        elif keep_refs and kind is h5py.RegionReference and _shares_regions(source, key, dest):
            creators[key] = partial(_create_region, source, key, dest)
    return creators


def warn_of_left_out(source: Any, creators: Creators) -> None:
    """Warn of the references that mean nothing on another object, called by a public function."""
    left_out = [key for key in source.attrs if key not in creators]
    if left_out:
        warn(f"references not copied from {source.name}: {', '.join(left_out)}", stacklevel=3)


def _reference_kind(source: Any, key: str) -> type | None:
    """Return the type of reference that an attribute holds, None if it holds none.

    Lists and tables with references, such as those of HDF5's dimension scales, are ``object``.
    """
    attribute = source.attrs.get_id(key)
    if not attribute.get_type().detect_class(h5py.h5t.REFERENCE):
        return None
    return h5py.check_ref_dtype(attribute.dtype) or object


def _shares_regions(source: Any, key: str, dest: Any) -> bool:
    """Tell whether a reference to a region of ``source`` means the same region of ``dest``."""
    reference = source.attrs[key]
    if not (isinstance(reference, h5py.RegionReference) and isinstance(dest, h5py.Dataset)):
        return False
    try:
        target = source.file[reference]
    except (ValueError, KeyError):  # null, or its dataset was deleted
        return False
    return target == source and bool(source.shape == dest.shape)


def _create_region(source: Any, key: str, dest: Any, name: str) -> None:
    space = h5py.h5r.get_region(source.attrs[key], source.id)
    region = h5py.h5r.create(dest.id, b".", h5py.h5r.DATASET_REGION, space)
    dest.attrs.create(name, region, dtype=h5py.regionref_dtype)


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
    with all_or_nothing() as undo:
        h5_copy = copy_or_reuse(h5_orig_dset, h5_dest_grp, name, undo)
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
    require_editable(h5_dest, "h5_dest")
    with all_or_nothing() as undo:
        links = copy_linked(h5_source, h5_dest, undo)
        create_attributes(h5_dest, links, undo)
        say(verbose, f"Copied {list(links)} with {h5_source.name} to {h5_dest.file.filename}")


def copy_linked(h5_source: Any, h5_dest: Any, undo: Undo) -> Creators:
    """Copy linked datasets into another file; return what creates the links to them."""
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
        copies[name] = copy_or_reuse(target, h5_group, name, undo).ref
    return new_attributes(h5_dest, copies)


def copy_or_reuse(h5_dset: Any, h5_group: Any, name: str, undo: Undo) -> Any:
    """Return ``h5_group[name]`` with the contents of a dataset; copy it where it is not there."""
    require_editable(h5_group, "h5_dest_grp")
    if name in h5_group:
        h5_copy = require_dataset(h5_group[name], f"{h5_group.name}/{name}")
        if not _same_contents(h5_dset, h5_copy):
            raise ValueError(f"{h5_copy.name} exists with other contents than {h5_dset.name}")
    else:
        undo.creates(h5_group, name)
        h5_group.copy(h5_dset, h5_group, name, without_attrs=True)
        h5_copy = h5_group[name]
    create_attributes(h5_copy, _own_attributes(h5_dset, h5_copy), undo)
    return h5_copy


def _own_attributes(source: Any, copy: Any) -> Creators:
    """Return what copies all attributes but the references to other objects."""
    every = copied_attributes(source, copy, keep_refs=True)
    return {
        key: new for key, new in every.items() if _reference_kind(source, key) != h5py.Reference
    }


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
