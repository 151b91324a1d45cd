"""Messages to peers, made of what the session and the server know."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any

from usidstream import wire
from usidstream.errors import UsidstreamError

from .events import (
    AbortRequested,
    AckRequested,
    AnnotationArrived,
    BlockArrived,
    Coverage,
    CoverageRequested,
    FinishRequested,
    JoinRequested,
    LeaveRequested,
    OpenRequested,
    RangeTable,
    Request,
)
from .peers import Facts

OPERATIONS: Mapping[type[Request], str] = MappingProxyType(
    {
        OpenRequested: "open",
        JoinRequested: "join",
        LeaveRequested: "leave",
        BlockArrived: "block",
        AnnotationArrived: "annotate",
        FinishRequested: "finish",
        AbortRequested: "abort",
        AckRequested: "ping",
        CoverageRequested: "status",
    }
)
"""The message types that requests came in."""


MAX_ERROR_TEXT_CHARS = 2048
"""Longest text in an error: what a peer sent may be part of it, and the answer has to fit."""

MAX_ERROR_ITEMS_COUNT = 1024
"""Most items of a list or map among an error's details."""


def error_message(
    error: UsidstreamError, operation: str, scan: str = "", seq: int = 0
) -> wire.Error:
    """Turn an exception into the message that tells a peer of it."""
    return wire.Error(
        code=error.code,
        message=error.message[:MAX_ERROR_TEXT_CHARS],
        hint=error.hint[:MAX_ERROR_TEXT_CHARS],
        retryable=error.retryable,
        operation=operation,
        scan=scan,
        seq=seq,
        details=_shortened(error.details),
    )


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return value[:MAX_ERROR_TEXT_CHARS]
    if isinstance(value, Mapping):
        members = islice(value.items(), MAX_ERROR_ITEMS_COUNT)
        return {key[:MAX_ERROR_TEXT_CHARS]: _shortened(member) for key, member in members}
    if isinstance(value, list | tuple):
        return [_shortened(member) for member in value[:MAX_ERROR_ITEMS_COUNT]]
    return value


def refusal_message(request: Request, error: UsidstreamError, scan: str) -> wire.Error:
    """Tell a peer that what it asked for cannot be."""
    seq = 0
    if isinstance(request, BlockArrived):
        seq = request.block.seq
    elif isinstance(request, AnnotationArrived):
        seq = request.annotation.seq
    return error_message(error, OPERATIONS[type(request)], scan, seq)


def ack_message(scan: str, facts: Facts) -> wire.Ack:
    """Tell how far a peer's blocks have come, and what it may send."""
    received, durable, credit, positions = facts
    return wire.Ack(
        scan=scan, received=received, durable=durable, credit=credit, positions=positions
    )


def opened_message(
    header: Mapping[str, Any], coverage: Coverage, layout: dict[str, Any] | None
) -> wire.Opened:
    """Answer open, or, with the scan's ``layout`` in its plain form, join."""
    frames: list[wire.Frame] = []
    packed = wire.pack_layout(layout, frames) if layout is not None else {}
    return wire.Opened(
        **header,
        role="opener" if layout is None else "joiner",
        coverage=pack_coverage(coverage, frames),
        layout=packed,
        frames=frames,
    )


def coverage_report(scan: dict[str, Any], coverage: Coverage) -> wire.StatusReport:
    """Answer a status request about one scan with its coverage."""
    frames: list[wire.Frame] = []
    packed = pack_coverage(coverage, frames)
    return wire.StatusReport(daemon={}, scans=[scan], coverage=packed, frames=frames)


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
