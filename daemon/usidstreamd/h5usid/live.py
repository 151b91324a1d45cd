"""A file that may still grow: opened safely, read as far as it is covered, refreshed, drawn.

`open_live` opens any h5USID file: one that is being written (SWMR), one whose writer has died, a
finished one, and files of other programs. What has arrived stands beside each main in
``completed_positions`` and ``partial_ranges``; a main without them is taken for whole. Reads are
bounded in time whatever state the file is in (see `swmr`), and in memory by bands of rows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np

from .arrangement import Array
from .attributes import get_attr
from .plotting import parts_of
from .points import BAND_BYTES, read_crossing
from .reductions import Reduction, reduce_rows, reduced_dtype
from .swmr import MAX_TRIES_COUNT, TRY_PAUSE_S, open_readable, unreadable
from .tree import get_all_main
from .usi_dataset import USIDataset

COMPLETE = 1
_COVERAGE = ("completed_positions", "partial_ranges")

_READ_ERRORS = (OSError, RuntimeError, KeyError, ValueError)
"""What h5py raises for metadata that is torn, and for handles that it made invalid."""


def open_live(path: str | PathLike[str]) -> LiveFile:
    """Open a file that may still be written to.

    Never hangs: metadata that a dead writer has left half-written is read a bounded number of
    times. Takes no lock, so that it stands in no writer's way.

    Parameters
    ----------
    path
        An h5USID file of any writer and age.

    Returns
    -------
    LiveFile
        Use it in a ``with`` block, or call its ``close``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    OSError
        It is no HDF5 file, or cannot be read; the message says what helps.

    Examples
    --------
    >>> with open_live("sample_A.h5") as live:                       # doctest: +SKIP
    ...     main = live.main()
    ...     while live.refresh() == "acquiring":
    ...         print(main.n_complete, "of", main.shape[0])
    ...     main.plot("mean")
    """
    return LiveFile(Path(path))


class LiveFile:
    """An open h5USID file; see `open_live`.

    Attributes
    ----------
    path : Path
    is_growing : bool
        Whether the file is marked as open for a writer. A writer that died leaves the mark.
    status : str
        ``acquiring``, ``complete``, ``incomplete``, ``aborted`` or ``interrupted``, as of the last
        refresh; empty where the file has none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mains: dict[str, LiveMain] = {}
        self._h5_file: Any = None
        self._is_closed = False
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        self._is_closed = True
        self._release()

    @property
    def mains(self) -> dict[str, LiveMain]:
        """The mains by their paths, in the order of the file."""
        return dict(self._mains)

    def main(self, path: str | None = None) -> LiveMain:
        """Return a main by its path, or the first one.

        Raises
        ------
        KeyError
            There is no such main; the message lists those there are.
        """
        if not self._mains:
            raise KeyError(f"{self.path} holds no h5USID main dataset")
        if path is None:
            return next(iter(self._mains.values()))
        found = self._mains.get("/" + path.strip("/"))
        if found is None:
            raise KeyError(f"{self.path} has no main {path!r}; its mains are {list(self._mains)}")
        return found

    def refresh(self) -> str:
        """See what has become visible since; return the status.

        When the writer has closed the file, or another file has taken its name, it is opened anew;
        mains that were handed out before go on working.

        Raises
        ------
        OSError
            The file cannot be read (any more); coverage that was known before stays, and it can be
            tried again.
        """
        if self._is_closed:
            raise OSError(f"{self.path} is closed")
        is_same = self._h5_file is not None and _identity(self.path) == self._identity
        if is_same and not self.is_growing:
            return self.status
        if not (is_same and _is_marked(self.path) and self._refreshed()):
            self._open()
        return self.status

    def _refreshed(self) -> bool:
        """Refresh in place; False if that failed, which makes HDF5 lose hold of the dataset."""
        try:
            for main in self._mains.values():
                main._refresh()
        except _READ_ERRORS:
            return False
        return True

    def _open(self) -> None:
        # HDF5 knows one state for each file of a process: the old one must be closed first.
        self._release()
        identity = _identity(self.path)
        self._h5_file, self.is_growing = open_readable(self.path)
        try:
            self._retrying(self._attach)
        except BaseException:
            self._release()
            raise
        self._identity = identity

    def _attach(self) -> None:
        for dataset in get_all_main(self._h5_file):
            main = self._mains.setdefault(str(dataset.name), LiveMain(dataset))
            main._attach(dataset)
            main._refresh()
        self.status = _status_of(self._h5_file)

    def _release(self) -> None:
        if self._h5_file is not None:
            with suppress(OSError):  # nothing was written
                self._h5_file.close()
            self._h5_file = None

    def _retrying(self, read: Callable[[], None]) -> None:
        """Read, a few times: a page may be read between two halves of its being written."""
        for attempt in range(MAX_TRIES_COUNT):
            try:
                read()
                return
            except _READ_ERRORS as error:
                failure = error
            if attempt + 1 < MAX_TRIES_COUNT:
                time.sleep(TRY_PAUSE_S)
        raise unreadable(self.path, OSError(str(failure))) from failure


