"""A message's attributes, checked against what a file can hold and what is the daemon's own."""

from __future__ import annotations

from typing import Any

from usidstream import wire
from usidstream.layout import check_attrs

from .. import storage


def read_attrs(message: wire.Annotate | wire.Finish) -> dict[str, Any]:
    """Return a message's attributes, checked.

    Raises
    ------
    LayoutError
        ``bad_attribute``: a name is the daemon's own, or a value cannot be stored.
    """
    attrs = check_attrs(wire.unpack_layout(message.attrs, message.frames))
    storage.refuse_reserved(attrs)
    return dict(attrs)


def read_reason(message: wire.Abort) -> str:
    """Return why a scan is aborted, checked: it becomes an attribute.

    Raises
    ------
    LayoutError
        ``bad_attribute``: the text cannot be stored.
    """
    check_attrs({"reason": message.reason})
    return message.reason
