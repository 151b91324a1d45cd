"""A caller's data, checked against the main it is meant for.

Pure numpy. Knows shapes, types and bounds and says what was expected; must never know how blocks
travel. Values are never changed in silence: a type that numpy's ``same_kind`` rule refuses, and an
integer outside the main's range, raise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BlockError
from .coverage import Rows

Array = npt.NDArray[Any]

_PLAIN_TYPES = frozenset({np.ndarray, float, int, complex, bool, list, tuple})


@dataclass(frozen=True)
class MainShape:
    """What delivery must know of a main.

    Parameters
    ----------
    name
        The wire key.
    n_rows, n_cols
        N positions and M spectroscopic elements.
    dtype
        Little-endian element type.
    spectroscopic_sizes
        Steps of each spectroscopic dimension, fastest first.
    """

    name: str
    n_rows: int
    n_cols: int
    dtype: np.dtype[Any]
    spectroscopic_sizes: tuple[int, ...] = ()

    @property
    def row_nbytes(self) -> int:
        """Bytes of one position."""
        return self.n_cols * self.dtype.itemsize

    @property
    def spectrum_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes in which one position's elements are accepted; all mean the same C order."""
        shapes: list[tuple[int, ...]] = [(self.n_cols,)]
        if len(self.spectroscopic_sizes) > 1:
            shapes.append(self.spectroscopic_sizes[::-1])
        if self.n_cols == 1:
            shapes.append(())
        return tuple(shapes)


def spectrum(main: MainShape, row: int, values: Any) -> Array:
    """Return one position's elements as an array (n_cols,) that can be assigned into the main."""
    array = _as_array(main, values)
    if array.shape not in main.spectrum_shapes:
        wanted = " or ".join(map(str, main.spectrum_shapes))
        raise _error(
            "bad_shape",
            f"row {row} of main {main.name!r} takes a spectrum of shape {wanted},"
            f" not {array.shape}",
            main,
            row=row,
        )
    _check_type(main, array)
    return array.reshape(main.n_cols)


def is_plain(values: Any) -> bool:
    """Tell whether values are at hand, so that no code but numpy's makes an array of them."""
    return type(values) in _PLAIN_TYPES or isinstance(values, np.ndarray | np.generic)


def table(main: MainShape, values: Any, n_rows: int | None, col: int | None) -> Array:
    """Return a block's elements as an array (rows, cols).

    Parameters
    ----------
    n_rows
        The number of rows it must have, None for any.
    col
        The first column, None where rows must be whole.
    """
    array = _as_array(main, values)
    if array.ndim == 1 and main.n_cols == 1:
        array = array.reshape(-1, 1)
    whole = col is None
    rows = "n" if n_rows is None else str(n_rows)
    cols = str(main.n_cols) if whole else f"1 to {main.n_cols}"
    fits = array.ndim == 2 and array.size > 0 and (n_rows is None or len(array) == n_rows)
    if not fits or (whole and array.shape[1] != main.n_cols):
        raise _error(
            "bad_shape",
            f"main {main.name!r} takes a block of shape ({rows}, {cols}), not {array.shape}",
            main,
        )
    _check_type(main, array)
    return array


def span(main: MainShape, row: int, rows: int, col: int, cols: int) -> None:
    """Check that a rectangle lies in the main."""
    if row < 0 or row + rows > main.n_rows or col < 0 or col + cols > main.n_cols:
        raise _error(
            "out_of_bounds",
            f"rows {row} to {row + rows - 1}, columns {col} to {col + cols - 1} reach outside of"
            f" main {main.name!r}, which has {main.n_rows} rows and {main.n_cols} columns",
            main,
            row=row,
            rows=rows,
            col=col,
            cols=cols,
        )


def integer(value: Any, name: str) -> int:
    """Return an index as a Python int; a float or a bool is none."""
    if isinstance(value, bool | np.bool_):
        raise BlockError(f"{name} must be an integer, not {value!r}", code="out_of_bounds")
    try:
        return int(value.__index__())
    except (AttributeError, TypeError) as error:
        raise BlockError(
            f"{name} must be an integer, not {type(value).__name__}", code="out_of_bounds"
        ) from error


def row_numbers(main: MainShape, rows: Any) -> Rows:
    """Return scattered row numbers as int64, each in bounds and there once."""
    array = np.asarray(rows)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
        raise _error(
            "bad_shape",
            "rows must be a 1-D array of at least one integer,"
            f" not {array.dtype} of shape {array.shape}",
            main,
        )
    low, high = int(array.min()), int(array.max())
    span(main, low, high - low + 1, 0, main.n_cols)
    numbers: Rows = array.astype(np.int64)
    ordered = np.sort(numbers)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if repeated.size:
        raise _error("already_covered", f"row {repeated[0]} is given twice", main)
    return numbers


def _as_array(main: MainShape, values: Any) -> Array:
    """Return the values as an array; numbers that bring no type of their own get a fitting one."""
    if isinstance(values, np.ndarray | np.generic):
        return np.asarray(values)
    try:
        if main.dtype.names is not None:
            return np.array(values, dtype=main.dtype)
        array = np.asarray(values)
    except (TypeError, ValueError, OverflowError) as error:
        raise _error(
            "bad_dtype", f"main {main.name!r} holds {main.dtype}: {error}", main
        ) from error
    if array.dtype.kind == "i" and main.dtype.kind == "u" and array.size and array.min() >= 0:
        return array.astype(np.uint64)
    return array


def _check_type(main: MainShape, array: Array) -> None:
    if array.dtype == main.dtype:
        return
    if not np.can_cast(array.dtype, main.dtype, "same_kind"):
        raise _error(
            "bad_dtype",
            f"{array.dtype} cannot be stored as {main.dtype} in main {main.name!r}"
            " without changing its kind",
            main,
        )
    if main.dtype.kind in "iu" and not np.can_cast(array.dtype, main.dtype, "safe"):
        limits = np.iinfo(main.dtype)
        low, high = array.min(), array.max()
        if low < limits.min or high > limits.max:
            raise _error(
                "bad_dtype",
                f"values {low} to {high} do not fit {main.dtype} in main {main.name!r}",
                main,
            )


def _error(code: str, message: str, main: MainShape, **address: int) -> BlockError:
    details: Mapping[str, Any] = {"main": main.name, **address}
    return BlockError(message, code=code, details=details)
