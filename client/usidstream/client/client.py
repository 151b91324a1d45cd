"""The client of a daemon: connect, open and join scans, ask for its status."""

from __future__ import annotations

import atexit
import os
import re
import secrets
import time
import warnings
import weakref
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from types import TracebackType
from typing import Any, Self, TypeVar

from .. import wire
from ..delivery import RETAIN_LIMIT_BYTES, Delivery
from ..errors import DeliveryTimeoutError, error_for
from ..layout import ScanLayout
from .channel import Channel
from .ended import EndedScan
from .io_thread import IoThread
from .mains import Mains, choose_shuffle
from .options import Options
from .scan import Scan

T = TypeVar("T")

EXIT_LINGER_S = 2.0
"""What a program that ends without closing its client is held up, at most, by what it wrote."""
CLOSE_GRACE_S = 5.0
"""Beyond its linger, for the I/O thread to say bye."""


def connect(
    endpoint: str,
    *,
    timeout_s: float = 10.0,
    write_timeout_s: float = 60.0,
    retain_limit_bytes: int = RETAIN_LIMIT_BYTES,
    linger_s: float = 0.02,
) -> Client:
    """Connect to a daemon.

    Parameters
    ----------
    endpoint
        Such as ``tcp://127.0.0.1:5755``.
    timeout_s
        How long connecting, opening, asking and closing may take.
    write_timeout_s
        How long a write may wait for room, and an end for signs of life: a daemon's restart must
        fit.
    retain_limit_bytes
        How much may be held that is not durable yet.
    linger_s
        How long single pixels may wait for others to travel with.

    Raises
    ------
    DeliveryError
        No daemon answers there, or it speaks another protocol.
    """
    return Client(endpoint, Options(timeout_s, write_timeout_s, retain_limit_bytes, linger_s))


