"""Attributes: the free metadata of a scan or a main, in the kinds that HDF5 and msgpack both hold.

A checked attribute is a str, bool, int of 64 bits, float, list of str, or a read-only 1-D numeric
array; lists of numbers become arrays, so that each value has one form only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import LayoutError
from .fields import MAX_NAME_BYTES, check_text, kind_of

MAX_ATTRS_COUNT = 4096
"""Attributes of one object: each is made by itself in the file, for which others wait."""
MAX_ATTRS_BYTES = 512 * 1024
"""All attributes of a scan together: with the layout they travel in one message frame of 1 MiB."""

AttributeValue = str | bool | int | float | list[str] | npt.NDArray[Any]

_KINDS = "Use str, int, float, bool, a list of one kind of these, or a 1-D numeric array."


def check_attrs(attrs: object, field: str = "attrs") -> dict[str, AttributeValue]:
    """Check attributes and bring them in their one form.

    Parameters
    ----------
    attrs
        A mapping of names to values; numpy scalars become Python's.
    field
        What a `LayoutError` calls the mapping.

    Raises
    ------
    LayoutError
        With code ``bad_attribute``, naming the attribute.
    """
    if not isinstance(attrs, Mapping):
        raise LayoutError(
            f"must be a dict, not {kind_of(attrs)}.", field=field, hint="Give name = value pairs."
        )
    if len(attrs) > MAX_ATTRS_COUNT:
        raise _bad(
            f"are {len(attrs)}, more than {MAX_ATTRS_COUNT}.", field, "Gather some in one array."
        )
    checked = {}
    for key, value in attrs.items():
        name = _check_name(key, field)
        checked[name] = check_value(value, f"{field}.{name}")
    if attrs_nbytes(checked) > MAX_ATTRS_BYTES:
        raise _bad(
            f"hold more than {MAX_ATTRS_BYTES} bytes.", field, "Store large arrays as a main."
        )
    return checked


def _check_name(key: object, field: str) -> str:
    name = check_text(key, field, empty=False, code="bad_attribute")
    if "/" in name:
        raise _bad(f"the name {name[:60]!r} contains '/'.", field, "Rename the attribute.")
    if name != name.strip():  # it would be stored without them, under what may be another's name
        raise _bad(f"the name {name[:60]!r} has blanks around it.", field, "Remove them.")
    if len(name.encode("utf-8")) > MAX_NAME_BYTES:
        raise _bad(
            f"the name {name[:60]!r}... is longer than {MAX_NAME_BYTES} bytes.",
            field,
            "Shorten it.",
        )
    return name


def check_value(value: object, field: str) -> AttributeValue:
    """Check one attribute's value; see `check_attrs`."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return check_text(value, field, empty=True, code="bad_attribute")
    if isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return _check_int(value, field)
    if isinstance(value, list | tuple):
        return _check_list(list(value), field)
    if isinstance(value, np.ndarray):
        return _check_array(value, field)
    raise _bad(f"{kind_of(value)} cannot be stored.", field, _KINDS)


def _check_int(value: int, field: str) -> int:
    if not -(2**63) <= value < 2**64:
        raise _bad("does not fit 64 bits.", field, "Give it as float or text.")
    return value


def _check_list(values: list[Any], field: str) -> AttributeValue:
    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    kinds = {type(value) for value in values}
    if kinds == {str}:
        return [
            check_text(value, f"{field}[{index}]", empty=True, code="bad_attribute")
            for index, value in enumerate(values)
        ]
    if not (kinds <= {int, float} or kinds == {bool}):
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise _bad(f"a list of {names} cannot be stored.", field, _KINDS)
    if any(not -(2**63) <= value < 2**63 for value in values if isinstance(value, int)):
        raise _bad("a list's integers must fit int64.", field, "Give a uint64 array.")
    return _check_array(np.asarray(values, dtype=None if values else np.float64), field)


def _check_array(values: npt.NDArray[Any], field: str) -> npt.NDArray[Any]:
    if values.ndim != 1 or values.dtype.kind not in "biufc" or values.dtype.itemsize > 16:
        raise _bad(
            f"an array {values.dtype} of shape {values.shape} cannot be stored.", field, _KINDS
        )
    if values.dtype.kind == "f" and values.dtype.itemsize > 8:
        raise _bad("extended precision is not portable.", field, "Convert it to float64.")
    array = np.array(values, dtype=values.dtype.newbyteorder("<"), order="C")
    array.flags.writeable = False
    return array


def _bad(message: str, field: str, hint: str) -> LayoutError:
    return LayoutError(message, field=field, hint=hint, code="bad_attribute")


def attrs_nbytes(attrs: Mapping[str, AttributeValue]) -> int:
    """Count the bytes of names and values of checked attributes."""
    return sum(len(name.encode("utf-8")) + _value_nbytes(value) for name, value in attrs.items())


def _value_nbytes(value: AttributeValue) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8"))
    if isinstance(value, list):
        return sum(len(text.encode("utf-8")) for text in value)
    return value.nbytes if isinstance(value, np.ndarray) else 8


def same_attrs(one: Mapping[str, AttributeValue], other: Mapping[str, AttributeValue]) -> bool:
    """Tell whether checked attributes agree: same names, kinds and values; NaN equals NaN."""
    return one.keys() == other.keys() and all(
        _same_value(value, other[name]) for name, value in one.items()
    )


def _same_value(one: AttributeValue, other: AttributeValue) -> bool:
    first, second = np.asarray(one), np.asarray(other)
    if first.dtype.kind != second.dtype.kind:
        return False
    return np.array_equal(first, second, equal_nan=first.dtype.kind in "fc")
