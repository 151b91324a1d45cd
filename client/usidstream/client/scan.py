"""A scan as a program sees it: writes, waiting, and the end.

Everything here is the caller's side: data is checked, then handed to the intake under the channel's
lock. It knows no socket and no protocol message but those that open, leave and ask.

A call that raises an error of ours has taken nothing of what it was given, so it can be made
again; the one exception, a block larger than all that may be held, says in the error how much of it
went.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from .. import wire
from ..delivery import DIRECT_ROW_BYTES, ENDED, REFUSED, Coverage, Goal, Lane, conform
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
from .intake import Intake
from .result import ScanResult, read_result
from .spooler import Spooled

FINISH_TIMEOUT_S = 3600.0
"""The longest that a finish waits for a daemon that is alive and writes, or waits for joiners."""
MAX_REASON_CHARS = 1000


class Desk(Protocol):
    """The client, as its scans see it."""

    def ask(self, request: wire.StatusRequest) -> wire.StatusReport:
        """Send a status request and wait for its answer."""

    def detach(self, channel: Channel, farewell: wire.Message | None = None) -> None:
        """Carry nothing more for a scan."""


class Scan:
    """An open scan; made by `Client.open_scan` and `Client.join_scan`.

    Leaving its ``with`` block finishes it (a joined client leaves); a `DeliveryError` detaches, so
    that it can be resumed by its id; any other exception aborts it, and what arrived stays.

    Several threads may write. A write that Ctrl-C interrupts may have been taken or not; all that
    returned before it are kept, and the scan goes on. A signal handler must not call the scan: it
    would wait for the call that it interrupts. Let it set a flag, or raise.

    Parameters
    ----------
    channel
        The scan's channel, opened.
    layout
        What the scan is.
    desk
        The client that it belongs to.

    Attributes
    ----------
    layout
        What the scan is; for a joined client, as the opener described it.
    """

    def __init__(self, channel: Channel, layout: ScanLayout, desk: Desk) -> None:
        self.layout = layout
        self._channel = channel
        self._intake = Intake(channel)
        self._desk = desk
        self._is_joined = isinstance(channel.delivery.opening, wire.Join)
        # The lanes of the last calls, with several mains and with one, by its name as it was given.
        self._together: Lane | None = None
        self._lanes: dict[str | None, Lane] = {}

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
    def spooled(self) -> Spooled:
        """What waits in the spool on this machine's disk: ``blocks``, and ``nbytes`` of files."""
        with self._channel.lock:
            spooler = self._channel.spooler
            return Spooled() if spooler is None else spooler.spooled

    @property
    def durable(self) -> int:
        """The number of positions that are durable in every main, as last told."""
        delivery = self._channel.delivery
        if delivery.result is None or delivery.result.status == "acquiring":
            return delivery.durable_positions
        missing = [pair for ranges in self.result.missing.values() for pair in ranges]
        return self.layout.n_positions - _union_size(missing)

    @property
    def retained_bytes(self) -> int:
        """What this client keeps in memory until it is durable; near 0 after `wait_durable`."""
        return self._channel.delivery.held_bytes

    @property
    def has_ended(self) -> bool:
        """Whether the daemon has told how the scan, or this client's part in it, ended."""
        return self._channel.delivery.ended

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
        return read_result(message)

    def durable_ranges(self, main: str | None = None) -> list[tuple[int, int]]:
        """Ask the daemon which positions of a main are durable.

        Returns
        -------
        list of (start, stop)
            Half-open ranges of complete positions.
        """
        shape = self._channel.mains.get(main)
        result = self._channel.delivery.result
        if result is not None and result.status != "acquiring":
            missing = self.result.missing.get(shape.name, [])
            return Coverage.all_but(missing, shape.n_rows).complete
        report = self._desk.ask(wire.StatusRequest(scan=self.scan_id, coverage=True))
        index = report.coverage.get(shape.name, {}).get("complete")
        return [(start, stop) for start, stop in wire.unpack_ranges(index, report.frames, 2)]

    # ------------------------------------------------------------ writing

    def write(self, row: int, spectrum: Any, main: str | None = None) -> None:
        """Write one pixel.

        Parameters
        ----------
        row
            The position, from 0; the first position dimension varies fastest.
        spectrum
            The main's M elements, shape (M,), or their n-dimensional form, slowest dimension
            first; or a dict of such by main, to write several mains at once.
        main
            Which main; needed where there are several.

        Raises
        ------
        BlockError
            The data does not fit the main; or an earlier block was refused, and is named.
        DeliveryTimeoutError
            There was no room within ``write_timeout_s``; the pixel was not taken.
        """
        if main is None and type(spectrum) is dict:
            lane = self._together
            outcome = REFUSED if lane is None else lane.put_all(row, spectrum)
        else:
            try:
                lane = self._lanes.get(main)
            except TypeError:  # no name at all, as the check will say
                lane = None
            outcome = REFUSED if lane is None else lane.put(row, spectrum)
        if outcome:
            self._attend(outcome, lane, row, spectrum, main)

    def _attend(
        self, outcome: int, lane: Lane | None, row: int, spectrum: Any, main: str | None
    ) -> None:
        """See to a pixel that ended a run, or that the fast path did not take."""
        if outcome != ENDED:
            spectrum = _at_hand(spectrum)
        with self._channel.lock:
            if lane is not None and (
                outcome == ENDED or (lane.scatters and _scatter(lane, row, spectrum, main))
            ):
                self._intake.settle(lane)
            else:
                self._place(row, spectrum, main)

    def _place(self, row: int, spectrum: Any, main: str | None) -> None:
        """Take a pixel off the fast path, and remember its lane for the next."""
        channel = self._channel
        is_dict = isinstance(spectrum, Mapping)
        if is_dict and main is not None:
            raise BlockError("give either main or a dict of mains, not both", code="unknown_main")
        spectra = spectrum if is_dict else {channel.mains.get(main).name: spectrum}
        mains = [channel.mains.get(name) for name in spectra]
        if not mains:
            raise BlockError("the dict names no main", code="unknown_main")
        if any(main.row_nbytes >= DIRECT_ROW_BYTES for main in mains):
            whole = [(main, conform.spectrum(main, row, spectra[main.name])) for main in mains]
            self._intake.place_whole(row, whole)
            return
        lane = self._intake.lane(mains)
        if is_dict:
            self._together = lane
        else:
            self._lanes[main] = lane
        self._intake.place(lane, row, spectra)

    def write_block(self, row: int, block: Any, col: int = 0, main: str | None = None) -> None:
        """Write a rectangle: rows ``row ..`` and columns ``col ..`` of a main.

        Small blocks of whole rows that follow one another travel together, a few milliseconds
        later at most; each is still taken or refused on its own.

        Parameters
        ----------
        row, col
            Its first position and spectroscopic element.
        block
            Shape (n, m); (n,) too where the main has one element a position.
        main
            Which main; needed where there are several.

        Raises
        ------
        BlockError
            The block does not fit the main; or an earlier one was refused, and is named.
        DeliveryTimeoutError
            There was no room within ``write_timeout_s``. Nothing was taken, unless the block is
            larger than ``retain_limit_bytes``: then ``details["rows_taken"]`` says how much was.
        """
        shape = self._channel.mains.get(main)
        table = conform.table(shape, block, None, col)
        row, col = conform.integer(row, "row"), conform.integer(col, "col")
        with self._channel.lock:
            self._channel.check()
            self._intake.add_rows(shape, row, table, col)

    def write_at(self, rows: Any, block: Any, main: str | None = None) -> None:
        """Write scattered pixels.

        Parameters
        ----------
        rows
            1-D integer array of n positions, each once, in any order.
        block
            Shape (n, M).
        main
            Which main; needed where there are several.

        Raises
        ------
        BlockError, DeliveryTimeoutError
            As `write_block`.
        """
        shape = self._channel.mains.get(main)
        numbers = conform.row_numbers(shape, rows)
        table = conform.table(shape, block, len(numbers), None)
        with self._channel.lock:
            self._channel.check()
            self._intake.add_scattered(shape, numbers, table)

    def annotate(self, attrs: Mapping[str, Any]) -> None:
        """Add attributes while the scan runs; the last value of a name counts."""
        plain = _plain(attrs)
        with self._channel.lock:
            self._channel.check()
            self._intake.annotate(plain)

    def corrupt_next_block(self) -> None:
        """Damage the next block's checksum on its way, to see that it is sent again."""
        with self._channel.lock:
            self._channel.corrupt += 1

    @property
    def notice(self) -> str:
        """What keeps the daemon from taking more at present, such as a full disk; else empty."""
        with self._channel.lock:
            return self._channel.delivery.notice

    # ------------------------------------------------------------ waiting and ending

    def wait_durable(self, timeout_s: float | None = None) -> None:
        """Wait until everything written so far is durable.

        Parameters
        ----------
        timeout_s
            How long at most; by default until ``write_timeout_s`` went by without progress.

        Raises
        ------
        DeliveryTimeoutError
            It is not yet durable; nothing is lost by that.
        BlockError
            An earlier block was refused; all others are durable or on their way.
        """
        channel = self._channel
        delivery = channel.delivery
        with channel.lock:
            channel.check()
            channel.lanes.seal_all()
            ticket = delivery.want_durable()
            channel.post()
            channel.wait(
                lambda: delivery.is_durable(ticket) or delivery.troubled or delivery.ended,
                channel.options.write_timeout_s if timeout_s is None else timeout_s,
                "not everything is durable yet",
                extend=(lambda: delivery.progress) if timeout_s is None else None,
            )
            channel.check()

    def finish(
        self, attrs: Mapping[str, Any] | None = None, timeout_s: float | None = None
    ) -> ScanResult:
        """End the scan and wait for its result.

        Parameters
        ----------
        attrs
            What is known only at the end; put on the measurement group.
        timeout_s
            How long at most; by default as long as the daemon shows signs of life.

        Raises
        ------
        BlockError
            An earlier block was refused; the scan is not finished, and finish can be called again.
        ScanError
            ``joiners_busy``: joined clients did not leave in time; call again.
        DeliveryTimeoutError
            No result came in time; call again, or resume the scan by its id. What is in a spool
            stays there: it is sent when the scan is resumed with it, or by ``usidstream drain``.
        """
        return self._end(Goal.FINISH, _plain(attrs or {}), timeout_s)

    def leave(self, timeout_s: float | None = None) -> ScanResult:
        """End this client's part in a joined scan, once all it wrote is durable."""
        return self._end(Goal.LEAVE, {}, timeout_s)

    def abort(self, reason: str = "") -> ScanResult:
        """Give the scan up; what has arrived stays, with status ``aborted``."""
        channel = self._channel
        if self._is_joined:
            raise error_for("not_opener", f"scan {self.scan_id} is not this client's to abort")
        with channel.lock:
            if not channel.delivery.ended:
                channel.check_alive()
                self._let_arrive()
                channel.lanes.let_go()
                self._pursue(Goal.ABORT, channel.options.timeout_s, reason=_storable(reason))
        self._desk.detach(channel)
        channel.close_spool()
        return self.result

    def _let_arrive(self) -> None:
        """Give what was written before an abort the time to arrive, as far as it still can."""
        channel = self._channel
        delivery = channel.delivery
        channel.lanes.seal_all()
        channel.post()
        with contextlib.suppress(DeliveryTimeoutError):  # the abort goes on without the rest
            channel.wait(
                lambda: delivery.kept.all_received or not delivery.is_open,
                channel.options.timeout_s,
                "not everything arrived",
            )

    def detach(self) -> None:
        """Let go of the scan, without waiting for the daemon: what is not durable may be lost.

        With a ``spool_dir`` all of it is kept there. The scan can be resumed by its id.
        """
        channel = self._channel
        farewell = None
        with channel.lock:
            if channel.closing is None and not channel.delivery.ended:
                if self._is_joined:
                    # Nobody but the opener is missed: let its finish not wait for this client.
                    farewell = channel.delivery.farewell()
                channel.let_go()
        self._desk.detach(channel, farewell)
        channel.close_spool()

    def _end(self, goal: Goal, attrs: Mapping[str, Any], timeout_s: float | None) -> ScanResult:
        channel = self._channel
        delivery = channel.delivery
        with channel.lock:
            if not delivery.ended:
                channel.check()
                channel.lanes.seal_all()
                self._pursue(goal, timeout_s, attrs=attrs)
        self._desk.detach(channel)
        channel.close_spool()
        with channel.lock:
            channel.check_refused()
        return self.result

    def _pursue(
        self,
        goal: Goal,
        timeout_s: float | None,
        *,
        attrs: Mapping[str, Any] | None = None,
        reason: str = "",
    ) -> None:
        """Ask for the scan's end and wait for it; raise what stands against it.

        Until then nothing more is taken. If it fails the goal is dropped: the scan goes on.
        """
        channel = self._channel
        delivery = channel.delivery
        ending = error_for("scan_finished", f"scan {self.scan_id} is being ended")
        try:
            channel.closing = ending
            delivery.aim(goal, attrs, reason)
            channel.post()
            channel.wait(
                lambda: delivery.ended or delivery.declined is not None or delivery.troubled,
                channel.options.write_timeout_s if timeout_s is None else timeout_s,
                "the scan was not ended",
                extend=channel.signs_of_life if timeout_s is None else None,
                longest_s=FINISH_TIMEOUT_S,
            )
        finally:
            channel.closing = None
            delivery.goal = Goal.STREAM
        if not delivery.ended:
            channel.check()
            raise delivery.declined or error_for("internal_error", "the scan was not ended")

    # ------------------------------------------------------------ the with block

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._channel.closing is not None or self._channel.delivery.ended:
            return
        if kind is None:
            self._end_whatever_was_refused()
        elif isinstance(error, DeliveryError):
            self.detach()
        else:
            self._give_up(error)

    def _end_whatever_was_refused(self) -> None:
        """End the scan; errors about earlier blocks are raised when that is done."""
        refused: list[UsidstreamError] = []
        try:
            while not self._channel.delivery.ended:
                try:
                    _ = self.leave() if self._is_joined else self.finish()
                except BlockError as error:
                    refused.append(error)
        except BaseException:
            self.detach()
            raise
        if refused:
            for other in refused[1:]:
                refused[0].add_note(f"Also: {other}")
            raise refused[0]

    def _give_up(self, error: BaseException | None) -> None:
        """Abort, or leave, without hiding the program's own error."""
        try:
            if self._is_joined:
                self.leave(self._channel.options.timeout_s)
            else:
                self.abort(f"{type(error).__name__}: {error}")
        except UsidstreamError as second:
            if error is not None:
                error.add_note(f"The scan could not be ended: {second}")
            self.detach()


