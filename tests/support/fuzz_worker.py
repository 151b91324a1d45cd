"""A process that runs the numbered cases of one target, watched by `support.fuzz_campaign`.

Run as ``python -m support.fuzz_worker TARGET SEED FIRST COUNT DIRECTORY``. The number of the case
that runs stands in the file ``case``, so that it is known even if the process dies or hangs in it.
Each line on stdout is a JSON map: how many cases are done, the memory, the outcomes.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import psutil

from support.fuzz_targets import TARGETS

CASE_FILE = "case"


def chance_of(target: str, seed: int, number: int) -> Random:
    """Return the chance of one case: the same for the same three, in every process."""
    return Random(f"{target} {seed} {number}")


def run(target: str, seed: int, first: int, count: int, directory: Path) -> None:
    """Run cases ``first`` to ``first + count``; a case that fails is raised."""
    case = TARGETS[target](directory / "files")
    outcomes: Counter[str] = Counter()
    worst_s = 0.0
    fd = os.open(directory / CASE_FILE, os.O_WRONLY | os.O_CREAT, 0o600)
    for number in range(first, first + count):
        os.pwrite(fd, number.to_bytes(8, "little"), 0)
        begun = time.monotonic()
        outcomes[case(chance_of(target, seed, number))] += 1
        worst_s = max(worst_s, time.monotonic() - begun)
        done = number + 1 - first
        if done * 10 // count > (done - 1) * 10 // count:
            tell(done=done, rss=resident_bytes(), worst_s=worst_s, outcomes=outcomes)


def resident_bytes() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def tell(**told: Any) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    logging.disable()  # what is told about each case is not looked at
    _, target, seed, first, count, directory = sys.argv
    Path(directory, "files").mkdir()
    run(target, int(seed), int(first), int(count), Path(directory))
