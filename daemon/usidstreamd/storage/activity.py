"""What a thread is at with the disk, and since when, for whoever watches that it returns."""

from __future__ import annotations

import time


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

    def at(self, operation: str) -> Activity:
        """Be at an operation from now on, while the ``with`` block that begins here lasts."""
        self.current = (operation, time.monotonic())
        return self

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_cause: object) -> None:
        self.current = None
