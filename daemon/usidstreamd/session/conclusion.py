"""How a scan is to end, and who waits to hear of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .events import Ending, PeerId


class Conclusion:
    """The finish or abort that was asked for, if any.

    An abort stands once it is asked for; a finish is withdrawn when joined clients do not leave in
    time, or when its opener goes before everything that it names has arrived.

    Attributes
    ----------
    ending
        Which of both, None as long as the scan goes on.
    attrs
        The attributes that came with it.
    has_arrived
        Whether everything that a finish names has arrived.
    is_sealed
        Whether it is too late for anything more.
    """

    def __init__(self) -> None:
        self.ending: Ending | None = None
        self.attrs: Mapping[str, Any] = {}
        self.has_arrived = False
        self.is_sealed = False
        self._seq = 0
        self._late_s = 0.0
        self._waiting: dict[PeerId, None] = {}

    def ask_finish(self, peer: PeerId, seq: int, attrs: Mapping[str, Any], late_s: float) -> None:
        """Take a finish; a repeated one does not give joined clients more time."""
        self._waiting[peer] = None
        if self.ending is None:
            self._late_s = late_s
        self.ending, self.attrs, self._seq = Ending.FINISH, dict(attrs), seq
        self.has_arrived = False

    def ask_abort(self, peer: PeerId, reason: str) -> None:
        """Take an abort."""
        self._waiting[peer] = None
        self.ending = Ending.ABORT
        self.attrs = {"abort_reason": reason} if reason else {}

    def withdraw(self) -> list[PeerId]:
        """Go on as if no end had been asked for; return who waited for it."""
        waiting = self.waiting
        self.ending = None
        self._waiting = {}
        return waiting

    def await_result(self, peer: PeerId) -> None:
        """Tell this peer, too, of the end."""
        self._waiting[peer] = None

    def forget(self, peer: PeerId) -> None:
        """Tell this peer no more."""
        self._waiting.pop(peer, None)

    @property
    def waiting(self) -> list[PeerId]:
        """The peers that wait to hear of the end."""
        return list(self._waiting)

    def note_arrived(self, seq: int) -> None:
        """Note how far the opener's blocks have arrived."""
        if self.ending is Ending.FINISH and seq >= self._seq:
            self.has_arrived = True

    def excludes(self, role: str, seq: int) -> bool:
        """Tell whether a block comes too late."""
        if self.ending is Ending.FINISH:
            return role == "opener" and seq > self._seq
        return self.ending is Ending.ABORT

    def is_late(self, now: float) -> bool:
        """Tell whether a finish has waited long enough for joined clients."""
        return self.ending is Ending.FINISH and now >= self._late_s
