"""A TCP proxy that a test puts between client and daemon.

It cuts, at once or in the middle of a message, delays, swallows what passes in one direction or
both, and can send a connection's bytes to the daemon once more, as if they came from a second one.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from enum import Enum
from types import TracebackType

READ_BYTES = 1 << 16
GREETING_BYTES = 64
JOIN_TIMEOUT_S = 10.0

# Closing with this sends a reset: whatever was on its way is lost, as when a cable is pulled.
_RESET = struct.pack("ii", 1, 0)


class Way(Enum):
    """A direction: from the client to the daemon, or back."""

    UP = "up"
    DOWN = "down"


class Proxy:
    """Forwards connections to ``endpoint``, a chunk of bytes at a time."""

    def __init__(self, endpoint: str) -> None:
        host, port = endpoint.removeprefix("tcp://").rsplit(":", 1)
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.delay_s = 0.0
        self.connections = 0
        self.bytes_up = 0
        self.records = False
        self._lock = threading.Lock()
        self._pairs: list[_Pair] = []
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()
        self._start(self._accept)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(JOIN_TIMEOUT_S)
            assert not thread.is_alive()

    # -- what a test does

    def cut(self) -> None:
        """Break every connection; the next one is forwarded as ever."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            pair.close()

    def cut_after(self, nbytes: int, way: Way) -> None:
        """Break every connection when so many more bytes have passed, wherever that is."""
        with self._lock:
            for pair in self._pairs:
                pair.left[way] = nbytes

    def swallow(self, *ways: Way) -> None:
        """Let every present connection stand, and forward nothing of it any more, or one way only.

        A connection that is swallowed one way is half open.
        """
        with self._lock:
            for pair in self._pairs:
                pair.swallowed |= set(ways or Way)

    def repeat(self) -> None:
        """Send what came up the present connections, with ``records`` set, by new ones once more.

        Nothing that is answered is heard; the new connections stand until all are cut.
        """
        with self._lock:
            recorded = [bytes(pair.recorded) for pair in self._pairs]
        for data in recorded:
            far = socket.create_connection(self._target)
            pair = _Pair(far, far)
            with self._lock:
                self._pairs.append(pair)
            with contextlib.suppress(OSError):  # hung up on
                far.sendall(data[:GREETING_BYTES])
                far.recv(GREETING_BYTES, socket.MSG_WAITALL)  # ZeroMQ wants to be heard out first
                far.sendall(data[GREETING_BYTES:])
            self._start(self._discard, pair)

    # -- threads

    def _start(self, run: object, *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                far = socket.create_connection(self._target)
            except OSError:  # nobody there: the client sees the same
                near.close()
                continue
            pair = _Pair(near, far)
            with self._lock:
                self._pairs.append(pair)
                self.connections += 1
            self._start(self._pump, pair, near, far)
            self._start(self._pump, pair, far, near)

    def _pump(self, pair: _Pair, source: socket.socket, sink: socket.socket) -> None:
        way = Way.UP if source is pair.near else Way.DOWN
        try:
            while data := source.recv(READ_BYTES):
                if self.delay_s:
                    self._closing.wait(self.delay_s)
                if way in pair.swallowed:
                    continue
                left = pair.left.get(way)
                sink.sendall(data[:left])
                if way is Way.UP:
                    self.bytes_up += len(data[:left])
                    if self.records:
                        pair.recorded += data[:left]
                if left is not None:
                    pair.left[way] = left - len(data)
                    if left <= len(data):
                        break
        except OSError:  # cut
            pass
        finally:
            pair.close()

    @staticmethod
    def _discard(pair: _Pair) -> None:
        with contextlib.suppress(OSError):  # cut
            while pair.far.recv(READ_BYTES):
                pass


class _Pair:
    """The sockets of a forwarded connection, and what is to happen to it."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near = near
        self.far = far
        self.swallowed: set[Way] = set()
        self.left: dict[Way, int] = {}
        self.recorded = bytearray()
        for each in (near, far):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        for each in (self.near, self.far):
            with contextlib.suppress(OSError):  # closed already
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                each.shutdown(socket.SHUT_RDWR)
            each.close()
