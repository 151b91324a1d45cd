"""What has become possible in a scan: the step that is next, by what is known and by the clock.

It looks and changes nothing. What a step does to the scan is the machine's affair.
"""

from __future__ import annotations

from .absence import Absence
from .commits import Commits
from .conclusion import Conclusion
from .events import (
    Drained,
    Ending,
    Event,
    FinishWithdrawn,
    JoinersLate,
    ResumeTimedOut,
    SuspendRequested,
)
from .peers import Roster
from .states import State


class Steps:
    """The steps of one scan that nobody has to ask for.

    Parameters
    ----------
    roster, commits, conclusion, absence
        What is known of it.
    """

    def __init__(
        self, roster: Roster, commits: Commits, conclusion: Conclusion, absence: Absence
    ) -> None:
        self._roster = roster
        self._commits = commits
        self._conclusion = conclusion
        self._absence = absence

    def possible(self, state: State, *, is_suspend_wanted: bool) -> Event | None:
        """Return what is next by what has happened; None if nothing is."""
        match state:
            case State.ACQUIRING if is_suspend_wanted:
                return SuspendRequested()
            case State.FINISHING if self._is_finish_void():
                return FinishWithdrawn()
            case State.FINISHING if self._is_drained():
                return Drained()
            case State.SEALED if self._commits.is_quiet:
                return Drained()
            case State.SUSPENDING if self._is_all_committed():
                return Drained()
        return None

    def overdue(self, state: State, now: float) -> Event | None:
        """Return what is next because clients have let their time pass; None if they have not."""
        match state:
            case State.ACQUIRING if self._absence.is_too_long(now) and self._is_all_committed():
                return ResumeTimedOut()  # with nothing of theirs under way
            case State.FINISHING if self._roster.joiners and self._conclusion.is_late(now):
                return JoinersLate()
        return None

    def _is_all_committed(self) -> bool:
        commits = self._commits
        return not self._roster.unplaced and not commits.is_dirty and commits.is_quiet

    def _is_finish_void(self) -> bool:
        """Whether what the finish waits for can come only from an opener that is gone."""
        if self._conclusion.ending is Ending.ABORT or self._conclusion.has_arrived:
            return False
        return self._roster.opener is None

    def _is_drained(self) -> bool:
        if self._roster.unplaced:
            return False
        if self._conclusion.ending is Ending.ABORT:
            return True
        return self._conclusion.has_arrived and not self._roster.joiners
