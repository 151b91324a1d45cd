"""Checks that every part of a layout shares: names, texts, numbers, and keys of plain dicts.

Each check returns the clean value or raises a `LayoutError` that names the field. A part names its
fields as seen from itself (``values``); whoever holds the part puts its own place in front with
`at`, so that the caller reads ``mains[1].spectroscopic[0].values``.
"""

from __future__ import annotations

import difflib
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np

from ..errors import LayoutError

MAX_NAME_BYTES = 255
"""Longest name of a group, dataset or dimension, in UTF-8: what file systems and tools take."""


WHOLE = "layout"
"""The field of an error about a part as a whole; `at` puts the part's place instead."""


@contextmanager
def at(place: str) -> Iterator[None]:
    """Put ``place`` before the field of a `LayoutError` raised inside."""
    try:
        yield
    except LayoutError as error:
        message = error.message.removeprefix(f"{error.field}: ")
        field = place if error.field == WHOLE else f"{place}.{error.field}"
        raise LayoutError(message, field=field, hint=error.hint, code=error.code) from error


def nearest(word: object, valid: Iterable[str]) -> str:
    """Return a hint that names the most similar valid word, or all of them."""
    choices = list(valid)
    close = difflib.get_close_matches(str(word), choices, n=1, cutoff=0.5)
    return f"Did you mean '{close[0]}'?" if close else "Valid: " + ", ".join(choices) + "."


def kind_of(value: object) -> str:
    """Name a value's type for a message."""
    return type(value).__name__


def check_keys(
    table: object, *, required: Iterable[str], optional: Iterable[str] = (), reserved: Iterable[str]
) -> Mapping[str, Any]:
    """Check that a value is a dict with known keys, and return it.

    ``reserved`` keys have a meaning in a later version: they are refused as unsupported.
    """
    if not isinstance(table, Mapping):
        raise LayoutError(
            f"must be a table of keys (dict), not {kind_of(table)}.",
            field=WHOLE,
            hint="Give a dict.",
        )
    needed = tuple(required)
    valid = (*needed, *optional)
    for key in table:
        if key in reserved:
            refuse_reserved(str(key))
        if key not in valid:
            raise LayoutError("unknown key.", field=str(key), hint=nearest(key, valid))
    for key in needed:
        if key not in table:
            raise LayoutError("is missing.", field=key, hint=f"Add '{key}'.")
    return table


def refuse_reserved(key: str) -> NoReturn:
    """Refuse a key that a later version will understand."""
    raise LayoutError(
        "is reserved and not supported yet.",
        field=key,
        hint=f"Leave '{key}' out.",
        code="unsupported_feature",
    )


def check_text(value: object, field: str, *, empty: bool, code: str = "bad_layout") -> str:
    """Check a text that HDF5 can hold: a str of valid UTF-8 without NUL."""
    if not isinstance(value, str):
        raise LayoutError(
            f"must be text, not {kind_of(value)}.", field=field, hint="Give a str.", code=code
        )
    if not value and not empty:
        raise LayoutError("is empty.", field=field, hint="Give at least one character.", code=code)
    if "\0" in value:
        raise LayoutError(
            "contains NUL, which HDF5 text cannot hold.", field=field, hint="Remove it.", code=code
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise LayoutError(
            "is not valid Unicode text.", field=field, hint="Remove lone surrogates.", code=code
        ) from None
    return value


def check_label(value: object, field: str) -> str:
    """Check a dimension's name: any text of 1 to 255 bytes."""
    text = check_text(value, field, empty=False, code="bad_name")
    if len(text.encode("utf-8")) > MAX_NAME_BYTES:
        raise LayoutError(
            f"is longer than {MAX_NAME_BYTES} bytes.",
            field=field,
            hint="Shorten it.",
            code="bad_name",
        )
    return text


def check_name(value: object, field: str) -> str:
    """Check the name of a group or dataset.

    ``-`` is refused because ``<dataset>-<Tool>_000`` is how h5USID names groups of results.
    """
    text = check_label(value, field)
    if text in {".", ".."}:
        raise LayoutError(
            f"'{text}' is a path, not a name.", field=field, hint="Rename it.", code="bad_name"
        )
    if text != text.strip():  # it would be stored without them
        raise LayoutError(
            f"{text!r} has blanks around it.", field=field, hint="Remove them.", code="bad_name"
        )
    for character in text:
        if character in "/-" or unicodedata.category(character) == "Cc":
            raise LayoutError(
                f"contains {character!r}, which a name must not.",
                field=field,
                hint="Use '_' instead.",
                code="bad_name",
            )
    return text


def check_choice(value: object, field: str, valid: tuple[str, ...]) -> str:
    """Check that a value is one of a few words."""
    if not isinstance(value, str) or value not in valid:
        raise LayoutError(f"{value!r} is not known.", field=field, hint=nearest(value, valid))
    return value


def check_unique(names: Iterable[str], field: str) -> None:
    """Check that no name comes twice; ``field`` has a ``{}`` for the index of the second."""
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            raise LayoutError(
                f"'{name}' is there already.",
                field=field.format(index),
                hint="Give each its own name.",
            )
        seen.add(name)


def check_integer(value: object, field: str, *, largest: int) -> int:
    """Check a count: an integer (not a bool) from 1 to ``largest``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise LayoutError(
            f"must be an integer, not {kind_of(value)}.", field=field, hint="Give a whole number."
        )
    if not 1 <= value <= largest:
        raise LayoutError(f"{value} is out of range.", field=field, hint=f"Give 1 to {largest}.")
    return int(value)


def check_number(value: object, field: str) -> float:
    """Check a finite real number."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise LayoutError(
            f"must be a number, not {kind_of(value)}.", field=field, hint="Give a number."
        )
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise LayoutError("is not finite.", field=field, hint="Give a finite number.")
    return number
