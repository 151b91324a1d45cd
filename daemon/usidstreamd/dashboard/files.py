"""Reads scans' files for the page: axes, coverage, reduced rows and single spectra.

All of it happens in one thread, for HDF5 has one lock; the event loop waits for a bounded time and
goes on. A disk that hangs so holds up pictures from files, and nothing else. At most
`MAX_OPEN_FILES_COUNT` files are held open, the least recently used one is closed first.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from ..h5usid import LiveFile, LiveMain, open_live
from .choices import LATEST, column_of
from .views import Axis, MainView

MAX_OPEN_FILES_COUNT = 8
MAX_WAITING_COUNT = 16
MAX_LISTED_FILES_COUNT = 200
READ_TIMEOUT_S = 5.0
REFRESH_INTERVAL_S = 0.5
"""Several maps of one file look at its coverage together."""
MAX_SPECTRUM_POINTS_COUNT = 65_536

_T = TypeVar("_T")


class FileUnavailableError(Exception):
    """A file cannot be read at present; the message says why."""


@dataclass(frozen=True)
class Found:
    """What a file has told: some rows, a value for each, and of ``latest`` the column."""

    rows: npt.NDArray[np.int64]
    values: npt.NDArray[Any]
    column: int | None = None


@dataclass(frozen=True)
class Spectrum:
    """What a file holds of one position: (M,) float32, NaN for elements that are not there."""

    values: npt.NDArray[np.float32]
    is_whole: bool


Choose: TypeAlias = Callable[[npt.NDArray[np.bool_], int, int | None], npt.NDArray[Any]]


class Files:
    """The files that the page looks into."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "files")
        self._waiting = 0
        self._open: OrderedDict[Path, LiveFile] = OrderedDict()
        self._refreshed_s: dict[Path, float] = {}

    def close(self) -> None:
        """Close all files, unless the disk hangs."""
        self._thread.submit(self._close_all)
        self._thread.shutdown(wait=False)

    async def views(self, path: Path) -> list[MainView]:
        """Return what is needed to draw each main of a file."""

        def read() -> list[MainView]:
            mains = self._mains(path)
            short = [main.name.rpartition("/")[2] for main in mains]
            names = short if len(set(short)) == len(short) else [main.name for main in mains]
            return [_view_of(main, name) for main, name in zip(mains, names, strict=True)]

        return await self._ask(read)

    async def spectrum(self, path: Path, number: int, row: int) -> Spectrum:
        """Return the spectrum of a position, as far as it has come.

        Raises
        ------
        FileUnavailableError
            The file cannot be read now.
        """

        def read() -> Spectrum:
            main = self._mains(path)[number]
            held = main.held_of(row)
            if not held.any():
                return Spectrum(np.full(len(held), np.nan, np.float32), is_whole=False)
            values = _as_real(main.rows(row)).astype(np.float32)
            return Spectrum(np.where(held, values, np.float32(np.nan)), bool(held.all()))

        return await self._ask(read)

    async def reduced(
        self, path: Path, number: int, reduction: str, choose: Choose, followed: int | None = None
    ) -> Found:
        """Reduce some rows of a main.

        Parameters
        ----------
        choose
            Is handed of which rows there is a value, (N,) bool, the bytes of a row, and of
            ``latest`` the column, which is None for other reductions; returns the rows wanted.
        followed
            The column that ``latest`` is at. A file that grows no more may know a later one.
        """

        def read() -> Found:
            main = self._mains(path)[number]
            column, latest = column_of(reduction), None
            if reduction == LATEST:
                is_led = followed is not None and self._open[path].is_growing
                column = latest = followed if is_led else main.newest_column
                if latest is None:
                    return Found(np.empty(0, np.int64), np.empty(0))
            held = main.complete if column is None else main.holds(column)
            row_nbytes = main.shape[1] * main.dtype.itemsize
            rows = np.asarray(choose(held, row_nbytes, latest), np.int64)
            chosen = reduction if column is None else column
            values = main.reduced(chosen, rows) if len(rows) else {}
            return Found(rows, next(iter(values.values()), np.empty(0)), latest)

        return await self._ask(read)

    async def listed(self, directory: Path) -> list[Path]:
        """Return the scans' files of a directory, the newest first."""
        return await self._ask(lambda: _newest_files(directory))

    async def _ask(self, read: Callable[[], _T]) -> _T:
        if self._waiting >= MAX_WAITING_COUNT:
            raise FileUnavailableError("the disk does not answer")
        self._waiting += 1
        future = self._thread.submit(read)
        future.add_done_callback(lambda _: self._one_less())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), READ_TIMEOUT_S)
        except TimeoutError as error:
            raise FileUnavailableError("the disk is slow to answer") from error
        except (OSError, KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
            raise FileUnavailableError(str(error)) from error

    def _one_less(self) -> None:
        self._waiting -= 1

    # -- in the thread

    def _mains(self, path: Path) -> list[LiveMain]:
        now, live = time.monotonic(), self._open.get(path)
        if live is None:
            live = self._open[path] = open_live(path)
            self._refreshed_s[path] = now
        elif now - self._refreshed_s[path] > REFRESH_INTERVAL_S:
            live.refresh()
            self._refreshed_s[path] = now
        self._open.move_to_end(path)
        while len(self._open) > MAX_OPEN_FILES_COUNT:
            closed, oldest = self._open.popitem(last=False)
            oldest.close()
            del self._refreshed_s[closed]
        mains = list(live.mains.values())
        if not mains:
            raise FileUnavailableError(f"{path.name} holds no main dataset")
        return mains

    def _close_all(self) -> None:
        for live in self._open.values():
            live.close()
        self._open.clear()


def _newest_files(directory: Path) -> list[Path]:
    with os.scandir(directory) as entries:
        found = [
            (entry.stat().st_mtime, Path(entry.path))
            for entry in entries
            if entry.name.endswith(".h5") and entry.is_file()
        ]
    return [path for _, path in sorted(found, reverse=True)[:MAX_LISTED_FILES_COUNT]]


def _view_of(main: LiveMain, name: str) -> MainView:
    """Say how a main is drawn, by its file."""
    dataset = main.dataset
    positions, spectra = dataset._positions, dataset._spectra
    is_table = not positions.arrangement.is_grid
    quantity, _, units = dataset.data_descriptor.rpartition(" (")
    return MainView(
        name=name.strip("/"),
        quantity=quantity,
        units=units.removesuffix(")"),
        n_positions=main.shape[0],
        n_columns=main.shape[1],
        positions=_axes_of(positions, dataset.h5_pos_vals, main.shape[0]),
        spectrum=_axes_of(spectra, dataset.h5_spec_vals, main.shape[1]),
        is_table=is_table,
        row_of_cell=positions.arrangement.rows,
        is_stack=main.is_by_column and main.shape[1] > 1,
    )


def _axes_of(side: Any, h5_vals: Any, length: int) -> tuple[Axis, ...]:
    if side.arrangement.is_grid:
        return tuple(
            Axis(
                side.labels[column],
                side.units[column],
                np.asarray(side.values(h5_vals, side.labels[column]), np.float64),
            )
            for column in side.slow_to_fast[::-1]
        )
    if side.is_spec:
        return (Axis("Column", "", np.arange(length, dtype=np.float64)),)
    return tuple(
        Axis(dimension.name, dimension.units, dimension.values)
        for dimension in side.coordinates(h5_vals, np.arange(length))
    )


def _as_real(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Take the magnitude of complex values and the first field of compound ones."""
    if values.dtype.names:
        return _as_real(values[values.dtype.names[0]])
    return np.abs(values) if values.dtype.kind == "c" else values
