"""What a file holds: printed as a tree, or searched."""

from __future__ import annotations

from typing import Any

import h5py

from .checks import H5_OBJECT, last_name, require_group, require_text, require_texts, say
from .conformity import check_if_main
from .usi_dataset import USIDataset, as_main


def print_tree(parent: Any, rel_paths: bool = False, main_dsets_only: bool = False) -> None:
    """Print the members of a group, and of all groups below it.

    Parameters
    ----------
    parent : h5py.File or h5py.Group
    rel_paths : bool, optional
        Print paths instead of a tree of names.
    main_dsets_only : bool, optional
        Leave out datasets that are no main datasets.

    Raises
    ------
    TypeError
        If ``parent`` is no group.
    """
    require_group(parent, "parent")

    def print_member(path: str, h5_object: Any) -> None:
        is_group = isinstance(h5_object, h5py.Group)
        if main_dsets_only and not (is_group or check_if_main(h5_object)):
            return
        for line in [path] if rel_paths else _tree_lines(path, is_group):
            print(line)  # noqa: T201 - it is what the function is for

    print(parent.name)  # noqa: T201 - as above
    parent.visititems(print_member)


def _tree_lines(path: str, is_group: bool) -> list[str]:
    """Return the line of a member, and for a group a rule below its name."""
    *parents, name = path.split("/")
    indent = "  " * len(parents)
    return [f"{indent}├ {name}", f"{indent}  {'-' * len(name)}"][: 2 if is_group else 1]


def get_all_main(parent: Any, verbose: bool = False) -> list[USIDataset]:
    """Find all main datasets in a group and below it.

    Parameters
    ----------
    parent : h5py.File or h5py.Group
    verbose : bool, optional
        Print what keeps other datasets from being main datasets.

    Raises
    ------
    TypeError
        If ``parent`` is no group.
    """
    require_group(parent, "parent")
    found = [h5_dset for h5_dset in _datasets(parent) if check_if_main(h5_dset, verbose)]
    say(verbose, f"{len(found)} main datasets in {parent.name}")
    return [USIDataset(h5_dset) for h5_dset in found]


def find_dataset(h5_group: Any, dset_name: str) -> list[Any]:
    """Find all datasets whose name contains a string, in a group and below it.

    Parameters
    ----------
    h5_group : h5py.File or h5py.Group
    dset_name : str

    Returns
    -------
    list of USIDataset or h5py.Dataset

    Raises
    ------
    TypeError
        If ``h5_group`` is no group or the name no string.
    ValueError
        If the name is empty.
    """
    require_group(h5_group, "h5_group")
    name = require_text(dset_name, "dset_name")
    return [as_main(h5_dset) for h5_dset in _datasets(h5_group) if name in last_name(h5_dset)]


def _datasets(h5_group: Any) -> list[Any]:
    found = []

    def visit(_: str, h5_object: Any) -> None:
        if isinstance(h5_object, h5py.Dataset):
            found.append(h5_object)

    h5_group.visititems(visit)
    return found


def get_h5_obj_refs(obj_names: str | list[str], h5_refs: Any) -> list[Any]:
    """Pick objects by the last component of their names.

    Parameters
    ----------
    obj_names : str or list of str
    h5_refs : HDF5 object, or list or tuple
        What to pick from; anything in it that is no HDF5 object is passed over.

    Returns
    -------
    list of h5py.Group, USIDataset or h5py.Dataset
        In the order of the names.

    Raises
    ------
    TypeError
        If a name is no string, or ``h5_refs`` no object and no list.
    """
    names = require_texts(obj_names, "obj_names")
    if isinstance(h5_refs, H5_OBJECT):
        h5_refs = [h5_refs]
    if not isinstance(h5_refs, list | tuple):
        raise TypeError("h5_refs should be a HDF5 object or a list of them")
    objects = [item for item in h5_refs if isinstance(item, H5_OBJECT)]
    return [as_main(item) for name in names for item in objects if last_name(item) == name]
