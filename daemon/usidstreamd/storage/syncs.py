"""Syncs of a running scan, and how long each took, told to whoever started the thread.

Who wants to know is part of a thread's context, as the scan that it works for is: no file has to
hand it on to the next. Nothing is told of syncs that a recovery or an opening does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, TypeAlias

from usidstream.disk import sync_data

Synced: TypeAlias = Literal["journal", "hdf5"]
SyncObserver: TypeAlias = Callable[[Synced, float], None]


def _tell_nobody(_synced: Synced, _seconds: float) -> None:
    pass


_observer: ContextVar[SyncObserver] = ContextVar("sync_observer", default=_tell_nobody)


@contextmanager
def syncs_told_to(observer: SyncObserver) -> Iterator[None]:
    """Let threads that are started in the ``with`` block tell of each sync and its seconds."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def sync(fd: int, synced: Synced) -> None:
    """Bring a file's data to the disk, as `usidstream.disk.sync_data` does, and tell how long.

    A sync that failed took its time, too.
    """
    began_s = time.perf_counter()
    try:
        sync_data(fd)
    finally:
        _observer.get()(synced, time.perf_counter() - began_s)
