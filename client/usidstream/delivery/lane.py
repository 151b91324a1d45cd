"""Gathering single pixels, and small blocks of whole rows, in blocks worth sending.

A lane serves a fixed choice of mains that are written together: one block for each of them comes
out of it. It knows rows, staging buffers and when a block is full; it must never know clocks, locks
or connections. `put` is the path of every pixel and costs about a microsecond: its one comparison,
``row == next_row``, is made by the caller, because ``next_row`` is None whenever anything at all
needs attention (no open block, the end of a run, a row that is covered already).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import conform
from .conform import Array, MainShape
from .payload import Payload, as_bytes, scattered

TARGET_BLOCK_BYTES = 1 << 20
MAX_BLOCK_ROWS = 16384
MAX_VIEWS_COUNT = 4096
"""Rows of a block whose main has several elements a row: each row keeps a view of its own."""
DIRECT_ROW_BYTES = TARGET_BLOCK_BYTES // 2
"""A row from this size on is a block of its own: gathering would save no message."""
MAX_HANDED_ROWS_COUNT = 64
"""A full buffer of so few rows is handed on, and replaced by a new one; one of more is copied,
which costs less than new views of all its rows."""
MIN_RUN_BYTES = 16 * 1024
"""A run of rows at least this long is sent on its own when the rows jump; a shorter one becomes
part of a scattered block, since tiny blocks cost more than row numbers."""

# What a memoryview says when values are not plainly of its format and shape; the warning is older
# numpy's, where warnings are errors, about an array that stands for a single number.
_NOT_PLAIN = (TypeError, ValueError, NotImplementedError, DeprecationWarning)
_INDICES = frozenset({int, np.int32, np.int64, np.uint32, np.uint64})


class _Stage:
    """The staging buffer of one main: an array (capacity, n_cols) and views of each row."""

    def __init__(self, main: MainShape, capacity: int) -> None:
        self.main = main
        # Where little-endian is the machine's own order, a view must not say so: memoryviews know
        # the plain format only.
        dtype = main.dtype.newbyteorder("=") if sys.byteorder == "little" else main.dtype
        self.array: Array = np.empty((capacity, main.n_cols), dtype=dtype)
        # A memoryview takes a value of exactly its own format, and takes it in a third of the time
        # of an array; everything else goes through `conform`.
        self.cells = self.array.reshape(-1).data
        self.plain = _is_plain(self.cells)
        self.narrow = self.plain and main.n_cols == 1
        self.slots: list[memoryview] = []
        self._view_rows()
        self._shape = (main.n_cols,)
        self._accepted = dtype

    def store(self, index: int, row: int, values: Any) -> None:
        """Put any values that fit in a row; raise `BlockError` for others."""
        is_known = (
            type(values) is np.ndarray
            and values.shape == self._shape
            and values.dtype in (self._accepted, self.array.dtype)
        )
        if not is_known:
            array = conform.spectrum(self.main, row, values)
            # Integers are checked one by one; for other mains the type decides, once.
            if array.dtype.isbuiltin and self.array.dtype.kind in "fc":
                self._accepted = array.dtype
            values = array
        self.array[index] = values

    def take(self, used: int) -> Array:
        """Take the used rows out, so that others can be stored at once."""
        array = self.array
        if self.narrow or not used == len(array) <= MAX_HANDED_ROWS_COUNT:
            return array[:used].copy()
        self.array = np.empty_like(array)
        self._view_rows()
        return array

    def _view_rows(self) -> None:
        if self.plain and not self.narrow:
            self.slots[:] = [row.data for row in self.array]


def _is_plain(cells: memoryview) -> bool:
    try:
        cells[0] = cells[0]
    except NotImplementedError:  # complex and compound types
        return False
    return True


class Lane:
    """The open block of one choice of mains.

    Parameters
    ----------
    mains
        At least one.
    max_bytes
        Upper limit of a block of the widest main.
    """

    def __init__(self, mains: Sequence[MainShape], max_bytes: int = TARGET_BLOCK_BYTES) -> None:
        self.mains = tuple(mains)
        self.count = len(self.mains)
        self.n_rows = self.mains[0].n_rows
        widest = max(main.row_nbytes for main in self.mains)
        target = min(max_bytes, TARGET_BLOCK_BYTES)
        narrow = all(main.n_cols == 1 for main in self.mains)
        most = MAX_BLOCK_ROWS if narrow else MAX_VIEWS_COUNT
        self.capacity = max(1, min(target // widest, most, self.n_rows))
        stages = [_Stage(main, self.capacity) for main in self.mains]
        self._stages = stages
        self._only = stages[0]
        self._narrow = [(s.main.name, s.cells) for s in stages if s.narrow]
        self._wide = [(s.main.name, s.slots) for s in stages if s.plain and not s.narrow]
        self._odd = [s for s in stages if not s.plain]
        self.next_row: int | None = None
        self.scatters = False
        self.used = 0
        self._generation = 0
        self._ticked = 0
        self._first = 0
        self._stop = 0
        self._may_scatter = True
        self._numbers: list[int] | None = None
        self._seen: set[int] = set()
        self._wholes: list[tuple[int, int]] = []

    @property
    def nbytes(self) -> int:
        """The most bytes that the open block can come to, row numbers included."""
        return self.capacity * sum(main.row_nbytes + 8 for main in self.mains)

    @property
    def full(self) -> bool:
        """Whether the open block must be taken before another row."""
        return self.used == self.capacity

    # ------------------------------------------------------------ the fast path

    def put(self, spectrum: Any) -> None:
        """Take the spectrum of row ``next_row`` of the only main."""
        used = self.used
        stage = self._only
        try:
            if stage.narrow:
                stage.cells[used] = spectrum
            elif stage.plain:
                stage.slots[used][:] = spectrum
            else:
                stage.store(used, self.next_row or 0, spectrum)
        except _NOT_PLAIN:
            stage.store(used, self.next_row or 0, spectrum)
        self.used = used = used + 1
        self.next_row += 1  # type: ignore[operator]  # the caller has compared it with a row
        if self.next_row == self._stop:
            self.next_row = None

    def put_all(self, spectra: Mapping[str, Any]) -> None:
        """Take the spectra of row ``next_row`` of every main of the lane."""
        used = self.used
        try:
            for name, cells in self._narrow:
                cells[used] = spectra[name]
            for name, slots in self._wide:
                slots[used][:] = spectra[name]
            for stage in self._odd:
                stage.store(used, self.next_row or 0, spectra[stage.main.name])
        except _NOT_PLAIN:
            self._store_all(self.next_row or 0, spectra)
        self.used = used = used + 1
        self.next_row += 1  # type: ignore[operator]  # the caller has compared it with a row
        if self.next_row == self._stop:
            self.next_row = None

    def scatter(self, row: Any, spectra: Mapping[str, Any]) -> bool:
        """Take a row of an open block of scattered rows, if nothing about it needs attention.

        Only where ``scatters`` is true; a row that is refused here goes the path around.
        """
        if type(row) not in _INDICES or not 0 <= row < self.n_rows or row in self._seen:
            return False
        self._store_all(row, spectra)
        self._numbers.append(row)  # type: ignore[union-attr]  # there while scatters is true
        self._seen.add(row)
        self.used = used = self.used + 1
        self.scatters = used < self.capacity
        return True

    # ------------------------------------------------------------ the path around it

    def takes(self, row: int) -> bool:
        """Whether the open block, which must not be empty, can take this row besides its others.

        It cannot when it is full, when it holds the row already (the daemon must see the second
        one apart, to refuse it alone), and when it is a long run that the row does not continue.
        """
        if self.full:
            return False
        if self._numbers is None:
            first = self._first
            if row == first + self.used:
                return True
            if first <= row < first + self.used:
                return False
            return self.used * self._only.main.row_nbytes < MIN_RUN_BYTES
        return row not in self._seen

    def extends(self, row: int, rows: int) -> bool:
        """Whether rows ``row ..`` continue the open run, and all of them fit in it."""
        is_run = self.used and self._numbers is None and row == self._first + self.used
        return bool(is_run) and self.used + rows <= self.capacity

    def pause(self) -> None:
        """Lead the next row off the fast paths."""
        self.next_row, self.scatters = None, False

    def begin(self, row: int, stop: int, *, may_scatter: bool = True) -> None:
        """Open a block at a row.

        Parameters
        ----------
        row, stop
            The fast path may go on from ``row`` to, not including, ``stop``.
        may_scatter
            Nothing needs to be known of a row but that it is in bounds and not in the block.
        """
        self._first = row
        self._may_scatter = may_scatter
        self._stop = min(stop, row + self.capacity)
        self._numbers = None
        self._wholes = []
        self._generation += 1

    def place_rows(self, row: int, table: Array) -> None:
        """Take rows (n, M) of the only main that `extends`, or the first ones after `begin`.

        They were written in one call, and are refused as one.
        """
        start, stop = self.used, self.used + len(table)
        self._only.array[start:stop] = table
        self._wholes.append((start, stop))
        self.used = stop
        is_open = row + len(table) < self._stop
        self.next_row = row + len(table) if is_open else None

    def place(self, row: int, spectra: Mapping[str, Any]) -> None:
        """Take a row that `takes` accepts, or the first one after `begin`."""
        self._store_all(row, spectra)
        if self._numbers is None and row != self._first + self.used:
            self._numbers = list(range(self._first, self._first + self.used))
            self._seen = set(self._numbers)
        if self._numbers is not None:
            self._numbers.append(row)
            self._seen.add(row)
        self.used += 1
        run = self._numbers is None and row + 1 < self._stop
        self.next_row = row + 1 if run else None
        self.scatters = self._may_scatter and self._numbers is not None and not self.full

    def _store_all(self, row: int, spectra: Mapping[str, Any]) -> None:
        for stage in self._stages:
            stage.store(self.used, row, spectra[stage.main.name])

    def take(self) -> list[Payload]:
        """Close the open block and return it, one payload for each main."""
        used, numbers = self.used, self._numbers
        self.pause()
        self.used, self._numbers = 0, None
        if not used:
            return []
        rows = range(self._first, self._first + used) if numbers is None else numbers
        wholes, self._wholes = self._wholes, []
        return [_payload(stage.main, rows, stage.take(used), wholes) for stage in self._stages]

    def lingers(self) -> bool:
        """At a tick: whether the open block was open at the tick before."""
        if not self.used:
            return False
        before, self._ticked = self._ticked, self._generation
        return before == self._generation


def _payload(
    main: MainShape, rows: range | list[int], data: Array, wholes: Sequence[tuple[int, int]]
) -> Payload:
    if not isinstance(rows, range):
        payload = scattered(main.name, rows, 0, main.n_cols, data, single=True)
    else:
        contents = as_bytes(data)
        payload = Payload(main.name, rows.start, len(rows), 0, main.n_cols, contents, single=True)
    payload.wholes = wholes
    return payload
