"""Progress of long work: a bar on a terminal, now and then a plain line elsewhere.

It writes to standard error, so that standard output holds results only. It knows counts, not what
is counted.
"""

from __future__ import annotations

import sys
import threading
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
NOTE_INTERVAL_S = 0.5
NOTE_JOIN_S = 5.0

Advance = Callable[[int, int], None]
"""Takes how much is done, and of how much."""


@contextmanager
def show_progress(label: str, unit: str = "", *, quiet: bool = False) -> Iterator[Advance]:
    """Show the progress of the work inside the ``with`` block.

    Parameters
    ----------
    label
        What is being done.
    unit
        What is counted, in the plural.
    quiet
        Show nothing, for machine-readable output.
    """
    if quiet:
        yield lambda _done, _total: None
    elif sys.stderr.isatty():
        with _bar(label, unit) as advance:
            yield advance
    else:
        yield _PlainLines(label, unit)


@contextmanager
def tell_notes(note: Callable[[], str], *, quiet: bool = False) -> Iterator[None]:
    """Print a note whenever it changes, also while the work inside the ``with`` block hangs.

    Parameters
    ----------
    note
        Returns what is to be said at present, empty for nothing; called by another thread.
    quiet
        Print nothing.
    """
    done = threading.Event()

    def tell() -> None:
        told = ""
        while not done.wait(NOTE_INTERVAL_S):
            if (present := note()) != told:
                told = present
                line = present or "going on"
                print(line, file=sys.stderr, flush=True)  # noqa: T201 - a command's output

    teller = threading.Thread(target=tell, name="notes", daemon=True)
    if not quiet:
        teller.start()
    try:
        yield
    finally:
        done.set()
        if not quiet:
            teller.join(NOTE_JOIN_S)


@contextmanager
def _bar(label: str, unit: str) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit, markup=False),
        TimeElapsedColumn(),
        TextColumn("elapsed,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


class _PlainLines:
    """At most one line each `PLAIN_LINE_INTERVAL_S`, and one at the end."""

    def __init__(self, label: str, unit: str) -> None:
        self._label = label
        self._unit = f" {unit}" if unit else ""
        self._next_s = time.monotonic() + PLAIN_LINE_INTERVAL_S
        self._ended = False

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._ended or (done < total and now < self._next_s):
            return
        self._ended = done >= total
        self._next_s = now + PLAIN_LINE_INTERVAL_S
        line = f"{self._label}: {done} of {total}{self._unit}"
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - it is a command's output
