"""Drives a scan as an instrument would: in some order, at some rate, with or without faults.

It hands a feed's values to anything that has the write calls of a client's Scan; it knows neither
sockets nor how the values came to be.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..layout import MainLayout, ScanLayout
from .faults import FAULTS, Fault, FaultyScan, ScanLike, Writable
from .feed import Feed
from .orders import RowNumbers, visit
from .pacing import Pacer

BATCH_BYTES = 2**20
"""Values are computed for so many bytes of pixels at a time."""

BATCH_UNITS = 4096
"""And for so many pixels at most."""

CRASH_EXIT_CODE = 70

PROGRESS_INTERVAL_S = 0.1

Progress = Callable[[int, int], None]
Values = dict[str, npt.NDArray[Any]]
Write = Callable[[], Any]


class SimulatedScan(ScanLike, Protocol):
    """A client's Scan as the simulator uses it."""

    def abort(self) -> Any:
        """End the scan as it is."""


@dataclass
class Summary:
    """What a simulated instrument did.

    ``done`` and ``total`` count pixels (images of a main whose order is columns); ``refused``
    counts the daemon's expected errors by code, ``faults`` the faults made.
    """

    total: int
    done: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    stopped: bool = False
    seconds: float = 0.0


def run(
    scan: SimulatedScan,
    feed: Feed,
    *,
    order: str = "raster",
    rate_per_s: float | None = None,
    block_units: int = 1,
    faults: Sequence[Fault] = (),
    seed: int = 0,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Summary:
    """Send a feed's values to an open scan, and return what was done; the caller finishes the scan.

    Mains filled by rows come together, pixel by pixel; then each main filled by columns, image by
    image.

    Parameters
    ----------
    scan
        Open, with the feed's layout.
    order
        ``raster``, ``serpentine`` or ``random``; images come in raster or random order.
    rate_per_s
        Pixels (or images) a second; as fast as the scan takes them by default.
    block_units
        Pixels (or images) in one call.
    faults
        See `faults.FAULTS`.
    seed
        For the random order and the choice of faults.
    progress
        Called with (done, total) now and then, at least at the end.
    stop
        Set from another thread, it ends the run early.

    Raises
    ------
    UsidstreamError
        Whatever the scan raises, but for errors that the faults provoke.
    """
    drive = _Drive(scan, feed, faults, seed, stop or threading.Event())
    drive.go(order, Pacer(rate_per_s), block_units, _Told(progress))
    return drive.summary


def unit_name(layout: ScanLayout) -> str:
    """Return what a run counts: pixels, or images where all mains are filled by columns."""
    return "images" if all(main.order == "columns" for main in layout.mains) else "pixels"


class _Drive:
    """One run of a simulated instrument."""

    def __init__(
        self,
        scan: SimulatedScan,
        feed: Feed,
        faults: Sequence[Fault],
        seed: int,
        stop: threading.Event,
    ) -> None:
        self._scan = scan
        self._stop = stop
        self._seed = seed
        self._faulty = FaultyScan(scan, feed.layout, faults, seed)
        # Without faults the detour would only cost time.
        self._writes: Writable = self._faulty if faults else scan
        self._ways = _ways(feed)
        self.summary = Summary(total=sum(way.total for way in self._ways))
        self._due = _schedule(faults, self.summary.total)

    def go(self, order: str, pacer: Pacer, block_units: int, told: _Told) -> None:
        started = time.monotonic()
        for n_units, writes in self._calls(order, block_units):
            self._act_when_due()
            wait_s = pacer.wait_s(self.summary.done)
            if wait_s:
                self._stop.wait(wait_s)
            if self._stop.is_set() or self.summary.stopped:
                self.summary.stopped = True
                break
            for write in writes:
                write()
            self.summary.done += n_units
            told(self.summary)
        else:
            self._faulty.settle()
        told(self.summary, is_last=True)
        self.summary.faults.update(self._faulty.made)
        self.summary.refused = self._faulty.refused
        self.summary.seconds = time.monotonic() - started

    def _calls(self, order: str, block_units: int) -> Iterator[tuple[int, list[Write]]]:
        for way in self._ways:
            batch = max(1, min(BATCH_UNITS, BATCH_BYTES // way.unit_nbytes) // block_units)
            for units in visit(order, way.shape, batch=batch * block_units, seed=self._seed):
                values = way.values(units)
                for start in range(0, len(units), block_units):
                    part = slice(start, start + block_units)
                    yield len(units[part]), way.writes(self._writes, units[part], values, part)

    def _act_when_due(self) -> None:
        while self._due and self.summary.done >= self._due[0][0]:
            _, fault = self._due.pop(0)
            self.summary.faults[fault.kind] = self.summary.faults.get(fault.kind, 0) + 1
            if fault.kind == "stall":
                self._stop.wait(fault.amount)
            elif fault.kind == "crash":
                os._exit(CRASH_EXIT_CODE)
            else:
                self._scan.abort()
                self.summary.stopped = True


class _Told:
    """Calls back at most every PROGRESS_INTERVAL_S, and at the end."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._next = 0.0

    def __call__(self, summary: Summary, *, is_last: bool = False) -> None:
        if self._progress is None:
            return
        now = time.monotonic()
        if is_last or now >= self._next:
            self._next = now + PROGRESS_INTERVAL_S
            self._progress(summary.done, summary.total)


def _schedule(faults: Sequence[Fault], total: int) -> list[tuple[int, Fault]]:
    """Return the faults in time with the number of pixels after which each happens, in order."""
    due = [
        (total // 2 if fault.kind == "stall" else int(fault.amount), fault)
        for fault in faults
        if FAULTS[fault.kind].argument != "fraction"
    ]
    return sorted(due, key=lambda item: item[0])


def _ways(feed: Feed) -> list[_ByRows | _ByColumns]:
    by_rows = [main for main in feed.layout.mains if main.order == "rows"]
    by_columns = [main for main in feed.layout.mains if main.order == "columns"]
    rows = [_ByRows(feed, by_rows)] if by_rows else []
    return [*rows, *(_ByColumns(feed, main) for main in by_columns)]


class _ByRows:
    """Mains that are filled together, a position at a time."""

    def __init__(self, feed: Feed, mains: Sequence[MainLayout]) -> None:
        self._feed = feed
        self._names = [main.name for main in mains]
        self._is_all = len(mains) == len(feed.layout.mains)
        self.shape = feed.layout.position_shape
        self.total = feed.layout.n_positions
        self.unit_nbytes = sum(main.row_nbytes for main in mains)

    def values(self, units: RowNumbers) -> Values:
        return {name: self._feed.values(name, units) for name in self._names}

    def writes(self, scan: Writable, rows: RowNumbers, values: Values, part: slice) -> list[Write]:
        if len(rows) > 1:
            call = _write_rows if _is_run(rows) else _write_scattered
            return [partial(call, scan, rows, values[name][part], name) for name in self._names]
        row, place = int(rows[0]), part.start
        if self._is_all and len(self._names) > 1:
            return [partial(scan.write, row, {name: values[name][place] for name in self._names})]
        return [partial(scan.write, row, values[name][place], main=name) for name in self._names]


class _ByColumns:
    """A main that is filled an image at a time."""

    def __init__(self, feed: Feed, main: MainLayout) -> None:
        self._feed = feed
        self._name = main.name
        self._rows = np.arange(feed.layout.n_positions)
        self.shape = (main.n_spectroscopic,)
        self.total = main.n_spectroscopic
        self.unit_nbytes = feed.layout.n_positions * main.np_dtype.itemsize

    def values(self, units: RowNumbers) -> Values:
        if _is_run(units):
            images = slice(int(units[0]), int(units[-1]) + 1)
            return {self._name: self._feed.values(self._name, self._rows, images)}
        columns = [self._feed.values(self._name, self._rows, slice(t, t + 1)) for t in units]
        return {self._name: np.concatenate(columns, axis=1)}

    def writes(self, scan: Writable, cols: RowNumbers, values: Values, part: slice) -> list[Write]:
        images = values[self._name][:, part]
        if _is_run(cols):
            return [self._write(scan, int(cols[0]), images)]
        return [self._write(scan, int(t), images[:, i : i + 1]) for i, t in enumerate(cols)]

    def _write(self, scan: Writable, col: int, images: npt.NDArray[Any]) -> Write:
        return partial(scan.write_block, 0, images, col=col, main=self._name)


def _is_run(numbers: RowNumbers) -> bool:
    return bool(np.all(np.diff(numbers) == 1))


def _write_rows(scan: Writable, rows: RowNumbers, block: npt.NDArray[Any], name: str) -> None:
    scan.write_block(int(rows[0]), block, main=name)


def _write_scattered(scan: Writable, rows: RowNumbers, block: npt.NDArray[Any], name: str) -> None:
    scan.write_at(rows, block, main=name)
