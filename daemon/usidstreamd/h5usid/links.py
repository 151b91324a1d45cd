"""Object references between HDF5 objects, held as attributes. Knows nothing of the USID model."""

from __future__ import annotations

from typing import Any

import h5py

from .attributes import write_simple_attrs
from .checks import (
    H5_OBJECT,
    last_name,
    require_object,
    require_same_file,
    require_text,
    require_texts,
)


def get_auxiliary_datasets(
    h5_object: Any, aux_dset_name: str | list[str] | None = None
) -> list[Any]:
    """Return the datasets that an object's attributes refer to.

    Parameters
    ----------
    h5_object : h5py.File, h5py.Group or h5py.Dataset
    aux_dset_name : str or list of str, optional
        Names of attributes. Default: all. Attributes that refer to no dataset are passed over.

    Returns
    -------
    list of h5py.Dataset

    Raises
    ------
    TypeError
        If ``h5_object`` is no HDF5 object or a name no string.
    KeyError
        If an attribute asked for does not exist.
    """
    require_object(h5_object, "h5_object")
    if aux_dset_name is None:
        names = list(h5_object.attrs)
    else:
        names = require_texts(aux_dset_name, "aux_dset_name")
    found = []
    for name in names:
        if name not in h5_object.attrs:
            raise KeyError(f"{name!r} is not an attribute of {h5_object.name!r}")
        target = referred_object(h5_object, name)
        if isinstance(target, h5py.Dataset):
            found.append(target)
    return found


def referred_object(h5_object: Any, attr_name: str) -> Any:
    """Return what an attribute refers to; None if it is no object reference or leads nowhere."""
    reference = h5_object.attrs[attr_name]
    if isinstance(reference, h5py.RegionReference) or not isinstance(reference, h5py.Reference):
        return None
    try:
        return h5_object.file[reference]
    except (ValueError, KeyError):  # null, or its object was deleted
        return None


def link_h5_objects_as_attrs(src: Any, h5_objects: Any) -> None:
    """Let attributes of one object refer to others, under the names of those.

    Parameters
    ----------
    src : h5py.File, h5py.Group or h5py.Dataset
        Gets the attributes.
    h5_objects : h5py.Group, h5py.Dataset or a list of them

    Raises
    ------
    TypeError
        If anything is no HDF5 object.
    ValueError
        If an object is in another file, or the file cannot be written to.
    """
    require_object(src, "src")
    objects = [h5_objects] if isinstance(h5_objects, H5_OBJECT) else list(h5_objects)
    for h5_object in objects:
        require_object(h5_object, "each of h5_objects")
        require_same_file(src, h5_object)
    write_simple_attrs(src, {last_name(item) or "/": item.ref for item in objects})


def link_h5_obj_as_alias(h5_main: Any, h5_ancillary: Any, alias_name: str) -> None:
    """Let an attribute of one object refer to another, under a name of its own.

    Parameters
    ----------
    h5_main : h5py.File, h5py.Group or h5py.Dataset
        Gets the attribute.
    h5_ancillary : h5py.Group or h5py.Dataset
    alias_name : str

    Raises
    ------
    TypeError
        If an argument is of another kind.
    ValueError
        If the objects are in different files, the name is empty, or the file cannot be written to.
    """
    require_object(h5_main, "h5_main")
    require_object(h5_ancillary, "h5_ancillary")
    alias = require_text(alias_name, "alias_name")
    require_same_file(h5_main, h5_ancillary)
    write_simple_attrs(h5_main, {alias: h5_ancillary.ref})
