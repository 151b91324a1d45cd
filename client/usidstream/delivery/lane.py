"""Gathering single pixels, and small blocks of whole rows, in blocks worth sending.

A lane serves a fixed choice of mains that are written together: one block for each of them comes
out of it. It knows rows, staging buffers and when a block is full; it must never know limits,
coverage or connections.

`put` is the path of every pixel: one comparison with ``next_row`` decides whether it is taken.
``next_row`` is None whenever anything at all needs attention (no open block, the end of a run, a
row that is covered already); the lane then belongs to whoever has the channel's lock. Otherwise it
belongs to whoever has its *turn*, an element that `put` pops from a list and appends again: both
are atomic, and take an eighth of the time of a lock. A thread that finds the list empty does not
wait there, it goes the path around; only `pause`, which that path begins with, waits for a turn.

An interrupt may end any call here at any step. A row counts from the one assignment on that makes
it part of the block (``next_row``, or ``_used``); what was stored before that is written over.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import conform
from .conform import Array, MainShape
from .payload import NUMBER_NBYTES, Payload, as_bytes, scattered
from .slabs import SlabRing, Slabs

TARGET_BLOCK_BYTES = 1 << 20
LEAST_BLOCK_BYTES = 128 * 1024
"""Between these is what a block of the widest main may come to: messages cost less a pixel when
they are long, and a pixel waits until its block is full."""
SLOW_FILL_S = 0.002
"""A block that took longer is followed by one of half its rows, if nothing waits to be sent."""
MAX_BLOCK_ROWS = 32768
MAX_SPANS_COUNT = 4096
"""Rows of a block whose main has several elements a row: where each stands is kept."""
DIRECT_ROW_BYTES = TARGET_BLOCK_BYTES // 2
"""A row from this size on is a block of its own: gathering would save no message."""
MIN_RUN_BYTES = 16 * 1024
"""A run of rows at least this long is sent on its own when the rows jump; a shorter one becomes
part of a scattered block, since tiny blocks cost more than row numbers."""

TURN_WAIT_S = 20e-6
"""Between two looks for a turn that another thread has, most often for less than a microsecond."""

TAKEN, ENDED, REFUSED = range(3)
"""What became of a pixel: taken; taken, and nothing more can follow it in its run; not taken."""

# What a memoryview says when values are not plainly of its format and shape; the warning is older
# numpy's, where warnings are errors, about an array that stands for a single number.
_NOT_PLAIN = (TypeError, ValueError, NotImplementedError, DeprecationWarning)
_COMPLEX = frozenset({complex, np.complex64, np.complex128})
_INDICES = frozenset({int, np.int32, np.int64, np.uint32, np.uint64})


class _Stage:
    """The staging buffer of one main: an array (rows, n_cols), handed on when it is full.

    Attributes
    ----------
    cells
        All elements one behind the other, in the buffer's own format. A memoryview takes values of
        exactly that format, and takes them in a third of the time of an array.
    spans
        Where each row stands in ``cells``; empty for a main of one element a row.
    is_direct
        Whether rows like the last one can be put in ``cells``; all others go through `store`.
    """

    def __init__(self, main: MainShape, ring: SlabRing) -> None:
        self.main = main
        # Where little-endian is the machine's own order, a view must not say so: memoryviews know
        # the plain format only.
        dtype = main.dtype.newbyteorder("=") if sys.byteorder == "little" else main.dtype
        self._slabs = Slabs(ring, main.n_rows * main.row_nbytes)
        self._set(np.empty((0, main.n_cols), dtype))
        self.spans: list[slice] = []
        self.is_direct = False
        self._is_plain = _is_plain(np.zeros(1, dtype).data)
        self._shapes = frozenset(main.spectrum_shapes)
        self._accepted = dtype
        self._numbers = _COMPLEX if dtype.kind == "c" and main.n_cols == 1 else frozenset()

    def store(self, index: int, row: int, values: Any) -> None:
        """Put any values that fit in a row; raise `BlockError` for others."""
        is_known = (
            type(values) is np.ndarray
            and values.dtype in (self._accepted, self.array.dtype)
            and values.shape in self._shapes
        )
        if is_known:
            self.array[index] = values if values.ndim == 1 else values.reshape(-1)
        elif type(values) in self._numbers:
            self.array[index] = values
        else:
            self.array[index] = self._conform(row, values)

    def _conform(self, row: int, values: Any) -> Array:
        array = conform.spectrum(self.main, row, values)
        # Integers are checked one by one; for other mains the type decides, once.
        if array.dtype.isbuiltin and self.array.dtype.kind in "fc":
            self._accepted = array.dtype
        return array

    def fit(self, rows: int, *, anew: bool) -> None:
        """Have room for so many rows, and no more. Nothing is stored.

        Parameters
        ----------
        anew
            The array may be somebody else's by now.
        """
        if anew or len(self.array) != rows:
            self._set(self._slabs.take_array((rows, self.main.n_cols), self.array.dtype))

    def let_go(self) -> None:
        """Hold no memory."""
        self._set(np.empty((0, self.main.n_cols), self.array.dtype))
        self._slabs.let_go()

    def _set(self, array: Array) -> None:
        cells = array.reshape(-1).data
        self.array, self.cells = array, cells

    def look_at(self, index: int, values: Any) -> None:
        """See whether rows like one that was stored can be put directly, and prepare for it."""
        n_cols = self.main.n_cols
        if self._is_plain and n_cols > 1 and len(self.spans) < len(self.array):
            starts = range(0, len(self.cells), n_cols)
            self.spans[:] = [slice(start, start + n_cols) for start in starts]
        try:
            self.is_direct = self._is_plain and self._put(index, values)
        except _NOT_PLAIN:
            self.is_direct = False

    def _put(self, index: int, values: Any) -> bool:
        """Put values directly; return whether that is the best way."""
        if not self.spans:
            self.cells[index] = values
            return True
        view = memoryview(values)
        self.cells[self.spans[index]] = view
        return view.c_contiguous  # with gaps, an array copies faster

    def rows(self, used: int) -> Array:
        """Return the used rows: the array itself if it is full, else a copy."""
        if used == len(self.array):
            return self.array
        rows: Array = self._slabs.take_array((used, self.main.n_cols), self.array.dtype)
        rows[...] = self.array[:used]
        return rows


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
    ring
        Where blocks have their memory; one of its own if None.

    Attributes
    ----------
    closed
        The payloads of the block that was closed last, until somebody has all of them.
    reserved_bytes
        What whoever opened the block has set aside for it.
    """

    def __init__(
        self,
        mains: Sequence[MainShape],
        max_bytes: int = TARGET_BLOCK_BYTES,
        ring: SlabRing | None = None,
    ) -> None:
        self.mains = tuple(mains)
        ring = SlabRing() if ring is None else ring
        self.count = len(self.mains)
        self.n_rows = self.mains[0].n_rows
        widest = max(main.row_nbytes for main in self.mains)
        target = min(max_bytes, TARGET_BLOCK_BYTES)
        narrow = all(main.n_cols == 1 for main in self.mains)
        most = MAX_BLOCK_ROWS if narrow else MAX_SPANS_COUNT
        self._most = max(1, min(target // widest, most, self.n_rows))
        self.least_capacity = min(self._most, max(1, LEAST_BLOCK_BYTES // widest))
        self.capacity = self._most
        self.closed: list[Payload] = []
        self.reserved_bytes = 0
        self.begun_s = 0.0
        self._stages = [_Stage(main, ring) for main in self.mains]
        self._only = self._stages[0]
        # Where the fast path puts values; see `_open`.
        self._cells: memoryview | None = None
        self._spans: list[slice] = []
        self._narrow: list[tuple[str, memoryview]] = []
        self._wide: list[tuple[str, memoryview, list[slice]]] = []
        self._others: list[_Stage] = []
        self.next_row: int | None = None
        self.scatters = False
        self.turn = [True]
        self._used = 0
        self._is_spent = False
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
        return self.capacity * sum(main.row_nbytes + NUMBER_NBYTES for main in self.mains)

    @property
    def used(self) -> int:
        """How many rows the open block has."""
        next_row = self.next_row
        return self._used if next_row is None else next_row - self._first

    @property
    def full(self) -> bool:
        """Whether the open block must be taken before another row."""
        return self.used == self.capacity

    # ------------------------------------------------------------ the fast path

    def put(self, row: Any, spectrum: Any) -> int:
        """Take the spectrum of the only main, if its row is the next one of the open block.

        Returns
        -------
        int
            ``TAKEN``, ``ENDED`` or ``REFUSED``.
        """
        try:
            self.turn.pop()
        except IndexError:
            return REFUSED
        except BaseException:  # an interrupt comes after the call
            self.turn.append(True)
            raise
        try:
            at: Any = self.next_row
            if row != at or at is None:
                return REFUSED
            try:
                if self._cells is None:
                    self._store(at, spectrum)
                elif self._spans:
                    self._cells[self._spans[at - self._first]] = spectrum
                else:
                    self._cells[at - self._first] = spectrum
            except _NOT_PLAIN:
                self._store(at, spectrum)
            at += 1
            if at == self._stop:
                return self._end_run(at)
            self.next_row = at
            return TAKEN
        except KeyError:  # a dict of mains, or not plain
            return REFUSED
        finally:
            self.turn.append(True)

    def put_all(self, row: Any, spectra: Mapping[str, Any]) -> int:
        """Take the spectra of all mains of the lane and no others; as `put`."""
        try:
            self.turn.pop()
        except IndexError:
            return REFUSED
        except BaseException:
            self.turn.append(True)
            raise
        try:
            at: Any = self.next_row
            if row != at or at is None or len(spectra) != self.count:
                return REFUSED
            try:
                index = at - self._first
                for name, cells in self._narrow:
                    cells[index] = spectra[name]
                if self._wide or self._others:
                    _refuse_foreign(self._others, spectra)
                    self._put_others(index, at, spectra)
            except _NOT_PLAIN:
                _refuse_foreign(self._stages, spectra)
                self._store_all(index, at, spectra)
            at += 1
            if at == self._stop:
                return self._end_run(at)
            self.next_row = at
            return TAKEN
        except KeyError:  # as many mains as the lane has, but others; or not plain
            return REFUSED
        finally:
            self.turn.append(True)

    def _put_others(self, index: int, row: int, spectra: Mapping[str, Any]) -> None:
        for name, cells, spans in self._wide:
            cells[spans[index]] = spectra[name]
        for stage in self._others:
            stage.store(index, row, spectra[stage.main.name])

    def _store(self, row: int, spectrum: Any) -> None:
        if not conform.is_plain(spectrum):
            raise KeyError(self._only.main.name)
        self._only.store(row - self._first, row, spectrum)

    def _end_run(self, stop: int) -> int:
        """Take no more rows this way. Only with the lane's turn."""
        self._used, self.next_row = stop - self._first, None
        return ENDED

    def scatter(self, row: Any, spectra: Mapping[str, Any]) -> bool:
        """Take a row of an open block of scattered rows, if nothing about it needs attention.

        Only where ``scatters`` is true; a row that is refused here goes the path around.
        """
        if type(row) not in _INDICES or not 0 <= row < self.n_rows or row in self._seen:
            return False
        if len(spectra) != self.count:
            return False
        used = self._used
        try:
            _refuse_foreign(self._stages, spectra)
            self._put(used, row, spectra)
        except KeyError:
            return False
        self._add_number(row, used)
        self.scatters = used + 1 < self.capacity
        return True

    def _add_number(self, row: int, used: int) -> None:
        """Let a row that was stored count as one of an open block of scattered rows."""
        self._seen.add(row)
        # No call from here on, so no interrupt between a number and its count.
        self._numbers[used:] = (row,)  # type: ignore[index]  # there while rows are scattered
        self._used = used + 1

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
        """Lead the next row off the fast paths, and wait until no thread is on them."""
        self.scatters = False
        while self.next_row is not None:
            try:
                self.turn.pop()
            except IndexError:
                time.sleep(TURN_WAIT_S)
                continue
            except BaseException:
                self.turn.append(True)
                raise
            try:
                if self.next_row is not None:
                    self._end_run(self.next_row)
            finally:
                self.turn.append(True)

    def resize(self, *, fill_s: float, is_behind: bool) -> None:
        """After a block was taken: choose how many rows the next one may have.

        Parameters
        ----------
        fill_s
            How long the last one was open.
        is_behind
            Blocks wait to be sent: longer ones cost less.
        """
        if is_behind:
            self.capacity = min(self._most, 2 * self.capacity)
        elif fill_s > SLOW_FILL_S:
            self.capacity = max(self.least_capacity, self.capacity // 2)

    def begin(self, row: int, stop: int, *, may_scatter: bool = True, now: float = 0.0) -> None:
        """Open a block at a row; none must be open, nor ``closed`` hold any.

        Parameters
        ----------
        row, stop
            The fast path may go on from ``row`` to, not including, ``stop``.
        may_scatter
            Nothing needs to be known of a row but that it is in bounds and not in the block.
        now
            Kept as ``begun_s``.
        """
        for stage in self._stages:
            stage.fit(self.capacity, anew=self._is_spent)
        self._is_spent = False
        self.begun_s = now
        self._first = row
        self._may_scatter = may_scatter
        self._stop = min(stop, row + self.capacity)
        self._numbers = None
        self._wholes = []
        self._generation += 1
        self._narrow, self._wide, self._others = [], [], self._stages

    def place_rows(self, table: Array) -> None:
        """Take rows (n, M) of the only main that `extends`, or the first ones after `begin`.

        They were written in one call, and are refused as one.
        """
        start, stop = self._used, self._used + len(table)
        self._only.array[start:stop] = table
        self._wholes += ((start, stop),)
        self._used = stop

    def place(self, row: int, spectra: Mapping[str, Any]) -> None:
        """Take a row that `takes` accepts, or the first one after `begin`."""
        used = self._used
        self._put(used, row, spectra)
        if self._numbers is None and row != self._first + used:
            numbers = list(range(self._first, self._first + used))
            self._seen = set(numbers)
            self._numbers = numbers
        if self._numbers is not None:
            self._add_number(row, used)
        elif row + 1 < self._stop:
            self._open(row, spectra)
        else:
            self._used = used + 1
        self.scatters = self._may_scatter and self._numbers is not None and not self.full

    def _open(self, row: int, spectra: Mapping[str, Any]) -> None:
        """Let rows like this one, which was stored, go on by the fast path behind it."""
        stages = self._stages
        for stage in stages:
            stage.look_at(row - self._first, spectra[stage.main.name])
        direct = [stage for stage in stages if stage.is_direct]
        others = [stage for stage in stages if not stage.is_direct]
        narrow = [(s.main.name, s.cells) for s in direct if not s.spans]
        wide = [(s.main.name, s.cells, s.spans) for s in direct if s.spans]
        # No call from here on, so no interrupt: rows are put by all of these, or by none.
        self._narrow, self._wide, self._others = narrow, wide, others
        self._cells = self._only.cells if self._only.is_direct else None
        self._spans = self._only.spans
        self.next_row = row + 1

    def _put(self, index: int, row: int, spectra: Mapping[str, Any]) -> None:
        try:
            for name, cells in self._narrow:
                cells[index] = spectra[name]
            self._put_others(index, row, spectra)
        except _NOT_PLAIN:
            self._store_all(index, row, spectra)

    def _store_all(self, index: int, row: int, spectra: Mapping[str, Any]) -> None:
        for stage in self._stages:
            stage.store(index, row, spectra[stage.main.name])

    def close(self) -> None:
        """Close the open block, if one is: ``closed`` has a payload for each main."""
        self.pause()
        used, numbers = self._used, self._numbers
        if not used:
            return
        rows = range(self._first, self._first + used) if numbers is None else numbers[:used]
        stages, wholes = self._stages, self._wholes
        closed = [_payload(stage.main, rows, stage.rows(used), wholes) for stage in stages]
        is_spent = used == len(self._only.array)
        # No call from here on, so no interrupt: the rows are in the block, or in its payloads.
        self.closed, self._is_spent = closed, is_spent
        self._used, self._numbers, self._wholes = 0, None, []

    def take(self) -> list[Payload]:
        """Close the open block and return it, one payload for each main."""
        self.close()
        taken, self.closed = self.closed, []
        return taken

    def let_go(self) -> None:
        """Let the open block go, and hold no memory."""
        self.pause()
        self._used, self._numbers, self._wholes, self.closed = 0, None, [], []
        for stage in self._stages:
            stage.let_go()

    def lingers(self) -> bool:
        """At a tick: whether the open block was open at the tick before."""
        if not self.used:
            return False
        before, self._ticked = self._ticked, self._generation
        return before == self._generation


def _refuse_foreign(stages: Sequence[_Stage], spectra: Mapping[str, Any]) -> None:
    """Raise KeyError for values that are not at hand: making an array of them may call anything.

    That is for a caller who holds nothing that others wait for.
    """
    for stage in stages:
        if not conform.is_plain(spectra[stage.main.name]):
            raise KeyError(stage.main.name)


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
