"""When an operation on the disk takes too long: from what each thread is at and the clock. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Key: TypeAlias = tuple[str, str]
"""A scan's id, empty for the daemon itself, and which of its threads."""
Doing: TypeAlias = tuple[str, float]
"""What a thread is at, and since when."""


@dataclass(frozen=True, slots=True)
class Hanging:
    """An operation takes too long."""

    key: Key
    operation: str
    since_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Returned:
    """An operation that was told of is over, after so long."""

    key: Key
    operation: str
    seconds: float


class Operations:
    """The operations that were told of, each once."""

    def __init__(self) -> None:
        self._hanging: dict[Key, Doing] = {}

    def see(
        self, now: float, doing: Mapping[Key, Doing | None], limit_s: float
    ) -> Iterator[Hanging | Returned]:
        """Take what every thread is at, None for those that wait for work; yield what has changed.

        The end of an operation is known as exactly as this is called often.
        """
        for key, (operation, since_s) in list(self._hanging.items()):
            if doing.get(key) != (operation, since_s):
                del self._hanging[key]
                yield Returned(key, operation, now - since_s)
        for key, at in doing.items():
            if at is None or key in self._hanging or now - at[1] < limit_s:
                continue
            self._hanging[key] = at
            yield Hanging(key, at[0], at[1], now - at[1])

    def hanging_of(self, scan_id: str) -> list[str]:
        """Return which operations of a scan hang."""
        return [operation for (scan, _), (operation, _) in self._hanging.items() if scan == scan_id]
