"""A main dataset with its dimensions: an h5py dataset that knows what its axes mean."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from .arrangement import Array
from .attributes import get_attr
from .checks import say
from .conformity import ANCILLARY_NAMES, main_faults
from .dimension import Dimension
from .lazy import lazy_load_array
from .plotting import draw_points, draw_values
from .points import read_crossing
from .scalars import flatten_to_real
from .selection import checked_picks
from .sides import file_order, n_dim_form, require_grid, side_of


class USIDataset(h5py.Dataset):  # type: ignore[misc]  # h5py has no types
    """A main dataset: a h5py.Dataset (N, M) with names, units and values for both axes.

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
        ``label (units)`` of every dimension in the order of the file.
    pos_dim_labels, spec_dim_labels, n_dim_labels : list of str
        Names of the dimensions; ``n_dim_labels`` are both, positions first.
    pos_dim_sizes, spec_dim_sizes, n_dim_sizes : list of int
        Their numbers of steps.

    Raises
    ------
    TypeError
        If ``h5_ref`` is no main dataset.
    """

    def __init__(self, h5_ref: Any, sort_dims: bool = False) -> None:
        if faults := main_faults(h5_ref):
            raise TypeError(f"{h5_ref!r} is no USID main dataset: {faults[0]}")
        super().__init__(h5_ref.id)
        links = [self.file[self.attrs[name]] for name in ANCILLARY_NAMES]
        self.h5_pos_inds, self.h5_pos_vals, self.h5_spec_inds, self.h5_spec_vals = links
        self.data_descriptor = f"{get_attr(self, 'quantity')} ({get_attr(self, 'units')})"
        self._positions = side_of(self.h5_pos_inds, is_spec=False)
        self._spectra = side_of(self.h5_spec_inds, is_spec=True)
        self.pos_dim_descriptors = self._positions.descriptors()
        self.spec_dim_descriptors = self._spectra.descriptors()
        self.__sort_dims = sort_dims
        self.__list_dimensions()

    def __list_dimensions(self) -> None:
        """Set labels and sizes in the order that ``sort_dims`` asks for."""
        self.pos_dim_labels, self.pos_dim_sizes = self._positions.listed(self.__sort_dims)
        self.spec_dim_labels, self.spec_dim_sizes = self._spectra.listed(self.__sort_dims)
        self.n_dim_labels = self.pos_dim_labels + self.spec_dim_labels
        self.n_dim_sizes = self.pos_dim_sizes + self.spec_dim_sizes

    def __eq__(self, other: object) -> bool:
        # h5py leaves anything else to the other side, where an array would compare elements
        return isinstance(other, h5py.Dataset) and bool(super().__eq__(other))

    __hash__ = h5py.Dataset.__hash__

    def __repr__(self) -> str:
        # blanks before line ends are part of the printed form that the guide shows
        described = " \n".join(
            [
                "located at:",
                f"\t{self.name}",
                "Data contains:",
                f"\t{self.data_descriptor}",
                "Data dimensions and original shape:",
                "Position Dimensions:",
                *self._positions.size_lines(),
                "Spectroscopic Dimensions:",
                *self._spectra.size_lines(),
            ]
        )
        if self.dtype.names:
            data = f"Data Fields:\n\t{', '.join(self.dtype.names)}"
        else:
            data = f"Data Type:\n\t{self.dtype.name}"
        return "\n".join([super().__repr__(), described, data, *self.__gap_lines()])

    def __gap_lines(self) -> list[str]:
        gaps = (self._positions.arrangement.gap, self._spectra.arrangement.gap)
        return ["No N-dimensional form:", *(f"\t{gap}" for gap in gaps if gap)] if any(gaps) else []

    def get_pos_values(self, dim_name: str) -> Array:
        """Return the values of a position dimension.

        Parameters
        ----------
        dim_name : str

        Returns
        -------
        1-D array
            One value for each step; for positions given as a table, one for each row.

        Raises
        ------
        TypeError
            If the name is no string.
        KeyError
            If there is no position dimension of that name.
        ValueError
            If the dimension has no such values, because it is irregular.
        """
        return self._positions.values(self.h5_pos_vals, dim_name)

    def get_spec_values(self, dim_name: str) -> Array:
        """Return the values of a spectroscopic dimension, as :meth:`get_pos_values` does."""
        return self._spectra.values(self.h5_spec_vals, dim_name)

    def get_current_sorting(self) -> None:
        """Print in which order dimensions are listed."""
        if self.__sort_dims:
            order = "sorted in order from fastest changing dimension to slowest."
        else:
            order = "in the order they occur in the file."
        say(True, f"Data dimensions are {order}")

    def toggle_sorting(self) -> None:
        """Switch between the order of the file and the order from slowest to fastest."""
        self.__sort_dims = not self.__sort_dims
        self.__list_dimensions()

    def get_n_dim_form(self, as_scalar: bool = False, lazy: bool = False) -> Any:
        """Return all data with one axis for each dimension, in the order of ``n_dim_labels``.

        Parameters
        ----------
        as_scalar : bool, optional
            Lay the parts of complex or compound values side by side along the last axis.
        lazy : bool, optional
            Return a dask array, which reads nothing yet.

        Raises
        ------
        ValueError
            If there is no such form; the message tells why. Rows of a main dataset can always be
            read as they are: ``h5_main[i]``.
        """
        require_grid(self._positions, self._spectra)
        data = lazy_load_array(self) if lazy else self[()]
        n_dim = n_dim_form(data, self._positions, self._spectra, self.__sort_dims)
        return flatten_to_real(n_dim) if as_scalar else n_dim

    def slice(
        self,
        slice_dict: Any,
        ndim_form: bool = True,
        as_scalar: bool = False,
        verbose: bool = False,
        lazy: bool = False,
    ) -> tuple[Any, bool]:
        """Read a part of the data, chosen by dimensions.

        Parameters
        ----------
        slice_dict : dict or None
            For names of dimensions a slice, an index or a list of indices. Others stay whole.
        ndim_form : bool, optional
            Return one axis for each dimension; those sliced by a single index lose theirs.
            Otherwise (rows, columns).
        as_scalar : bool, optional
            Lay the parts of complex or compound values side by side along the last axis.
        verbose : bool, optional
            Print what is read.
        lazy : bool, optional
            Return a dask array, which reads nothing yet.

        Returns
        -------
        array
        bool
            Whether it has one axis for each dimension as asked; always True for (rows, columns).
            False where the rows make no grid: then it is (rows, columns).

        Raises
        ------
        TypeError
            If an argument is of another kind.
        KeyError
            If there is no dimension of a name.
        IndexError
            If an index is out of bounds, or beyond what an incomplete scan has measured.
        ValueError
            If nothing is picked, or an index is negative without ``ndim_form``.
        """
        for name, flag in (("as_scalar", as_scalar), ("verbose", verbose)):
            if not isinstance(flag, bool):
                raise TypeError(f"{name} should be a bool, not {type(flag).__name__}")
        picks = checked_picks(slice_dict, self.n_dim_labels)
        sides = (self._positions, self._spectra)
        if ndim_form and all(side.arrangement.unit_indices for side in sides):
            data, success = self.__n_dim_slice(picks, lazy), True
        else:
            data, success = self.__flat_slice(picks, lazy), not ndim_form
        say(verbose, f"Sliced {self.name} to {data.shape}")
        return (flatten_to_real(data) if as_scalar else data), success

    def __n_dim_slice(self, picks: dict[str, Any], lazy: bool) -> Any:
        pos_steps, spec_steps = self._positions.steps(picks), self._spectra.steps(picks)
        rows = self._positions.nested(pos_steps)
        columns = self._spectra.nested(spec_steps)
        shape = self._positions.sliced_shape(pos_steps) + self._spectra.sliced_shape(spec_steps)
        data = self.__crossing(rows, columns, lazy).reshape(shape)
        if not self.__sort_dims:
            data = data.transpose(file_order(self._positions, self._spectra))
        lost = [
            axis
            for axis, label in enumerate(self.n_dim_labels)
            if isinstance(picks.get(label), int | np.integer)
        ]
        return data.squeeze(axis=tuple(lost)) if lost else data

    def __flat_slice(self, picks: dict[str, Any], lazy: bool) -> Any:
        rows, columns = self._get_pos_spec_slices(picks)
        return self.__crossing(rows, columns, lazy)

    def __crossing(self, rows: Any, columns: Any, lazy: bool) -> Any:
        if lazy:
            return lazy_load_array(self)[rows][:, columns]
        return read_crossing(self, rows, columns)

    def _get_pos_spec_slices(self, slice_dict: Any) -> tuple[Array, Array]:
        """Return the numbers of the rows and columns that a slice picks, in ascending order."""
        picks = checked_picks(slice_dict, self.n_dim_labels)
        return self._positions.matching(picks), self._spectra.matching(picks)

    def _get_dims_for_slice(
        self, slice_dict: Any = None, verbose: bool = False
    ) -> tuple[list[Dimension], list[Dimension]]:
        """Return the dimensions that a slice leaves with more than one step.

        An axis that keeps none is given a single step named ``arb.``.
        """
        picks = checked_picks(slice_dict, self.n_dim_labels)
        sort_dims = self.__sort_dims
        pos_dims = self._positions.dimensions_left(self.h5_pos_vals, picks, sort_dims)
        spec_dims = self._spectra.dimensions_left(self.h5_spec_vals, picks, sort_dims)
        say(verbose, f"Dimensions left: {pos_dims} and {spec_dims}")
        return pos_dims, spec_dims

    def plot(self, slice_dict: Any = None, verbose: bool = False, **kwargs: Any) -> Any:
        """Draw a map, a spectrum or any other part of one or two dimensions.

        Parameters
        ----------
        slice_dict : dict, optional
            As for :meth:`slice`; what it leaves should have one or two dimensions of more than one
            step. Positions that make no grid are drawn as points, each in its place.
        verbose : bool, optional
            Print what is drawn.
        **kwargs
            For matplotlib's ``imshow``, ``plot`` or ``scatter``: ``cmap``, ``vmin`` and the like.

        Returns
        -------
        figure : matplotlib.figure.Figure
        axes : matplotlib.axes.Axes
            For complex and compound values an array with one for each part.

        Raises
        ------
        ValueError
            If the part has more than two dimensions, or none.
        ImportError
            If matplotlib is not installed.
        """
        picks = checked_picks(slice_dict, self.n_dim_labels)
        if not self._positions.arrangement.is_grid:
            return self.__plot_points(picks, kwargs)
        data, _ = self.slice(picks, verbose=verbose)
        left = [dim for side in self._get_dims_for_slice(picks) for dim in side if len(dim) > 1]
        if not 1 <= len(left) <= 2:
            names = [dim.name for dim in left]
            raise ValueError(f"a picture has one or two dimensions, slice those left: {names}")
        return draw_values(data.squeeze(), left, self.name, self.data_descriptor, **kwargs)

    visualize = plot  # pyUSID's name for it

    def __plot_points(self, picks: dict[str, Any], style: dict[str, Any]) -> Any:
        rows, columns = self._get_pos_spec_slices(picks)
        data = read_crossing(self, rows, columns)
        if len(columns) == 1:
            points = self._positions.coordinates(self.h5_pos_vals, rows)
            return draw_points(data[:, 0], points, self.name, self.data_descriptor, **style)
        left = self._spectra.dimensions_left(self.h5_spec_vals, picks, self.__sort_dims)
        if len(rows) > 1 or len(left) > 1:
            raise ValueError("without a grid a picture has all positions or one spectrum: slice it")
        return draw_values(data[0], left, self.name, self.data_descriptor, **style)


def as_main(h5_dset: Any) -> Any:
    """Return a dataset as USIDataset if it is a main dataset, else as it is."""
    return h5_dset if main_faults(h5_dset) else USIDataset(h5_dset)
