"""What came of a module's trials, counted, and printed as a table when the run is over."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from support.filesystem import describe_file_system


class OutcomeTable:
    """A pytest plugin that tells counts of outcomes, and on which file system they were found.

    Parameters
    ----------
    title
    directory
        On that file system.
    """

    def __init__(self, title: str, directory: Path) -> None:
        self.counts: Counter[str] = Counter()
        self._title = title
        self._place = describe_file_system(directory)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table."""
        terminalreporter.section(self._title)
        terminalreporter.write_line(f"files were on {self._place}")
        for line in ("| outcome | count |", "| --- | ---: |"):
            terminalreporter.write_line(line)
        for outcome, count in sorted(self.counts.items()):
            terminalreporter.write_line(f"| {outcome} | {count} |")