def _scatter(lane: Lane, row: int, spectrum: Any, main: str | None) -> bool:
    """Take a pixel as one of a block of scattered ones, if nothing about it needs attention."""
    if type(spectrum) is dict:  # as `_at_hand` makes of every mapping
        return main is None and lane.scatter(row, spectrum)
    return lane.scatter(row, {lane.mains[0].name: spectrum})


def _at_hand(spectrum: Any) -> Any:
    """Make arrays of values that others make, such as those of a file: it may take any time.

    What cannot become an array is left for the check to say so.
    """
    if conform.is_plain(spectrum):
        return spectrum
    if isinstance(spectrum, Mapping):
        return {name: _at_hand(values) for name, values in spectrum.items()}
    try:
        return np.asarray(spectrum)
    except (TypeError, ValueError, OverflowError):
        return spectrum


def _union_size(ranges: list[tuple[int, int]]) -> int:
    total, reached = 0, 0
    for start, stop in sorted(ranges):
        total += max(0, stop - max(start, reached))
        reached = max(reached, stop)
    return total


def _plain(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return checked attributes with lists for arrays, as a message carries them."""
    checked = check_attrs(attrs)
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in checked.items()
    }


def _storable(reason: object) -> str:
    """Return a text as an attribute can hold it, whatever exception it is of."""
    text = str(reason)[:MAX_REASON_CHARS].replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text.encode("utf-8", "replace").decode()
