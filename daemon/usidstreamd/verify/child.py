"""The process that reads: ``python -m usidstreamd.verify.child FILE STALL_TIMEOUT_S``.

Tells on standard output, a line of JSON each, faults as they are found, progress, and the end. A
watchdog below Python ends the process when no step is made: HDF5 may hang with the interpreter's
lock held.
"""

from __future__ import annotations

import faulthandler
import json
import sys
import time
from pathlib import Path
from typing import Any

from .reading import read_file
from .report import Report

MAX_PROGRESS_CALLS_COUNT = 1000
REARM_INTERVAL_S = 1.0


class _Told(Report):
    """A report that is told while it is made."""

    def _add(self, fault: str) -> None:
        super()._add(fault)
        tell("fault", fault)


class Watchdog:
    """Ends the process when `step` is not called for a while."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._armed = 0.0
        self.step()

    def step(self) -> None:
        """Say that reading goes on."""
        now = time.monotonic()
        if now - self._armed > REARM_INTERVAL_S:
            self._armed = now
            faulthandler.dump_traceback_later(self._timeout_s, exit=True)


class Steps:
    """Counts chunks, tells progress now and then, and keeps the watchdog quiet."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        self._done = self._total = 0

    def expect(self, total: int) -> None:
        """Say how many chunks will be read."""
        self._total = total

    def step(self) -> None:
        """Say that something was read that is not counted."""
        self._watchdog.step()

    def advance(self) -> None:
        """Say that a chunk was read."""
        self._watchdog.step()
        self._done += 1
        stride = max(1, self._total // MAX_PROGRESS_CALLS_COUNT)
        if self._done % stride == 0 or self._done == self._total:
            tell("progress", [self._done, self._total])


def tell(kind: str, told: Any) -> None:
    """Write one line."""
    sys.stdout.write(json.dumps([kind, told]) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Read the file that the command line names."""
    path, timeout_s = Path(sys.argv[1]), float(sys.argv[2])
    steps = Steps(Watchdog(timeout_s))
    report = _Told(str(path))
    read_file(path, report, steps)
    faulthandler.cancel_dump_traceback_later()
    tell("end", report.to_dict())


if __name__ == "__main__":
    main()
