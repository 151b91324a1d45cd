"""Threads under their own names, for ``top -H``, ``perf`` and the benchmark, and with a context.

From Python 3.14 on the operating system learns a thread's name by itself; until then each thread
of the daemon says it. A thread goes on in the context that it is started in: which scan it works
for, as the log tells it. What a thread does is not known here.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable
from pathlib import Path

MAX_NAME_BYTES = 15
"""Linux keeps no more of a thread's name."""


def start_thread(run: Callable[[], None], name: str) -> threading.Thread:
    """Run a function in a thread that does not keep the process from ending."""
    context = contextvars.copy_context()

    def run_named() -> None:
        show_thread_name()
        context.run(run)

    thread = threading.Thread(target=run_named, name=name, daemon=True)
    thread.start()
    return thread


def show_thread_name() -> None:
    """Give the calling thread's Python name to the operating system, where it takes one (Linux)."""
    thread = threading.current_thread()
    comm = Path(f"/proc/self/task/{thread.native_id}/comm")
    # A name is a convenience: a system without it, or a sandbox that forbids it, loses nothing.
    with contextlib.suppress(OSError):
        comm.write_bytes(thread.name.encode()[:MAX_NAME_BYTES])
