"""Watching a daemon: a socket that is made again whenever the daemon is gone, and its events.

`Watch` blocks, `AsyncWatch` is the same for asyncio; what they know they have in common. A watch is
never at its end by itself: while no daemon is there it looks for one.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zmq
import zmq.asyncio

from .. import wire
from ..keys import ClientKeys
from .events import Event
from .sockets import KeyFiles, NotThereError, check_endpoint, find_telemetry, make_socket
from .viewer import Viewer

RETRY_INTERVAL_S = 0.5


class _Watching:
    """What both kinds of watch have in common.

    Parameters
    ----------
    endpoint
        Where the daemon takes data; it is asked for its telemetry. None with ``telemetry``.
    telemetry
        The telemetry socket itself.
    topics
        What to subscribe to; the daemon's own topic always is, for its heartbeat.
    silence_timeout_s
        How long the daemon may be silent until it counts as gone.
    key_files
        For a daemon that asks for keys.
    """

    def __init__(
        self,
        endpoint: str | None,
        telemetry: str | None,
        topics: Iterable[str],
        silence_timeout_s: float,
        key_files: KeyFiles,
    ) -> None:
        if (endpoint is None) == (telemetry is None):
            raise ValueError("give either the daemon's endpoint or that of its telemetry")
        self._endpoint = check_endpoint(endpoint or telemetry or "")
        self._telemetry = telemetry
        ClientKeys.load(key_files.server_key, key_files.key_file)  # what is wrong is told at once
        self._key_files = key_files
        self._viewer = Viewer(silence_timeout_s)
        self._viewer.topics = dict.fromkeys([wire.DAEMON_TOPIC, *topics])
        self._events: deque[Event] = deque()
        self._socket: Any = None
        self._retry_s = 0.0

    @property
    def topics(self) -> list[str]:
        """What is subscribed to."""
        return list(self._viewer.topics)

    @property
    def is_connected(self) -> bool:
        """Whether a daemon is heard."""
        return bool(self._viewer.instance)

    def subscribe(self, topic: str) -> None:
        """Ask for a topic; see `scan_topic`, `layout_topic` and `preview_topic`."""
        if topic not in self._viewer.topics:
            self._viewer.topics[topic] = None
            if self._socket is not None:
                self._socket.subscribe(topic)

    def unsubscribe(self, topic: str) -> None:
        """Ask for a topic no more; the daemon's own stays."""
        if topic != wire.DAEMON_TOPIC and topic in self._viewer.topics:
            del self._viewer.topics[topic]
            if self._socket is not None:
                self._socket.unsubscribe(topic)

    def _listen(self, context: zmq.Context[Any], endpoint: str) -> None:
        self._socket = make_socket(context, self._key_files)
        self._socket.connect(endpoint)
        for topic in self._viewer.topics:
            self._socket.subscribe(topic)
        self._viewer.begin(time.monotonic())

    def _drop(self, reason: str) -> None:
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None
        self._retry_s = time.monotonic() + RETRY_INTERVAL_S
        self._events.extend(self._viewer.lose(reason))

    def _take(self, frames: list[bytes]) -> None:
        self._events.extend(self._viewer.receive(frames, time.monotonic()))

    def _wait_s(self, until_s: float | None) -> float:
        """Return how long to sleep at most: until something is due, or the caller is."""
        due_s = self._retry_s if self._socket is None else self._viewer.deadline_s
        until_s = due_s if until_s is None else min(due_s, until_s)
        return max(0.0, until_s - time.monotonic())

    def _is_time_to_look(self) -> bool:
        return self._socket is None and time.monotonic() >= self._retry_s

    def _drop_if_silent(self) -> None:
        """Give a socket up from which nothing comes, and nothing waits."""
        if self._socket is not None and self._viewer.is_silent(time.monotonic()):
            self._drop(f"the daemon at {self._endpoint} is silent")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None


