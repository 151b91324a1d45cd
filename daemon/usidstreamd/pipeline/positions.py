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

    def note_run(self, main: str, lo: int, hi: int) -> None:
        """Note that positions lo..hi, none of which was, are complete in a main.

        As `note`, for a tenth of the time.
        """
        self._states[main][lo:hi] = True
        complete_in = self._complete_in[lo:hi]
        complete_in += 1
        is_only_main = len(self._states) == 1
        self.count += (
            hi - lo if is_only_main else int(np.count_nonzero(complete_in == len(self._states)))
        )
        self._note_gained(main, hi, hi - lo)

    def _note_gaps(self, main: str, first: int, gained: npt.NDArray[np.bool_]) -> None:
        numbers = np.flatnonzero(gained)
        if len(numbers):
            self._note_gained(main, first + int(numbers[-1]) + 1, len(numbers))

    def _note_gained(self, main: str, end: int, count: int) -> None:
        end = max(self._ends[main], end)
        self.gaps[main] += end - self._ends[main] - count
        self._ends[main] = end
