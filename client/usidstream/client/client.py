"""The client of a daemon: connect, open and join scans, ask for its status."""

from __future__ import annotations

import secrets
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from types import TracebackType
from typing import Any, Self, TypeVar

from .. import wire
from ..delivery import RETAIN_LIMIT_BYTES, Delivery, MainShape
from ..errors import DeliveryError, DeliveryTimeoutError
from ..layout import ScanLayout
from .channel import Channel, Options
from .io_thread import IoThread
from .scan import FinishedScan, Scan, resume

T = TypeVar("T")


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
        How long connecting, opening and asking may take.
    write_timeout_s
        How long a write may wait for room, and an end for progress: a daemon's restart must fit.
    retain_limit_bytes
        How much may be held that is not durable yet.
    linger_s
        How long single pixels may wait for others to travel with.

    Raises
    ------
    DeliveryError
        No daemon answers there, or it speaks another protocol.
    """
    options = Options(timeout_s, write_timeout_s, retain_limit_bytes, linger_s)
    return Client(endpoint, options)


class Client:
    """A connection to a daemon, made again by itself whenever it breaks. See `connect`."""

    def __init__(self, endpoint: str, options: Options) -> None:
        self.endpoint = endpoint
        self._options = options
        self._io = IoThread(endpoint, options)
        try:
            self._wait(self._io.welcome, f"no daemon answered at {endpoint}")
        except BaseException:
            self.close()
            raise

    def open_scan(
        self, layout: ScanLayout, *, file: str = "scan", scan_id: str | None = None
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

        Raises
        ------
        UsidstreamError
            The daemon refused it; the code and the hint say why.
        """
        frames: list[wire.Frame] = []
        packed = wire.pack_layout(layout.to_dict(), frames)
        name = scan_id or secrets.token_hex(16)
        channel = self._open(wire.Open(scan=name, layout=packed, file=file, frames=frames))
        channel.use(_shapes(layout))
        if scan_id is not None:
            resume(channel)
        kind = FinishedScan if channel.delivery.ended else Scan
        return kind(channel, layout, self._ask, self._io.detach)

    def join_scan(self, scan_id: str) -> Scan:
        """Help to fill a scan that another client opened."""
        channel = self._open(wire.Join(scan=scan_id))
        opened = channel.delivery.opened
        if opened is None:
            raise DeliveryError(f"scan {scan_id} has ended", code="scan_finished")
        layout = ScanLayout.from_dict(wire.unpack_layout(opened.layout, opened.frames))
        channel.use(_shapes(layout))
        return Scan(channel, layout, self._ask, self._io.detach)

    def status(self) -> dict[str, Any]:
        """Return what the daemon says of itself (``daemon``) and of its scans (``scans``)."""
        report = self._ask(wire.StatusRequest())
        return {"daemon": report.daemon, "scans": report.scans}

    def close(self) -> None:
        """Say bye; scans that are open stay resumable."""
        self._io.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    # ------------------------------------------------------------ asking and waiting

    def _open(self, opening: wire.Open | wire.Join) -> Channel:
        delivery = Delivery(opening, self._options.retain_limit_bytes)
        channel = Channel(delivery, self._io, self._options)
        self._io.attach(channel)
        try:
            with channel.lock:
                channel.wait(
                    lambda: delivery.opened is not None or delivery.ended,
                    self._options.timeout_s,
                    f"scan {opening.scan} was not opened",
                )
        except BaseException:
            self._io.detach(channel)
            raise
        return channel

    def _ask(self, request: wire.StatusRequest) -> wire.StatusReport:
        return self._wait(self._io.ask(request), "the daemon did not answer")

    def _wait(self, answer: Future[T], failure: str) -> T:
        deadline = time.monotonic() + self._options.timeout_s
        try:
            return answer.result(max(0.0, deadline - time.monotonic()))
        except FutureTimeoutError:
            raise DeliveryTimeoutError(
                f"{failure} within {self._options.timeout_s:g} s ({self._io.trouble()})",
                hint="Is usidstreamd serve running there?",
            ) from None


def _shapes(layout: ScanLayout) -> list[MainShape]:
    return [
        MainShape(
            main.name,
            layout.n_positions,
            main.n_spectroscopic,
            main.np_dtype,
            tuple(dimension.size for dimension in main.spectroscopic),
        )
        for main in layout.mains
    ]
