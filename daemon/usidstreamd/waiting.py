"""The scans that stand on the disk until a client opens them again, or until their time has come.

A scan is left when no client has taken part in it for ``resume_timeout_s``, counted also while no
daemon runs. Its clients had no chance to come then, so it waits at least `GRACE_S` (or that
time-out, if it is shorter) from the moment at which this daemon found it. The same holds for a scan
that this daemon had to let go of, so that one whose file cannot be recovered is tried again each
hour and no oftener. Scans that are interrupted wait for ever. Of each only the journal is looked
at; no file is opened, however many there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from usidstream.errors import UsidstreamError

from .logs import get_logger
from .storage import LEDGER_NAME, OpenRecord, contact_age_s, is_interrupted

log = get_logger()

GRACE_S = 3600.0


@dataclass(frozen=True, slots=True)
class WaitingScan:
    """A scan that waits.

    Parameters
    ----------
    record
        As it was opened.
    last_contact_s
        When a client took part in it last, on the monotonic clock, or later; see the module.
    is_interrupted
        Whether it is closed as interrupted.
    """

    record: OpenRecord
    last_contact_s: float
    is_interrupted: bool


class WaitingScans:
    """The scans of a data directory that are not open, by their ids.

    Parameters
    ----------
    resume_timeout_s
        How long clients may stay away.

    Attributes
    ----------
    timeout_s
        May change at any time; scans that wait already get no new grace by that.
    """

    def __init__(self, resume_timeout_s: float) -> None:
        self.timeout_s = resume_timeout_s
        self._scans: dict[str, WaitingScan] = {}

    def __len__(self) -> int:
        return len(self._scans)

    def __contains__(self, scan_id: str) -> bool:
        return scan_id in self._scans

    def add_found(self, record: OpenRecord, now: float) -> None:
        """Let a scan wait that an earlier daemon left."""
        try:
            contact_s = now - contact_age_s(record.journal)
            is_done = is_interrupted(record.journal / LEDGER_NAME)
        except UsidstreamError:
            # Its recovery will tell whoever opens it; here it must not hide the others.
            log.exception("journal_unreadable", scan=record.scan_id, file=str(record.path))
            contact_s, is_done = now, False
        self.add(record, contact_s, now, is_interrupted=is_done)

    def add(
        self, record: OpenRecord, last_contact_s: float | None, now: float, *, is_interrupted: bool
    ) -> None:
        """Let a scan wait; one without a last contact is as good as new."""
        earliest_s = now - self.timeout_s + min(GRACE_S, self.timeout_s)
        contact_s = max(now if last_contact_s is None else last_contact_s, earliest_s)
        self._scans[record.scan_id] = WaitingScan(record, contact_s, is_interrupted)

    def take(self, scan_id: str) -> WaitingScan:
        """Return a scan that waits no more."""
        return self._scans.pop(scan_id)

    def resumable(self) -> list[str]:
        """Return the ids of the scans that are not interrupted."""
        return [scan_id for scan_id, scan in self._scans.items() if not scan.is_interrupted]

    def overdue(self, now: float) -> Iterator[str]:
        """Yield the ids of the scans that are to be interrupted now."""
        for scan_id in self.resumable():
            if now - self._scans[scan_id].last_contact_s >= self.timeout_s:
                yield scan_id

    def refusal(self, scan_id: str) -> UsidstreamError:
        """Return the error for whatever cannot be asked of a scan that is not open."""
        state = self._state(self._scans[scan_id])
        return UsidstreamError(
            f"scan {scan_id} is {state} and not open",
            code="not_joined",
            hint="Open it again with its id, then go on with it or finish it.",
        )

    def count_states(self) -> Counter[str]:
        """Return how many scans there are in each state, from any thread."""
        return Counter(self._state(scan) for scan in list(self._scans.values()))

    def describe(self) -> list[dict[str, Any]]:
        """Tell each scan's standing as plain values, for status."""
        return [
            {
                "scan": scan_id,
                "name": scan.record.layout.name,
                "file": str(scan.record.path),
                "state": self._state(scan),
                "n_positions": scan.record.layout.n_positions,
                "mains": [main.name for main in scan.record.layout.mains],
            }
            for scan_id, scan in self._scans.items()
        ]

    @staticmethod
    def _state(scan: WaitingScan) -> str:
        return "interrupted" if scan.is_interrupted else "waiting"
