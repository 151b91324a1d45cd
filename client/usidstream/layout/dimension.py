"""Dimensions: what a scan's positions and each pixel's spectrum run over.

A regular dimension stays three numbers (start, step, size) until someone asks for its values, so
that a layout of any size is a few bytes in a file and on the wire. Tables of positions serve the
scans that are no grid: spirals, sparse and drift-corrected scans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from ..errors import LayoutError
from .fields import (
    check_choice,
    check_integer,
    check_keys,
    check_label,
    check_number,
    check_text,
    check_unique,
)

MAX_STEPS = 2**32 - 1
"""Largest dimension: h5USID's index datasets are uint32."""

_DTYPES = ("float64", "float32")


class Steps(NamedTuple):
    """A regular dimension: value i is ``start + i * step``, float64."""

    start: float
    step: float
    size: int


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Dimension:
    """One axis, of positions or of spectra.

    Parameters
    ----------
    name
        Label, 1 to 255 bytes, unique among the dimensions of its kind.
    units
        Physical units; may be empty.
    values
        Shape (size,), finite: float32 and float64 are kept, everything else becomes float64.
        An integer is a number of steps: the values 0, 1, ... size - 1.

    Raises
    ------
    LayoutError
        Names the field and the fix.
    """

    name: str
    units: str
    axis: Steps | npt.NDArray[np.floating[Any]]

    def __init__(self, name: str, units: str, values: npt.ArrayLike) -> None:
        if isinstance(values, int | np.integer) and not isinstance(values, bool):
            size = check_integer(values, "values", largest=MAX_STEPS)
            self._set(name, units, Steps(0.0, 1.0, size))
        else:
            self._set(name, units, check_values(values, "values", ndim=1))

    @classmethod
    def regular(cls, name: str, units: str, *, start: float, step: float, size: int) -> Self:
        """Make the dimension with values ``start + i * step`` for i = 0 .. size - 1."""
        steps = Steps(
            check_number(start, "start"),
            check_number(step, "step"),
            check_integer(size, "size", largest=MAX_STEPS),
        )
        check_number(steps.start + steps.step * (steps.size - 1), "step")
        dimension = cls.__new__(cls)
        dimension._set(name, units, steps)
        return dimension

    def _set(self, name: str, units: str, axis: Steps | npt.NDArray[np.floating[Any]]) -> None:
        object.__setattr__(self, "name", check_label(name, "name"))
        object.__setattr__(self, "units", check_text(units, "units", empty=True))
        object.__setattr__(self, "axis", axis)

    @property
    def size(self) -> int:
        """The number of steps."""
        return self.axis.size

    @cached_property
    def values(self) -> npt.NDArray[np.floating[Any]]:
        """The values, shape (size,), float32 or float64, read-only."""
        if not isinstance(self.axis, Steps):
            return self.axis
        values = self.axis.start + self.axis.step * np.arange(self.axis.size, dtype=np.float64)
        values.flags.writeable = False
        return values

    def to_dict(self) -> dict[str, Any]:
        """Return the dimension as a plain dict; explicit values stay an array."""
        plain: dict[str, Any] = {"name": self.name, "units": self.units}
        if not isinstance(self.axis, Steps):
            return plain | {"values": self.axis}
        if self.axis[:2] == (0.0, 1.0):
            return plain | {"size": self.axis.size}
        return plain | self.axis._asdict()

    @classmethod
    def from_dict(cls, table: object) -> Self:
        """Make a dimension of ``values``, of ``size``, or of ``start``, ``step`` and ``size``.

        ``dtype`` (float32 or float64) tells the precision of ``values`` given as a list.
        """
        table = check_keys(
            table,
            required=("name", "units"),
            optional=("values", "start", "step", "size", "dtype"),
            reserved=("open_ended",),
        )
        name, units = table["name"], table["units"]
        match sorted(table.keys() - {"name", "units", "dtype"}):
            case ["values"]:
                return cls(name, units, read_values(table))
            case ["size"]:
                return cls(name, units, check_integer(table["size"], "size", largest=MAX_STEPS))
            case ["size", "start", "step"]:
                steps = {key: table[key] for key in Steps._fields}
                return cls.regular(name, units, **steps)
        raise LayoutError(
            "the values are not given in one of the three ways.",
            field="values",
            hint="Give values = [...], or size, or start, step and size.",
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Dimension):
            return NotImplemented
        if (self.name, self.units, self.size) != (other.name, other.units, other.size):
            return False
        if isinstance(self.axis, Steps) and isinstance(other.axis, Steps):
            return self.axis == other.axis
        return same_values(self.values, other.values)

    __hash__ = None  # type: ignore[assignment]  # equal by content, which may be large

    def __repr__(self) -> str:
        return f"Dimension({self.name!r}, {self.units!r}, {self.size} steps)"


