"""The error of a file that cannot be replayed."""

from __future__ import annotations

from ...errors import UsidstreamError


class SourceError(UsidstreamError, ValueError):
    """A file cannot be replayed; tells why, and what to do."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message, code="bad_source", hint=hint)
