"""The thread that looks at the threads that use the disk, and at the loop that serves clients.

A thread that hangs in a system call cannot say so. This one does nothing else, touches no disk and
takes no lock that is held over one, so that it tells while the others hang. What is too long is
`Operations`' to say; what is done about it, the caller's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..storage import Activity
from ..threads import start_thread
from .operations import Hanging, Key, Operations, Returned

LOOKS_PER_LIMIT_COUNT = 4
MAX_LOOK_INTERVAL_S = 1.0


class IoWatch:
    """Watches activities, from `start` to `close`.

    Parameters
    ----------
    limit_s
        How long an operation may take.
    tell
        Called on the watching thread with what has changed, and with the operations of the same
        scan that hang now; must neither block nor raise.

    Attributes
    ----------
    limit_s
        May change at any time.
    """

    def __init__(
        self, limit_s: float, tell: Callable[[Hanging | Returned, list[str]], None]
    ) -> None:
        self.limit_s = limit_s
        self._tell = tell
        self._activities: dict[Key, Activity] = {}
        self._lock = threading.Lock()
        self._operations = Operations()
        self._is_closing = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, key: Key, activity: Activity) -> None:
        """Watch an activity until it is over, from any thread."""
        with self._lock:
            self._activities[key] = activity

    def start(self) -> None:
        """Begin to watch."""
        self._thread = start_thread(self._run, "iowatch")

    def close(self) -> None:
        """Watch no more."""
        self._is_closing.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._is_closing.wait(self._interval_s()):
            self._look(time.monotonic())

    def _interval_s(self) -> float:
        return min(MAX_LOOK_INTERVAL_S, self.limit_s / LOOKS_PER_LIMIT_COUNT)

    def _look(self, now: float) -> None:
        with self._lock:
            over = [key for key, activity in self._activities.items() if activity.is_over]
            for key in over:
                del self._activities[key]
            doing = {key: activity.current for key, activity in self._activities.items()}
        for told in self._operations.see(now, doing, self.limit_s):
            self._tell(told, self._operations.hanging_of(told.key[0]))
