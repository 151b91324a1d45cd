"""What the daemon refuses and tells, read: errors as exceptions, coverage, the rows that were hit.

Pure functions between messages and what a caller is told; must never know states.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import wire
from ..errors import DeliveryError, UsidstreamError, error_for
from .coverage import Coverage
from .payload import Payload


def read_coverage(message: wire.Opened | wire.StatusReport) -> dict[str, Coverage]:
    """Read each main's coverage."""
    return {
        main: Coverage(
            wire.unpack_ranges(indices.get("complete"), message.frames, 2),
            wire.unpack_ranges(indices.get("partial"), message.frames, 4),
        )
        for main, indices in message.coverage.items()
    }


def to_exception(message: wire.Error) -> UsidstreamError:
    """Make the exception of an error message."""
    details = {**message.details, "retryable": message.retryable, "operation": message.operation}
    if message.scan:
        details["scan"] = message.scan
    return error_for(message.code, message.message, hint=message.hint, details=details)


def rows_hit(payload: Payload, ranges: Any) -> npt.NDArray[np.bool_]:
    """Tell which rows of a refused block its error names; all of them if it names none."""
    rows = payload.row_numbers()
    hit = np.zeros(len(rows), dtype=np.bool_)
    try:
        table = np.asarray(ranges, dtype=np.int64).reshape(-1, 4)
    except (TypeError, ValueError):
        return ~hit
    for start, stop in table[:, :2].tolist():
        hit |= (rows >= start) & (rows < stop)
    return hit if hit.any() else ~hit


def about_block(error: UsidstreamError, payload: Payload) -> UsidstreamError:
    """Return an error that names the block it is about."""
    return error_for(
        error.code,
        f"an earlier block was refused ({payload.describe()}): {error.message}",
        hint=error.hint,
        details=error.details | payload.address(),
    )


def forgotten(scan: str, before: int, after: int) -> DeliveryError:
    """Return the error about a daemon that lacks what it had acknowledged."""
    return DeliveryError(
        f"the daemon lacks what it had acknowledged as durable of scan {scan}:"
        f" it holds {after} positions, and had {before}",
        code="delivery_failed",
        hint="Check that it runs with the same data directory; then resume the scan by its id.",
    )
