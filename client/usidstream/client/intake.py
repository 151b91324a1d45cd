"""What a scan's callers write, on its way to delivery: pixels through lanes, blocks in pieces.

Everything here is called with the channel's lock, which is open only while a piece is copied. It
knows what the daemon holds from before a resume and leaves it out; it must never know connections.

A call that raises has taken nothing of what it was given, except where `add_rows` says so: it is
checked, room is made for it and it is copied before delivery gets any of it, in one step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..delivery import (
    NUMBER_NBYTES,
    Lane,
    MainShape,
    Payload,
    Rows,
    as_bytes,
    conform,
    scattered,
)
from ..errors import UsidstreamError
from .channel import Channel

PIECE_BYTES = 1 << 20
"""Large blocks travel in pieces of about this size, each with a buffer of its own, so that memory
is freed as they become durable."""
MAX_GATHERED_BYTES = 128 * 1024
"""Blocks of whole rows up to this size travel with their neighbours: a message costs more."""


@dataclass(frozen=True)
class _Pieces:
    """A block that goes in pieces.

    Parameters
    ----------
    rows, cols, dtype
        What it comes to.
    make
        Copies rows ``start`` to ``stop`` into an array of their shape.
    extra_nbytes
        What a row takes besides its elements.
    given_at
        Which of the rows that the caller gave each of these is; None if they are the same.
    """

    rows: int
    cols: int
    dtype: np.dtype[Any]
    make: Callable[[int, int, conform.Array], Payload]
    extra_nbytes: int = 0
    given_at: Rows | None = None

    @property
    def row_nbytes(self) -> int:
        return self.cols * self.dtype.itemsize + self.extra_nbytes

    def given_before(self, start: int) -> int:
        """Return how many of the rows that the caller gave are dealt with before one of these."""
        return start if self.given_at is None else int(self.given_at[start])


class Intake:
    """The writing side of one scan.

    Parameters
    ----------
    channel
        The scan's, with its mains.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._delivery = channel.delivery
        self._lanes = channel.lanes

    def lane(self, mains: Sequence[MainShape]) -> Lane:
        """Return the lane for these mains."""
        limit_bytes = self._delivery.retain_limit_bytes // (4 * len(self._channel.mains))
        return self._lanes.get(mains, limit_bytes)

    def settle(self, lane: Lane) -> None:
        """Send a lane's block if it is full."""
        if lane.full:
            self._seal(lane)

    def _seal(self, lane: Lane) -> None:
        self._lanes.seal(lane)
        self._channel.post()

    def _seal_all(self, main: MainShape, but: Lane | None = None) -> None:
        if self._lanes.seal_all(main.name, but):
            self._channel.post()

    # ------------------------------------------------------------ pixels

    def place(self, lane: Lane, row: Any, spectra: Mapping[str, Any]) -> None:
        """Take a pixel off the fast path: open blocks, jump, skip, wait, raise."""
        row = conform.integer(row, "row")
        self._channel.check()
        conform.span(lane.mains[0], row, 1, 0, 1)
        parts = self._lacking(lane, row, spectra) if self._channel.held else [(lane, spectra)]
        self._make_ready([lane for lane, _ in parts], row)
        for part, values in parts:
            try:
                part.place(row, values)
            finally:
                if not part.used:
                    self._lanes.seal(part)
            self.settle(part)
        self._channel.skipped += len(lane.mains) - sum(len(part.mains) for part, _ in parts)

    def _lacking(
        self, lane: Lane, row: int, spectra: Mapping[str, Any]
    ) -> list[tuple[Lane, Mapping[str, Any]]]:
        """Leave out what is durable already; return what is left, checked, and its lanes."""
        lacking = [main for main in lane.mains if not self._holds(main, row, 1, 0, main.n_cols)]
        if len(lacking) == len(lane.mains):
            return [(lane, spectra)]
        checked = [(m, conform.spectrum(m, row, spectra[m.name])) for m in lacking]
        return [(self.lane([main]), {main.name: values}) for main, values in checked]

    def _make_ready(self, lanes: Sequence[Lane], row: int) -> None:
        """Make lanes ready for a row, waiting for room as long as a write may take."""
        while not all(self._ready(lane, row) for lane in lanes):
            nbytes = sum(lane.nbytes for lane in lanes)
            self._channel.wait_for_room(nbytes, f"row {row} was not taken")

    def _ready(self, lane: Lane, row: int) -> bool:
        """Make the lane ready for a row; return False if there is no room for a block."""
        lane.pause()
        if lane.used and not lane.takes(row):
            self._seal(lane)
        if lane.used:
            return True
        stop, may_scatter = self._stop(lane, row + 1), not self._channel.held
        was_lingering = self._lanes.lingering
        is_open = self._lanes.begin(lane, row, stop, may_scatter=may_scatter)
        if not was_lingering:
            self._channel.post()
        return is_open

    def _stop(self, lane: Lane, row: int) -> int:
        """Return the first row from ``row`` on that the fast path may not take."""
        held, stop = self._channel.held, lane.n_rows
        for main in lane.mains if held else ():
            coverage = held.get(main.name)
            stop = stop if coverage is None else coverage.next_held_row(row, stop)
        return stop

    def _holds(self, main: MainShape, row: int, rows: int, col: int, cols: int) -> bool:
        coverage = self._channel.held.get(main.name)
        return coverage is not None and coverage.holds_span(row, rows, col, cols)

    def place_whole(self, row: Any, spectra: Sequence[tuple[MainShape, conform.Array]]) -> None:
        """Take a pixel whose rows are blocks of their own; all of its mains or none."""
        row = conform.integer(row, "row")
        self._channel.check()
        conform.span(spectra[0][0], row, 1, 0, 1)
        wanted = [(m, array) for m, array in spectra if not self._holds(m, row, 1, 0, m.n_cols)]
        nbytes = sum(main.row_nbytes for main, _ in wanted)
        if wanted:
            copies = partial(self._copies_of, row, wanted)
            self._take_in(nbytes, copies, f"row {row} was not taken")
        self._channel.skipped += len(spectra) - len(wanted)

    def _copies_of(
        self, row: int, spectra: Sequence[tuple[MainShape, conform.Array]]
    ) -> list[Payload]:
        payloads = []
        for main, array in spectra:
            data = self._lanes.slabs.take_array((main.n_cols,), main.dtype)
            data[...] = array
            payload = Payload(main.name, row, 1, 0, main.n_cols, as_bytes(data), single=True)
            payloads.append(payload)
        return payloads

    # ------------------------------------------------------------ blocks

    def add_rows(self, main: MainShape, row: int, table: conform.Array, col: int) -> None:
        """Take rows ``row ..`` of a main; copies each piece once.

        Up to the retention limit the call is taken whole or not at all. A larger one goes in
        pieces; if it times out, the error's ``details['rows_taken']`` says how many rows went.
        """
        rows, cols = table.shape
        conform.span(main, row, rows, col, cols)
        if self._holds(main, row, rows, col, cols):
            self._channel.skipped += rows
            return

        if cols == main.n_cols and rows * main.row_nbytes <= MAX_GATHERED_BYTES:
            lane = self.lane([main])
            if rows <= lane.least_capacity and not self._channel.held:
                self._gather(lane, row, table)
                return
        self._seal_all(main)

        def make(start: int, stop: int, data: conform.Array) -> Payload:
            data[...] = table[start:stop]
            return Payload(main.name, row + start, stop - start, col, cols, as_bytes(data))

        self._add_pieces(_Pieces(rows, cols, main.dtype, make))

    def _gather(self, lane: Lane, row: int, table: conform.Array) -> None:
        """Take whole rows into their main's lane, where they wait for their neighbours."""
        self._seal_all(lane.mains[0], but=lane)
        lane.pause()
        while not lane.extends(row, len(table)):
            self._seal(lane)
            if self._ready(lane, row):
                break
            self._channel.wait_for_room(lane.nbytes, "the block was not taken")
            lane.pause()
        try:
            lane.place_rows(table)
        finally:
            if not lane.used:
                self._lanes.seal(lane)
        self.settle(lane)

    def add_scattered(self, main: MainShape, numbers: Rows, table: conform.Array) -> None:
        """Take the rows of the given numbers; as `add_rows`."""
        self._seal_all(main)
        coverage, given_at = self._channel.held.get(main.name), None
        if coverage is not None:
            given_at = np.flatnonzero(~coverage.holds(numbers, 0, main.n_cols))
            self._channel.skipped += len(numbers) - len(given_at)
            numbers, table = numbers[given_at], table[given_at]
        if not len(numbers):
            return

        def make(start: int, stop: int, data: conform.Array) -> Payload:
            data[...] = table[start:stop]
            return scattered(main.name, numbers[start:stop], 0, main.n_cols, data)

        pieces = _Pieces(len(numbers), main.n_cols, main.dtype, make, NUMBER_NBYTES, given_at)
        self._add_pieces(pieces)

    def _add_pieces(self, pieces: _Pieces) -> None:
        limit, nbytes = self._delivery.retain_limit_bytes, pieces.rows * pieces.row_nbytes
        step = max(1, min(PIECE_BYTES, limit // 4) // pieces.row_nbytes)
        spans = [(at, min(at + step, pieces.rows)) for at in range(0, pieces.rows, step)]
        if nbytes <= limit:
            copies = partial(self._copies, pieces, spans)
            self._take_in(nbytes, copies, "the block was not taken")
            return
        for start, stop in spans:
            self._add_piece(pieces, start, stop)

    def _add_piece(self, pieces: _Pieces, start: int, stop: int) -> None:
        """Take a piece of a block that can only be taken piece by piece."""
        taken = pieces.given_before(start)
        consequence = f"{taken} rows of the block were taken, the others were not"
        copies = partial(self._copies, pieces, [(start, stop)])
        try:
            self._take_in((stop - start) * pieces.row_nbytes, copies, consequence)
        except UsidstreamError as error:
            error.details["rows_taken"] = taken
            raise

    def _copies(self, pieces: _Pieces, spans: Sequence[tuple[int, int]]) -> list[Payload]:
        """Copy pieces, with the lock open so that nobody waits for that."""
        payloads = []
        for start, stop in spans:
            shape = stop - start, pieces.cols
            memory = self._lanes.slabs.take_array(shape, pieces.dtype)
            make = partial(pieces.make, start, stop, memory)
            payloads.append(self._channel.without_lock(make))
        self._channel.check_alive()
        return payloads

    def _take_in(
        self, nbytes: int, make: Callable[[], Sequence[Payload]], consequence: str
    ) -> None:
        """Hand in blocks of so many bytes, for which memory is set aside while they are made."""
        self._wait_for_room(nbytes, consequence)
        set_aside = 0
        try:
            # No call between the two, so no interrupt.
            self._delivery.reserved_bytes += nbytes
            set_aside = nbytes
            self._delivery.add_blocks(make())
            self._channel.post()
        finally:
            self._delivery.reserved_bytes -= set_aside

    def _wait_for_room(self, nbytes: int, consequence: str) -> None:
        while not self._delivery.has_room(nbytes):
            self._channel.wait_for_room(nbytes, consequence)

    # ------------------------------------------------------------ attributes

    def annotate(self, attrs: Mapping[str, Any]) -> None:
        """Take attributes."""
        nbytes = self._delivery.annotation_nbytes(attrs)
        self._wait_for_room(nbytes, "the attributes were not taken")
        self._delivery.annotate(attrs, nbytes)
        self._channel.post()
