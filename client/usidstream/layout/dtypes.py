"""Element types of a main: numbers of fixed size or a flat compound, little-endian and packed."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import LayoutError
from .fields import check_label, check_unique

MAX_COMPOUND_FIELDS = 256
"""Fields of a compound: keeps the type's description well below HDF5's 64 KiB for a message."""

_KINDS = "Use an integer, float16 to float64, complex64, complex128, or a flat compound of those."

PlainDtype = str | list[list[str]]
"""A type's name, or the ``[name, type]`` pairs of a compound."""


def check_dtype(dtype: object, field: str = "dtype") -> np.dtype[Any]:
    """Return the little-endian, packed numpy type for a name, a numpy type or compound pairs.

    Raises
    ------
    LayoutError
        The type is not fixed-size numeric, or a compound is not flat.
    """
    given = _parse(dtype, field)
    if given.names is None:
        return _check_number(given, field)
    if not 1 <= len(given.names) <= MAX_COMPOUND_FIELDS:
        raise LayoutError(
            f"has {len(given.names)} fields.",
            field=field,
            hint=f"A compound has 1 to {MAX_COMPOUND_FIELDS}.",
        )
    return np.dtype(
        [
            (check_label(name, f"{field}[{i}]"), _check_number(given[name], f"{field}[{i}]"))
            for i, name in enumerate(given.names)
        ]
    )


def plain_dtype(dtype: np.dtype[Any]) -> PlainDtype:
    """Return a checked type in the form that msgpack and TOML hold."""
    if dtype.names is None:
        return dtype.name
    return [[name, dtype[name].name] for name in dtype.names]


def _parse(dtype: object, field: str) -> np.dtype[Any]:
    if dtype is None:
        raise LayoutError("is missing.", field=field, hint=_KINDS)
    if isinstance(dtype, list | tuple):
        return _parse_pairs(list(dtype), field)
    try:
        return np.dtype(dtype)  # type: ignore[call-overload,no-any-return]  # any user's value
    except (TypeError, ValueError, SyntaxError) as error:
        raise LayoutError(f"{dtype!r} is no numpy type.", field=field, hint=_KINDS) from error


def _parse_pairs(pairs: list[Any], field: str) -> np.dtype[Any]:
    fields = []
    for i, pair in enumerate(pairs):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise LayoutError(
                "a compound's field must be [name, type].", field=f"{field}[{i}]", hint=_KINDS
            )
        name = check_label(pair[0], f"{field}[{i}]")
        fields.append((name, _check_number(_parse(pair[1], f"{field}[{i}]"), f"{field}[{i}]")))
    check_unique((name for name, _ in fields), field + "[{}]")
    return np.dtype(fields)


def _check_number(dtype: np.dtype[Any], field: str) -> np.dtype[Any]:
    largest = 16 if dtype.kind == "c" else 8
    if dtype.kind not in "iufc" or dtype.itemsize > largest:
        raise LayoutError(f"{dtype} is not supported.", field=field, hint=_KINDS)
    return dtype.newbyteorder("<")
