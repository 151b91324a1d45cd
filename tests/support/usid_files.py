"""Files as pyUSID of earlier years wrote them, and a way to compare what a file holds."""

import h5py
import numpy as np

BIAS = 2.5 * np.sin(np.linspace(0, np.pi, 7, endpoint=False))


def old_ancillaries(h5_group, prefix, indices, values, labels, units, is_spec, **more):
    """Create a pair of ancillary datasets with region references and labels as bytes."""
    pair = []
    for suffix, data, dtype in (("Indices", indices, "u2"), ("Values", values, "f4")):
        h5_dset = h5_group.create_dataset(f"{prefix}_{suffix}", data=data, dtype=dtype)
        for number, label in enumerate(labels):
            region = (slice(number, number + 1), slice(None))
            h5_dset.attrs[label] = h5_dset.regionref[region if is_spec else region[::-1]]
        for key, texts in {"labels": labels, "units": units, **more}.items():
            h5_dset.attrs[key] = np.array(texts, dtype="S")
        pair.append(h5_dset)
    return pair


def link(h5_main, quantity, units, ancillaries):
    """Make a dataset a main dataset, by hand."""
    h5_main.attrs["quantity"], h5_main.attrs["units"] = quantity, units
    names = ("Position_Indices", "Position_Values", "Spectroscopic_Indices", "Spectroscopic_Values")
    for name, h5_dset in zip(names, ancillaries, strict=True):
        h5_main.attrs[name] = h5_dset.ref
    return h5_main


def grid_indices(*sizes):
    """Return the indices of a grid, (rows, dimensions), the fastest dimension first."""
    return np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes, order="F"), axis=1)


def band_excitation(path):
    """Write a 5 x 3 map of 7 bias steps in 2 cycles, dimensions fastest first, and two results."""
    with h5py.File(path, "w") as h5_file:
        h5_group = h5_file.create_group("Raw_Measurement")
        attrs = {"att_1": "string_val", "att_2": 1.2345, "att_3": [1, 2, 3, 4]}
        h5_group.create_group("Misc")
        pos_inds = grid_indices(5, 3)
        pos_vals = pos_inds * [50, 1.25] + [-750, 2]
        positions = old_ancillaries(
            h5_group, "Position", pos_inds, pos_vals, ["X", "Y"], ["nm", "um"], False
        )
        spec_inds = grid_indices(7, 2).T
        spec_vals = np.stack([BIAS[spec_inds[0]], spec_inds[1]])
        spectra = old_ancillaries(
            h5_group, "Spectroscopic", spec_inds, spec_vals, ["Bias", "Cycle"], ["V", ""], True
        )
        n_dim = np.random.default_rng(3).random((3, 5, 2, 7))
        h5_group.create_dataset("n_dim_form", data=n_dim)
        h5_main = h5_group.create_dataset("source_main", data=n_dim.reshape(15, 14))
        h5_main.attrs["even_rows"] = h5_main.regionref[0::2]
        link(h5_main, "Current", "A", [*positions, *spectra])
        h5_group.create_dataset("Ancillary", data=np.arange(5))
        for number, data in enumerate((compound_data(), complex_data())):
            h5_results = h5_group.create_group(f"source_main-Fitter_{number:03d}")
            h5_results.attrs.update(attrs if number == 0 else attrs | {"att_1": "other"})
            h5_results.attrs["att_4"] = np.array(["str_1", "str_2", "str_3"], dtype="S")
            reduced = old_ancillaries(
                h5_results, "Spectroscopic", [np.arange(7)], [BIAS], ["Bias"], ["V"], True
            )
            h5_dset = h5_results.create_dataset("results_main", data=data)
            link(h5_dset, "Capacitance", "pF", [*positions, *reduced])
    return path


def compound_data():
    data = np.zeros((15, 7), dtype=[("r", "f4"), ("g", "f2"), ("b", "f8")])
    for number, name in enumerate(data.dtype.names):
        data[name] = np.arange(105).reshape(15, 7) + 1000 * number
    return data


def complex_data():
    return np.arange(105).reshape(15, 7) * (1 - 2j)


def spiral(path, marked=False):
    """Write 8 positions that make no grid; old files may mark their dimensions as incomplete."""
    more = {"incomplete_dimensions": ["X", "Y"]} if marked else {}
    with h5py.File(path, "w") as h5_file:
        inds = np.tile(np.arange(8), (2, 1)).T
        vals = np.random.default_rng(5).random((8, 2))
        positions = old_ancillaries(
            h5_file, "Position", inds, vals, ["X", "Y"], ["nm", "um"], False, **more
        )
        spectra = old_ancillaries(
            h5_file, "Spectroscopic", [[0, 1, 2]], [[300, 315, 330]], ["Frequency"], ["kHz"], True
        )
        h5_main = h5_file.create_dataset("Raw_Data", data=np.arange(24.0).reshape(8, 3))
        link(h5_main, "Deflection", "V", [*positions, *spectra])
    return path


def aborted(path):
    """Write a 7 x 5 map that ends 3 pixels into its last row."""
    with h5py.File(path, "w") as h5_file:
        inds = grid_indices(7, 5)[:31]
        positions = old_ancillaries(
            h5_file, "Position", inds, inds * [50, 1.25], ["X", "Y"], ["nm", "um"], False
        )
        spectra = old_ancillaries(
            h5_file, "Spectroscopic", [[0, 1, 2]], [[320, 330, 340]], ["Frequency"], ["kHz"], True
        )
        h5_main = h5_file.create_dataset("Raw_Data", data=np.arange(93.0).reshape(31, 3))
        link(h5_main, "Deflection", "V", [*positions, *spectra])
    return path


def contents(h5_file):
    """Return all that a file holds: names, attributes and data, to compare before and after."""
    found = {"/": _attributes(h5_file)}

    def visit(name, h5_object):
        data = h5_object[()].tobytes() if isinstance(h5_object, h5py.Dataset) else None
        found[name] = (_attributes(h5_object), data, getattr(h5_object, "shape", None))

    h5_file.visititems(visit)
    return found


def _attributes(h5_object):
    return {
        name: repr(h5_object.file[value].name if type(value) is h5py.Reference else value)
        for name, value in h5_object.attrs.items()
    }
