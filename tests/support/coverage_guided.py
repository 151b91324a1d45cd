"""The same cases, found by what they reach in the code: for atheris, which is not required.

``pip install atheris`` (Linux), then in ``tests``: ``python -m support.coverage_guided TARGET
[OPTIONS OF LIBFUZZER]``, such as ``-max_total_time=600``. A case that fails is left in a file,
``crash-...``; the same command with that file's name runs it again.
"""

from __future__ import annotations

import importlib
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

INSTRUMENTED = ["usidstream", "usidstreamd"]


class BytesRandom(Random):
    """Chance that is read from bytes, so that a fuzzer of bytes steers it; zeros follow them."""

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self._data, self._at = data, 0

    def getrandbits(self, k: int) -> int:
        """Return ``k`` bits."""
        nbytes = -(-k // 8)
        part = self._data[self._at : self._at + nbytes]
        self._at += nbytes
        return int.from_bytes(part, "little") & ((1 << k) - 1)

    def random(self) -> float:
        """Return a number from 0 to below 1."""
        return self.getrandbits(16) / (1 << 16)


def one_input(target: str, directory: Path) -> Callable[[bytes], None]:
    """Return what runs a target's case as bytes steer it."""
    targets: Any = importlib.import_module("support.fuzz_targets")
    case = targets.TARGETS[target](directory)

    def run(data: bytes) -> None:
        case(BytesRandom(data))

    return run


def main(target: str, *options: str) -> None:
    import atheris

    logging.disable()
    with atheris.instrument_imports(include=INSTRUMENTED):
        importlib.import_module("support.fuzz_targets")
    with tempfile.TemporaryDirectory() as directory:
        atheris.Setup([sys.argv[0], *options], one_input(target, Path(directory)))
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
