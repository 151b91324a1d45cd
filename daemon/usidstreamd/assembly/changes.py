"""Which rows of a main have changed since somebody asked: told exactly where that is cheap.

Most blocks are whole rows of which nothing was held, taken in one step: such rows are known to be
complete, and nobody has to look at tiles for that. Of all others only a window is told, within
which whoever asks has to look. Pure book-keeping.
"""

from __future__ import annotations

Run = tuple[int, int]


class Changes:
    """Which rows have changed since somebody asked.

    Attributes
    ----------
    runs
        Half-open ranges of rows that held nothing and are complete, none of them twice.
    window
        All other rows that have changed lie in this range, whole tiles' rows; empty if its start
        is not below its end.
    """

    def __init__(self, n_rows: int) -> None:
        self._none = n_rows, 0
        self.runs: list[Run] = []
        self.window = self._none

    def note(self, row: int, row_end: int) -> None:
        """Note that some of a tile's rows have changed."""
        start, end = self.window
        self.window = min(start, row), max(end, row_end)

    def note_whole(self, rows: Run, window: Run) -> None:
        """Note that rows which held nothing are complete; else only a window has changed."""
        self.window = window
        if self.runs and self.runs[-1][1] == rows[0]:
            self.runs[-1] = self.runs[-1][0], rows[1]
        else:
            self.runs.append(rows)

    def take(self) -> tuple[list[Run], Run | None]:
        """Return runs and window, None for an empty one, and forget them."""
        runs, window = self.runs, self.window
        self.runs, self.window = [], self._none
        return runs, window if window[0] < window[1] else None
