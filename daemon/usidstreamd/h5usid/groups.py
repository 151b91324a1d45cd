"""Groups: with running numbers, as ``Measurement_000``, or made from a dictionary."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import h5py

from .attributes import write_book_keeping_attrs, write_simple_attrs
from .checks import require_editable, require_group, require_text, say
from .undo import all_or_nothing


def assign_group_index(h5_parent_group: Any, base_name: str, verbose: bool = False) -> str:
    """Find the name of the next group of a series, without creating it.

    The number is one above the highest that a group of exactly this series has: gaps are not
    filled, ``Measurement_Old_000`` is another series, and a name that anything else holds is
    passed over.

    Parameters
    ----------
    h5_parent_group : h5py.Group
    base_name : str
        The series, with or without a ``_`` at its end.
    verbose : bool, optional
        Print the numbers found.

    Returns
    -------
    str
        ``base_name`` and a number of at least three digits.

    Raises
    ------
    TypeError
        If the parent is no group or the name no string.
    ValueError
        If the name is empty or a path.
    """
    require_group(h5_parent_group, "h5_parent_group")
    base = require_text(base_name, "base_name")
    if "/" in base or "\0" in base:
        raise ValueError(f"base_name {base!r} should be a plain name without '/' or NUL")
    base = base if base.endswith("_") else f"{base}_"
    numbers = _group_numbers(h5_parent_group, base)
    say(verbose, f"Groups {base}NNN in {h5_parent_group.name}: {sorted(numbers)}")
    number = max(numbers, default=-1) + 1
    while f"{base}{number:03d}" in h5_parent_group.keys():  # noqa: SIM118 - "in group" follows links
        number += 1
    return f"{base}{number:03d}"


def _group_numbers(h5_group: Any, base: str) -> set[int]:
    pattern = re.compile(re.escape(base) + r"([0-9]+)")
    matches = filter(None, map(pattern.fullmatch, h5_group))
    return {int(match[1]) for match in matches if _is_group(h5_group, match[0])}


def _is_group(h5_group: Any, name: str) -> bool:
    try:
        return h5_group.get(name, getclass=True) is h5py.Group
    except (KeyError, RuntimeError, OSError):  # a link that leads nowhere
        return False


def create_indexed_group(h5_parent_group: Any, base_name: str) -> Any:
    """Create the next group of a series, with book-keeping attributes.

    Parameters
    ----------
    h5_parent_group : h5py.File or h5py.Group
    base_name : str
        The series: ``Measurement`` creates ``Measurement_000``, then ``Measurement_001``.

    Returns
    -------
    h5py.Group

    Raises
    ------
    TypeError
        If the parent is no group or the name no string.
    ValueError
        If the name is empty or a path, or the file cannot be written to.
    """
    name = assign_group_index(h5_parent_group, base_name)
    require_editable(h5_parent_group, "h5_parent_group")
    with all_or_nothing() as undo:
        undo.creates(h5_parent_group, name)
        h5_group = h5_parent_group.create_group(name)
        write_book_keeping_attrs(h5_group)
    return h5_group


def write_dict_to_h5_group(h5_group: Any, metadata: Mapping[str, Any], group_name: str) -> Any:
    """Create a group that holds a dictionary as attributes, inner dictionaries as groups in it.

    Parameters
    ----------
    h5_group : h5py.File or h5py.Group
        Where the group is created.
    metadata : dict
    group_name : str
        Blanks become ``_``.

    Returns
    -------
    h5py.Group
        None, and nothing is created, for an empty dictionary.

    Raises
    ------
    TypeError
        If an argument is of another kind, or HDF5 cannot hold a value; the message names its key.
    ValueError
        If the name is empty or taken, or the file cannot be written to.
    """
    require_group(h5_group, "h5_group")
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata should be a dictionary, not {type(metadata).__name__}")
    name = require_text(group_name, "group_name").replace(" ", "_")
    if not metadata:
        return None
    require_editable(h5_group, "h5_group")
    if name in h5_group:
        raise ValueError(f"{h5_group.name} already has a member named {name!r}")
    with all_or_nothing() as undo:
        undo.creates(h5_group, name)
        h5_new = h5_group.create_group(name)
        write_simple_attrs(h5_new, metadata)
    return h5_new
