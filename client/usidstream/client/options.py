"""What a client's parts agree on: the options, and how callers reach the I/O thread."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..delivery import RETAIN_LIMIT_BYTES, SPOOL_LIMIT_MB
from ..errors import UsidstreamError, error_for
from ..keys import ClientKeys


@dataclass(frozen=True)
class Options:
    """What the caller of `connect` chose."""

    timeout_s: float = 10.0
    write_timeout_s: float = 60.0
    retain_limit_bytes: int = RETAIN_LIMIT_BYTES
    linger_s: float = 0.02
    spool_dir: Path | None = None
    spool_limit_mb: float = SPOOL_LIMIT_MB
    keys: ClientKeys | None = None


class Waker(Protocol):
    """The I/O thread, as seen from a caller."""

    def posted(self) -> None:
        """There is something to send."""

    def heard(self) -> int:
        """Return how many messages have come from the daemon: a sign of life."""

    def trouble(self) -> str:
        """Return why there is no connection, empty while there is one."""


def fresh(error: UsidstreamError) -> UsidstreamError:
    """Return a copy to raise: one exception raised by many calls would gather their tracebacks."""
    copy = error_for(error.code, error.message, hint=error.hint, details=error.details)
    copy.__cause__ = error.__cause__
    return copy
