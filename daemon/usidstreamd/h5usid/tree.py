"""What a file holds: printed as a tree, or searched."""

from __future__ import annotations

from typing import Any

import h5py

from .checks import require_group
from .conformity import check_if_main


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
