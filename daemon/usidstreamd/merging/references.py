"""References in copies: each refers to the copy of what the original refers to.

HDF5 clears references when it copies to another file. They may stand alone, in arrays, in lists of
any length and in tables, as in HDF5's dimension scales; in attributes and in datasets. Knows
nothing of what is copied, and where to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

CopyOf = Callable[[Any], Any]
"""Takes an object of the source, and returns its copy, None where there is none."""


def holds_references(kind: Any) -> bool:
    """Whether an HDF5 type is one of references, or has some in it."""
    return bool(kind.detect_class(h5py.h5t.REFERENCE))


def copy_references(item: Any, made: Any, copy_of: CopyOf) -> None:
    """Create the attributes of an object that hold references on its copy."""
    for name in item.attrs:
        attribute = h5py.h5a.open(item.id, name.encode())
        kind = attribute.get_type()
        if not holds_references(kind):
            continue
        space = attribute.get_space()
        new = h5py.h5a.create(made.id, name.encode(), kind.copy(), space)
        if space.get_simple_extent_type() != h5py.h5s.NULL:
            values = np.empty(attribute.shape, dtype=attribute.dtype)
            attribute.read(values)
            new.write(_mapped(values, item, copy_of))


def copy_reference_data(item: Any, made: Any, copy_of: CopyOf) -> None:
    """Write the elements of a dataset of references into its copy."""
    if item.shape is not None:
        made[...] = _mapped(np.asarray(item[...], dtype=item.dtype), item, copy_of)


def _mapped(values: npt.NDArray[Any], item: Any, copy_of: CopyOf) -> npt.NDArray[Any]:
    """Return an array of any type with every reference in it changed."""
    if values.dtype.names:
        for name in values.dtype.names:
            values[name] = _mapped(values[name], item, copy_of)
    elif values.dtype.kind == "O":
        for place in np.ndindex(values.shape):
            values[place] = _mapped_one(values[place], item, copy_of)
    return values


def _mapped_one(value: Any, item: Any, copy_of: CopyOf) -> Any:
    if isinstance(value, np.ndarray):
        return _mapped(value, item, copy_of)
    if not isinstance(value, h5py.Reference | h5py.RegionReference):
        return value
    target = _referred(value, item)
    copy = None if target is None else copy_of(target)
    if copy is None:
        return type(value)()
    if isinstance(value, h5py.RegionReference):
        space = h5py.h5r.get_region(value, item.id)
        return h5py.h5r.create(copy.id, b".", h5py.h5r.DATASET_REGION, space)
    return copy.ref


def _referred(reference: Any, item: Any) -> Any:
    """Return what a reference leads to; None for none, or for what was deleted."""
    if not reference:
        return None
    try:
        found = h5py.h5r.dereference(reference, item.id)
    except (ValueError, KeyError, RuntimeError):
        return None
    if found is None:
        return None
    return {h5py.h5d.DatasetID: h5py.Dataset, h5py.h5g.GroupID: h5py.Group}.get(
        type(found), h5py.Datatype
    )(found)
