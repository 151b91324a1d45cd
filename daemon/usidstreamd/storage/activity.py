"""What a thread is at with the disk, and since when, for whoever watches that it returns."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Activity:
    """One thread's operations, one at a time; written by that thread, read by any.

    Attributes
    ----------
    current : tuple or None
        What the thread is at and since when, on the monotonic clock; None while it waits for work.
    is_over
        Whether the thread has ended.
    """

    __slots__ = ("current", "is_over")

    def __init__(self) -> None:
        self.current: tuple[str, float] | None = None
        self.is_over = False

    @contextmanager
    def at(self, operation: str) -> Iterator[None]:
        """Be at an operation while the ``with`` block lasts."""
        self.current = (operation, time.monotonic())
        try:
            yield
        finally:
            self.current = None
