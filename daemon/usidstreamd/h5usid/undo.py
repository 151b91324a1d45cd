"""All or nothing: a call that raises takes back what it had created.

Knows only which links of which groups are new. Nothing that existed before the call is ever
touched here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Created:
    """The links that a call has created so far, in order."""

    def __init__(self) -> None:
        self._links: list[tuple[Any, str]] = []

    def add(self, h5_group: Any, name: str) -> None:
        """Remember that ``h5_group[name]`` is about to be created by this call."""
        self._links.append((h5_group, name))

    def remove_all(self) -> None:
        """Unlink everything again, the newest first."""
        for h5_group, name in reversed(self._links):
            if name in h5_group:
                del h5_group[name]


@contextmanager
def all_or_nothing() -> Iterator[Created]:
    """Yield a list of what is created; whatever raises inside removes it from the file."""
    created = Created()
    try:
        yield created
    except BaseException:
        created.remove_all()
        raise
