"""Results groups: what was made of a dataset, with which tool and which parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from warnings import warn

import h5py
import numpy as np

from .attributes import get_attr, write_book_keeping_attrs, write_simple_attrs
from .checks import (
    last_name,
    require_dataset,
    require_editable,
    require_group,
    require_object,
    require_text,
    say,
)
from .groups import assign_group_index
from .links import referred_object
from .undo import all_or_nothing
from .usi_dataset import as_main

_NUMBERS = "biufc"  # numpy's kinds of numbers


def create_results_group(h5_main: Any, tool_name: str, h5_parent_group: Any = None) -> Any:
    """Create the next group for results of a tool: ``<dataset>-<tool>_NNN``.

    Parameters
    ----------
    h5_main : h5py.Dataset
        What the tool is applied to.
    tool_name : str
        ``-`` becomes ``_``, with a warning.
    h5_parent_group : h5py.File or h5py.Group, optional
        Where the group is created, also in another file. Default: beside the dataset.

    Returns
    -------
    h5py.Group
        With book-keeping attributes, ``tool``, ``num_source_dsets`` and, in the same file, the
        reference ``source_000``.

    Raises
    ------
    TypeError
        If an argument is of another kind.
    ValueError
        If the tool's name is empty or the file cannot be written to.
    """
    require_dataset(h5_main, "h5_main")
    parent = h5_main.parent if h5_parent_group is None else h5_parent_group
    require_group(parent, "h5_parent_group")
    tool = _tool_in_names(require_text(tool_name, "tool_name"))
    name = assign_group_index(parent, f"{last_name(h5_main)}-{tool}")
    require_editable(parent, "h5_parent_group")
    described: dict[str, Any] = {"tool": tool, "num_source_dsets": 1}
    if parent.file == h5_main.file:
        described["source_000"] = h5_main.ref
    with all_or_nothing() as undo:
        undo.creates(parent, name)
        h5_group = parent.create_group(name)
        write_book_keeping_attrs(h5_group)
        write_simple_attrs(h5_group, described)
    return h5_group


def _tool_in_names(tool: str) -> str:
    cleaned = tool.replace("-", "_")
    if cleaned != tool:
        warn(f"tool_name should not contain '-': renamed {tool!r} to {cleaned!r}", stacklevel=3)
    return cleaned


def find_results_groups(h5_main: Any, tool_name: str, h5_parent_group: Any = None) -> list[Any]:
    """Find the groups that hold results of a tool.

    Parameters
    ----------
    h5_main : h5py.Dataset
        What the tool was applied to.
    tool_name : str
        The tool's name or a part of it.
    h5_parent_group : h5py.File or h5py.Group, optional
        Where to look. Default: beside the dataset.

    Returns
    -------
    list of h5py.Group

    Raises
    ------
    TypeError
        If an argument is of another kind.
    ValueError
        If the tool's name is empty.
    """
    require_dataset(h5_main, "h5_main")
    tool = require_text(tool_name, "tool_name").replace("-", "_")
    parent = h5_main.parent if h5_parent_group is None else h5_parent_group
    require_group(parent, "h5_parent_group")
    prefix = f"{last_name(h5_main)}-"
    names = [name for name in parent if name.startswith(prefix) and tool in name[len(prefix) :]]
    return [parent[name] for name in names if parent.get(name, getclass=True) is h5py.Group]


def get_source_dataset(h5_group: Any) -> Any:
    """Return the dataset of the same file from which a results group was made.

    Parameters
    ----------
    h5_group : h5py.Group

    Returns
    -------
    USIDataset or h5py.Dataset

    Raises
    ------
    TypeError
        If it is no group.
    ValueError
        If neither its attributes nor its name tell.
    """
    require_group(h5_group, "h5_group")
    source = referred_object(h5_group, "source_000") if "source_000" in h5_group.attrs else None
    name, dash, _ = last_name(h5_group).rpartition("-")
    if source is None and dash:
        source = h5_group.parent.get(name)
    if not isinstance(source, h5py.Dataset):
        raise ValueError(  # noqa: TRY004 - the group is at fault, not the argument's type
            f"{h5_group.name} does not tell from which dataset it was made"
        )
    return as_main(source)


def check_for_matching_attrs(
    h5_obj: Any, new_parms: Mapping[str, Any] | None = None, verbose: bool = False
) -> bool:
    """Tell whether an object has certain attributes with certain values.

    Parameters
    ----------
    h5_obj : h5py.File, h5py.Group or h5py.Dataset
    new_parms : dict, optional
        The values looked for; None matches anything. Numbers in lists match when they are close.
    verbose : bool, optional
        Print what differs.

    Returns
    -------
    bool

    Raises
    ------
    TypeError
        If an argument is of another kind.
    """
    require_object(h5_obj, "h5_obj")
    if new_parms is not None and not isinstance(new_parms, Mapping):
        raise TypeError(f"new_parms should be a dictionary, not {type(new_parms).__name__}")
    for key, wanted in (new_parms or {}).items():
        if wanted is None:
            continue
        if key not in h5_obj.attrs or not _matches(get_attr(h5_obj, key), wanted):
            say(verbose, f"{h5_obj.name} does not have {key} = {wanted!r}")
            return False
    return True


def _matches(found: Any, wanted: Any) -> bool:
    if isinstance(found, np.ndarray) and not isinstance(wanted, Iterable):
        return False
    left, right = np.asarray(found), np.asarray(wanted)
    if left.size != right.size or (left.dtype.kind in "US") != (right.dtype.kind in "US"):
        return False
    if left.ndim and left.dtype.kind in _NUMBERS and right.dtype.kind in _NUMBERS:
        # without an absolute tolerance, which would take all lengths in metres for equal
        return np.allclose(left.ravel(), right.ravel(), atol=0, equal_nan=True)
    return bool(np.all(left.ravel() == right.ravel()))


def check_for_old(  # noqa: PLR0917 - pyUSID fixes the signature
    h5_base: Any,
    tool_name: str,
    new_parms: Mapping[str, Any] | None = None,
    target_dset: str | None = None,
    h5_parent_goup: Any = None,
    verbose: bool = False,
) -> list[Any]:
    """Find results of a tool that were made with the same parameters.

    Parameters
    ----------
    h5_base : h5py.Dataset
        What the tool is applied to.
    tool_name : str
    new_parms : dict, optional
        The parameters, compared with attributes. Default: any.
    target_dset : str, optional
        Compare the attributes of this dataset in each group instead of the group's own.
    h5_parent_goup : h5py.File or h5py.Group, optional
        Where to look (the name is spelled as in pyUSID). Default: beside the dataset.
    verbose : bool, optional
        Print what differs.

    Returns
    -------
    list of h5py.Group

    Raises
    ------
    TypeError
        If an argument is of another kind.
    """
    if target_dset is not None:
        target_dset = require_text(target_dset, "target_dset")
    if new_parms is not None and not isinstance(new_parms, Mapping):
        raise TypeError(f"new_parms should be a dictionary, not {type(new_parms).__name__}")
    groups = find_results_groups(h5_base, tool_name, h5_parent_goup)
    if target_dset is not None:
        groups = [group for group in groups if target_dset in group]
    return [
        group
        for group in groups
        if check_for_matching_attrs(
            group if target_dset is None else group[target_dset], new_parms, verbose
        )
    ]
