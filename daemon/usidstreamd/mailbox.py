"""How other threads reach the socket thread: a queue that a ZeroMQ poller can wait on.

Codec and storage threads post what they have done; the socket thread sleeps in its poller on the
mailbox and its sockets together. The queue is bounded by the work handed out: every post answers
one job, and jobs are bounded by the buffer pool.
"""

from __future__ import annotations

import socket
import threading
from typing import Any

_WAKE_BYTES_MAX = 4096


class Mailbox:
    """A queue with a file descriptor. Any thread posts, one thread drains."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: list[Any] = []
        self._is_signalled = False
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor that is readable when something was posted."""
        return self._reader.fileno()

    def post(self, item: Any) -> None:
        """Put ``item`` in and wake the drainer, from any thread."""
        with self._lock:
            self._items.append(item)
            wake, self._is_signalled = not self._is_signalled, True
            if wake:
                self._writer.send(b"\0")

    def drain(self) -> list[Any]:
        """Take everything out, in the order of posting."""
        with self._lock:
            items, self._items = self._items, []
            if self._is_signalled:
                self._reader.recv(_WAKE_BYTES_MAX)
                self._is_signalled = False
        return items

    def close(self) -> None:
        """Release the descriptors; posts are not allowed any more."""
        self._reader.close()
        self._writer.close()
