"""Between the two dimensions of the file and the N dimensions of the measurement."""

from __future__ import annotations

import math
from typing import Any

import h5py
import numpy as np

from .arrangement import Arrangement
from .attributes import get_attr
from .checks import say
from .conformity import check_if_main
from .lazy import is_dask, lazy_load_array
from .reading import arrangement_of, as_indices
from .sides import Side, n_dim_form, require_grid, side_of


def reshape_to_n_dims(  # noqa: PLR0917 - pyUSID fixes the signature
    h5_main: Any,
    h5_pos: Any = None,
    h5_spec: Any = None,
    get_labels: bool = False,
    verbose: bool = False,
    sort_dims: bool = False,
    lazy: bool = False,
) -> list[Any]:
    """Give a main dataset one axis for each of its dimensions.

    Parameters
    ----------
    h5_main : h5py.Dataset, or a numpy or dask array
        (N, M).
    h5_pos, h5_spec : h5py.Dataset or array, optional
        Indices of positions (N x P) and of the spectroscopic dimensions (S x M). Default: those
        linked to ``h5_main``; an array's rows and columns count as one dimension each.
    get_labels : bool, optional
        Return the labels too.
    verbose : bool, optional
        Print what is found.
    sort_dims : bool, optional
        Axes run from the slowest to the fastest dimension, positions first, instead of in the
        order of the file.
    lazy : bool, optional
        Return a dask array, which reads nothing yet.

    Returns
    -------
    list
        The N-dimensional array, True, and with ``get_labels`` an array with a label for each axis.

    Raises
    ------
    TypeError
        If an argument is of another kind.
    ValueError
        If it is no main dataset, shapes do not fit, or there is no N-dimensional form.
    """
    if h5_pos is None and h5_spec is None and not check_if_main(h5_main):
        raise ValueError("h5_main should be a main dataset, or come with h5_pos or h5_spec")
    if not (isinstance(h5_main, h5py.Dataset | np.ndarray) or is_dask(h5_main)):
        raise TypeError("h5_main should be a h5py.Dataset or an array")
    positions = _side(h5_main, h5_pos, is_spec=False)
    spectra = _side(h5_main, h5_spec, is_spec=True)
    require_grid(positions, spectra)
    flat = lazy_load_array(h5_main) if lazy or is_dask(h5_main) else h5_main[()]
    n_dim = n_dim_form(flat, positions, spectra, sort_dims)
    labels = positions.listed(sort_dims)[0] + spectra.listed(sort_dims)[0]
    say(verbose, f"Reshaped {h5_main.shape} to {n_dim.shape} with axes {labels}")
    if not lazy and is_dask(n_dim):
        n_dim = n_dim.compute()
    return [n_dim, True, np.array(labels)] if get_labels else [n_dim, True]


def _side(h5_main: Any, indices: Any, is_spec: bool) -> Side:
    name = "h5_spec" if is_spec else "h5_pos"
    indices = as_indices(_linked_indices(h5_main, is_spec) if indices is None else indices, name)
    if len(h5_main.shape) != 2 or indices.shape[is_spec] != h5_main.shape[is_spec]:
        raise ValueError(f"{name} {indices.shape} does not fit a main of shape {h5_main.shape}")
    if isinstance(indices, h5py.Dataset):
        return side_of(indices, is_spec)
    kind = "Spectral" if is_spec else "Position"
    numbers = range(indices.shape[0 if is_spec else 1])
    labels = [f"{kind} Dimension {number}" for number in numbers]
    return Side(labels, [""] * len(labels), arrangement_of(indices, is_spec), indices, is_spec)


def _linked_indices(h5_main: Any, is_spec: bool) -> Any:
    name = "Spectroscopic_Indices" if is_spec else "Position_Indices"
    if isinstance(h5_main, h5py.Dataset) and name in h5_main.attrs:
        return h5_main.file[get_attr(h5_main, name)]
    numbers = np.arange(h5_main.shape[is_spec])
    return numbers[None, :] if is_spec else numbers[:, None]


