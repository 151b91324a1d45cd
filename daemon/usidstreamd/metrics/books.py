"""What all scans since the daemon's start have counted, whether they are still open or not.

A counter must never fall, so a scan's counts must not be missed, nor told twice, in the moment in
which it is let go. The open scans and the sums of all others are therefore one value that is
replaced as a whole; whoever reads it, in whatever thread, adds the two up. Written by the socket
thread only.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ..scan import Scan
from ..session import State


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts of one scan or of many; those of a scan are since it was opened here.

    Parameters
    ----------
    positions
        Made durable in every main.
    received_bytes, written_bytes
        Raw, and compressed into files.
    encoded_bytes, encode_s
        Raw bytes given to codecs, and their time.
    blocks_refused
        With annotations.
    recoveries
        By how the file was put right.
    ended
        By how a scan ended.
    """

    positions: int = 0
    received_bytes: int = 0
    written_bytes: int = 0
    encoded_bytes: int = 0
    encode_s: float = 0.0
    blocks_refused: int = 0
    recoveries: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.positions + other.positions,
            self.received_bytes + other.received_bytes,
            self.written_bytes + other.written_bytes,
            self.encoded_bytes + other.encoded_bytes,
            self.encode_s + other.encode_s,
            self.blocks_refused + other.blocks_refused,
            self.recoveries + other.recoveries,
            self.ended + other.ended,
        )


class Books:
    """The scans of a daemon and the sums of those that it has let go.

    Attributes
    ----------
    page
        The open scans, and the sums of all others.
    """

    def __init__(self) -> None:
        self.page: tuple[tuple[Scan, ...], Totals] = ((), Totals())

    def add(self, scan: Scan) -> None:
        """Count a scan from now on."""
        scans, past = self.page
        self.page = ((*scans, scan), past)

    def let_go(self, scan: Scan) -> None:
        """Keep what a scan has counted that is over."""
        scans, past = self.page
        total = past + totals_of(scan) + Totals(ended=Counter([_ending(scan)]))
        self.page = (tuple(other for other in scans if other is not scan), total)

    def read(self) -> tuple[tuple[Scan, ...], Totals]:
        """Return the open scans and the sums of all, from any thread."""
        scans, total = self.page
        for scan in scans:
            total += totals_of(scan)
        return scans, total


def totals_of(scan: Scan) -> Totals:
    """Return what a scan has counted since it was opened here, from any thread."""
    flow, opening = scan.flow(), scan.opening
    if opening is None:  # what it held before is not known yet, and it has taken nothing
        return Totals()
    return Totals(
        positions=max(0, scan.session.positions - opening.positions),
        received_bytes=max(0, flow.held_bytes - opening.received_bytes),
        written_bytes=flow.written_bytes,
        encoded_bytes=flow.encoded_bytes,
        encode_s=flow.encode_s,
        blocks_refused=scan.session.blocks_refused,
        recoveries=Counter([] if scan.recovery is None else [scan.recovery.how]),
    )


RECOVERED = ("in place", "rebuilt")
"""What a recovery that had anything to do has done."""


def _ending(scan: Scan) -> str:
    is_ended = scan.session.state is State.ENDED and scan.result is not None
    return scan.result.status if is_ended and scan.result is not None else scan.session.state.value
