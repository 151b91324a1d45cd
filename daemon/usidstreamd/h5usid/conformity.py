"""What makes a dataset a main dataset, told fault by fault. Reads, never writes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from .attributes import get_attr
from .checks import require_dataset, require_shape, say
from .dimension import as_dimensions
from .lazy import is_dask
from .links import referred_object

ANCILLARY_NAMES = (
    "Position_Indices",
    "Position_Values",
    "Spectroscopic_Indices",
    "Spectroscopic_Values",
)


def check_if_main(h5_main: Any, verbose: bool = False) -> bool:
    """Tell whether a dataset is a main dataset: two-dimensional, described and fully linked.

    Parameters
    ----------
    h5_main : object
        Anything; whatever is no main dataset gives False, nothing raises.
    verbose : bool, optional
        Print what is amiss.

    Returns
    -------
    bool
    """
    try:
        faults = main_faults(h5_main)
    except OSError as error:
        faults = [f"it cannot be read: {error}"]
    for fault in faults:
        say(verbose, f"{getattr(h5_main, 'name', h5_main)!r} is no main dataset: {fault}")
    return not faults


def main_faults(h5_main: Any) -> list[str]:
    """Return what keeps something from being a main dataset; OSError if the file fails to tell."""
    try:
        return list(_faults(h5_main))
    except (KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        return [f"it cannot be read: {error}"]


def _faults(h5_main: Any) -> Iterator[str]:
    if not isinstance(h5_main, h5py.Dataset):
        yield "it is no HDF5 dataset"
        return
    if h5_main.ndim != 2:
        yield f"it has {h5_main.ndim} dimensions instead of 2"
        return
    for name in ("quantity", "units"):
        if name not in h5_main.attrs:
            yield f"attribute {name} is missing"
        elif not isinstance(get_attr(h5_main, name), str):
            yield f"attribute {name} is no string"
    ancillaries = {name: _linked_dataset(h5_main, name) for name in ANCILLARY_NAMES}
    for name, h5_ancillary in ancillaries.items():
        if h5_ancillary is None:
            yield f"attribute {name} refers to no dataset"
    if None not in ancillaries.values():
        pos_inds, pos_vals, spec_inds, spec_vals = ancillaries.values()
        yield from _pair_faults(pos_inds, pos_vals, h5_main.shape, is_spec=False)
        yield from _pair_faults(spec_inds, spec_vals, h5_main.shape, is_spec=True)


def _linked_dataset(h5_main: Any, name: str) -> Any:
    target = referred_object(h5_main, name) if name in h5_main.attrs else None
    return target if isinstance(target, h5py.Dataset) else None


def _pair_faults(
    h5_inds: Any, h5_vals: Any, main_shape: tuple[int, ...], is_spec: bool
) -> Iterator[str]:
    kind = "Spectroscopic" if is_spec else "Position"
    if h5_inds.shape != h5_vals.shape or h5_inds.ndim != 2:
        yield f"{kind} indices {h5_inds.shape} and values {h5_vals.shape} differ in shape"
        return
    if h5_inds.shape[is_spec] != main_shape[is_spec]:
        yield f"{kind} datasets of shape {h5_inds.shape} do not fit a main of shape {main_shape}"
    try:
        validate_anc_dset_attrs(h5_inds, h5_vals, is_spec)
    except (ValueError, KeyError) as error:
        yield f"{kind} datasets: {error}"


def validate_anc_dset_attrs(h5_inds: Any, h5_vals: Any, is_spec: bool = True) -> None:
    """Raise ValueError unless labels and units of a pair of ancillary datasets agree.

    Parameters
    ----------
    h5_inds, h5_vals : h5py.Dataset
    is_spec : bool, optional
        Whether they are spectroscopic (S x M) or position (N x P) datasets.

    Raises
    ------
    ValueError
        If labels, units or shapes differ, or their numbers do not fit the shape.
    KeyError
        If labels or units are missing.
    """
    if h5_inds.shape != h5_vals.shape:
        raise ValueError(f"shapes differ: {h5_inds.shape} and {h5_vals.shape}")
    for name in ("labels", "units"):
        of_inds, of_vals = labels_of(h5_inds, name), labels_of(h5_vals, name)
        if of_inds != of_vals:
            raise ValueError(f"{name} differ: {of_inds} and {of_vals}")
        n_columns = h5_inds.shape[0 if is_spec else 1]
        if len(of_inds) != n_columns:
            raise ValueError(f"{len(of_inds)} {name} for {n_columns} dimensions")


def labels_of(h5_ancillary: Any, name: str = "labels") -> list[str]:
    """Return an attribute of an ancillary dataset that has one string for each dimension."""
    value = get_attr(h5_ancillary, name)
    return [value] if isinstance(value, str) else [str(item) for item in value]


def validate_anc_h5_dsets(
    h5_inds: Any, h5_vals: Any, main_shape: Any, is_spectroscopic: bool = True
) -> None:
    """Raise unless a pair of ancillary datasets fits a main dataset.

    Parameters
    ----------
    h5_inds, h5_vals : h5py.Dataset
    main_shape : tuple or list of int
    is_spectroscopic : bool, optional
        Which axis of the main dataset they describe.

    Raises
    ------
    TypeError
        If one is no dataset, or the shape no tuple or list.
    ValueError
        If shapes do not fit.
    """
    require_dataset(h5_inds, "h5_inds")
    require_dataset(h5_vals, "h5_vals")
    if not isinstance(main_shape, list | tuple):
        raise TypeError(f"main_shape should be a tuple or list, not {type(main_shape).__name__}")
    shape = require_shape(main_shape, "main_shape")
    if h5_inds.shape != h5_vals.shape or h5_inds.ndim != 2:
        raise ValueError(f"h5_inds {h5_inds.shape} and h5_vals {h5_vals.shape} differ in shape")
    if h5_inds.shape[is_spectroscopic] != shape[is_spectroscopic]:
        raise ValueError(
            f"ancillary datasets of shape {h5_inds.shape} do not fit a main of shape {shape}"
        )


def validate_main_dset(h5_main: Any, must_be_h5: bool) -> None:
    """Raise unless something has the two dimensions of a main dataset.

    Parameters
    ----------
    h5_main : h5py.Dataset, or a numpy or dask array
    must_be_h5 : bool
        Whether it should be a dataset or an array.

    Raises
    ------
    TypeError
        If it is of another kind.
    ValueError
        If it has not two dimensions.
    """
    if must_be_h5:
        require_dataset(h5_main, "h5_main")
    elif not (isinstance(h5_main, np.ndarray) or is_dask(h5_main)):
        raise TypeError("main data should be a numpy or dask array")
    if len(h5_main.shape) != 2:
        raise ValueError(f"main data should have 2 dimensions, not shape {h5_main.shape}")


def validate_dims_against_main(main_shape: Any, dims: Any, is_spectroscopic: bool = True) -> None:
    """Raise unless dimensions fill an axis of a main dataset.

    Parameters
    ----------
    main_shape : tuple or list of int
    dims : Dimension or list of Dimension
    is_spectroscopic : bool, optional
        Which axis they describe.

    Raises
    ------
    TypeError
        If the shape is no tuple or list, or the dimensions are none.
    ValueError
        If the shape is not two integers of at least 1, or the sizes do not multiply to it.
    """
    if not isinstance(main_shape, list | tuple):
        raise TypeError(f"main_shape should be a tuple or list, not {type(main_shape).__name__}")
    shape = require_shape(main_shape, "main_shape")
    dimensions = as_dimensions(dims, "Spectroscopic" if is_spectroscopic else "Position")
    product = math.prod(len(dim) for dim in dimensions)
    if product != shape[is_spectroscopic]:
        raise ValueError(f"dimensions make {product} combinations for a main of shape {shape}")
