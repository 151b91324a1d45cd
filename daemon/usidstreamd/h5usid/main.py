"""Writes main datasets: everything is checked first, and a call that raises changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .ancillary import ancillary_prefix, create_ancillaries
from .attributes import (
    create_attributes,
    new_attributes,
    prepared_attrs,
    require_flat,
    write_book_keeping_attrs,
    write_simple_attrs,
)
from .axes import Axes, axes_from
from .checks import (
    last_name,
    require_dataset,
    require_dtype,
    require_editable,
    require_group,
    require_link_name,
    require_shape,
    require_text,
    say,
    validate_h5_objs_in_same_h5_file,
)
from .conformity import ANCILLARY_NAMES, validate_anc_h5_dsets
from .copying import copy_or_reuse
from .lazy import is_dask, store
from .undo import Undo, all_or_nothing
from .usi_dataset import USIDataset, as_main


def write_main_dataset(  # noqa: PLR0917 - the guide fixes the signature
    h5_parent_group: Any,
    main_data: Any,
    main_data_name: str,
    quantity: str,
    units: str,
    pos_dims: Any,
    spec_dims: Any,
    main_dset_attrs: Mapping[str, Any] | None = None,
    h5_pos_inds: Any = None,
    h5_pos_vals: Any = None,
    h5_spec_inds: Any = None,
    h5_spec_vals: Any = None,
    aux_spec_prefix: str = "Spectroscopic_",
    aux_pos_prefix: str = "Position_",
    verbose: bool = False,
    slow_to_fast: bool = False,
    **kwargs: Any,
) -> USIDataset:
    """Create a main dataset, its ancillary datasets where they are not given, and all links.

    Parameters
    ----------
    h5_parent_group : h5py.File or h5py.Group
        Where the datasets are created.
    main_data : (N, M) array, or (N, M)
        The data, a numpy or dask array; or the shape of a dataset to be filled later, with
        ``dtype`` given.
    main_data_name : str
        Name of the dataset. ``-`` becomes ``_``, with a warning.
    quantity, units : str
        What the data are, for example ``Current`` and ``nA``. Not empty.
    pos_dims : Dimension, list of Dimension, or a table; None if the datasets are given
        What the N rows are: dimensions, the fastest first, whose sizes multiply to N; or a table
        with ``labels``, ``units`` and ``values`` (N, P), like ``usidstream.PositionTable``. A
        slowest dimension of mode INCOMPLETE may be filled in part.
    spec_dims : as ``pos_dims``
        What the M columns are.
    main_dset_attrs : dict, optional
        Attributes of the main dataset.
    h5_pos_inds, h5_pos_vals, h5_spec_inds, h5_spec_vals : h5py.Dataset, optional
        Ancillary datasets to share instead of creating some; both of a pair. Those of another file
        are copied.
    aux_spec_prefix, aux_pos_prefix : str, optional
        Prefixes of the names of new ancillary datasets.
    verbose : bool, optional
        Print what is created.
    slow_to_fast : bool, optional
        Dimensions run slowest first.
    **kwargs
        Anything that ``h5py.Group.create_dataset`` takes: ``dtype``, ``chunks``, ``compression``,
        ``shuffle`` and so on.

    Returns
    -------
    USIDataset
        Which is a h5py.Dataset too.

    Raises
    ------
    TypeError
        If an argument is of another kind, or one of a pair of ancillary datasets is missing.
    ValueError
        If a string is empty, the shape is not two integers of at least 1, ``dtype`` is missing,
        dimensions do not match the shape or have the same name, the name is taken, or the file
        cannot be written to.
    KeyError
        If the name of a new ancillary dataset is taken.
    """
    require_group(h5_parent_group, "h5_parent_group")
    require_editable(h5_parent_group, "h5_parent_group")
    described = {
        "quantity": require_text(quantity, "quantity"),
        "units": require_text(units, "units"),
    }
    name = require_link_name(main_data_name, "main_data_name")
    shape = _main_shape(main_data, kwargs)
    if main_dset_attrs is not None:
        described = {**_require_attrs(main_dset_attrs), **described}
    if h5_pos_inds is None and h5_pos_vals is None:
        axes = axes_from(pos_dims, False, slow_to_fast, length=shape[0])
        positions: _NewPair | _SharedPair = _new_pair(h5_parent_group, axes, aux_pos_prefix)
    else:
        positions = _shared_pair(h5_pos_inds, h5_pos_vals, shape, is_spectral=False)
    if h5_spec_inds is None and h5_spec_vals is None:
        axes = axes_from(spec_dims, True, slow_to_fast, length=shape[1])
        spectra: _NewPair | _SharedPair = _new_pair(h5_parent_group, axes, aux_spec_prefix)
    else:
        spectra = _shared_pair(h5_spec_inds, h5_spec_vals, shape, is_spectral=True)
    _require_free_names(h5_parent_group, name, positions, spectra)
    with all_or_nothing() as undo:
        ancillaries = [
            *positions.provide(h5_parent_group, False, undo),
            *spectra.provide(h5_parent_group, True, undo),
        ]
        undo.creates(h5_parent_group, name)
        h5_main = _create_main(h5_parent_group, name, main_data, shape, kwargs)
        write_simple_attrs(h5_main, described)
        write_book_keeping_attrs(h5_main)
        main: USIDataset = link_as_main(h5_main, *ancillaries)
        say(verbose, f"Created the main dataset {h5_main.name} of shape {shape}")
        return main


@dataclass(frozen=True)
class _NewPair:
    """Ancillary datasets to create."""

    axes: Axes
    prefix: str

    def names(self) -> list[str]:
        return [f"{self.prefix}Indices", f"{self.prefix}Values"]

    def provide(self, h5_group: Any, is_spectral: bool, undo: Undo) -> tuple[Any, Any]:
        return create_ancillaries(h5_group, self.prefix, self.axes, is_spectral, undo)


@dataclass(frozen=True)
class _SharedPair:
    """Ancillary datasets to share, or to copy where they are in another file."""

    h5_inds: Any
    h5_vals: Any

    def names(self) -> list[str]:
        return []

    def provide(self, h5_group: Any, is_spectral: bool, undo: Undo) -> tuple[Any, Any]:  # noqa: ARG002 - as _NewPair
        if self.h5_inds.file == h5_group.file:
            return self.h5_inds, self.h5_vals
        return (
            copy_or_reuse(self.h5_inds, h5_group, last_name(self.h5_inds), undo),
            copy_or_reuse(self.h5_vals, h5_group, last_name(self.h5_vals), undo),
        )


def _new_pair(h5_group: Any, axes: Axes, prefix: str) -> _NewPair:
    return _NewPair(axes, ancillary_prefix(h5_group, prefix))


def _shared_pair(
    h5_inds: Any, h5_vals: Any, shape: tuple[int, int], is_spectral: bool
) -> _SharedPair:
    if h5_inds is None or h5_vals is None:
        kind = "spec" if is_spectral else "pos"
        raise TypeError(f"h5_{kind}_inds and h5_{kind}_vals should be given both or not at all")
    validate_anc_h5_dsets(h5_inds, h5_vals, shape, is_spectral)
    validate_h5_objs_in_same_h5_file(h5_inds, h5_vals)
    return _SharedPair(h5_inds, h5_vals)


def _main_shape(main_data: Any, kwargs: Mapping[str, Any]) -> tuple[int, int]:
    if isinstance(main_data, list | tuple):
        shape = require_shape(main_data, "main_data")
        if kwargs.get("dtype") is None:
            raise ValueError("dtype should be given for a main dataset that is created empty")
        require_dtype(kwargs["dtype"])
        return shape
    if not (isinstance(main_data, np.ndarray) or is_dask(main_data)):
        raise TypeError(
            "main_data should be an array, or a list / tuple with its shape, "
            f"not {type(main_data).__name__}"
        )
    if main_data.ndim != 2:
        raise ValueError(f"main_data should have 2 dimensions, not {main_data.ndim}")
    return require_shape(main_data.shape, "main_data")


def _require_attrs(attrs: Any) -> Mapping[str, Any]:
    """Return attributes that can be stored on a dataset; raise for others before anything is."""
    if not isinstance(attrs, Mapping):
        raise TypeError(f"main_dset_attrs should be a dictionary, not {type(attrs).__name__}")
    prepared = prepared_attrs(attrs)
    for key, value in prepared.items():
        require_flat(key, value)
        if key in ANCILLARY_NAMES:
            raise ValueError(f"main_dset_attrs: {key!r} is a name of the format's own")
    return prepared


def _require_free_names(h5_group: Any, name: str, *pairs: _NewPair | _SharedPair) -> None:
    if name in h5_group:
        raise ValueError(f"{h5_group.name} already has a member named {name!r}")
    new_names = [name, *(new for pair in pairs for new in pair.names())]
    for new in new_names:
        if new_names.count(new) > 1:
            raise KeyError(f"two new datasets would both be named {new!r}: choose another prefix")


def _create_main(
    h5_group: Any, name: str, main_data: Any, shape: tuple[int, int], kwargs: dict[str, Any]
) -> Any:
    if isinstance(main_data, np.ndarray):
        return h5_group.create_dataset(name, data=main_data, **kwargs)
    if not is_dask(main_data):
        return h5_group.create_dataset(name, shape=shape, **kwargs)
    h5_main = h5_group.create_dataset(name, shape=shape, **{"dtype": main_data.dtype, **kwargs})
    store(main_data, h5_main)
    return h5_main


def link_as_main(
    h5_main: Any, h5_pos_inds: Any, h5_pos_vals: Any, h5_spec_inds: Any, h5_spec_vals: Any
) -> Any:
    """Link four ancillary datasets to a dataset, which becomes a main dataset.

    Parameters
    ----------
    h5_main : h5py.Dataset
        (N, M).
    h5_pos_inds, h5_pos_vals : h5py.Dataset
        (N, P).
    h5_spec_inds, h5_spec_vals : h5py.Dataset
        (S, M).

    Returns
    -------
    USIDataset
        Or ``h5_main`` as it is, while something else is missing, such as its quantity.

    Raises
    ------
    TypeError
        If anything is no dataset.
    ValueError
        If shapes do not fit, a dataset is in another file, or the file cannot be written to.
    """
    require_dataset(h5_main, "h5_main")
    validate_anc_h5_dsets(h5_pos_inds, h5_pos_vals, h5_main.shape, is_spectroscopic=False)
    validate_anc_h5_dsets(h5_spec_inds, h5_spec_vals, h5_main.shape, is_spectroscopic=True)
    ancillaries = (h5_pos_inds, h5_pos_vals, h5_spec_inds, h5_spec_vals)
    for h5_ancillary in ancillaries:
        validate_h5_objs_in_same_h5_file(h5_main, h5_ancillary)
    links = zip(ANCILLARY_NAMES, ancillaries, strict=True)
    require_editable(h5_main, "h5_main")
    with all_or_nothing() as undo:
        references = {name: h5_ancillary.ref for name, h5_ancillary in links}
        create_attributes(h5_main, new_attributes(h5_main, references), undo)
        return as_main(h5_main)
