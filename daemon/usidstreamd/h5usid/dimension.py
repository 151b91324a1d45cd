"""A dimension: how one parameter was varied. Knows no file."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any

import numpy as np

from .checks import require_text


class DimType(Enum):
    """How a dimension was varied against the others.

    DEFAULT: every value with every value of all other dimensions. INCOMPLETE: not so, as in spiral
    or sparse scans and aborted measurements. DEPENDENT: as a function of another dimension.
    """

    DEFAULT = 0
    INCOMPLETE = 1
    DEPENDENT = 2

    def __eq__(self, other: object) -> bool:
        return self is _require_mode(other)

    def __hash__(self) -> int:
        return hash(self.name)

    def __lt__(self, other: object) -> bool:
        return bool(self.value < _require_mode(other).value)

    def __gt__(self, other: object) -> bool:
        return bool(self.value > _require_mode(other).value)


def _require_mode(value: object) -> DimType:
    if not isinstance(value, DimType):
        raise TypeError(f"mode should be a DimType, not {type(value).__name__}")
    return value


class Dimension:
    """Name, units and values of one dimension.

    Parameters
    ----------
    name : str
        For example ``Bias``.
    units : str
        For example ``V``; may be empty.
    values : 1-D array-like of float, or int
        The values in the order in which they were taken, or the number of steps, which stands for
        0, 1, ... n - 1. Kept as float64.
    quantity : str, optional
        The physical quantity, for example ``Voltage``.
    dimension_type : str, optional
        A hint for plots, such as ``spatial`` or ``spectral``.
    mode : DimType, optional
        How the dimension was varied.

    Raises
    ------
    TypeError
        If a string or the mode is of another type, or the values are no numbers or none at all.
    ValueError
        If the name is empty, the number of steps below 1, or the values not one-dimensional.
    """

    def __init__(  # noqa: PLR0917 - pyUSID fixes the signature
        self,
        name: str,
        units: str,
        values: Any,
        quantity: str = "generic",
        dimension_type: Any = "unknown",
        mode: DimType = DimType.DEFAULT,
    ) -> None:
        self.name = require_text(name, "name")
        if not isinstance(units, str):
            raise TypeError(f"units should be a string, not {type(units).__name__}")
        self.units = units.strip()
        self.values = _unit_values(values)
        self.quantity = require_text(quantity, "quantity")
        self.dimension_type = dimension_type
        self.mode = _require_mode(mode)

    def __len__(self) -> int:
        return self.values.size

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(self.values, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        return f"{self.name}: {self.quantity} ({self.units}) mode:{self.mode} : {self.values}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Dimension):
            raise TypeError(f"a Dimension cannot be compared with a {type(other).__name__}")
        same_kind = (self.name, self.units, self.quantity, self.mode) == (
            other.name,
            other.units,
            other.quantity,
            other.mode,
        )
        return same_kind and len(self) == len(other) and np.allclose(self.values, other.values)

    __hash__ = None  # type: ignore[assignment]  # values compare as close, which no hash can follow


def _unit_values(values: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    if isinstance(values, int | np.integer) and not isinstance(values, bool):
        if values < 1:
            raise ValueError(f"values given as a number of steps should be >= 1, not {values}")
        return np.arange(values, dtype=np.float64)
    if isinstance(values, str | bytes) or not np.iterable(values):
        raise TypeError(f"values should be numbers or a number of steps, not {values!r}")
    array = np.array(values, dtype=np.float64)
    if array.size == 0:
        raise TypeError("values should not be empty")
    if array.ndim != 1:
        raise ValueError(f"values should be one-dimensional, not of shape {array.shape}")
    return array


def validate_dimensions(dimensions: Any, dim_type: str = "Position") -> list[Dimension]:
    """Return one or several dimensions as a list of :class:`Dimension` with different names.

    Parameters
    ----------
    dimensions : Dimension, or list, tuple or array of Dimension
        Anything with ``name``, ``units`` and ``values``, such as ``usidstream.Dimension``, counts
        as a dimension.
    dim_type : str, optional
        Named in errors.

    Raises
    ------
    TypeError
        If it is anything else.
    ValueError
        If there is none, or two have the same name.
    """
    checked = as_dimensions(dimensions, dim_type)
    require_distinct((dim.name for dim in checked), dim_type)
    return checked


def as_dimensions(dimensions: Any, dim_type: str) -> list[Dimension]:
    """Return one or several dimensions as a list, whatever their names; raise for anything else."""
    if _is_dimension(dimensions):
        dimensions = [dimensions]
    if isinstance(dimensions, np.ndarray):
        dimensions = list(dimensions.ravel())
    if not isinstance(dimensions, list | tuple):
        raise TypeError(f"{dim_type} dimensions should be a Dimension or a list of Dimensions")
    checked = [_as_dimension(item, dim_type) for item in dimensions]
    if not checked:
        raise ValueError(f"{dim_type} dimensions should be at least one Dimension")
    return checked


def _is_dimension(value: object) -> bool:
    return all(hasattr(value, field) for field in ("name", "units", "values"))


def _as_dimension(value: Any, dim_type: str) -> Dimension:
    if isinstance(value, Dimension):
        return value
    if not _is_dimension(value):
        raise TypeError(f"{dim_type} dimensions hold a {type(value).__name__}, not a Dimension")
    mode = getattr(value, "mode", DimType.DEFAULT)
    # pyUSID's own Dimension carries pyUSID's own DimType of the same names
    return Dimension(value.name, value.units, value.values, mode=DimType[mode.name])


def require_distinct(names: Iterable[str], dim_type: str) -> None:
    """Raise ValueError if a name occurs twice: a slice by that name would be ambiguous."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{dim_type} dimensions have the name {name!r} twice")
        seen.add(name)
