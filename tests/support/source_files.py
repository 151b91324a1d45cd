"""Writes small h5USID files of any age, and NSID files, straight with h5py, for tests of replay."""

import h5py
import numpy as np


def write_usid(group, name, truth, pos, spec, **more):
    """Write a main dataset and its four ancillaries into a group, and return it.

    Parameters
    ----------
    truth
        The values with one axis a dimension, slowest first: positions, then spectroscopic.
    pos, spec
        Dimensions as (name, units, values), fastest first.
    more
        See `write_ancillaries` and `link_main`.
    """
    pos_tables = write_ancillaries(group, "Position", pos, **more)
    spec_tables = write_ancillaries(group, "Spectroscopic", spec, old=more.get("old", False))
    n_rows = int(np.prod([len(values) for _, _, values in pos]))
    data = truth.reshape(n_rows, -1)
    if more.get("visited") is not None:
        data = data[more["visited"]]
    return link_main(group, name, data, pos_tables + spec_tables)


def write_ancillaries(group, kind, dims, *, old=False, visited=None):
    """Write indices and values; ``old``: fastest first, with regions; ``visited``: rows' order."""
    sizes = [len(values) for _, _, values in dims]
    inds = np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes, order="F"), axis=1)
    vals = np.stack([np.asarray(dims[d][2])[inds[:, d]] for d in range(len(dims))], axis=1)
    if visited is not None:
        inds, vals = inds[visited], vals[visited]
    columns = list(range(len(dims)))[:: 1 if old else -1]
    return write_tables(
        group,
        kind,
        inds[:, columns],
        vals[:, columns],
        [dims[d][0] for d in columns],
        [dims[d][1] for d in columns],
        old=old,
    )


def write_tables(group, kind, inds, vals, labels, units, *, old=False):
    """Write two tables as they are given, shape (steps, dimensions)."""
    tables = []
    for suffix, table in (("Indices", inds.astype(np.uint32)), ("Values", vals)):
        dset = group.create_dataset(
            f"{kind}_{suffix}", data=table if kind == "Position" else table.T
        )
        dset.attrs["labels"] = np.array(labels, dtype="S")
        dset.attrs["units"] = np.array(units, dtype="S")
        if old:
            for d, label in enumerate(labels):
                region = dset.regionref[:, d] if kind == "Position" else dset.regionref[d, :]
                dset.attrs[label] = region
        tables.append(dset)
    return tables


def link_main(group, name, data, tables, *, quantity="Current", units="nA", **dataset_options):
    """Write a main dataset that refers to its four tables."""
    main = group.create_dataset(name, data=data, **dataset_options)
    names = (
        "Position_Indices", "Position_Values", "Spectroscopic_Indices", "Spectroscopic_Values",
    )  # fmt: skip
    for reference, table in zip(names, tables, strict=True):
        main.attrs[reference] = table.ref
    main.attrs["quantity"] = quantity
    main.attrs["units"] = units
    return main


def write_nsid(group, name, data, axes, **dataset_options):
    """Write an NSID main; axes are (name, units, values, dimension_type) in the array's order."""
    main = group.create_dataset(name, data=data, **dataset_options)
    main.attrs["quantity"] = "Piezoresponse"
    main.attrs["units"] = "pm"
    for axis, (label, units, values, kind) in enumerate(axes):
        scale = group.create_dataset(label, data=values)
        scale.make_scale(label)
        scale.attrs["name"] = label
        scale.attrs["units"] = units
        scale.attrs["quantity"] = f"Q{axis}"
        if kind is not None:
            scale.attrs["dimension_type"] = kind
        main.dims[axis].attach_scale(scale)
        main.dims[axis].label = label
    return main


def new_file(path):
    """Open a new file."""
    return h5py.File(path, "w")
