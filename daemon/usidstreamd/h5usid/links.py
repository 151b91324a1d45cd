"""Object references between HDF5 objects, held as attributes. Knows nothing of the USID model."""

from __future__ import annotations

from typing import Any
from warnings import warn

import h5py

from .attributes import write_simple_attrs
from .checks import (
    H5_OBJECT,
    last_name,
    require_dataset,
    require_object,
    require_text,
    require_texts,
    validate_h5_objs_in_same_h5_file,
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
        validate_h5_objs_in_same_h5_file(src, h5_object)
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
    validate_h5_objs_in_same_h5_file(h5_main, h5_ancillary)
    write_simple_attrs(h5_main, {alias: h5_ancillary.ref})


def check_and_link_ancillary(
    h5_dset: Any, anc_names: Any, h5_main: Any = None, anc_refs: Any = None
) -> None:
    """Let attributes of a dataset refer to objects, given ones or those of another dataset.

    Parameters
    ----------
    h5_dset : h5py.Dataset
        Gets the attributes.
    anc_names : str or list of str
        Names of the attributes.
    h5_main : h5py.Dataset, optional
        Whose attributes of the same names are followed where ``anc_refs`` gives nothing.
    anc_refs : HDF5 object, reference, or list of them, optional
        One for each name. A warning tells the names that get none.

    Raises
    ------
    TypeError
        If an argument is of another kind.
    ValueError
        If neither ``h5_main`` nor ``anc_refs`` is given, an object is in another file, or the file
        cannot be written to.
    KeyError
        If ``h5_main`` lacks an attribute.
    """
    require_dataset(h5_dset, "h5_dset")
    if not isinstance(anc_names, str | list | tuple):
        raise TypeError("anc_names should be a string or a list of strings")
    names = require_texts(anc_names, "anc_names")
    if h5_main is not None:
        require_dataset(h5_main, "h5_main")
        validate_h5_objs_in_same_h5_file(h5_dset, h5_main)
    if h5_main is None and anc_refs is None:
        raise ValueError("h5_main or anc_refs should be given")
    targets = _as_list(anc_refs) if anc_refs is not None else [None] * len(names)
    links = {
        name: _reference(h5_dset, name, target, h5_main)
        for name, target in zip(names, targets, strict=False)
    }
    for name in names:
        if links.get(name) is None:
            warn(f"nothing to link to {h5_dset.name} as {name!r}", stacklevel=2)
    write_simple_attrs(h5_dset, {name: link for name, link in links.items() if link is not None})


def _as_list(anc_refs: Any) -> list[Any]:
    if isinstance(anc_refs, (*H5_OBJECT, h5py.Reference)):
        return [anc_refs]
    if not isinstance(anc_refs, list | tuple):
        raise TypeError("anc_refs should be a HDF5 object, a reference or a list of them")
    return list(anc_refs)


def _reference(h5_dset: Any, name: str, target: Any, h5_main: Any) -> Any:
    if isinstance(target, h5py.Reference):
        return target
    if isinstance(target, H5_OBJECT):
        validate_h5_objs_in_same_h5_file(target, h5_dset)
        return target.ref
    if h5_main is None:
        return None
    linked = get_auxiliary_datasets(h5_main, name)
    return linked[0].ref if linked else None