def _deadline(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else time.monotonic() + timeout_s


def _is_over(until_s: float | None) -> bool:
    return until_s is not None and time.monotonic() >= until_s


class Watch(_Watching):
    """Events of a daemon, by iteration or one at a time. See `watch`."""

    def next_event(self, timeout_s: float | None = None) -> Event | None:
        """Return the next event, or None if none comes in time.

        Looking for a daemon that does not answer may take two seconds beyond that.
        """
        until_s = _deadline(timeout_s)
        while not self._events:
            if self._is_time_to_look():
                self._look()
            elif not self._receive(self._wait_s(until_s)):
                self._drop_if_silent()
            if not self._events and _is_over(until_s):
                return None
        return self._events.popleft()

    def _look(self) -> None:
        try:
            endpoint = self._telemetry or find_telemetry(self._endpoint, self._key_files)
        except NotThereError as error:
            self._drop(error.message)
        else:
            self._listen(zmq.Context.instance(), endpoint)

    def _receive(self, wait_s: float) -> bool:
        """Take a message, waiting for it; without a socket just wait."""
        if self._socket is None:
            time.sleep(wait_s)
            return False
        if not self._socket.poll(int(wait_s * 1000.0) + 1):
            return False
        self._take(self._socket.recv_multipart(zmq.NOBLOCK))
        return True

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        event = self.next_event()
        if event is None:
            raise StopIteration
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncWatch(_Watching):
    """The same for asyncio: everything happens on the running loop. See `watch_async`."""

    async def next_event(self, timeout_s: float | None = None) -> Event | None:
        """Return the next event, or None if none comes in time."""
        until_s = _deadline(timeout_s)
        while not self._events:
            if self._is_time_to_look():
                await self._look()
            elif not await self._receive(self._wait_s(until_s)):
                self._drop_if_silent()
            if not self._events and _is_over(until_s):
                return None
        return self._events.popleft()

    async def _look(self) -> None:
        try:
            endpoint = self._telemetry
            if endpoint is None:
                endpoint = await asyncio.to_thread(find_telemetry, self._endpoint, self._key_files)
        except NotThereError as error:
            self._drop(error.message)
        else:
            self._listen(zmq.asyncio.Context.instance(), endpoint)

    async def _receive(self, wait_s: float) -> bool:
        if self._socket is None:
            await asyncio.sleep(wait_s)
            return False
        if not await self._socket.poll(int(wait_s * 1000.0) + 1):
            return False
        self._take(await self._socket.recv_multipart(zmq.NOBLOCK))
        return True

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        event = await self.next_event()
        if event is None:
            raise StopAsyncIteration
        return event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()


def watch(
    endpoint: str | None = None,
    *,
    telemetry: str | None = None,
    topics: Iterable[str] = (wire.SCAN_TOPICS,),
    silence_timeout_s: float = wire.SILENCE_TIMEOUT_S,
    server_key: str | Path | None = None,
    key_file: str | Path | None = None,
) -> Watch:
    """Watch a daemon, from this machine or another.

    It begins with `Connected` or `Disconnected`, and never ends by itself: a daemon that is gone is
    looked for again.

    Parameters
    ----------
    endpoint
        Where the daemon takes data, such as ``tcp://127.0.0.1:5755``; it says where its telemetry
        is, on the same host.
    telemetry
        The telemetry socket itself, in place of ``endpoint``.
    topics
        What to subscribe to, besides the daemon's heartbeat; by default how all scans do. More can
        be asked for at any time: `Watch.subscribe`.
    silence_timeout_s
        How long the daemon may be silent until it counts as gone.
    server_key, key_file
        For a daemon that admits known clients only, as `connect` takes them.

    Raises
    ------
    ValueError
        An endpoint is none.
    UsidstreamError
        ``bad_keys``: a key file cannot be used, or one of the two is missing.

    Examples
    --------
    >>> with watch("tcp://127.0.0.1:5755") as events:  # doctest: +SKIP
    ...     for event in events:
    ...         if isinstance(event, Progress):
    ...             print(event.positions_durable, "of", event.n_positions)
    ...             events.subscribe(preview_topic(event.scan, 0, "mean"))
    ...         elif isinstance(event, PreviewRows):
    ...             picture[event.rows] = event.values
    """
    key_files = KeyFiles(server_key, key_file)
    return Watch(endpoint, telemetry, topics, silence_timeout_s, key_files)


def watch_async(
    endpoint: str | None = None,
    *,
    telemetry: str | None = None,
    topics: Iterable[str] = (wire.SCAN_TOPICS,),
    silence_timeout_s: float = wire.SILENCE_TIMEOUT_S,
    server_key: str | Path | None = None,
    key_file: str | Path | None = None,
) -> AsyncWatch:
    """Watch a daemon from asyncio: ``async with watch_async(...) as events``. As `watch`."""
    key_files = KeyFiles(server_key, key_file)
    return AsyncWatch(endpoint, telemetry, topics, silence_timeout_s, key_files)
