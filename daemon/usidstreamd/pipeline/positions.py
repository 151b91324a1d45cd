"""How many positions are complete in every main, kept as they become so. Pure numpy."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


class CompletePositions:
    """The positions of one scan.

    Parameters
    ----------
    n_positions
        N.
    mains
        The names of the mains.

    Attributes
    ----------
    count
        Of positions that are complete in every main.
    gaps
        By main, how many positions before its last complete one are not complete.
    """

    def __init__(self, n_positions: int, mains: Iterable[str]) -> None:
        self._states = {name: np.zeros(n_positions, np.bool_) for name in mains}
        self._complete_in = np.zeros(n_positions, np.uint16)
        self.count = 0
        self.gaps = dict.fromkeys(self._states, 0)
        self._ends = dict.fromkeys(self._states, 0)

    def note(self, main: str, window: slice, complete: npt.NDArray[np.bool_]) -> None:
        """Note which positions of a window are complete in a main; none ever ceases to be."""
        gained = complete & ~self._states[main][window]
        self._states[main][window] = complete
        self._complete_in[window] += gained
        in_all = self._complete_in[window] == len(self._states)
        self.count += int(np.count_nonzero(gained & in_all))
        self._note_gaps(main, window.start, gained)

    def _note_gaps(self, main: str, first: int, gained: npt.NDArray[np.bool_]) -> None:
        numbers = np.flatnonzero(gained)
        if len(numbers):
            end = max(self._ends[main], first + int(numbers[-1]) + 1)
            self.gaps[main] += end - self._ends[main] - len(numbers)
            self._ends[main] = end