@dataclass(frozen=True, init=False, eq=False, repr=False)
class PositionTable:
    """Positions that are no grid, one line each.

    Parameters
    ----------
    labels
        P names of the coordinates, unique.
    units
        P units; each may be empty.
    values
        Shape (N, P), finite: float32 and float64 are kept, everything else becomes float64.

    Raises
    ------
    LayoutError
        Names the field and the fix.
    """

    labels: tuple[str, ...]
    units: tuple[str, ...]
    values: npt.NDArray[np.floating[Any]]

    def __init__(self, labels: Sequence[str], units: Sequence[str], values: npt.ArrayLike) -> None:
        table = check_values(values, "values", ndim=2)
        for field, texts in (("labels", labels), ("units", units)):
            if not isinstance(texts, list | tuple) or len(texts) != table.shape[1]:
                raise LayoutError(
                    "must be one text for each column of values.",
                    field=field,
                    hint=f"Give a list of {table.shape[1]}.",
                )
        object.__setattr__(
            self,
            "labels",
            tuple(check_label(text, f"labels[{i}]") for i, text in enumerate(labels)),
        )
        object.__setattr__(
            self,
            "units",
            tuple(check_text(text, f"units[{i}]", empty=True) for i, text in enumerate(units)),
        )
        check_unique(self.labels, "labels[{}]")
        object.__setattr__(self, "values", table)

    @property
    def size(self) -> int:
        """The number of positions."""
        return len(self.values)

    def to_dict(self) -> dict[str, Any]:
        """Return the table as a plain dict; ``values`` stays an array."""
        return {"labels": list(self.labels), "units": list(self.units), "values": self.values}

    @classmethod
    def from_dict(cls, table: object) -> Self:
        """Make a table of ``labels``, ``units`` and ``values``; ``dtype`` as for a `Dimension`."""
        table = check_keys(
            table,
            required=("labels", "units", "values"),
            optional=("dtype",),
            reserved=("open_ended",),
        )
        return cls(table["labels"], table["units"], read_values(table))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PositionTable):
            return NotImplemented
        if (self.labels, self.units) != (other.labels, other.units):
            return False
        return same_values(self.values, other.values)

    __hash__ = None  # type: ignore[assignment]  # equal by content, which may be large

    def __repr__(self) -> str:
        return f"PositionTable({list(self.labels)}, {list(self.units)}, {self.size} positions)"


def read_values(table: Mapping[str, Any]) -> npt.ArrayLike:
    """Return a plain dict's ``values``, at the precision that its ``dtype`` names."""
    values: npt.ArrayLike = table["values"]
    if isinstance(values, bool | int):
        raise LayoutError(
            "a number of steps is not a list of values.", field="values", hint="Give size = n."
        )
    if "dtype" not in table:
        return values
    dtype = check_choice(table["dtype"], "dtype", _DTYPES)
    return as_real(values, "values").astype(dtype)


def as_real(values: npt.ArrayLike, field: str) -> npt.NDArray[Any]:
    """Return an array of real numbers, at most 64 bits each, in whatever shape and type."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, OverflowError) as error:
        raise LayoutError(f"are no array: {error}.", field=field, hint=_SHAPE_HINT) from error
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise LayoutError(
            f"must be real numbers, not {array.dtype}.", field=field, hint=_SHAPE_HINT
        )
    return array


_SHAPE_HINT = "Give finite numbers: a list or array of the layout's shape."


def check_values(values: npt.ArrayLike, field: str, *, ndim: int) -> npt.NDArray[np.floating[Any]]:
    """Check dimension values and return a read-only copy, little-endian float32 or float64."""
    array = as_real(values, field)
    if array.ndim != ndim or 0 in array.shape:
        raise LayoutError(
            f"have shape {array.shape}, not {ndim}-D with at least one element.",
            field=field,
            hint="A number of steps is an int; values are a list or array.",
        )
    if len(array) > MAX_STEPS:
        raise LayoutError("are too many.", field=field, hint=f"At most {MAX_STEPS}.")
    kept = "<f4" if array.dtype.kind == "f" and array.dtype.itemsize == 4 else "<f8"
    clean: npt.NDArray[np.floating[Any]] = np.array(array, dtype=kept, order="C")
    if array.dtype.kind in "iu" and not _is_exact(clean, array):
        raise LayoutError(
            "are integers that float64 cannot hold exactly.",
            field=field,
            hint="Subtract an offset, such as the first time stamp, and keep it as an attribute.",
        )
    finite = np.isfinite(clean)
    if not finite.all():
        where = tuple(int(index) for index in np.argwhere(~finite)[0])
        raise LayoutError(
            f"value {where[0] if ndim == 1 else where} is {clean[where]}.",
            field=field,
            hint="Positions and axis values must be finite.",
        )
    clean.flags.writeable = False
    return clean


def _is_exact(floats: npt.NDArray[Any], integers: npt.NDArray[Any]) -> bool:
    with np.errstate(invalid="ignore"):  # 2**64 does not go back into uint64
        return np.array_equal(floats.astype(integers.dtype), integers)


def same_values(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    """Tell whether two arrays of values agree in type, shape and every value."""
    return one.dtype == other.dtype and np.array_equal(one, other)
