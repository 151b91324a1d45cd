"""One scan between its callers and the I/O thread: a lock around pure delivery.

Everything here happens under ``lock``; ``changed`` wakes callers that wait. It knows lanes,
delivery and time-outs; it must never know sockets. Whatever a call raises, it has taken nothing of
what it was given, except where `add_rows` says so.
"""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import wire
from ..delivery import (
    Coverage,
    Delivery,
    Lane,
    MainShape,
    Outbound,
    Payload,
    Rows,
    as_bytes,
    conform,
    read_coverage,
    scattered,
)
from ..errors import DeliveryTimeoutError, UsidstreamError, error_for
from .mains import Mains
from .options import Options, Waker, fresh
from .spooler import Spooler

PIECE_BYTES = 1 << 20
"""Large blocks travel in pieces of about this size, each with a buffer of its own, so that memory
is freed as they become durable."""
MAX_GATHERED_BYTES = 128 * 1024
"""Blocks of whole rows up to this size travel with their neighbours: a message costs more."""
MAX_LANES_COUNT = 32
WAIT_SLICE_S = 1.0
"""Lock waits cannot be interrupted everywhere; none is longer than this."""


class Channel:
    """One scan's lock, delivery and lanes.

    Parameters
    ----------
    delivery
        The state machine; guarded by ``lock``.
    waker
        The I/O thread.
    options
        Time-outs and limits.
    """

    def __init__(self, delivery: Delivery, waker: Waker, options: Options) -> None:
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.delivery = delivery
        self.mains = Mains([])
        self.options = options
        self.lanes: dict[tuple[str, ...], Lane] = {}
        self.held: dict[str, Coverage] = {}
        self.skipped = 0
        self.closing: UsidstreamError | None = None
        self.corrupt = 0
        self.lingering = False
        self.spooler: Spooler | None = None
        self._waker = waker
        self._waiters = 0
        self._is_failure_told = False

    def resume(self) -> None:
        """After opening a scan that was known: skip what is durable, send all else as a resend."""
        opened = self.delivery.opened
        if opened is not None and opened.resumed:
            self.held = read_coverage(opened)
        # Without an answer only the spool knows the scan, and the daemon may hold anything of it.
        self.delivery.again = opened is None or opened.resumed

    def lane(self, names: tuple[str, ...]) -> Lane:
        """Return the lane for these mains."""
        lane = self.lanes.get(names)
        if lane is None:
            if len(self.lanes) >= MAX_LANES_COUNT:
                self.seal_all()
                self.lanes.clear()
            limit = self.delivery.retain_limit_bytes // (4 * len(self.mains))
            lane = self.lanes[names] = Lane([self.mains.get(name) for name in names], limit)
        return lane

    # ------------------------------------------------------------ what goes wrong

    def check(self) -> None:
        """Raise what ended the scan, or an error about an earlier block, each of these once."""
        self.check_alive()
        self.check_refused()

    def check_refused(self) -> None:
        """Raise an error about an earlier block, each once."""
        error = self.delivery.take_error()
        if error is not None:
            raise error

    def check_alive(self) -> None:
        """Raise what ended the scan."""
        self._raise_failure()
        if self.closing is not None:
            raise fresh(self.closing)
        if self.delivery.ended:
            raise error_for("scan_finished", f"scan {self.delivery.scan} has ended")

    def _raise_failure(self) -> None:
        failure = self.delivery.failure
        if failure is not None:
            self._is_failure_told = True
            raise fresh(failure)

    # ------------------------------------------------------------ pixels

    def place(self, lane: Lane, row: Any, spectra: Mapping[str, Any]) -> None:
        """Take a pixel off the fast path: open blocks, jump, skip, wait, raise."""
        row = conform.integer(row, "row")
        self.check()
        conform.span(lane.mains[0], row, 1, 0, 1)
        if self.held and self._skip_pixel(lane, row, spectra):
            return
        while not self._ready(lane, row):
            self.wait_for_room(lane.nbytes, f"row {row} was not taken")
        try:
            lane.place(row, spectra)
        finally:
            if not lane.used:
                self.delivery.reserved_bytes -= lane.nbytes
        self.settle(lane)

    def _ready(self, lane: Lane, row: int) -> bool:
        """Make the lane ready for a row; return False if there is no room for a block."""
        if lane.used and not lane.takes(row):
            self.seal(lane)
        if lane.used:
            return True
        if not self.delivery.has_room(lane.nbytes):
            return False
        self.delivery.reserved_bytes += lane.nbytes
        lane.begin(row, self._stop(lane, row + 1), may_scatter=not self.held)
        if not self.lingering:
            self.lingering = True
            self._waker.posted()
        return True

    def _stop(self, lane: Lane, row: int) -> int:
        """Return the first row from ``row`` on that the fast path may not take."""
        stop = lane.n_rows
        for main in lane.mains if self.held else ():
            coverage = self.held.get(main.name)
            stop = stop if coverage is None else coverage.next_held_row(row, stop)
        return stop

    def _skip_pixel(self, lane: Lane, row: int, spectra: Mapping[str, Any]) -> bool:
        """Leave out what is durable already; return False if nothing of the pixel is."""
        durable = [main.name for main in lane.mains if self._holds(main, row, 1, 0, main.n_cols)]
        if not durable:
            return False
        for name in spectra.keys() - durable:
            self.place(self.lane((name,)), row, {name: spectra[name]})
        self.skipped += len(durable)
        return True

    def _holds(self, main: MainShape, row: int, rows: int, col: int, cols: int) -> bool:
        coverage = self.held.get(main.name)
        return coverage is not None and coverage.holds_span(row, rows, col, cols)

    def settle(self, lane: Lane) -> None:
        """Send the lane's block if it is full."""
        if lane.full:
            self.seal(lane)

    def seal(self, lane: Lane) -> None:
        """Hand the lane's open block to delivery."""
        if not lane.used:
            return
        payloads = lane.take()
        self.delivery.reserved_bytes -= lane.nbytes
        for payload in payloads:
            self.delivery.add_block(payload)
        self.post()

    def seal_all(self, main: str = "", but: Lane | None = None) -> None:
        """Hand every open block to delivery, or those that hold rows of one main, but for one."""
        for names, lane in self.lanes.items():
            if lane is not but and (not main or main in names):
                self.seal(lane)

    def annotate(self, attrs: Mapping[str, Any]) -> None:
        """Take attributes."""
        nbytes = self.delivery.annotation_nbytes(attrs)
        with self._set_aside(nbytes, "the attributes were not taken"):
            pass
        self.delivery.annotate(attrs, nbytes)
        self.post()

    def let_go(self) -> None:
        """Forget all that is held, but for what a spool keeps, and take nothing more."""
        scan = self.delivery.scan
        self.closing = error_for("closed", f"this client has let go of scan {scan}")
        if self.spooler is not None:
            self.seal_all()
        self.discard()
        self.delivery.let_go()
        self._after_event()

    def close_spool(self) -> None:
        """When the scan has ended, or was let go: wait until its spool is gone, or keeps all."""
        trouble = self.spooler.join() if self.spooler is not None else ""
        if trouble:
            warnings.warn(f"scan {self.delivery.scan}: {trouble}", stacklevel=3)

    def discard(self) -> None:
        """Let every open block go."""
        for lane in self.lanes.values():
            if lane.used:
                lane.take()
                self.delivery.reserved_bytes -= lane.nbytes

    # ------------------------------------------------------------ blocks

    def add_rows(self, main: MainShape, row: int, table: conform.Array, col: int) -> None:
        """Take rows ``row ..`` of a main; copies each piece once.

        Up to the retention limit the call is taken whole or not at all. A larger one goes in
        pieces; if it times out, the error's ``details['rows_taken']`` says how many rows went.
        """
        rows, cols = table.shape
        conform.span(main, row, rows, col, cols)
        if self._holds(main, row, rows, col, cols):
            self.skipped += rows
            return

        if cols == main.n_cols and table.nbytes <= MAX_GATHERED_BYTES and not self.held:
            lane = self.lane((main.name,))
            if rows <= lane.capacity:
                self._gather(lane, row, table)
                return
        self.seal_all(main.name)

        def make(start: int, stop: int) -> Payload:
            data = np.array(table[start:stop], dtype=main.dtype, order="C")
            return Payload(main.name, row + start, stop - start, col, cols, as_bytes(data))

        self._add_pieces(rows, cols * main.dtype.itemsize, make)

    def _gather(self, lane: Lane, row: int, table: conform.Array) -> None:
        """Take whole rows into their main's lane, where they wait for their neighbours."""
        self.seal_all(lane.mains[0].name, but=lane)
        while not lane.extends(row, len(table)):
            self.seal(lane)
            if self._ready(lane, row):
                break
            self.wait_for_room(lane.nbytes, "the block was not taken")
        lane.place_rows(row, table)
        self.settle(lane)

    def add_scattered(self, main: MainShape, numbers: Rows, table: conform.Array) -> None:
        """Take the rows of the given numbers; as `add_rows`."""
        coverage = self.held.get(main.name)
        if coverage is not None:
            keep = ~coverage.holds(numbers, 0, main.n_cols)
            self.skipped += len(numbers) - int(keep.sum())
            numbers, table = numbers[keep], table[keep]
        if not len(numbers):
            return

        def make(start: int, stop: int) -> Payload:
            data = np.array(table[start:stop], dtype=main.dtype, order="C")
            return scattered(main.name, numbers[start:stop], 0, main.n_cols, data)

        self._add_pieces(len(numbers), main.row_nbytes + 8, make)

    def place_whole(self, row: Any, spectra: Sequence[tuple[MainShape, conform.Array]]) -> None:
        """Take a pixel whose rows are blocks of their own; all of its mains or none."""
        row = conform.integer(row, "row")
        self.check()
        conform.span(spectra[0][0], row, 1, 0, 1)
        wanted = [(m, array) for m, array in spectra if not self._holds(m, row, 1, 0, m.n_cols)]
        self.skipped += len(spectra) - len(wanted)
        nbytes = sum(main.row_nbytes for main, _ in wanted)
        with self._set_aside(nbytes, f"row {row} was not taken") as room:
            for main, array in wanted:
                data = np.array(array, dtype=main.dtype, order="C")
                block = Payload(main.name, row, 1, 0, main.n_cols, as_bytes(data), single=True)
                self._hand_in(block, room)

    def _add_pieces(self, rows: int, row_nbytes: int, make: Callable[[int, int], Payload]) -> None:
        limit = self.delivery.retain_limit_bytes
        step = max(1, min(PIECE_BYTES, limit // 4) // row_nbytes)
        if rows * row_nbytes <= limit:
            with self._set_aside(rows * row_nbytes, "the block was not taken") as room:
                for start in range(0, rows, step):
                    self._add_piece(make, start, min(start + step, rows), room)
            return
        for start in range(0, rows, step):
            stop = min(start + step, rows)
            consequence = f"{start} rows of the block were taken, the others were not"
            try:
                with self._set_aside((stop - start) * row_nbytes, consequence) as room:
                    self._add_piece(make, start, stop, room)
            except DeliveryTimeoutError as error:
                error.details["rows_taken"] = start
                raise

    @contextmanager
    def _set_aside(self, nbytes: int, consequence: str) -> Iterator[_Room]:
        """Set memory aside, waiting for it as long as a write may take, until it is handed in."""
        while not self.delivery.has_room(nbytes):
            self.wait_for_room(nbytes, consequence)
        self.delivery.reserved_bytes += nbytes
        room = _Room(nbytes)
        try:
            yield room
        finally:
            self.delivery.reserved_bytes -= room.nbytes

    def _add_piece(
        self, make: Callable[[int, int], Payload], start: int, stop: int, room: _Room
    ) -> None:
        """Copy a piece, with the lock open so that nobody waits for the copy."""
        self.lock.release()
        try:
            payload = make(start, stop)
        finally:
            self.lock.acquire()
        self.check_alive()
        self._hand_in(payload, room)

    def _hand_in(self, payload: Payload, room: _Room) -> None:
        nbytes = min(payload.nbytes, room.nbytes)
        room.nbytes -= nbytes
        self.delivery.reserved_bytes -= nbytes
        self.delivery.add_block(payload)
        self.post()

    # ------------------------------------------------------------ waiting

    def wait_for_room(self, nbytes: int, consequence: str) -> None:
        """Wait until so much may be held."""
        self.seal_all()
        self.delivery.want_durable()
        self.post()
        self.wait(
            lambda: self.delivery.has_room(nbytes),
            self.options.write_timeout_s,
            f"no room within {self.options.write_timeout_s:g} s; {consequence}",
        )
        self.check_alive()

    def wait(
        self,
        until: Callable[[], bool],
        timeout_s: float,
        failure: str,
        *,
        extend: Callable[[], Any] | None = None,
        longest_s: float = math.inf,
    ) -> None:
        """Wait until a condition holds.

        Parameters
        ----------
        until
            Called under the lock.
        timeout_s
            How long, from now or from the last change of ``extend()``.
        failure
            What a `DeliveryTimeoutError` says; the state of delivery is added.
        longest_s
            How long however often ``extend()`` changes.

        Raises
        ------
        DeliveryTimeoutError
            The condition did not come true in time.
        UsidstreamError
            What ended the scan meanwhile.
        """
        started = time.monotonic()
        deadline = started + timeout_s
        mark = extend() if extend else None
        self._waiters += 1
        try:
            while not until():
                self._raise_failure()
                now = time.monotonic()
                if extend and extend() != mark:
                    mark, deadline = extend(), min(now + timeout_s, started + longest_s)
                if now >= deadline:
                    raise self._late(failure)
                self.changed.wait(min(deadline - now, WAIT_SLICE_S))
        finally:
            self._waiters -= 1

    def _late(self, failure: str) -> DeliveryTimeoutError:
        """Make the error of a wait that took too long; a spool says what becomes of the rest."""
        message = f"{failure} ({self.situation()})"
        if self.spooler is None:
            return DeliveryTimeoutError(message)
        trouble = self.spooler.trouble
        if trouble is not None:
            return DeliveryTimeoutError(
                f"{message}; {trouble.message}", hint=trouble.hint, code=trouble.code
            )
        return DeliveryTimeoutError(message, hint=self.spooler.hint)

    def situation(self) -> str:
        """Say where delivery stands, for time-out messages."""
        delivery = self.delivery
        words = [f"scan {delivery.scan} {delivery.state.name.lower()}"]
        if delivery.held_bytes:
            words.append(f"{delivery.held_bytes} bytes wait to become durable")
        if self.spooler is not None and self.spooler.spooled.blocks:
            words.append(f"{self.spooler.spooled.blocks} blocks are in {self.spooler.path}")
        trouble = self._waker.trouble()
        words += [f"no connection: {trouble}"] if trouble else []
        words += [f"the daemon says: {delivery.notice}"] if delivery.notice else []
        return "; ".join(words)

    def signs_of_life(self) -> tuple[int, int]:
        """Return what changes whenever the daemon says anything."""
        return self.delivery.progress, self._waker.heard()

    def post(self) -> None:
        """Tell those who carry blocks on that there is something to do."""
        self._waker.posted()
        if self.spooler is not None:
            self.spooler.wake()

    def moved(self) -> None:
        """The spool has taken or given something."""
        self._waker.posted()
        if self._waiters:
            self.changed.notify_all()

    # ------------------------------------------------------------ from the I/O thread

    def tick(self, now: float, max_block_bytes: int | None) -> str:
        """Let time pass; return why the connection must be made anew, if it must.

        Parameters
        ----------
        max_block_bytes
            The daemon's limit, None while there is no connection.
        """
        with self.lock:
            delivery = self.delivery
            if max_block_bytes is not None:
                delivery.link_up(max_block_bytes, now)
            delivery.tick(now)
            return delivery.reconnect

    def link_down(self) -> None:
        """The connection is gone."""
        with self.lock:
            self.delivery.link_down()
            if self.spooler is not None:
                self.spooler.wake()

    def due_at(self) -> float | None:
        """Return when delivery has something to do."""
        with self.lock:
            return self.delivery.due_at()

    def take(self, now: float) -> wire.Message | Outbound | None:
        """Return the next message to send."""
        with self.lock:
            return self.delivery.take(now)

    def as_message(self, block: Outbound) -> wire.Block:
        """Return a block's message, damaged if the program asked for it, each block only once."""
        message = block.message()
        if not self.corrupt or block.retries:
            return message
        self.corrupt -= 1
        return replace(message, crc=message.crc ^ 1)

    def receive(self, message: wire.Message, now: float) -> None:
        """Take a message from the daemon."""
        with self.lock:
            self.delivery.receive(message, now)
            self._after_event()

    def fail(self, error: UsidstreamError) -> None:
        """End the scan for its callers."""
        with self.lock:
            self.delivery.fail(error)
            self._after_event()

    def linger(self) -> None:
        """At a tick: send the blocks that were open at the last one."""
        with self.lock:
            for lane in self.lanes.values():
                if lane.lingers():
                    self.seal(lane)
            self.lingering = any(lane.used for lane in self.lanes.values())

    def hasten(self) -> None:
        """Send and make durable all there is, for the client is being closed."""
        with self.lock:
            self.closing = self.closing or error_for("closed", "the client is closed")
            self.seal_all()
            self.delivery.want_durable()
            self._after_event()

    def undelivered(self) -> int:
        """Return how many bytes were taken that are not durable, and still can become so."""
        with self.lock:
            delivery = self.delivery
            is_spooled = delivery.spool is not None and not delivery.spool.idle
            return delivery.held_bytes + is_spooled

    def untold(self) -> list[str]:
        """Say what no call has told the program: what was refused, or is not durable."""
        with self.lock:
            delivery = self.delivery
            told = [] if self._is_failure_told or not delivery.failure else [str(delivery.failure)]
            while (error := delivery.take_error()) is not None:
                told.append(str(error))
            if delivery.held_bytes:
                told.append(f"{delivery.held_bytes} bytes of scan {delivery.scan} not durable")
            if self.spooler is not None and self.spooler.spooled.blocks:
                told.append(f"{self.spooler.spooled.blocks} of its blocks in {self.spooler.path}")
            return told

    def abandon(self, error: UsidstreamError) -> None:
        """In a forked child: forget whoever held the lock, and make every call raise."""
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        if self.spooler is not None:
            self.spooler.folder.abandon()
            self.spooler = self.delivery.spool = None
        self.fail(error)

    def _after_event(self) -> None:
        """Wake who waits, and take writers off the fast path if there is something to raise."""
        delivery = self.delivery
        if delivery.troubled or delivery.ended or self.closing:
            for lane in self.lanes.values():
                lane.pause()
        if delivery.failure is not None or delivery.ended:
            if self.spooler is not None and not delivery.ended:
                self.seal_all()
            self.discard()
        if self.spooler is not None:
            self.spooler.wake()
        if self._waiters:
            self.changed.notify_all()


@dataclass
class _Room:
    """Memory set aside for blocks that are not handed in yet."""

    nbytes: int
