"""The client of a daemon: connect, open and join scans, ask for its status."""

from __future__ import annotations

import atexit
import os
import re
import secrets
import time
import warnings
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from .. import wire
from ..delivery import RETAIN_LIMIT_BYTES, SPOOL_LIMIT_MB, Delivery
from ..errors import DeliveryTimeoutError, UsidstreamError, error_for
from ..keys import ClientKeys
from ..layout import ScanLayout
from .channel import Channel
from .ended import EndedScan
from .io_thread import IoThread
from .mains import Mains, choose_shuffle
from .options import Options
from .scan import Scan
from .spool_files import SpooledScan
from .spooler import SAVE_TIMEOUT_S
from .spooling import SpoolPlace, spools
from .transport import GREETING_CUT, KEY_REFUSED, KEYS_DIFFER, KEYS_WANTED, NO_KEYS_THERE

T = TypeVar("T")

EXIT_LINGER_S = 2.0
"""What a program that ends without closing its client is held up, at most, by what it wrote."""
ASK_AGAIN_S = 0.25
"""While the daemon recovers the scan that is asked about."""
CLOSE_GRACE_S = 5.0
"""Beyond its linger, for the I/O thread to say bye."""

_HINTS = {
    KEY_REFUSED: "Have the client's NAME.key in the daemon's list of keys, then send it SIGHUP.",
    KEYS_DIFFER: "Compare server_key and key_file with the daemon's keys; does it use any?",
    NO_KEYS_THERE: "Leave server_key and key_file out, or give the daemon its server_key_file.",
    KEYS_WANTED: "Give server_key and key_file; usidstreamd keygen makes them.",
    GREETING_CUT: "Give server_key and key_file; usidstreamd keygen makes them.",
}


