"""A scan that had ended before this program opened it.

So that a program may send everything again whether its scan is there or not: what the file holds is
skipped and counted, and only what it lacks is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..delivery import Coverage, MainShape, conform
from ..errors import error_for
from .scan import Scan


class EndedScan(Scan):
    """A `Scan` that takes nothing more: what it holds is skipped, all else raises."""

    def write(self, row: int, spectrum: Any, main: str | None = None) -> None:
        """Skip the pixel if the scan holds it; else raise ``scan_finished``."""
        names = (
            list(spectrum)
            if isinstance(spectrum, Mapping)
            else [self._channel.mains.get(main).name]
        )
        for name in names:
            shape = self._channel.mains.get(name)
            number = conform.integer(row, "row")
            conform.span(shape, number, 1, 0, 1)
            self._skip(shape, np.array([number]))

    def write_block(self, row: int, block: Any, col: int = 0, main: str | None = None) -> None:
        """Skip the block if the scan holds it; else raise ``scan_finished``."""
        shape = self._channel.mains.get(main)
        rows, cols = conform.table(shape, block, None, col).shape
        row = conform.integer(row, "row")
        conform.span(shape, row, rows, col, cols)
        self._skip(shape, np.arange(row, row + rows))

    def write_at(self, rows: Any, block: Any, main: str | None = None) -> None:
        """Skip the rows if the scan holds them; else raise ``scan_finished``."""
        shape = self._channel.mains.get(main)
        numbers = conform.row_numbers(shape, rows)
        conform.table(shape, block, len(numbers), None)
        self._skip(shape, numbers)

    def annotate(self, attrs: Mapping[str, Any]) -> None:
        """Leave the attributes as they were told when the scan was taken."""

    def wait_durable(self, timeout_s: float | None = None) -> None:
        """Return at once: all there is, is durable."""

    def _skip(self, main: MainShape, rows: Any) -> None:
        missing = self.result.missing.get(main.name, [])
        held = Coverage.all_but(missing, main.n_rows).holds(rows, 0, main.n_cols)
        if not held.all():
            raise error_for(
                "scan_finished",
                f"scan {self.scan_id} has ended without row {rows[~held][0]} of main {main.name!r}",
            )
        self._channel.skipped += len(rows)
