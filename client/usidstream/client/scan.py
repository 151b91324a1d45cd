"""A scan as a program sees it: writes, waiting, and the end.

Everything here is the caller's side: data is checked, then handed to the channel under its lock.
It knows no socket and no protocol message but those that open a scan.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np

from .. import wire
from ..delivery import (
    DIRECT_ROW_BYTES,
    Coverage,
    Goal,
    Lane,
    MainShape,
    conform,
    read_coverage,
)
from ..errors import (
    BlockError,
    DeliveryError,
    DeliveryTimeoutError,
    ScanError,
    UsidstreamError,
    error_for,
)
from ..layout import ScanLayout, check_attrs
from .channel import Channel

Ask = Callable[[wire.StatusRequest], wire.StatusReport]


@dataclass(frozen=True)
class ScanResult:
    """How a scan, or this client's part in it, ended.

    Parameters
    ----------
    scan_id
        32 hexadecimal digits.
    file
        Absolute path on the daemon's machine.
    status
        ``complete``, ``incomplete`` (finished with gaps), ``aborted``, ``interrupted``; or
        ``acquiring`` for a client that has left a scan that goes on.
    missing
        For each main that has any: half-open ranges (start, stop) of positions not complete.
    """

    scan_id: str
    file: str
    status: str
    missing: dict[str, list[tuple[int, int]]] = field(default_factory=dict)


class Scan:
    """An open scan; made by `Client.open_scan` and `Client.join_scan`.

    Leaving its ``with`` block finishes it (a joined client leaves); a `DeliveryError` detaches, so
    that it can be resumed by its id; any other exception aborts it, and what arrived stays.

    Parameters
    ----------
    channel
        The scan's channel, opened.
    layout
        What the scan is.
    ask
        Sends a status request and waits for the answer.
    detach
        Takes the channel off the I/O thread.
    """

    def __init__(
        self, channel: Channel, layout: ScanLayout, ask: Ask, detach: Callable[[Channel], None]
    ) -> None:
        self.layout = layout
        self._channel = channel
        self._ask = ask
        self._detach = detach
        self._is_joined = isinstance(channel.delivery.opening, wire.Join)
        self._only: Lane | None = None
        self._direct = {m.name for m in channel.shapes if m.row_nbytes >= DIRECT_ROW_BYTES}
        if len(layout.mains) == 1 and not self._direct:
            with channel.lock:
                self._only = channel.lane((layout.mains[0].name,))

    # ------------------------------------------------------------ what it is

    @property
    def scan_id(self) -> str:
        """The scan's id: 32 hexadecimal digits; resume by it."""
        return self._channel.delivery.scan

    @property
    def file(self) -> str:
        """The scan's file, absolute, on the daemon's machine."""
        delivery = self._channel.delivery
        known = delivery.result or delivery.opened
        return known.file if known is not None else ""

    @property
    def skipped(self) -> int:
        """Rows of mains that were not sent, for the daemon holds them from before a resume."""
        return self._channel.skipped

    @property
    def durable(self) -> int:
        """The number of positions that are durable in every main, as last told."""
        return self._channel.delivery.durable_positions

    @property
    def result(self) -> ScanResult:
        """How the scan ended; raises `ScanError` before that."""
        message = self._channel.delivery.result
        if message is None:
            raise ScanError(
                f"scan {self.scan_id} has not ended",
                code="not_finished",
                hint="Call finish(), or leave the with block.",
            )
        return ScanResult(self.scan_id, message.file, message.status, _missing(message))

    def durable_ranges(self, main: str | None = None) -> list[tuple[int, int]]:
        """Ask the daemon which positions of a main are durable.

        Returns
        -------
        list of (start, stop)
            Half-open ranges of complete positions.
        """
        shape = self._shape(main)
        report = self._ask(wire.StatusRequest(scan=self.scan_id, coverage=True))
        index = report.coverage.get(shape.name, {}).get("complete")
        return [(a, b) for a, b in wire.unpack_ranges(index, report.frames, 2)]

    # ------------------------------------------------------------ writing

    def write(self, row: int, spectrum: Any, *, main: str | None = None) -> None:
        """Write one pixel.

        Parameters
        ----------
        row
            The position, from 0; the first position dimension varies fastest.
        spectrum
            The main's M elements, shape (M,); or a dict of such by main, for several mains.
        main
            Which main; needed where there are several.

        Raises
        ------
        BlockError
            The data does not fit the main; or an earlier block was refused, and is named.
        DeliveryTimeoutError
            There was no room within ``write_timeout_s``; the pixel was not taken.
        """
        channel = self._channel
        lane = self._only
        with channel.lock:
            if lane is not None and row == lane.next_row and type(spectrum) is not dict:
                lane.put(spectrum)
                if lane.used == lane.capacity:
                    channel.seal(lane)
                return
            self._write_elsewhere(row, spectrum, main)

    def _write_elsewhere(self, row: int, spectrum: Any, main: str | None) -> None:
        channel = self._channel
        if isinstance(spectrum, Mapping):
            spectra: Mapping[str, Any] = spectrum
            names = tuple(channel.shape(name).name for name in spectra)
            if not names:
                raise BlockError("no main is named", code="unknown_main")
        else:
            names = (self._shape(main).name,)
            spectra = {names[0]: spectrum}
        if self._direct.intersection(names):
            shapes = [channel.shape(name) for name in names]
            pairs = [(m, conform.spectrum(m, int(row), spectra[m.name])) for m in shapes]
            channel.place_whole(row, pairs)
            return
        lane = channel.lane(names)
        if row == lane.next_row:
            lane.put_all(spectra)
            channel.settle(lane)
        else:
            channel.place(lane, row, spectra)

    def write_block(self, row: int, block: Any, *, col: int = 0, main: str | None = None) -> None:
        """Write a rectangle: rows ``row ..`` and columns ``col ..`` of a main.

        Parameters
        ----------
        row, col
            Its first position and spectroscopic element.
        block
            Shape (n, m).
        """
        shape = self._shape(main)
        table = conform.table(shape, block, None, col)
        row, col = conform.integer(row, "row"), conform.integer(col, "col")
        with self._channel.lock:
            self._channel.check()
            self._channel.seal_all()
            self._channel.add_rows(shape, row, table, col)

    def write_at(self, rows: Any, block: Any, *, main: str | None = None) -> None:
        """Write scattered pixels.

        Parameters
        ----------
        rows
            1-D integer array of n positions, each once, in any order.
        block
            Shape (n, M).
        """
        shape = self._shape(main)
        numbers = conform.row_numbers(shape, rows)
        table = conform.table(shape, block, len(numbers), None)
        with self._channel.lock:
            self._channel.check()
            self._channel.seal_all()
            self._channel.add_scattered(shape, numbers, table)

    def annotate(self, attrs: Mapping[str, Any]) -> None:
        """Add attributes while the scan runs; the last value of a name counts."""
        plain = _plain(attrs)
        with self._channel.lock:
            self._channel.check()
            self._channel.delivery.annotate(plain)
        self._channel.post()

    def corrupt_next_block(self) -> None:
        """Damage the next block's checksum on its way, to see that it is sent again."""
        with self._channel.lock:
            self._channel.corrupt += 1

    def _shape(self, main: str | None) -> MainShape:
        return self._channel.only() if main is None else self._channel.shape(main)

    # ------------------------------------------------------------ waiting and ending

    def wait_durable(self, timeout_s: float | None = None) -> None:
        """Wait until everything written so far is durable.

        Raises
        ------
        DeliveryTimeoutError
            It is not yet, after ``timeout_s`` (by default ``write_timeout_s`` without progress).
        BlockError
            An earlier block was refused; all others are durable or on their way.
        """
        channel = self._channel
        with channel.lock:
            channel.check()
            channel.seal_all()
            ticket = channel.delivery.want_durable()
            channel.post()
            channel.wait(
                lambda: channel.delivery.is_durable(ticket) or channel.delivery.troubled,
                channel.options.write_timeout_s if timeout_s is None else timeout_s,
                "not everything is durable yet",
                extend=(lambda: channel.delivery.progress) if timeout_s is None else None,
            )
            channel.check()

    def finish(self, attrs: Mapping[str, Any] | None = None) -> ScanResult:
        """End the scan and wait for its result.

        Parameters
        ----------
        attrs
            What is known only at the end; put on the measurement group.

        Raises
        ------
        BlockError
            An earlier block was refused; the scan is not finished, and finish can be called again.
        ScanError
            ``joiners_busy``: joined clients did not leave in time.
        """
        return self._end(Goal.FINISH, _plain(attrs or {}))

    def leave(self) -> ScanResult:
        """End this client's part in a joined scan, once all it wrote is durable."""
        return self._end(Goal.LEAVE, {})

    def abort(self, reason: str = "") -> ScanResult:
        """Give the scan up; what was written stays, with status ``aborted``.

        What the daemon has not taken within the client's ``timeout_s`` is let go of.
        """
        channel = self._channel
        with channel.lock:
            channel.check_alive()
            self._send_what_was_written()
            channel.delivery.aim(Goal.ABORT, reason=reason)
            self._await_end("the scan was not aborted")
        self._detach(channel)
        return self.result

    def _send_what_was_written(self) -> None:
        channel = self._channel
        channel.seal_all()
        channel.post()
        # A daemon that takes nothing more must not keep an abort from being told.
        with contextlib.suppress(DeliveryTimeoutError):
            channel.wait(
                lambda: channel.delivery.kept.all_received,
                channel.options.timeout_s,
                "not everything was taken",
            )

    def detach(self) -> None:
        """Let go of the scan; it can be resumed by its id, by any client."""
        channel = self._channel
        with channel.lock:
            channel.closing = channel.closing or "this client has let go of it"
            channel.discard()
        self._detach(channel)

    def _end(self, goal: Goal, attrs: Mapping[str, Any]) -> ScanResult:
        if self._channel.delivery.ended:
            return self.result
        with self._channel.lock:
            self._ask_for_end(goal, attrs)
        self._detach(self._channel)
        return self.result

    def _ask_for_end(self, goal: Goal, attrs: Mapping[str, Any]) -> None:
        channel = self._channel
        channel.check()
        channel.seal_all()
        channel.delivery.aim(goal, attrs)
        self._await_end("the scan was not ended")
        if channel.delivery.troubled:
            channel.check()
        if channel.delivery.declined is not None:
            raise channel.delivery.declined

    def _await_end(self, failure: str) -> None:
        channel = self._channel
        delivery = channel.delivery
        channel.post()
        channel.wait(
            lambda: (
                delivery.ended
                or delivery.declined is not None
                or (delivery.troubled and delivery.goal is not Goal.ABORT)
            ),
            channel.options.write_timeout_s,
            failure,
            extend=lambda: delivery.progress,
        )

    # ------------------------------------------------------------ the with block

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._channel.closing or self._channel.delivery.ended:
            return
        if kind is None:
            self._end_whatever_was_refused()
        elif isinstance(error, DeliveryError) or self._is_joined:
            self.detach()
        else:
            self._abort_because(error)

    def _end_whatever_was_refused(self) -> None:
        """End the scan; an error about an earlier block is raised when that is done."""
        refused: BlockError | None = None
        try:
            while not self._channel.delivery.ended:
                try:
                    _ = self.leave() if self._is_joined else self.finish()
                except BlockError as error:
                    refused = refused or error
        except BaseException:
            self.detach()
            raise
        if refused is not None:
            raise refused

    def _abort_because(self, error: BaseException | None) -> None:
        try:
            self.abort(f"{type(error).__name__}: {error}")
        except UsidstreamError as second:
            # The program's own error goes on; that the abort did not get through is added to it.
            if error is not None:
                error.add_note(f"The scan could not be aborted: {second}")
            self.detach()


