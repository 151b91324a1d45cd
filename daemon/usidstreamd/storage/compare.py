"""The child of `comparison`: ``python -m usidstreamd.storage.compare FILE JOURNAL LEDGER LIMIT_S``.

Prints one line when it begins to look at the file, and one with the outcome as JSON. A watchdog
below Python ends it after its limit, for HDF5 may hang with the interpreter's lock held, and the
process that started it may be gone.
"""

from __future__ import annotations

import faulthandler
import json
import sys
from dataclasses import asdict
from pathlib import Path

from .comparison import BEGIN
from .inspection import inspect
from .ledger import replay
from .record import OpenRecord


def main(path: str, journal: str, ledger: str, limit_s: str) -> None:
    """Compare a file with a ledger."""
    faulthandler.dump_traceback_later(float(limit_s), exit=True)
    record, state = OpenRecord.read(Path(journal)), replay(Path(ledger))
    _say(BEGIN)
    _say(json.dumps(asdict(inspect(Path(path), record, state.chunks))))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