class Client:
    """A connection to a daemon, made again by itself whenever it breaks. See `connect`."""

    def __init__(self, endpoint: str, options: Options) -> None:
        self.endpoint = endpoint
        self._options = options
        self._io = IoThread(endpoint, options)
        _live.add(self._io)
        # A client that nobody holds any more closes; without waiting, for this may be any thread.
        weakref.finalize(self, self._io.close, EXIT_LINGER_S).atexit = False
        try:
            self._wait(self._io.welcome, f"no daemon answered at {endpoint}")
        except BaseException:
            self._io.close(0.0)
            self._io.join(CLOSE_GRACE_S)
            raise

    def open_scan(
        self,
        layout: ScanLayout,
        file: str = "scan",
        scan_id: str | None = None,
        *,
        sample: Any = None,
    ) -> Scan:
        """Open a scan, or resume one.

        Parameters
        ----------
        layout
            What the scan is.
        file
            The beginning of the file's name.
        scan_id
            32 hexadecimal digits of a scan to resume, or to be able to resume; random if None.
            What a known scan holds already is skipped when it is written again.
        sample
            Data like that of the scan, shape (n, M), or a dict of such by main: where the layout
            leaves it open, it decides whether bytes are shuffled before they are compressed.

        Raises
        ------
        BlockError
            The sample does not fit its main.
        UsidstreamError
            The daemon refused it; the code and the hint say why.
        """
        if not isinstance(file, str):
            raise error_for("bad_name", f"file must be a str, not {type(file).__name__}")
        name = secrets.token_hex(16) if scan_id is None else _check_scan_id(scan_id)
        frames: list[wire.Frame] = []
        packed = wire.pack_layout(layout.to_dict(), frames)
        self._check_layout_size(frames)
        mains = Mains.of(layout)
        shuffle = {} if sample is None else choose_shuffle(mains, sample)
        opening = wire.Open(scan=name, layout=packed, file=file, shuffle=shuffle, frames=frames)
        channel = self._open(opening)
        channel.mains = mains
        if scan_id is not None:
            channel.resume()
        if channel.delivery.ended:
            return EndedScan(channel, layout, self)
        return Scan(channel, layout, self)

    def join_scan(self, scan_id: str) -> Scan:
        """Help to fill a scan that another client opened; its layout is the scan's ``layout``."""
        channel = self._open(wire.Join(scan=_check_scan_id(scan_id)))
        opened = channel.delivery.opened
        if opened is None:
            raise error_for("scan_finished", f"scan {scan_id} has ended")
        layout = ScanLayout.from_dict(wire.unpack_layout(opened.layout, opened.frames))
        channel.mains = Mains.of(layout)
        return Scan(channel, layout, self)

    def status(self) -> dict[str, Any]:
        """Return what the daemon says of itself (``daemon``) and of its scans (``scans``)."""
        report = self.ask(wire.StatusRequest())
        return {"daemon": report.daemon, "scans": report.scans}

    def close(self) -> None:
        """Say bye, once all that was written is durable; scans that are open stay resumable.

        Raises
        ------
        DeliveryTimeoutError
            Some of it was not within ``timeout_s``, or was refused and no call has told so; the
            client is closed all the same.
        """
        self._close(self._options.timeout_s)

    def _close(self, linger_s: float) -> None:
        self._io.close(linger_s)
        self._io.join(linger_s + CLOSE_GRACE_S)
        untold, self._io.untold = self._io.untold, []
        if untold:
            raise DeliveryTimeoutError(
                f"the client was closed with {'; '.join(untold)}",
                hint="Open the scan again by its id and send again what is not durable.",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
            return
        try:
            self._close(0.0)
        except DeliveryTimeoutError as second:
            if error is not None:
                error.add_note(str(second))

    # ------------------------------------------------------------ for its scans

    def ask(self, request: wire.StatusRequest) -> wire.StatusReport:
        """Send a status request and wait for its answer."""
        return self._wait(self._io.ask(request), "the daemon did not answer")

    def detach(self, channel: Channel, farewell: wire.Message | None = None) -> None:
        """Carry nothing more for a scan."""
        self._io.detach(channel, farewell)

    # ------------------------------------------------------------ asking and waiting

    def _open(self, opening: wire.Open | wire.Join) -> Channel:
        wire.encode(opening)  # raises here what has no message, such as a layout over the limit
        delivery = Delivery(opening, self._options.retain_limit_bytes)
        channel = Channel(delivery, self._io, self._options)
        self._io.attach(channel)
        try:
            with channel.lock:
                channel.wait(
                    lambda: delivery.opened is not None or delivery.ended,
                    self._options.timeout_s,
                    f"scan {opening.scan} was not opened within {self._options.timeout_s:g} s",
                )
        except BaseException:
            self._io.detach(channel)
            raise
        return channel

    def _check_layout_size(self, frames: list[wire.Frame]) -> None:
        limit = self._io.welcome.result().limits.get("max_layout_bytes", wire.MAX_LAYOUT_BYTES)
        nbytes = sum(len(frame) for frame in frames)
        if nbytes > limit:
            raise error_for(
                "layout_too_large", f"the layout's arrays take {nbytes} bytes, over {limit}"
            )

    def _wait(self, answer: Future[T], failure: str) -> T:
        try:
            return answer.result(self._options.timeout_s)
        except FutureTimeoutError:
            answer.cancel()
            trouble = self._io.trouble()
            reason = f" ({trouble})" if trouble else ""
            raise DeliveryTimeoutError(
                f"{failure} within {self._options.timeout_s:g} s{reason}",
                hint="Is usidstreamd serve running there?",
            ) from None


def _check_scan_id(scan_id: Any) -> str:
    if isinstance(scan_id, str) and re.fullmatch("[0-9a-f]{32}", scan_id):
        return scan_id
    raise error_for(
        "bad_name",
        f"a scan id is 32 lower-case hexadecimal digits, not {scan_id!r}",
        hint="secrets.token_hex(16) makes one.",
    )


# ---------------------------------------------------------------- the end of the process

_live: weakref.WeakSet[IoThread] = weakref.WeakSet()


def _close_all() -> None:
    """At exit: let what was written by clients that nobody closed go out, for a short time."""
    for io_thread in list(_live):
        io_thread.close(EXIT_LINGER_S)
    deadline = time.monotonic() + EXIT_LINGER_S + CLOSE_GRACE_S
    for io_thread in list(_live):
        io_thread.join(max(0.0, deadline - time.monotonic()))
        if io_thread.untold:
            warnings.warn(f"the program ended with {'; '.join(io_thread.untold)}", stacklevel=1)


def _abandon_all() -> None:
    """In a forked child: the threads are the parent's, and so are the connections."""
    for io_thread in list(_live):
        io_thread.abandon()
    _live.clear()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