class FinishedScan(Scan):
    """A scan that had ended before it was opened: what it holds is skipped, nothing is added."""

    def __init__(
        self, channel: Channel, layout: ScanLayout, ask: Ask, detach: Callable[[Channel], None]
    ) -> None:
        super().__init__(channel, layout, ask, detach)
        missing = self.result.missing
        self._held = {
            main.name: Coverage.all_but(missing.get(main.name, []), layout.n_positions)
            for main in layout.mains
        }

    def write(self, row: int, spectrum: Any, *, main: str | None = None) -> None:
        """Skip the pixel if the scan holds it; else raise ``scan_finished``."""
        names = list(spectrum) if isinstance(spectrum, Mapping) else [self._shape(main).name]
        for name in names:
            self._skip(name, np.array([conform.integer(row, "row")]))

    def write_block(self, row: int, block: Any, *, col: int = 0, main: str | None = None) -> None:  # noqa: ARG002 - as its base
        """Skip the block if the scan holds it; else raise ``scan_finished``."""
        self._skip(self._shape(main).name, np.arange(row, row + len(block)))

    def write_at(self, rows: Any, block: Any, *, main: str | None = None) -> None:  # noqa: ARG002 - as its base
        """Skip the rows if the scan holds them; else raise ``scan_finished``."""
        self._skip(self._shape(main).name, np.asarray(rows))

    def _skip(self, main: str, rows: Any) -> None:
        if not self._held[main].holds(rows, 0, self._channel.shape(main).n_cols).all():
            raise error_for("scan_finished", f"scan {self.scan_id} has ended without these rows")
        self._channel.skipped += len(rows)


def _missing(message: wire.Finished) -> dict[str, list[tuple[int, int]]]:
    return {
        main: [(a, b) for a, b in wire.unpack_ranges(index, message.frames, 2)]
        for main, index in message.missing.items()
    }


def _plain(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return checked attributes with lists for arrays, as a message carries them."""
    checked = check_attrs(attrs)
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in checked.items()
    }


def resume(channel: Channel) -> None:
    """After opening a known scan id: skip what is durable, and send everything as a resend."""
    opened = channel.delivery.opened
    if opened is not None and opened.resumed:
        channel.held = read_coverage(opened)
        channel.delivery.again = True
