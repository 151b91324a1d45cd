"""The thread that owns the telemetry socket: it hears subscriptions, and sends.

Whatever takes time, reducing, packing and sending, happens here and never in the socket thread of
the instruments, which posts facts into this thread's mailbox and goes on. ZeroMQ drops what a slow
viewer does not take; nothing here waits for one. With nobody listening the thread sleeps.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from dataclasses import dataclass
from typing import TypeAlias

import zmq

from usidstream import wire
from usidstream.layout import ScanLayout

from ..logs import get_logger
from ..mailbox import Mailbox
from ..threads import show_thread_name
from . import sockets
from .previews import Previews
from .subscriptions import Subscriptions
from .tap import Tap

log = get_logger()

MAX_SUBSCRIPTIONS_PER_TURN_COUNT = 256
LINGER_MS = 500


@dataclass(frozen=True, slots=True)
class Tell:
    """Publish a message."""

    topic: str
    message: wire.Message


@dataclass(frozen=True, slots=True)
class TellLayout:
    """Publish a scan's layout."""

    scan: str
    file: str
    layout: ScanLayout


@dataclass(frozen=True, slots=True)
class Watch:
    """Make previews of a scan from its tap's blocks."""

    scan: str
    layout: ScanLayout
    tap: Tap


@dataclass(frozen=True, slots=True)
class Unwatch:
    """Make no more previews of a scan than of what its tap holds."""

    scan: str


@dataclass(frozen=True, slots=True)
class Renew:
    """Cut all connections: whoever is let in comes again."""


Order: TypeAlias = Tell | TellLayout | Watch | Unwatch | Renew


class Publisher:
    """Starts the thread.

    Parameters
    ----------
    socket
        An XPUB socket, bound; from now on the thread's alone.
    make
        Makes another one.

    Attributes
    ----------
    subscriptions
        What is listened to; read by any thread.
    asked
        The prefixes of new subscriptions, for whoever answers them.
    is_heard
        Whether anybody listens to anything.
    """

    def __init__(self, socket: zmq.Socket[bytes], make: sockets.SocketMaker) -> None:
        self.subscriptions = Subscriptions()
        self.asked: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.is_heard = False
        self._socket = socket
        self._make = make
        self._renewal: sockets.Renewal | None = None
        self._orders = Mailbox()
        self._previews = Previews(self.subscriptions)
        self._due_s = 0.0
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    def post(self, order: Order) -> None:
        """Hand something to the thread; never waits."""
        self._orders.post(order)

    def close(self, timeout_s: float) -> None:
        """Publish what was posted, and end the thread; only the first time."""
        if self._is_closing:
            return
        self._is_closing = True
        self._orders.post(None)
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self._orders.close()
        else:
            log.error("telemetry_hangs", after_s=timeout_s)

    # ------------------------------------------------------------ on the telemetry thread

    def _run(self) -> None:
        show_thread_name()
        try:
            while not self._is_closing:
                self._sleep()
                self._turn()
            self._turn()
        except BaseException:
            # Scans go on without being seen; viewers notice the silence.
            log.exception("telemetry_failed")
            raise
        finally:
            self.is_heard = False
            self._socket.close(linger=LINGER_MS)

    def _sleep(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._orders.fileno(), zmq.POLLIN)
        poller.poll(self._sleep_ms())

    def _sleep_ms(self) -> int | None:
        if self._renewal is not None:
            return sockets.REBIND_INTERVAL_MS
        if not self._previews:
            return None
        return max(0, math.ceil((self._due_s - time.monotonic()) * 1000.0))

    def _turn(self) -> None:
        self._hear()
        for order in self._orders.drain():
            if order is not None:
                self._execute(order)
        now = time.monotonic()
        if self._renewal is not None and self._renewal.try_bind(now):
            self._renewal = None
        if self._previews and now >= self._due_s:
            self._due_s = now + wire.PREVIEW_INTERVAL_S
            self._tell_previews()

    def _hear(self) -> None:
        for _ in range(MAX_SUBSCRIPTIONS_PER_TURN_COUNT):
            try:
                frame = self._socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                break
            prefix = self.subscriptions.take(frame)
            if prefix is not None:
                self.asked.put(prefix)
        self.is_heard = bool(self.subscriptions.prefixes)

    def _execute(self, order: Order) -> None:
        match order:
            case Tell(topic=topic, message=message):
                self._send(topic, message)
            case TellLayout():
                self._tell_layout(order)
            case Watch(scan=scan, layout=layout, tap=tap):
                self._previews.add(scan, layout, tap)
            case Unwatch(scan=scan):
                self._tell_previews()
                self._previews.remove(scan)
            case Renew() if self._renewal is None:  # else nobody is connected
                self._renewal = sockets.Renewal(self._socket, self._make, time.monotonic())
                self._socket = self._renewal.socket
                self.subscriptions.clear()

    def _tell_previews(self) -> None:
        for topic, message in self._previews.tick():
            self._send(topic, message)

    def _tell_layout(self, order: TellLayout) -> None:
        frames: list[wire.Frame] = []
        layout = wire.pack_layout(order.layout.to_dict(), frames)
        if sum(len(frame) for frame in frames) > wire.MAX_TOLD_LAYOUT_BYTES:
            layout, frames = {}, []
        message = wire.LayoutTold(scan=order.scan, file=order.file, layout=layout, frames=frames)
        self._send(wire.layout_topic(order.scan), message)

    def _send(self, topic: str, message: wire.Message) -> None:
        try:
            frames = wire.encode_telemetry(topic, message)
        except wire.WireError as error:  # such as a header over its limit
            log.warning(
                "telemetry_untold", topic=topic, message_type=message.type, problem=error.message
            )
            return
        self._socket.send_multipart(frames, zmq.DONTWAIT, copy=False)
