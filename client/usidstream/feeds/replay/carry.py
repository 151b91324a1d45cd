"""Carries attributes from a file into a layout; what cannot go is noted, not dropped in silence."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from ...errors import LayoutError
from ...layout import AttributeValue, check_attrs

STRUCTURAL = frozenset(
    {
        "quantity", "units",
        "Position_Indices", "Position_Values", "Spectroscopic_Indices", "Spectroscopic_Values",
        "DIMENSION_LIST", "DIMENSION_LABELS", "REFERENCE_LIST", "CLASS", "NAME",
    }
)  # fmt: skip
"""Attributes that the layout itself expresses."""

BOOK_KEEPING = frozenset(
    {
        "machine_id", "timestamp", "platform", "acquisition_status", "acquisition_start",
        "acquisition_end", "scan_id", "positions_complete", "recoveries", "labels", "type",
        "quantity", "units",
    }
)  # fmt: skip
"""Attributes that tell about the writing of a file, and that the new file has of its own."""


class Luggage:
    """Attributes on their way, and notes on what stays behind.

    A name is kept where it is free. Book-keeping, and a name that is taken, becomes
    ``source_<name>`` or else ``source_<place>_<name>``.
    """

    def __init__(self, notes: list[str]) -> None:
        self.attrs: dict[str, AttributeValue] = {}
        self._notes = notes

    def take(
        self, holder: Any, place: str = "", *, prefix: str = "", skip: Collection[str] = ()
    ) -> None:
        """Take the attributes of an HDF5 object; ``place`` tells it apart where names clash."""
        for name in holder.attrs:
            if name not in skip:
                self._take_one(holder, name, place, prefix)

    def put(self, name: str, value: Any, *, place: str = "", origin: str = "") -> None:
        """Take a value under its name, or one that is free."""
        try:
            kept = check_attrs({name.replace("/", "_"): plain_value(value)})
        except (LayoutError, UnicodeError) as error:
            self._notes.append(f"attribute {origin or name} is not carried: {error}")
            return
        for clean, checked in kept.items():
            self.attrs[self._free_name(clean, place)] = checked

    def _take_one(self, holder: Any, name: str, place: str, prefix: str) -> None:
        origin = f"{holder.name}@{name}"
        try:
            value = holder.attrs[name]
        except (OSError, TypeError, ValueError, KeyError, UnicodeError) as error:
            # h5py has no numpy type for it, or cannot decode it.
            self._notes.append(f"attribute {origin} is not carried: {error}")
            return
        self.put(prefix + name, value, place=place, origin=origin)

    def _free_name(self, name: str, place: str) -> str:
        choices = [name, f"source_{name}", f"source_{place}_{name}"]
        if name in BOOK_KEEPING or name.endswith("_version"):
            choices.pop(0)
        choices += [f"{choices[-1]}_{number}" for number in range(2, len(self.attrs) + 3)]
        return next(choice for choice in choices if choice not in self.attrs)


def plain_value(value: Any) -> Any:
    """Return an attribute's value as h5py reads it in the form that a layout takes.

    Bytes become text; what has no such form is returned as it is, for the layout to refuse.
    """
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, np.ndarray) and value.dtype.kind in "SUO":
        listed = value.tolist()
        if isinstance(listed, list):
            return [plain_value(each) for each in listed]
        return plain_value(listed)
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return value[()]
    return value


def text_of(holder: Any, name: str) -> str:
    """Return an attribute as text; empty if there is none or it is something else."""
    value = plain_value(holder.attrs.get(name, ""))
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) else ""


def texts_of(holder: Any, name: str) -> list[str]:
    """Return an attribute as a list of texts; empty if there is none or it is something else."""
    value = plain_value(holder.attrs.get(name, []))
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return []
    return texts
