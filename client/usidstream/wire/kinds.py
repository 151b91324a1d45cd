"""What a field of a message may hold: its annotation, read as a msgpack kind.

The annotations that occur are ``str``, ``int``, ``bool``, ``float``, ``list[...]`` and
``dict[str, ...]`` of these, ``... | None``, and ``Any`` for plain data of limited depth. Strict
where a mistake could otherwise pass: a bool is no int, an int is neither negative nor over
2**63 - 1 and no float, and neither binary values nor extension types (which msgpack turns into time
stamps) are plain data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from .limits import MAX_INT, MAX_LAYOUT_DEPTH

_PLAIN = (str, bool, int, float, type(None))

_TYPES: Mapping[str, tuple[type, str]] = MappingProxyType(
    {
        "str": (str, "a string"),
        "int": (int, "an integer from 0 to 2**63 - 1"),
        "bool": (bool, "true or false"),
        "float": (float, "a floating-point number"),
        "dict": (dict, "a map"),
        "list": (list, "an array"),
    }
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What one field may hold.

    Parameters
    ----------
    python
        The exact type that msgpack must have made of it.
    words
        The same in words, for errors.
    item
        What a list's items or a map's values may hold; None for plain data of any kind.
    nullable
        nil is allowed too.
    """

    python: type
    words: str
    item: Kind | None = None
    nullable: bool = False

    def fits(self, value: Any) -> bool:
        """Tell whether ``value`` is of this kind, all the way down."""
        is_exact = type(value) is self.python
        if not is_exact:
            return value is None and self.nullable
        if self.python is int:
            return bool(0 <= value <= MAX_INT)
        if self.python in (str, bool, float):
            return True
        if self.item is None:
            return _is_plain(value, 0)
        if self.python is dict:
            return _has_text_keys(value) and all(map(self.item.fits, value.values()))
        return all(map(self.item.fits, value))


def read_kind(annotation: str) -> Kind | None:
    """Return the kind that an annotation names; None for ``Any``."""
    if annotation == "Any":
        return None
    nullable = annotation.endswith(" | None")
    base, _, inner = annotation.removesuffix(" | None").partition("[")
    python, words = _TYPES[base]
    item = read_kind(inner.removesuffix("]").removeprefix("str, ")) if inner else None
    return Kind(python, _in_words(words, item, nullable=nullable), item, nullable)


def _in_words(words: str, item: Kind | None, *, nullable: bool) -> str:
    if item is not None:
        words += f", each of it {item.words}"
    return words + (" or nil" if nullable else "")


def _has_text_keys(table: dict[Any, Any]) -> bool:
    return all(type(key) is str for key in table)


def _is_plain(value: Any, depth: int) -> bool:
    if type(value) in _PLAIN:
        return True
    if depth > MAX_LAYOUT_DEPTH:
        return False
    if type(value) is list:
        return all(_is_plain(member, depth + 1) for member in value)
    if type(value) is dict:
        return _has_text_keys(value) and all(
            _is_plain(member, depth + 1) for member in value.values()
        )
    return False
