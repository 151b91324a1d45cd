"""Datasets shaped and described like another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from warnings import warn

import h5py
import numpy as np

from .attributes import (
    book_keeping,
    create_attributes,
    get_attr,
    new_attributes,
    write_simple_attrs,
)
from .checks import (
    require_dataset,
    require_dtype,
    require_editable,
    require_group,
    require_link_name,
)
from .conformity import main_faults
from .copying import copied_attributes, copy_linked, warn_of_left_out
from .undo import Undo, all_or_nothing
from .usi_dataset import as_main


def create_empty_dataset(  # noqa: PLR0917 - pyUSID fixes the signature
    source_dset: Any,
    dtype: Any,
    dset_name: str,
    h5_group: Any = None,
    new_attrs: Mapping[str, Any] | None = None,
    skip_refs: bool = False,
) -> Any:
    """Create an empty dataset with the shape, chunks, filters and attributes of another.

    Parameters
    ----------
    source_dset : h5py.Dataset
    dtype : dtype
        Type of the new dataset.
    dset_name : str
        ``-`` becomes ``_``, with a warning. A dataset of that name is kept if it has the same
        shape and type, else replaced, with a warning.
    h5_group : h5py.File or h5py.Group, optional
        Where it is created. Default: beside the source. In another file, linked datasets are
        copied under the names of the links.
    new_attrs : dict, optional
        Further attributes.
    skip_refs : bool, optional
        Leave out references to other objects.

    Returns
    -------
    USIDataset
        If the source is a main dataset and references are kept; else h5py.Dataset.

    Raises
    ------
    TypeError
        If an argument is of another kind.
    KeyError
        If a group has that name.
    ValueError
        If the name is empty, or the file cannot be written to.
    """
    require_dataset(source_dset, "source_dset")
    dtype = require_dtype(dtype)
    if new_attrs is not None and not isinstance(new_attrs, Mapping):
        raise TypeError(f"new_attrs should be a dictionary, not {type(new_attrs).__name__}")
    parent = source_dset.parent if h5_group is None else h5_group
    require_group(parent, "h5_group")
    require_editable(parent, "h5_group")
    name = require_link_name(dset_name, "dset_name")
    foreign = source_dset.file != parent.file
    if foreign and not skip_refs:
        warn(f"datasets linked to {source_dset.name} are copied to another file", stacklevel=2)
    with all_or_nothing() as undo:
        h5_dset = _dataset_like(source_dset, parent, name, dtype, undo)
        creators = copied_attributes(source_dset, h5_dset, keep_refs=not skip_refs)
        if foreign and not skip_refs:
            creators |= copy_linked(source_dset, h5_dset, undo)
        if not skip_refs:
            warn_of_left_out(source_dset, creators)
        if not skip_refs and not main_faults(source_dset):
            creators |= new_attributes(h5_dset, book_keeping())
        creators |= new_attributes(h5_dset, new_attrs or {})
        create_attributes(h5_dset, creators, undo)
        return as_main(h5_dset)


def _dataset_like(
    source_dset: Any, h5_group: Any, name: str, dtype: np.dtype[Any], undo: Undo
) -> Any:
    """Return the dataset of a name if it has the shape and type wanted, else a new one."""
    if name not in h5_group:
        undo.creates(h5_group, name)
        return _create_like(source_dset, h5_group, name, dtype)
    h5_present = h5_group[name]
    if not isinstance(h5_present, h5py.Dataset):
        raise KeyError(f"{h5_group.name} has a group named {name!r}")
    if (h5_present.shape, h5_present.dtype) == (source_dset.shape, dtype):
        warn(f"{h5_present.name} exists already and is kept", stacklevel=3)
        return h5_present
    warn(f"{h5_present.name} exists with another shape or type and is replaced", stacklevel=3)
    undo.replaces(h5_group, name)
    del h5_group[name]
    return _create_like(source_dset, h5_group, name, dtype)


def _create_like(source_dset: Any, h5_group: Any, name: str, dtype: np.dtype[Any]) -> Any:
    return h5_group.create_dataset(
        name,
        shape=source_dset.shape,
        dtype=dtype,
        chunks=source_dset.chunks,
        compression=source_dset.compression,
        compression_opts=source_dset.compression_opts,
        shuffle=source_dset.shuffle,
    )


def copy_main_attributes(h5_main: Any, h5_new: Any) -> None:
    """Copy quantity and units from one dataset to another.

    Parameters
    ----------
    h5_main, h5_new : h5py.Dataset

    Raises
    ------
    TypeError
        If one is no dataset.
    KeyError
        If ``h5_main`` lacks an attribute.
    ValueError
        If the file cannot be written to.
    """
    require_dataset(h5_main, "h5_main")
    require_dataset(h5_new, "h5_new")
    write_simple_attrs(h5_new, {name: get_attr(h5_main, name) for name in ("quantity", "units")})
