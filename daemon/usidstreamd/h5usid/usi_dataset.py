"""A main dataset with its dimensions: an h5py dataset that knows what its axes mean."""

from __future__ import annotations

from typing import Any

import h5py

from .attributes import get_attr
from .conformity import ANCILLARY_NAMES, check_if_main, labels_of
from .reading import arrangement_of


class USIDataset(h5py.Dataset):  # type: ignore[misc]  # h5py has no types
    """A main dataset.

    Parameters
    ----------
    h5_ref : h5py.Dataset
        A main dataset.
    sort_dims : bool, optional
        List dimensions from the slowest to the fastest instead of in the order of the file.

    Attributes
    ----------
    h5_pos_inds, h5_pos_vals, h5_spec_inds, h5_spec_vals : h5py.Dataset
        The ancillary datasets.
    data_descriptor : str
        ``quantity (units)``.
    pos_dim_descriptors, spec_dim_descriptors : list of str
        ``label (units)`` of every dimension.
    pos_dim_labels, spec_dim_labels, n_dim_labels : list of str
    pos_dim_sizes, spec_dim_sizes, n_dim_sizes : list of int

    Raises
    ------
    TypeError
        If ``h5_ref`` is no main dataset.
    """

    def __init__(self, h5_ref: Any, sort_dims: bool = False) -> None:
        if not check_if_main(h5_ref):
            raise TypeError(f"{h5_ref!r} is no USID main dataset")
        super().__init__(h5_ref.id)
        links = [self.file[self.attrs[name]] for name in ANCILLARY_NAMES]
        self.h5_pos_inds, self.h5_pos_vals, self.h5_spec_inds, self.h5_spec_vals = links
        self.data_descriptor = f"{get_attr(self, 'quantity')} ({get_attr(self, 'units')})"
        self.pos_dim_descriptors = _descriptors(self.h5_pos_inds)
        self.spec_dim_descriptors = _descriptors(self.h5_spec_inds)
        self._positions = arrangement_of(self.h5_pos_inds, is_spec=False)
        self._spectra = arrangement_of(self.h5_spec_inds, is_spec=True)
        self._sort_dims = sort_dims
        self._list_dimensions()

    def _list_dimensions(self) -> None:
        """Set labels and sizes in the order that ``sort_dims`` asks for."""
        pos_labels, spec_labels = labels_of(self.h5_pos_inds), labels_of(self.h5_spec_inds)
        pos, spec = list(range(len(pos_labels))), list(range(len(spec_labels)))
        if self._sort_dims:
            pos, spec = self._positions.fast_to_slow[::-1], self._spectra.fast_to_slow[::-1]
        self.pos_dim_labels = [pos_labels[column] for column in pos]
        self.spec_dim_labels = [spec_labels[column] for column in spec]
        self.pos_dim_sizes = [self._positions.sizes[column] for column in pos]
        self.spec_dim_sizes = [self._spectra.sizes[column] for column in spec]
        self.n_dim_labels = self.pos_dim_labels + self.spec_dim_labels
        self.n_dim_sizes = self.pos_dim_sizes + self.spec_dim_sizes

    def __repr__(self) -> str:
        positions = _size_lines(labels_of(self.h5_pos_inds), self._positions.sizes)
        spectra = _size_lines(labels_of(self.h5_spec_inds), self._spectra.sizes)
        # blanks before line ends are part of the printed form that the guide shows
        described = " \n".join(
            [
                "located at:",
                f"\t{self.name}",
                "Data contains:",
                f"\t{self.data_descriptor}",
                "Data dimensions and original shape:",
                "Position Dimensions:",
                *positions,
                "Spectroscopic Dimensions:",
                *spectra,
            ]
        )
        if self.dtype.names:
            data = f"Data Fields:\n\t{', '.join(self.dtype.names)}"
        else:
            data = f"Data Type:\n\t{self.dtype.name}"
        return "\n".join([super().__repr__(), described, data])


def _descriptors(h5_ancillary: Any) -> list[str]:
    labels, units = labels_of(h5_ancillary), labels_of(h5_ancillary, "units")
    return [f"{label} ({unit})" for label, unit in zip(labels, units, strict=True)]


def _size_lines(labels: list[str], sizes: list[int]) -> list[str]:
    return [f"\t{label} - size: {size}" for label, size in zip(labels, sizes, strict=True)]
