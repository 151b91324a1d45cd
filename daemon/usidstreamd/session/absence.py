"""For how long nobody has taken part in a scan, and when that is to be noted on the disk.

Pure arithmetic on the clock that is handed in. A scan counts as left from the last moment at which
any client took part in it; while one is connected it never does, however long it says nothing. The
time of the last contact outlives the daemon only if it is noted now and then, and once more when
the last client goes.
"""

from __future__ import annotations

NOTE_INTERVAL_S = 60.0
"""A contact that goes on is noted this often: how much too early a killed daemon's last one is."""


class Absence:
    """The clients of one scan, as far as time goes.

    Parameters
    ----------
    timeout_s
        How long they may stay away.
    last_contact_s
        When one took part in the scan before this session, None where there was none.

    Attributes
    ----------
    timeout_s
        May change at any time.
    """

    def __init__(self, timeout_s: float, last_contact_s: float | None) -> None:
        self.timeout_s = timeout_s
        self._last_contact_s = last_contact_s
        self._noted_s = float("-inf") if last_contact_s is None else last_contact_s
        self._is_anybody_here = False

    def see(self, now: float, *, is_anybody_here: bool) -> None:
        """Take note of whether any client takes part."""
        if self._last_contact_s is None or is_anybody_here or self._is_anybody_here:
            self._last_contact_s = now
        self._is_anybody_here = is_anybody_here

    @property
    def last_contact_s(self) -> float | None:
        """When a client took part last; None before the first look."""
        return self._last_contact_s

    def is_too_long(self, now: float) -> bool:
        """Tell whether the clients have stayed away for longer than they may."""
        if self._is_anybody_here or self._last_contact_s is None:
            return False
        return now - self._last_contact_s >= self.timeout_s

    def take_note(self, now: float) -> bool:
        """Tell whether a contact is to be noted on the disk now; it then counts as noted."""
        if self._last_contact_s is None or self._last_contact_s <= self._noted_s:
            return False
        if self._is_anybody_here and now - self._noted_s < NOTE_INTERVAL_S:
            return False
        self._noted_s = now
        return True
