"""Several threads at once, which switch as often as the interpreter lets them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

THREADS_COUNT = 4


@contextmanager
def switching_often() -> Iterator[None]:
    """Let threads take turns after a microsecond, where the interpreter's own is 5 ms."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def in_threads(work: Callable[[int], None]) -> None:
    """Run ``work(number)`` in several threads, and raise what any of them raised."""
    raised: list[BaseException] = []
    start = threading.Barrier(THREADS_COUNT)

    def run(number: int) -> None:
        try:
            start.wait(20)
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised again below
            raised.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS_COUNT)]
    with switching_often():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if raised:
        raise raised[0]
