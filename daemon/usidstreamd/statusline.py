"""The daemon's standing in one line, for whoever shows no more than one. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

GIB = 1 << 30
RECOVERING = "recovering"
"""A scan that is being opened and was open before."""


@dataclass(frozen=True, slots=True)
class ScanStanding:
    """Where one scan stands.

    Parameters
    ----------
    state
        Of its session, or `RECOVERING`.
    recovered, recovery_total
        Chunks that its recovery has looked at or rebuilt, and of how many; 0 of 0 where no
        recovery runs, or it has not counted them yet.
    """

    state: str
    recovered: int = 0
    recovery_total: int = 0


def standing_line(
    scans: Sequence[ScanStanding], n_waiting: int, disk_free_bytes: int, shortage: str
) -> str:
    """Say how many scans are in which state, how far recoveries are, and whether there is room."""
    parts = [_scans_in_words(scans), *_recoveries_in_words(scans)]
    if n_waiting:
        parts.append(f"{n_waiting} waiting")
    parts.append(shortage or f"{disk_free_bytes / GIB:.1f} GiB free")
    return "; ".join(parts)


def _scans_in_words(scans: Sequence[ScanStanding]) -> str:
    counts = Counter(scan.state for scan in scans)
    by_state = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    return f"{len(scans)} scans open" + (f" ({by_state})" if by_state else "")


def _recoveries_in_words(scans: Iterable[ScanStanding]) -> Iterable[str]:
    totals = [scan for scan in scans if scan.recovery_total]
    if totals:
        done = sum(scan.recovered for scan in totals)
        total = sum(scan.recovery_total for scan in totals)
        yield f"{done} of {total} chunks recovered"
