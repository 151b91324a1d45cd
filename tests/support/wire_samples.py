"""One of each message with every field set, and strategies for any."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import hypothesis.strategies as st

from usidstream import wire

SCAN = "0123456789abcdef0123456789abcdef"

ALL = [*wire.CLIENT_MESSAGES.values(), *wire.DAEMON_MESSAGES.values()]
"""Every message class; `wire.StatusRequest` and `wire.StatusReport` share a type."""

_texts = st.text(max_size=8)
_plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)


def public_fields(message: type[wire.Message]) -> list[Any]:
    return [spec for spec in fields(message) if spec.name != "frames"]


def values_of(kind: wire.Kind) -> st.SearchStrategy[Any]:
    """Return what a field of this kind may hold."""
    if kind.python is str:
        values: st.SearchStrategy[Any] = _texts
    elif kind.python is int:
        values = st.integers(0, wire.MAX_INT)
    elif kind.python is bool:
        values = st.booleans()
    elif kind.python is float:
        values = st.floats(allow_nan=False)
    else:
        inner = values_of(kind.item) if kind.item is not None else _plain
        values = (
            st.lists(inner, max_size=3)
            if kind.python is list
            else st.dictionaries(_texts, inner, max_size=3)
        )
    return st.none() | values if kind.nullable else values


def messages_of(message: type[wire.Message]) -> st.SearchStrategy[wire.Message]:
    """Return valid messages of one class, with any frames."""
    given: dict[str, st.SearchStrategy[Any]] = {}
    for spec in public_fields(message):
        kind = wire.read_kind(spec.type)
        assert kind is not None
        given[spec.name] = st.just(SCAN) if spec.name == "scan" else values_of(kind)
    frames = st.lists(st.binary(max_size=8), max_size=3).map(tuple)
    return st.builds(message, frames=frames, **given)
