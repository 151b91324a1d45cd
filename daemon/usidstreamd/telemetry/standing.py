"""How a scan stands, in an operator's numbers: what status and telemetry both tell.

Rates need two looks: the first is at the scan's opening, so that there is one for whoever looks
first. Runs in the socket thread, which owns what is looked at.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from usidstream import wire
from usidstream.layout import ScanLayout

from ..pipeline import Measures
from ..rates import Rate
from ..session import Session, State
from ..storage import FinishedResult

RATE_WINDOW_S = 5.0
LEFT_WINDOW_S = 60.0


class Watchable(Protocol):
    """What is looked at: a scan of the daemon."""

    scan_id: str
    session: Session
    recoveries: int
    opened_s: float
    opening: Measures | None
    result: FinishedResult | None

    def measure(self) -> Measures | None:
        """Tell how far it has come, None before its file is open."""


class Standing:
    """One open scan's numbers.

    Parameters
    ----------
    scan
        The scan.
    """

    def __init__(self, scan: Watchable) -> None:
        self._scan = scan
        self._measures: Measures | None = None
        self._rates: tuple[Rate, Rate, Rate] | None = None

    def see(self, now: float) -> None:
        """Look at the scan."""
        self._measures = measures = self._scan.measure()
        opening = self._scan.opening
        if measures is None or opening is None:
            return
        if self._rates is None:
            began = self._scan.opened_s
            self._rates = (
                Rate(RATE_WINDOW_S, began, opening.positions),
                Rate(RATE_WINDOW_S, began, opening.received_bytes),
                Rate(LEFT_WINDOW_S, began, opening.received_bytes),
            )
        positions, received, lately = self._rates
        positions.see(now, measures.positions)
        received.see(now, measures.received_bytes)
        lately.see(now, measures.received_bytes)

    def numbers(self, now: float) -> dict[str, Any]:
        """Return what was seen last as plain values, the keys being those of `wire.Progress`."""
        session, measures = self._scan.session, self._measures
        received = session.positions if measures is None else measures.positions
        nbytes = 0 if measures is None else measures.received_bytes
        rates = self._rates
        return {
            "positions_received": received,
            "missing": {} if measures is None else dict(measures.gaps),
            "rate_per_s": 0.0 if rates is None else rates[0].per_s,
            "bytes_per_s": 0.0 if rates is None else rates[1].per_s,
            "left_s": self._left_s(received, nbytes),
            "lag_s": session.lag_s(now),
            "lag_rows": max(0, received - session.positions),
            "recoveries": self._scan.recoveries,
            "received_bytes": nbytes,
            "total_bytes": session.layout.nbytes,
        }

    def progress(self, now: float) -> wire.Progress:
        """Return what was seen last as a message."""
        session = self._scan.session
        told = session.describe()
        return wire.Progress(
            scan=session.scan_id,
            time_s=time.time(),
            positions_durable=told["positions"],
            **{key: told[key] for key in _TOLD_ALIKE},
            **self.numbers(now),
        )

    def _left_s(self, received: int, nbytes: int) -> float | None:
        """Go by bytes: those of a stack come steadily, its positions all with the last image."""
        layout = self._scan.session.layout
        per_s = 0.0 if self._rates is None else self._rates[2].per_s
        if received == layout.n_positions:
            return 0.0
        return (layout.nbytes - nbytes) / per_s if per_s > 0.0 else None


_TOLD_ALIKE = (
    "name",
    "file",
    "state",
    "n_positions",
    "mains",
    "clients",
    "blocks_refused",
    "failure",
    "shortage",
)


def opened(scan: Watchable, layout: ScanLayout, *, resumed: bool) -> wire.ScanOpened:
    """Return the news that a scan is open."""
    return wire.ScanOpened(
        scan=scan.scan_id,
        time_s=time.time(),
        name=layout.name,
        file=scan.session.file,
        n_positions=layout.n_positions,
        mains=[main.name for main in layout.mains],
        resumed=resumed,
    )


def closed(scan: Watchable) -> wire.ScanClosed:
    """Return the news that the daemon has let go of a scan."""
    session = scan.session
    has_ended = session.state is State.ENDED and scan.result is not None
    missing = scan.result.missing if has_ended and scan.result is not None else {}
    frames: list[wire.Frame] = []
    return wire.ScanClosed(
        scan=scan.scan_id,
        time_s=time.time(),
        name=session.layout.name,
        file=session.file,
        state=session.state.value,
        status=scan.result.status if has_ended and scan.result is not None else "",
        failure=str(session.failure) if session.failure else "",
        n_positions=session.layout.n_positions,
        positions_durable=session.positions,
        missing=_counts(missing),
        ranges={
            name: wire.pack_ranges(_as_table(ranges)[: wire.MAX_TOLD_RANGES_COUNT], frames)
            for name, ranges in missing.items()
        },
        frames=frames,
    )


def _counts(missing: Mapping[str, Any]) -> dict[str, int]:
    counts = {}
    for name, ranges in missing.items():
        table = _as_table(ranges)
        counts[name] = int((table[:, 1] - table[:, 0]).sum())
    return counts


def _as_table(ranges: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(ranges, np.int64).reshape(-1, 2)
