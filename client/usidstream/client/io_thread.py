"""The thread that owns a client's socket: it dials, greets, sends what is due, hands on what comes.

It knows the connection and which scan a message is for; what a scan sends next is its delivery's
to say. Callers never touch the socket: they change state under a lock and ring the bell. If this
thread dies, its reason reaches every call that waits, and every later one.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections import deque
from concurrent.futures import Future

import zmq

from .. import __version__, wire
from ..delivery import Link, LinkState, Outbound, Step, to_exception
from ..errors import DeliveryError, UsidstreamError
from .channel import Channel, Options
from .transport import CLOSE_LINGER_MS, Bell, Connection

LONGEST_SLEEP_S = 1.0
MAX_MESSAGES_PER_TURN_COUNT = 256


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
        self._options = options
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self._instance = secrets.token_hex(8)
        self._bell = Bell()
        self._link = Link()
        self._connection: Connection | None = None
        self._unsent: tuple[Channel | None, list[wire.Frame]] | None = None
        self._lock = threading.Lock()
        self._channels: dict[str, Channel] = {}
        self._questions: deque[tuple[wire.StatusRequest, Future[wire.StatusReport]]] = deque()
        self._unasked: deque[wire.StatusRequest] = deque()
        self._is_lingering = False
        self._is_closing = False
        self._linger_at = 0.0
        self._thread = threading.Thread(target=self._run, name="usidstream-io", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------ from callers

    def posted(self) -> None:
        """There is something to send."""
        self._bell.ring()

    def opened(self) -> None:
        """A block was opened, so that linger must be watched."""
        if not self._is_lingering:
            self._is_lingering = True
            self._bell.ring()

    def trouble(self) -> str:
        """Return why there is no connection, empty while there is one."""
        return "" if self._link.up else self._link.trouble or "not connected yet"

    def attach(self, channel: Channel) -> None:
        """Carry a scan's messages from now on; raise what ended the thread."""
        with self._lock:
            self._check_alive()
            self._channels[channel.delivery.scan] = channel
        self._bell.ring()

    def detach(self, channel: Channel) -> None:
        """Carry nothing more for a scan."""
        with self._lock:
            if self._channels.get(channel.delivery.scan) is channel:
                del self._channels[channel.delivery.scan]

    def ask(self, request: wire.StatusRequest) -> Future[wire.StatusReport]:
        """Send a status request, again after a reconnection; the future is its answer."""
        answer: Future[wire.StatusReport] = Future()
        with self._lock:
            self._check_alive()
            self._questions.append((request, answer))
            self._unasked.append(request)
        self._bell.ring()
        return answer

    def close(self) -> None:
        """Say bye and end the thread."""
        with self._lock:
            self._is_closing = True
        self._bell.ring()
        self._thread.join()

    def _check_alive(self) -> None:
        if self.failure is not None:
            raise DeliveryError(self.failure.message, code=self.failure.code)
        if self._is_closing:
            raise DeliveryError("the client is closed", code="closed")

    # ------------------------------------------------------------ the loop

    def _run(self) -> None:
        reason: UsidstreamError = DeliveryError("the client is closed", code="closed")
        try:
            while not self._is_closing:
                self._turn()
            self._say_bye()
        except BaseException as error:
            reason = _as_failure(error)
            if not isinstance(error, UsidstreamError):
                raise
        finally:
            self._end(reason)

    def _turn(self) -> None:
        now = time.monotonic()
        self._advance_link(now)
        for channel in self._channels_now():
            self._tick(channel, now)
        self._linger(now)
        self._send_due(now)
        self._sleep(now)
        self._bell.silence()
        self._receive()

    def _sleep(self, now: float) -> None:
        poller = zmq.Poller()
        poller.register(self._bell.fileno(), zmq.POLLIN)
        if self._connection is not None:
            wanted = zmq.POLLIN | (zmq.POLLOUT if self._unsent else 0)
            poller.register(self._connection.socket, wanted)
            poller.register(self._connection.monitor, zmq.POLLIN)
        wake_at = min(self._due_times(now))
        poller.poll(max(0, int((wake_at - now) * 1000) + 1) if wake_at > now else 0)

    def _due_times(self, now: float) -> list[float]:
        times = [now + LONGEST_SLEEP_S, self._link.due_at()]
        times += [self._linger_at] if self._is_lingering else []
        for channel in self._channels_now():
            with channel.lock:
                due = channel.delivery.due_at()
            times += [due] if due is not None and self._link.up else []
        return times

    def _channels_now(self) -> list[Channel]:
        with self._lock:
            return list(self._channels.values())

    # ------------------------------------------------------------ the connection

    def _advance_link(self, now: float) -> None:
        if self._connection is not None:
            broken = self._connection.broken()
            if broken:
                self._hang_up(broken, now)
        step = self._link.advance(now)
        if step is Step.DIAL:
            self._dial(now)
        elif step is Step.PING:
            self._send(None, wire.Ping())
        elif step is Step.HANG_UP:
            self._hang_up(self._link.silence(now), now)

    def _dial(self, now: float) -> None:
        try:
            self._connection = Connection(self._context, self.endpoint)
        except zmq.ZMQError as error:
            raise DeliveryError(
                f"{self.endpoint} cannot be connected to: {error}",
                code="delivery_failed",
                hint="An endpoint looks like tcp://127.0.0.1:5755.",
            ) from error
        self._link.dialled(now)
        hello = wire.Hello(
            versions=[wire.VERSION], client=f"usidstream {__version__}", instance=self._instance
        )
        self._send(None, hello)

    def _hang_up(self, reason: str, now: float) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._unsent = None
        if self._link.state is not LinkState.DOWN:
            self._link.lost(reason, now)
        for channel in self._channels_now():
            with channel.lock:
                channel.delivery.link_down()
                channel.delivery.reconnect = ""
                channel.after_event()

    def _on_welcome(self, message: wire.Welcome, now: float) -> None:
        if self._link.state is not LinkState.GREETING:
            return
        self._link.welcomed(message, now)
        with self._lock:
            self._unasked = deque(request for request, _ in self._questions)
        if not self.welcome.done():
            self.welcome.set_result(message)

    # ------------------------------------------------------------ sending

    def _tick(self, channel: Channel, now: float) -> None:
        with channel.lock:
            delivery = channel.delivery
            if self._link.up:
                delivery.link_up(self._link.max_block_bytes, now)
            delivery.tick(now)
            reason = delivery.reconnect
            channel.after_event()
        if reason:
            self._hang_up(reason, now)

    def _linger(self, now: float) -> None:
        if not self._is_lingering or now < self._linger_at:
            return
        # Cleared first: a block that is opened meanwhile sets it again.
        self._is_lingering = False
        for channel in self._channels_now():
            with channel.lock:
                self._is_lingering = channel.tick() or self._is_lingering
        self._linger_at = now + self._options.linger_s

    def _send_due(self, now: float) -> None:
        if not self._link.up or not self._flush_unsent():
            return
        while self._unasked and self._unsent is None:
            self._send(None, self._unasked.popleft())
        for channel in self._channels_now():
            while self._unsent is None and self._send_next(channel, now):
                pass

    def _send_next(self, channel: Channel, now: float) -> bool:
        with channel.lock:
            message = channel.delivery.take(now)
        if message is None:
            return False
        self._send(
            channel, channel.as_message(message) if isinstance(message, Outbound) else message
        )
        return True

    def _send(self, channel: Channel | None, message: wire.Message) -> None:
        try:
            frames = wire.encode(message)
        except UsidstreamError as error:
            if channel is None:
                raise
            channel.fail(error)
            return
        if self._connection is not None and not self._connection.send(frames):
            self._unsent = (channel, frames)

    def _flush_unsent(self) -> bool:
        if self._unsent is None or self._connection is None:
            return True
        if not self._connection.send(self._unsent[1]):
            return False
        self._unsent = None
        return True

    # ------------------------------------------------------------ receiving

    def _receive(self) -> None:
        for _ in range(MAX_MESSAGES_PER_TURN_COUNT):
            frames = self._connection.receive() if self._connection is not None else None
            if frames is None:
                return
            now = time.monotonic()
            self._link.heard(now)
            self._dispatch(wire.decode_daemon(frames), now)

    def _dispatch(self, message: wire.Message, now: float) -> None:
        if isinstance(message, wire.Welcome):
            self._on_welcome(message, now)
        elif isinstance(message, wire.StatusReport):
            self._answer(message)
        elif isinstance(message, wire.Error) and message.operation == "status":
            self._refuse_question(message)
        elif isinstance(message, wire.Error) and not message.scan:
            self._on_error(message, now)
        else:
            self._to_channel(message, now)

    def _to_channel(self, message: wire.Message, now: float) -> None:
        with self._lock:
            channel = self._channels.get(getattr(message, "scan", ""))
        if channel is None:
            return
        with channel.lock:
            channel.delivery.receive(message, now)
            channel.after_event()

    def _on_error(self, message: wire.Error, now: float) -> None:
        error = to_exception(message)
        if error.retryable:
            self._hang_up(error.message, now)
        else:
            raise DeliveryError(error.message, code=error.code, hint=error.hint)

    def _answer(self, report: wire.StatusReport) -> None:
        scan = report.scans[0].get("scan", "") if report.coverage and report.scans else ""
        answer = self._take_question(scan, coverage=bool(report.coverage))
        if answer is not None:
            answer.set_result(report)

    def _refuse_question(self, message: wire.Error) -> None:
        answer = self._take_question(message.scan, coverage=True)
        if answer is not None:
            answer.set_exception(to_exception(message))

    def _take_question(self, scan: str, *, coverage: bool) -> Future[wire.StatusReport] | None:
        with self._lock:
            for entry in self._questions:
                request, answer = entry
                if request.coverage == coverage and (not coverage or request.scan == scan):
                    self._questions.remove(entry)
                    return answer
        return None

    # ------------------------------------------------------------ the end

    def _say_bye(self) -> None:
        if self._connection is None:
            return
        if self._link.up:
            self._connection.send(wire.encode(wire.Bye()))
        self._connection.close(CLOSE_LINGER_MS)
        self._connection = None

    def _end(self, reason: UsidstreamError) -> None:
        with self._lock:
            self.failure = reason
            channels, self._channels = list(self._channels.values()), {}
            questions, self._questions = self._questions, deque()
        if self._connection is not None:
            self._connection.close()
        for channel in channels:
            channel.fail(reason)
        for answer in [answer for _, answer in questions]:
            answer.set_exception(reason)
        with contextlib.suppress(Exception):  # it was welcomed before
            self.welcome.set_exception(reason)
        self._bell.close()


def _as_failure(error: BaseException) -> UsidstreamError:
    if isinstance(error, UsidstreamError):
        return error
    failure = DeliveryError(
        f"the client's I/O thread died: {type(error).__name__}: {error}", code="delivery_failed"
    )
    failure.__cause__ = error
    return failure
