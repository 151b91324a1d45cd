"""A TCP proxy that a test puts between client and daemon, to cut, delay or swallow what passes."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from types import TracebackType

READ_BYTES = 1 << 16
JOIN_TIMEOUT_S = 10.0

# Closing with this sends a reset: whatever was on its way is lost, as when a cable is pulled.
_RESET = struct.pack("ii", 1, 0)


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

    def swallow(self) -> None:
        """Let every present connection stand, and forward nothing of it any more, either way."""
        with self._lock:
            for pair in self._pairs:
                pair.is_dead = True

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
        try:
            while data := source.recv(READ_BYTES):
                if self.delay_s:
                    self._closing.wait(self.delay_s)
                if pair.is_dead:
                    continue
                sink.sendall(data)
                if source is pair.near:
                    self.bytes_up += len(data)
        except OSError:  # cut
            pass
        finally:
            pair.close()


class _Pair:
    """The two sockets of a forwarded connection."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near = near
        self.far = far
        self.is_dead = False
        for each in (near, far):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        for each in (self.near, self.far):
            with contextlib.suppress(OSError):  # closed already
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                each.shutdown(socket.SHUT_RDWR)
            each.close()
