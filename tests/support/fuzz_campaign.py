"""Many cases of a target in a process of its own: no crash, no hang, no growth of memory.

It knows processes and nothing of what is parsed. Whatever goes wrong is told with the seed and the
case, and with the command that runs that case alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.fuzz_worker import CASE_FILE

START_TIMEOUT_S = 60.0
CASE_TIMEOUT_S = 60.0
"""Some thousand times what a case takes; a comparison in its own process takes a second."""
MAX_GROWTH_BYTES = 16 << 20
"""Between a tenth of the cases and all of them; caches of the interpreter are full by then."""
POLL_INTERVAL_S = 0.05
TESTS = Path(__file__).parents[1]


@dataclass
class Figures:
    """What a run came to.

    Parameters
    ----------
    target, seed, cases
    early_bytes, late_bytes
        Resident memory after a tenth of the cases, and after all.
    seconds, worst_s
        The whole run, and its longest case.
    outcomes
        How many inputs were taken, and refused by which code.
    """

    target: str
    seed: int
    cases: int
    early_bytes: int = 0
    late_bytes: int = 0
    seconds: float = 0.0
    worst_s: float = 0.0
    outcomes: dict[str, int] = field(default_factory=dict)

    def cells(self) -> list[str]:
        """Return a row of the table of `heading`."""
        taken = self.outcomes.get("taken", 0)
        return [
            self.target, f"{self.cases:,}", f"{taken:,}", f"{self.seconds:,.0f}",
            f"{1000 * self.worst_s:,.0f}", f"{self.early_bytes >> 20}", f"{self.late_bytes >> 20}",
        ]  # fmt: skip


HEADINGS = ("input", "cases", "taken", "seconds", "longest ms", "MiB at 10 %", "MiB at 100 %")


def campaign(target: str, seed: int, first: int, count: int, directory: Path) -> Figures:
    """Run cases; fail with the seed and the number of the one that went wrong."""
    figures = Figures(target, seed, count)
    command = [sys.executable, "-m", "support.fuzz_worker", target]
    command += [*map(str, (seed, first, count)), str(directory)]
    begun = time.monotonic()
    with (
        (directory / "errors").open("w+", encoding="utf-8") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=TESTS
        ) as process,
    ):
        reading = threading.Thread(target=_take_lines, args=(process, figures))
        reading.start()
        ending = _watch(process, directory / CASE_FILE)
        reading.join()
        errors.seek(0)
        last_words = errors.read()[-3000:]
    figures.seconds = time.monotonic() - begun
    if ending:
        number = _number_in(directory / CASE_FILE)
        raise AssertionError(
            f"{target}, seed {seed}, case {number}: {ending}. Again: pytest tests/fuzz -k {target} "
            f"--fuzz-seed {seed} --fuzz-first {number} --fuzz-cases 1\n{last_words}"
        )
    growth = figures.late_bytes - figures.early_bytes
    assert growth <= MAX_GROWTH_BYTES, f"{target} has grown by {growth >> 20} MiB: {figures}"
    return figures


def _watch(process: subprocess.Popen[str], case_file: Path) -> str:
    """Wait for the end; say what was wrong with it."""
    number, since = -1, time.monotonic()
    while process.poll() is None:
        if (now_at := _number_in(case_file)) != number:
            number, since = now_at, time.monotonic()
        limit_s = START_TIMEOUT_S if number < 0 else CASE_TIMEOUT_S
        if time.monotonic() - since > limit_s:
            process.kill()
            return f"it hung for {limit_s:g} s"
        time.sleep(POLL_INTERVAL_S)
    return f"the process ended with {process.returncode}" if process.returncode else ""


def _number_in(case_file: Path) -> int:
    try:
        content = case_file.read_bytes()
    except FileNotFoundError:
        return -1
    return int.from_bytes(content, "little") if content else -1


def _take_lines(process: subprocess.Popen[str], figures: Figures) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        told: dict[str, Any] = json.loads(line)
        figures.early_bytes = figures.early_bytes or told["rss"]
        figures.late_bytes = told["rss"]
        figures.worst_s, figures.outcomes = told["worst_s"], told["outcomes"]
