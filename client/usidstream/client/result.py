"""How a scan ended, as the daemon tells it."""

from __future__ import annotations

from dataclasses import dataclass, field

from .. import wire


@dataclass(frozen=True)
class ScanResult:
    """How a scan, or this client's part in it, ended.

    Parameters
    ----------
    scan_id
        32 hexadecimal digits.
    file
        Absolute path on the daemon's machine.
    status
        ``complete``, ``incomplete`` (finished with gaps), ``aborted``, ``interrupted``; or
        ``acquiring`` for a client that has left a scan that goes on.
    missing
        For each main that has any: half-open ranges (start, stop) of positions not complete.
    """

    scan_id: str
    file: str
    status: str
    missing: dict[str, list[tuple[int, int]]] = field(default_factory=dict)


def read_result(message: wire.Finished) -> ScanResult:
    """Read a finished or aborted message."""
    missing = {
        main: [(start, stop) for start, stop in wire.unpack_ranges(index, message.frames, 2)]
        for main, index in message.missing.items()
    }
    return ScanResult(message.scan, message.file, message.status, missing)