def reshape_from_n_dims(
    data_n_dim: Any, h5_pos: Any = None, h5_spec: Any = None, verbose: bool = False
) -> tuple[Any, bool]:
    """Flatten an array with one axis for each dimension to the two of a main dataset.

    Parameters
    ----------
    data_n_dim : numpy or dask array
        Axes in the order in which the indices list the dimensions, positions first. Axes that no
        indices are given for run from slow to fast.
    h5_pos, h5_spec : h5py.Dataset or array, optional
        Indices of positions (N x P) and of the spectroscopic dimensions (S x M); at least one.
    verbose : bool, optional
        Print what is done.

    Returns
    -------
    array
        (N, M).
    bool
        True.

    Raises
    ------
    TypeError
        If an argument is of another kind.
    ValueError
        If neither indices are given, or they do not fit the array.
    """
    if not (isinstance(data_n_dim, np.ndarray) or is_dask(data_n_dim)):
        raise TypeError("data_n_dim should be a numpy or dask array")
    if h5_pos is None and h5_spec is None:
        raise ValueError("at least one of h5_pos and h5_spec should be given")
    if data_n_dim.ndim < 2:
        return data_n_dim, True
    positions = _given_side(h5_pos, is_spec=False)
    spectra = _given_side(h5_spec, is_spec=True)
    n_pos = _position_axes(data_n_dim, positions, spectra)
    order = _sorting_axes(positions, 0, n_pos) + _sorting_axes(spectra, n_pos, data_n_dim.ndim)
    rows = math.prod(data_n_dim.shape[:n_pos])
    flat = data_n_dim.transpose(order).reshape((rows, data_n_dim.size // rows))
    if positions is not None and positions.rows is not None:
        flat = flat[np.argsort(positions.rows)]
    if spectra is not None and spectra.rows is not None:
        flat = flat[:, np.argsort(spectra.rows)]
    say(verbose, f"Flattened {data_n_dim.shape} to {flat.shape}")
    return flat, True


def _given_side(indices: Any, is_spec: bool) -> Arrangement | None:
    if indices is None:
        return None
    name = "h5_spec" if is_spec else "h5_pos"
    arrangement = arrangement_of(as_indices(indices, name), is_spec)
    if not arrangement.is_grid:
        raise ValueError(f"{name} makes no grid: {arrangement.gap}")
    return arrangement


def _position_axes(data: Any, positions: Arrangement | None, spectra: Arrangement | None) -> int:
    """Return how many axes of the array are positions, once the sizes are known to fit.

    A single position or a single spectroscopic step may have lost its axis.
    """
    pos_sizes = _axis_sizes(positions, data.ndim)
    spec_sizes = _axis_sizes(spectra, data.ndim)
    if positions is None:
        pos_sizes = list(data.shape[: data.ndim - len(spec_sizes)])
    if spectra is None:
        spec_sizes = list(data.shape[len(pos_sizes) :])
    for left in (pos_sizes, []) if math.prod(pos_sizes) == 1 else (pos_sizes,):
        for right in (spec_sizes, []) if math.prod(spec_sizes) == 1 else (spec_sizes,):
            if list(data.shape) == left + right:
                return len(left)
    raise ValueError(
        f"an array of shape {data.shape} does not have the dimensions {pos_sizes} of the "
        f"positions and {spec_sizes} of the spectroscopic axis"
    )


def _axis_sizes(arrangement: Arrangement | None, ndim: int) -> list[int]:
    return [] if arrangement is None else list(arrangement.sizes[:ndim])


def _sorting_axes(arrangement: Arrangement | None, first: int, end: int) -> list[int]:
    """Return the axes of one side from slow to fast."""
    if arrangement is None or end - first != len(arrangement.sizes):
        return list(range(first, end))
    return [first + column for column in arrangement.fast_to_slow[::-1]]
