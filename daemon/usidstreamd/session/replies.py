"""Messages to peers that more than one part of the daemon sends."""

from __future__ import annotations

from collections.abc import Mapping

from usidstream import wire
from usidstream.errors import UsidstreamError

from .events import Coverage, RangeTable


def error_message(
    error: UsidstreamError, operation: str, scan: str = "", seq: int = 0
) -> wire.Error:
    """Turn an exception into the message that tells a peer of it."""
    return wire.Error(
        code=error.code,
        message=error.message,
        hint=error.hint,
        retryable=error.retryable,
        operation=operation,
        scan=scan,
        seq=seq,
        details=error.details,
    )


def result_message(
    scan: str, file: str, status: str, missing: Mapping[str, RangeTable]
) -> wire.Finished:
    """Tell a scan's end: ``aborted`` where it was aborted, else ``finished``."""
    frames: list[wire.Frame] = []
    kind = wire.Aborted if status == "aborted" else wire.Finished
    return kind(
        scan=scan,
        file=file,
        status=status,
        missing={main: wire.pack_ranges(table, frames) for main, table in missing.items()},
        frames=frames,
    )


def pack_coverage(coverage: Coverage, frames: list[wire.Frame]) -> dict[str, dict[str, int]]:
    """Append each main's ranges as frames; return their indices."""
    return {
        main: {
            "complete": wire.pack_ranges(held.complete, frames),
            "partial": wire.pack_ranges(held.partial, frames),
        }
        for main, held in coverage.items()
    }
