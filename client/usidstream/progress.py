"""Progress of long work: a bar on a terminal, now and then a plain line elsewhere.

It writes to standard error, so that standard output holds results only. It knows counts, not what
is counted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

PLAIN_LINE_INTERVAL_S = 5.0

Advance = Callable[[int, int], None]
"""Takes how much is done, and of how much."""


@contextmanager
def show_progress(label: str, *, quiet: bool = False) -> Iterator[Advance]:
    """Show the progress of the work inside the ``with`` block.

    Parameters
    ----------
    label
        What is being done.
    quiet
        Show nothing, for machine-readable output.
    """
    if quiet:
        yield lambda _done, _total: None
    elif sys.stderr.isatty():
        with _bar(label) as advance:
            yield advance
    else:
        yield _PlainLines(label)


@contextmanager
def _bar(label: str) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


class _PlainLines:
    def __init__(self, label: str) -> None:
        self._label = label
        self._next_s = time.monotonic() + PLAIN_LINE_INTERVAL_S

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now < self._next_s:
            return
        self._next_s = now + PLAIN_LINE_INTERVAL_S
        print(f"{self._label}: {done} of {total}", file=sys.stderr, flush=True)  # noqa: T201 - it is a command's output
