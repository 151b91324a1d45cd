"""The thread that owns a client's socket: it dials, greets, sends what is due, hands on what comes.

It knows the connection and which scan a message is for; what a scan sends next is its delivery's
to say. Callers never touch the socket: they change state under a lock, and ring the bell if this
thread sleeps. If it dies, its reason reaches every call that waits, and every later one.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from concurrent.futures import Future

import zmq

from .. import __version__, wire
from ..delivery import Link, LinkState, Outbound, Step, to_exception
from ..errors import DeliveryError, UsidstreamError
from .channel import Channel
from .options import Options
from .questions import Answer, Questions
from .transport import CLOSE_LINGER_MS, Bell, Connection

LONGEST_SLEEP_S = 1.0
MAX_RECEIVED_PER_TURN_COUNT = 256
MAX_SENT_PER_TURN_COUNT = 64
"""Of each scan, so that none waits for another's backlog, nor any ack for a whole window."""


class IoThread:
    """The I/O thread of one client; satisfies `channel.Waker`.

    Parameters
    ----------
    endpoint
        Such as ``tcp://127.0.0.1:5755``.
    options
        Linger and time-outs.
    """

    def __init__(self, endpoint: str, options: Options) -> None:
        self.endpoint = endpoint
        self.welcome: Future[wire.Welcome] = Future()
        self.failure: UsidstreamError | None = None
        self.untold: list[str] = []
        self.max_layout_bytes = wire.MAX_LAYOUT_BYTES
        self.messages_heard = 0
        self._options = options
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._instance = secrets.token_hex(8)
        self._bell = Bell()
        self._link = Link()
        self._connection: Connection | None = None
        self._unsent: list[wire.Frame] | None = None
        self._lock = threading.Lock()
        self._channels: dict[str, Channel] = {}
        self._questions = Questions()
        self._farewells: deque[wire.Message] = deque()
        self._linger_at = 0.0
        self._close_by: float | None = None
        self._is_closing = False
        self._has_monitor_news = False
        # A caller sets has_work and then looks at is_asleep; this thread does it the other way
        # round, so that one of the two always sees the other.
        self._has_work = False
        self._is_asleep = False
        self._thread = threading.Thread(target=self._run, name="usidstream-io", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------ from callers

    def posted(self) -> None:
        """There is something to do."""
        self._has_work = True
        if self._is_asleep:
            self._is_asleep = False
            self._bell.ring()

    def trouble(self) -> str:
        """Return why there is no connection, empty while there is one."""
        return "" if self._link.up else self._link.trouble or "not connected yet"

    def heard(self) -> int:
        """Return how many messages have come: a sign of life."""
        return self.messages_heard

    def attach(self, channel: Channel) -> None:
        """Carry a scan's messages from now on; whoever carried it here before is superseded."""
        scan = channel.delivery.scan
        with self._lock:
            self.check_alive()
            former = self._channels.get(scan)
            self._channels[scan] = channel
        if former is not None:
            _supersede(former)
        self.posted()

    def supersede(self, scan: str) -> None:
        """End a scan here that is about to be opened again, so that its spool is free."""
        with self._lock:
            former = self._channels.pop(scan, None)
        if former is not None:
            _supersede(former)
            former.close_spool()

    def detach(self, channel: Channel, farewell: wire.Message | None = None) -> None:
        """Carry nothing more for a scan, after an optional last message."""
        with self._lock:
            if self._channels.get(channel.delivery.scan) is channel:
                del self._channels[channel.delivery.scan]
            if farewell is not None and self._link.up:
                self._farewells.append(farewell)
        self.posted()

    def ask(self, request: wire.StatusRequest) -> Answer:
        """Send a status request, again after a reconnection; the future is its answer."""
        with self._lock:
            self.check_alive()
            answer = self._questions.ask(request)
        self.posted()
        return answer

    def close(self, linger_s: float) -> None:
        """End the thread, once all that is held is durable, or after ``linger_s``; do not wait."""
        with self._lock:
            if self._close_by is None:
                self._close_by = time.monotonic() + linger_s
        self.posted()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread's end; return False if it has not come."""
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def check_alive(self) -> None:
        """Raise what ended the thread."""
        if self.failure is not None:
            error = DeliveryError(self.failure.message, code=self.failure.code)
            raise error from self.failure.__cause__
        if self._close_by is not None:
            raise DeliveryError("the client is closed", code="closed")

    def abandon(self) -> None:
        """In a forked child, which has no such thread: make every call say so."""
        self.failure = DeliveryError(
            "this client belongs to the parent process",
            code="closed",
            hint="Connect in the process that writes.",
        )
        self._lock = threading.Lock()
        for channel in self._channels.values():
            channel.abandon(self.failure)

    # ------------------------------------------------------------ the loop

    def _run(self) -> None:
        reason: UsidstreamError = DeliveryError("the client is closed", code="closed")
        try:
            while not self._is_done(time.monotonic()):
                self._turn()
            self.untold = [words for channel in self._channels_now() for words in channel.untold()]
            self._say_bye()
        except BaseException as error:  # noqa: BLE001 - whatever it was reaches every caller
            reason = _as_failure(error)
        finally:
            self._end(reason)

    def _is_done(self, now: float) -> bool:
        """Whether the client is closed, and everything is durable or past waiting for."""
        if self._close_by is None:
            return False
        channels = self._channels_now()
        if not self._is_closing:
            self._is_closing = True
            for channel in channels:
                channel.hasten()
        return now >= self._close_by or not any(channel.undelivered() for channel in channels)

    def _turn(self) -> None:
        self._has_work = False
        now = time.monotonic()
        self._advance_link(now)
        channels = self._channels_now()
        for channel in channels:
            self._tick(channel, now)
        is_all_sent = self._send_due(channels, now)
        self._sleep(channels, now, wait=is_all_sent)
        self._receive()

    def _sleep(self, channels: list[Channel], now: float, *, wait: bool) -> None:
        """Wait for messages, the bell, or the time at which something is due."""
        poller = zmq.Poller()
        poller.register(self._bell.fileno(), zmq.POLLIN)
        if self._connection is not None:
            is_blocked = self._unsent is not None
            poller.register(
                self._connection.socket, zmq.POLLIN | (zmq.POLLOUT if is_blocked else 0)
            )
            poller.register(self._connection.monitor, zmq.POLLIN)
        delay_s = min(self._due_times(channels, now)) - now if wait else 0.0
        self._is_asleep = True
        if self._has_work or delay_s <= 0:
            self._is_asleep = False
            delay_s = 0.0
        events = dict(poller.poll(int(delay_s * 1000 + 0.999)))
        self._is_asleep = False
        if self._bell.fileno() in events:
            self._bell.silence()
        monitor = self._connection.monitor if self._connection is not None else None
        self._has_monitor_news = monitor in events

    def _due_times(self, channels: list[Channel], now: float) -> list[float]:
        times = [now + LONGEST_SLEEP_S, self._link.due_at()]
        if self._close_by is not None:
            times.append(self._close_by)
        if any(channel.lanes.lingering for channel in channels):
            times.append(self._linger_at)
        if self._link.up and self._unsent is None:
            dues = (channel.due_at() for channel in channels)
            times += [due for due in dues if due is not None]
        return times

    def _channels_now(self) -> list[Channel]:
        with self._lock:
            return list(self._channels.values())

    # ------------------------------------------------------------ the connection

    def _advance_link(self, now: float) -> None:
        if self._connection is not None and self._has_monitor_news:
            broken = self._connection.broken()
            if broken:
                self._hang_up(broken, now)
        step = self._link.advance(now)
        if step is Step.DIAL:
            self._dial(now)
        elif step is Step.PING and self._unsent is None:
            self._send(wire.Ping())
        elif step is Step.HANG_UP:
            self._hang_up(self._link.silence(now), now)

    def _dial(self, now: float) -> None:
        try:
            self._connection = Connection(self._context, self.endpoint, self._options.keys)
        except zmq.ZMQError as error:
            raise DeliveryError(
                f"{self.endpoint} cannot be connected to: {error}",
                code="delivery_failed",
                hint="An endpoint looks like tcp://127.0.0.1:5755.",
            ) from error
        self._link.dialled(now)
        name = f"usidstream {__version__}"
        self._send(wire.Hello(versions=[wire.VERSION], client=name, instance=self._instance))

    def _hang_up(self, reason: str, now: float) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._unsent = None
        self._farewells.clear()
        if self._link.state is not LinkState.DOWN:
            self._link.lost(reason, now)
        for channel in self._channels_now():
            channel.link_down()

    def _on_welcome(self, message: wire.Welcome, now: float) -> None:
        if self._link.state is not LinkState.GREETING:
            return
        self._link.welcomed(message, now)
        self.max_layout_bytes = message.limits.get("max_layout_bytes", wire.MAX_LAYOUT_BYTES)
        with self._lock:
            self._questions.ask_again()
        if not self.welcome.done():
            self.welcome.set_result(message)

    # ------------------------------------------------------------ sending

    def _tick(self, channel: Channel, now: float) -> None:
        reason = channel.tick(now, self._link.max_block_bytes if self._link.up else None)
        if reason:
            self._hang_up(reason, now)

    def _linger(self, channels: list[Channel], now: float) -> None:
        if now < self._linger_at or not any(channel.lanes.lingering for channel in channels):
            return
        for channel in channels:
            channel.linger()
        self._linger_at = now + self._options.linger_s

    def _send_due(self, channels: list[Channel], now: float) -> bool:
        """Send what may be sent; return False if more could be at once."""
        self._linger(channels, now)
        if not self._link.up or not self._flush_unsent():
            return True
        self._send_requests()
        is_all_sent = True
        for channel in channels:
            is_all_sent = self._send_from(channel, now) and is_all_sent
        return is_all_sent

    def _send_requests(self) -> None:
        while self._unsent is None:
            with self._lock:
                message: wire.Message | None = self._questions.take()
                if message is None and self._farewells:
                    message = self._farewells.popleft()
            if message is None:
                return
            self._send(message)

    def _send_from(self, channel: Channel, now: float) -> bool:
        for _ in range(MAX_SENT_PER_TURN_COUNT):
            if self._unsent is not None:
                return True
            message = channel.take(now)
            if message is None:
                return True
            try:
                self._send(
                    channel.as_message(message) if isinstance(message, Outbound) else message
                )
            except wire.WireError as error:
                channel.fail(error)
                return True
        return False

    def _send(self, message: wire.Message) -> None:
        frames = wire.encode(message)
        if self._connection is not None and not self._connection.send(frames):
            self._unsent = frames

    def _flush_unsent(self) -> bool:
        if self._unsent is None or self._connection is None:
            return True
        if not self._connection.send(self._unsent):
            return False
        self._unsent = None
        return True

    # ------------------------------------------------------------ receiving

    def _receive(self) -> None:
        for _ in range(MAX_RECEIVED_PER_TURN_COUNT):
            frames = self._connection.receive() if self._connection is not None else None
            if frames is None:
                return
            now = time.monotonic()
            self._link.heard(now)
            self.messages_heard += 1
            try:
                self._dispatch(wire.decode_daemon(frames), now)
            except wire.WireError as error:
                # A newer daemon may send what this version does not know; all else is damage.
                if error.code != "unknown_type":
                    self._hang_up(f"the daemon sent what cannot be read: {error.message}", now)

    def _dispatch(self, message: wire.Message, now: float) -> None:
        if isinstance(message, wire.Welcome):
            self._on_welcome(message, now)
        elif isinstance(message, wire.StatusReport):
            with self._lock:
                self._questions.answer(message)
        elif isinstance(message, wire.Error) and message.operation == "status":
            with self._lock:
                self._questions.refuse(message)
        elif isinstance(message, wire.Error) and not message.scan:
            self._on_error(message, now)
        else:
            self._to_channel(message, now)

    def _to_channel(self, message: wire.Message, now: float) -> None:
        with self._lock:
            channel = self._channels.get(getattr(message, "scan", ""))
        if channel is not None:
            channel.receive(message, now)

    def _on_error(self, message: wire.Error, now: float) -> None:
        error = to_exception(message)
        if error.retryable:
            self._hang_up(error.message, now)
        else:
            raise DeliveryError(error.message, code=error.code, hint=error.hint)

    # ------------------------------------------------------------ the end

    def _say_bye(self) -> None:
        if self._connection is None:
            return
        if self._link.up:
            self._connection.send(wire.encode(wire.Bye()))
        self._connection.close(CLOSE_LINGER_MS if self._link.up else 0)
        self._connection = None

    def _end(self, reason: UsidstreamError) -> None:
        with self._lock:
            self.failure = reason
            channels, self._channels = list(self._channels.values()), {}
            self._questions.end(reason)
        for channel in channels:
            channel.fail(reason)
        for channel in channels:
            channel.close_spool()
        if not self.welcome.done():
            self.welcome.set_exception(reason)
        if self._connection is not None:
            self._connection.close()
        self._bell.close()
        self._context.term()


def _supersede(channel: Channel) -> None:
    message = f"scan {channel.delivery.scan} was opened again by this client"
    channel.fail(DeliveryError(message, code="superseded"))


def _as_failure(error: BaseException) -> UsidstreamError:
    if isinstance(error, UsidstreamError):
        return error
    failure = DeliveryError(
        f"the client's I/O thread died: {type(error).__name__}: {error}", code="delivery_failed"
    )
    failure.__cause__ = error
    return failure