class LiveMain:
    """A main dataset of a file that may still grow.

    Attributes
    ----------
    dataset : USIDataset
        For whatever else is asked of it; of positions that are not complete it holds fill values.
    states : (N,) array of uint8
        0 missing, 1 complete, 2 partial, for each position, as of the last refresh.
    partial : (k, 4) array of int64
        Row, row end, column, column end, half-open: what is held of partial positions.
    is_by_column : bool
        Whether the data was to come column by column, as a stack of images does.
    """

    def __init__(self, dataset: USIDataset) -> None:
        self.name, self.shape, self.dtype = str(dataset.name), dataset.shape, dataset.dtype
        self._attach(dataset)
        self.states = np.full(self.shape[0], 0 if self._beside else COMPLETE, np.uint8)
        self.partial = np.empty((0, 4), np.int64)

    def _attach(self, dataset: USIDataset) -> None:
        self.dataset, self._beside = dataset, _coverage_beside(dataset)
        order = self._beside[0].attrs.get("order", "") if self._beside else ""
        self.is_by_column = _text(order) == "columns"

    def _refresh(self) -> None:
        if not self._beside:
            return
        completed, ranges = self._beside
        for dataset in self._beside:
            dataset.refresh()
        table = ranges[()].reshape(-1, 4)
        self.states = completed[()]
        self.partial = table[table[:, 1] > table[:, 0]]
        # after them: the writer flushes it before them, so what they say is there can be read
        self.dataset.refresh()

    @property
    def complete(self) -> Array:
        """(N,) bool: the positions of which every element is there."""
        return np.asarray(self.states == COMPLETE)

    def holds(self, column: int) -> Array:
        """Return (N,) bool: the positions of which an element is there, complete or not."""
        held = self.complete
        around = (self.partial[:, 2] <= column) & (column < self.partial[:, 3])
        for row, row_end in self.partial[around, :2]:
            held[row:row_end] = True
        return held

    def held_of(self, row: int) -> Array:
        """Return (M,) bool: the elements of a position that are there.

        Raises
        ------
        IndexError
            The row is outside of the main.
        """
        held = np.full(self.shape[1], self.states[self._checked([row])[0]] == COMPLETE)
        around = (self.partial[:, 0] <= row) & (row < self.partial[:, 1])
        for first, end in self.partial[around, 2:]:
            held[first:end] = True
        return held

    @property
    def newest_column(self) -> int | None:
        """The last column of which anything is there, None where nothing is."""
        if self.n_complete:
            return int(self.shape[1]) - 1
        return int(self.partial[:, 3].max()) - 1 if len(self.partial) else None

    @property
    def n_complete(self) -> int:
        """The number of complete positions."""
        return int(np.count_nonzero(self.complete))

    @property
    def missing(self) -> list[tuple[int, int]]:
        """Half-open ranges of positions that are not complete."""
        edges = np.flatnonzero(np.diff(~self.complete, prepend=False, append=False))
        return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]

    def rows(self, rows: Any) -> Array:
        """Read whole spectra.

        Parameters
        ----------
        rows : int or 1-D array of int
            Position numbers, in any order.

        Returns
        -------
        (M,) or (n, M) array
            Of positions that are not complete, what is there, and fill values elsewhere.

        Raises
        ------
        IndexError
            A row is outside of the main.
        OSError
            The file cannot be read.
        """
        found = self._read(self._checked(rows), slice(0, self.shape[1]))
        return np.asarray(found[0]) if np.ndim(rows) == 0 else found

    def _checked(self, rows: Any) -> Array:
        numbers = np.atleast_1d(np.asarray(rows, dtype=np.int64))
        if ((numbers < 0) | (numbers >= self.shape[0])).any():
            raise IndexError(f"rows of {self.name} run from 0 to {self.shape[0] - 1}")
        return numbers

    def _read(self, rows: Array, columns: slice) -> Array:
        if not self.dataset:
            raise OSError(f"{self.name} cannot be read at present; refresh its file, or open it")
        return read_crossing(self.dataset, rows, columns)

    def reduced(self, reduction: Reduction = "mean", rows: Any = None) -> dict[str, Array]:
        """Reduce each position's spectrum to one value: what a map shows.

        Parameters
        ----------
        reduction
            ``"mean"``, ``"max"``, or a column number.
        rows : 1-D array of int, optional
            Only these positions. Default: all.

        Returns
        -------
        dict
            (n,) float64 for each part: fields of compound values, magnitude and phase of complex
            ones, else a single part "". NaN for positions of which the column is not there, or that
            are not complete. The phase is that of the mean.
        """
        wanted = np.arange(self.shape[0]) if rows is None else np.asarray(rows, np.int64)
        held = self.complete if isinstance(reduction, str) else self.holds(reduction)
        known = held[wanted]
        values = np.zeros(len(wanted), reduced_dtype(self.dtype))
        columns = slice(0, self.shape[1])
        if not isinstance(reduction, str):
            columns = slice(reduction, reduction + 1)
        for at in _batches(np.flatnonzero(known), self.shape[1] * self.dtype.itemsize):
            values[at] = reduce_rows(self._read(wanted[at], columns), reduction)
        return {name: np.where(known, part, np.nan) for name, part in parts_of(values).items()}

    def mean_spectrum(self) -> dict[str, Array]:
        """Average the spectra of all complete positions.

        Returns
        -------
        dict
            (M,) float64 for each part, as `reduced` names them; NaN if no position is complete.
        """
        names = list(parts_of(np.zeros((0, 1), self.dtype)))
        sums = {name: np.zeros(self.shape[1]) for name in names}
        counts = {name: np.zeros(self.shape[1], np.int64) for name in names}
        numbers = np.flatnonzero(self.complete)
        for at in _batches(numbers, self.shape[1] * self.dtype.itemsize):
            for name, part in parts_of(self.rows(at)).items():
                sums[name] += np.nansum(part, axis=0, dtype=np.float64)
                counts[name] += np.count_nonzero(~np.isnan(part), axis=0)
        return {
            name: np.divide(sums[name], counts[name], where=counts[name] > 0,
                            out=np.full(self.shape[1], np.nan))
            for name in names
        }  # fmt: skip

    def plot(self, reduction: Reduction = "mean") -> Any:
        """Draw the map as far as it has come, and the mean spectrum.

        Returns
        -------
        matplotlib.figure.Figure
            ``figure.savefig("map.png")`` writes it; a notebook shows it.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from .overview import draw_overview

        return draw_overview(self, reduction)


def _batches(numbers: Array, row_nbytes: int) -> Iterator[Array]:
    height = max(BAND_BYTES // max(row_nbytes, 1), 1)
    for start in range(0, len(numbers), height):
        yield numbers[start : start + height]


def _coverage_beside(dataset: USIDataset) -> tuple[Any, Any] | None:
    """Return the two datasets that tell what a main holds, if they are there and are its own."""
    group, name = dataset.parent, str(dataset.name).rpartition("/")[2]
    if not all(beside in group for beside in _COVERAGE):
        return None
    found = tuple(group[beside] for beside in _COVERAGE)
    is_own = all(_text(beside.attrs.get("main", name)) == name for beside in found)
    return (found[0], found[1]) if is_own and found[0].shape == dataset.shape[:1] else None


def _status_of(h5_file: Any) -> str:
    for group in h5_file.values():
        if "acquisition_status" in getattr(group, "attrs", ()):
            return _text(get_attr(group, "acquisition_status"))
    return ""


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _identity(path: Path) -> tuple[int, int]:
    stat = os.stat(path)
    return stat.st_dev, stat.st_ino


def _is_marked(path: Path) -> bool:
    """Tell whether a superblock of version 3 (which SWMR needs) says that a writer is at it."""
    with path.open("rb") as raw:
        head = raw.read(12)
    return len(head) == 12 and bool(head[11])
