"""What each client holds of the daemon: the scans that it has opened, and its pace. Pure.

Counted by owner, see `clients`: a client that goes and comes again holds what it held.
"""

from __future__ import annotations

from collections.abc import Set

from usidstream.errors import UsidstreamError

from .allowance import Pace


class Holdings:
    """The open scans and the paces of all clients, by owner."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}
        self._paces: dict[str, Pace] = {}
        self._bytes_per_s = 0.0

    def check_may_open(self, owner: str, most: int) -> None:
        """Refuse one scan more than a client may hold open."""
        its = sum(held == owner for held in self._owners.values())
        if its >= most:
            raise UsidstreamError(
                f"{its} open scans are this client's, as many as one client may have",
                code="too_many_scans",
                hint="Finish or abort one, or raise max_scans_per_client.",
            )

    def note_opened(self, scan_id: str, owner: str) -> None:
        """Count a scan as this client's from now on."""
        self._owners[scan_id] = owner

    def note_over(self, scan_id: str) -> None:
        """Count a scan no more."""
        self._owners.pop(scan_id, None)

    def pace(self, owner: str) -> Pace:
        """Return the one pace of a client, for all its scans."""
        if owner not in self._paces:
            self._paces[owner] = Pace(self._bytes_per_s)
        return self._paces[owner]

    def fill(self, now: float, bytes_per_s: float, present: Set[str]) -> None:
        """Let time pass at this rate for each client; forget the paces of those that are gone."""
        self._bytes_per_s = bytes_per_s
        for owner in self._paces.keys() - present:
            del self._paces[owner]
        for pace in self._paces.values():
            pace.bytes_per_s = bytes_per_s
            pace.fill(now)
