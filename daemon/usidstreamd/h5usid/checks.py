"""What an argument may be: strings, HDF5 objects, shapes, names.

Every public function asks here before it touches a file, so that wrong input is told before
anything has changed. Knows h5py's types, never the USID model.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any
from warnings import warn

import h5py
import numpy as np

H5_OBJECT = (h5py.Group, h5py.Dataset)  # h5py.File is a Group


def require_text(value: object, name: str) -> str:
    """Return ``value`` without surrounding blanks; TypeError if no string, ValueError if empty."""
    if not isinstance(value, str):
        raise TypeError(f"{name} should be a string, not {type(value).__name__}")
    value = value.strip()
    if not value:
        raise ValueError(f"{name} should not be an empty string")
    return str(value)


def require_texts(values: object, name: str) -> list[str]:
    """Return one string or a list / tuple of strings as a list of stripped strings."""
    if isinstance(values, str):
        values = [values]
    if not isinstance(values, list | tuple):
        raise TypeError(f"{name} should be a string or a list / tuple of strings")
    return [require_text(value, name) for value in values]


def require_link_name(value: object, name: str) -> str:
    """Return the name of a new dataset: one component of a path, ``-`` turned into ``_``.

    ``-`` separates a source from its tool in the names of results groups, so a dataset cannot
    carry it.
    """
    text = require_text(value, name)
    if "/" in text or "\0" in text or text in {".", ".."}:
        raise ValueError(f"{name} {text!r} should be a plain name without '/' or NUL, not a path")
    if "-" in text:
        cleaned = text.replace("-", "_")
        warn(f"{name} should not contain '-': renamed {text!r} to {cleaned!r}", stacklevel=3)
        return cleaned
    return text


def require_object(value: object, name: str) -> Any:
    """Return an h5py File, Group or Dataset; TypeError for anything else."""
    if not isinstance(value, H5_OBJECT):
        raise TypeError(
            f"{name} should be a h5py.File, Group or Dataset, not {type(value).__name__}"
        )
    return value


def require_group(value: object, name: str) -> Any:
    """Return an h5py File or Group; TypeError for anything else."""
    if not isinstance(value, h5py.Group):
        raise TypeError(f"{name} should be a h5py.File or Group, not {type(value).__name__}")
    return value


def require_dataset(value: object, name: str) -> Any:
    """Return an h5py Dataset; TypeError for anything else."""
    if not isinstance(value, h5py.Dataset):
        raise TypeError(f"{name} should be a h5py.Dataset, not {type(value).__name__}")
    return value


def require_editable(h5_object: Any, name: str) -> None:
    """Raise ValueError unless objects can be created in the file that holds ``h5_object``.

    A file in SWMR mode counts as not editable: the format forbids new objects and attributes
    there, and HDF5 does not stop a program that creates them.
    """
    if not is_editable_h5(h5_object):
        raise ValueError(f"the file of {name} is open read-only: open it with mode 'r+'")
    if h5_object.file.swmr_mode:
        raise ValueError(
            f"the file of {name} is in SWMR mode, where nothing can be created: "
            "create everything before it is switched on"
        )


def is_editable_h5(h5_obj: Any) -> bool:
    """Tell whether the file that holds an object was opened for writing.

    Parameters
    ----------
    h5_obj : h5py.File, h5py.Group or h5py.Dataset

    Returns
    -------
    bool
        True for modes ``w``, ``r+`` and the like; False for ``r``.

    Raises
    ------
    TypeError
        If ``h5_obj`` is no HDF5 object.
    ValueError
        If its file is closed.
    """
    require_object(h5_obj, "h5_obj")
    if not h5_obj:
        raise ValueError("the file of h5_obj is closed")
    return bool(h5_obj.file.mode != "r")


def validate_h5_objs_in_same_h5_file(h5_src: Any, h5_other: Any) -> None:
    """Raise ValueError if two HDF5 objects do not live in the same file."""
    require_object(h5_src, "h5_src")
    require_object(h5_other, "h5_other")
    if h5_src.file != h5_other.file:
        raise ValueError(
            f"cannot link across files: {h5_src.name} is in {h5_src.file.filename}, "
            f"{h5_other.name} in {h5_other.file.filename}"
        )


def require_shape(value: Sequence[Any], name: str) -> tuple[int, int]:
    """Return the shape of a main dataset: two integers of at least 1, else ValueError."""
    try:
        shape = [operator.index(size) for size in value]
    except TypeError:
        raise ValueError(f"{name} given as a shape should be integers, not {value!r}") from None
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"{name} given as a shape should be 2 integers >= 1, not {value!r}")
    return shape[0], shape[1]


def require_dtype(value: Any) -> np.dtype[Any]:
    """Return a numpy dtype; TypeError if ``value`` cannot describe one."""
    dtype: np.dtype[Any] = np.dtype(value.dtype if isinstance(value, h5py.Datatype) else value)
    return dtype


def last_name(h5_object: Any) -> str:
    """Return the last component of an object's path."""
    return str(h5_object.name).rsplit("/", 1)[-1]


def say(verbose: bool, text: str) -> None:
    """Print what a function does, where its ``verbose`` argument asks for it."""
    if verbose:
        print(text)  # noqa: T201 - the guide's verbose argument prints