def connect(
    endpoint: str,
    *,
    timeout_s: float = 10.0,
    write_timeout_s: float = 60.0,
    retain_limit_bytes: int = RETAIN_LIMIT_BYTES,
    linger_s: float = 0.02,
    spool_dir: str | Path | None = None,
    spool_limit_mb: float = SPOOL_LIMIT_MB,
    server_key: str | Path | None = None,
    key_file: str | Path | None = None,
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
    spool_dir
        A directory on this machine's disk. Writes go on while the daemon is slow or away: what
        memory does not hold waits there, one folder a scan, and is sent in order when the daemon
        takes it, also by a later process that opens the scan by its id with the same directory.
        Such a process needs no daemon to answer for a scan that was opened before.
    spool_limit_mb
        How much of the disk one scan may take, in 1e6 bytes.
    server_key
        The public key of a daemon that admits known clients only: the path of its file
        ``server.key``, or the 40 characters in it.
    key_file
        This client's own key, ``NAME.key_secret``; given together with ``server_key``.

    Raises
    ------
    DeliveryError
        No daemon answers there, or it speaks another protocol, or (``access_denied``) it does not
        admit this client's key.
    UsidstreamError
        ``bad_keys``: a key file cannot be used, or one of the two is missing.

    Examples
    --------
    >>> with connect("tcp://127.0.0.1:5755", spool_dir="spool") as client:  # doctest: +SKIP
    ...     with client.open_scan(layout, scan_id=scan_id) as scan:
    ...         for row, spectrum in enumerate(instrument):
    ...             scan.write(row, spectrum)
    ...         print(scan.spooled.blocks, "blocks wait on the disk")
    """
    options = Options(
        timeout_s,
        write_timeout_s,
        retain_limit_bytes,
        linger_s,
        None if spool_dir is None else Path(spool_dir),
        spool_limit_mb,
        ClientKeys.load(server_key, key_file),
    )
    return Client(endpoint, options)


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
            self._wait(self._io.welcome, _not_there(endpoint))
        except DeliveryTimeoutError:
            if options.spool_dir is None or not spools(options.spool_dir):
                self._end_unopened()
                raise
        except BaseException:
            self._end_unopened()
            raise

    def _end_unopened(self) -> None:
        self._io.close(0.0)
        self._io.join(CLOSE_GRACE_S)

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
            The daemon refused it; the code and the hint say why. Or the scan's spool cannot be
            used: ``spool_busy``, ``spool_failed``, ``spool_damaged``.
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
        with self._spool_of(name) as place:
            if place is not None:
                place.check(layout)
            channel = self._open(opening, place, layout.nbytes)
            channel.mains = mains
            if scan_id is not None:
                channel.resume()
            self._begin_spool(place, channel, SpooledScan(name, layout, file, self.endpoint))
        if channel.delivery.ended:
            self._io.detach(channel)
            channel.close_spool()
            channel.check_refused()
            return EndedScan(channel, layout, self)
        return Scan(channel, layout, self)

    def join_scan(self, scan_id: str) -> Scan:
        """Help to fill a scan that another client opened; its layout is the scan's ``layout``."""
        name = _check_scan_id(scan_id)
        with self._spool_of(name) as place:
            channel = self._open(wire.Join(scan=name), place)
            opened = channel.delivery.opened
            if opened is not None:
                layout = ScanLayout.from_dict(wire.unpack_layout(opened.layout, opened.frames))
            elif place is not None and place.scan is not None and not channel.delivery.ended:
                layout = place.scan.layout
            else:
                raise error_for("scan_finished", f"scan {scan_id} has ended")
            channel.mains = Mains.of(layout)
            told = SpooledScan(name, layout, "", self.endpoint, role="joiner")
            self._begin_spool(place, channel, told)
        return Scan(channel, layout, self)

    @property
    def ports(self) -> dict[str, int | None]:
        """The daemon's services and their TCP ports on its host; None where one is off."""
        return dict(self._wait(self._io.welcome, _not_there(self.endpoint)).ports)

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
        grace_s = CLOSE_GRACE_S if self._options.spool_dir is None else SAVE_TIMEOUT_S
        self._io.join(linger_s + grace_s)
        untold, self._io.untold = self._io.untold, []
        if untold:
            raise DeliveryTimeoutError(
                f"the client was closed with {'; '.join(untold)}",
                hint="Open the scan again by its id and send again what is not durable;"
                " what a spool holds is sent by itself.",
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
        """Send a status request and wait for its answer; ask again what cannot be told yet."""
        deadline = time.monotonic() + self._options.timeout_s
        while True:
            try:
                return self._wait(self._io.ask(request), "the daemon did not answer")
            except UsidstreamError as error:
                if not error.retryable or time.monotonic() >= deadline:
                    raise
            self._io.join(ASK_AGAIN_S)  # no longer, if the client ends meanwhile

    def detach(self, channel: Channel, farewell: wire.Message | None = None) -> None:
        """Carry nothing more for a scan."""
        self._io.detach(channel, farewell)

    # ------------------------------------------------------------ asking and waiting

    @contextmanager
    def _spool_of(self, scan_id: str) -> Iterator[SpoolPlace | None]:
        """Hold a scan's spool while the scan is being opened."""
        if self._options.spool_dir is None:
            yield None
            return
        self._io.supersede(scan_id)
        place = SpoolPlace(self._options.spool_dir, scan_id)
        try:
            yield place
        except BaseException:
            place.give_back()
            raise

    def _begin_spool(self, place: SpoolPlace | None, channel: Channel, scan: SpooledScan) -> None:
        try:
            if place is not None:
                place.begin(channel, scan, self._options)
        except BaseException:
            self._io.detach(channel)
            raise

    def _open(
        self, opening: wire.Open | wire.Join, place: SpoolPlace | None, nbytes: int = 0
    ) -> Channel:
        wire.encode(opening)  # raises here what has no message, such as a layout over the limit
        delivery = Delivery(opening, self._options.retain_limit_bytes)
        channel = Channel(delivery, self._io, self._options)
        self._io.attach(channel)
        is_known = place is not None and place.scan is not None
        try:
            channel.prepare(nbytes)  # while the daemon makes the file
            with channel.lock:
                channel.wait(
                    lambda: (
                        delivery.opened is not None
                        or delivery.ended
                        or (is_known and bool(self._io.trouble()))
                    ),
                    self._options.timeout_s,
                    f"scan {opening.scan} was not opened within {self._options.timeout_s:g} s",
                )
        except DeliveryTimeoutError:
            if not is_known:
                self._io.detach(channel)
                raise
        except BaseException:
            self._io.detach(channel)
            raise
        return channel

    def _check_layout_size(self, frames: list[wire.Frame]) -> None:
        limit = self._io.max_layout_bytes
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
                hint=_HINTS.get(trouble, "Is usidstreamd serve running there?"),
                code="access_denied" if trouble == KEY_REFUSED else "timeout",
            ) from None


def _not_there(endpoint: str) -> str:
    return f"no daemon answered at {endpoint}"


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
