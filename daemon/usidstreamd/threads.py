"""Threads under their own names, for ``top -H``, ``perf`` and the benchmark.

From Python 3.14 on the operating system learns a thread's name by itself; until then each thread
of the daemon says it. It knows names only, not what a thread does.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

MAX_NAME_BYTES = 15
"""Linux keeps no more of a thread's name."""


def show_thread_name() -> None:
    """Give the calling thread's Python name to the operating system, where it takes one (Linux)."""
    thread = threading.current_thread()
    comm = Path(f"/proc/self/task/{thread.native_id}/comm")
    # A name is a convenience: a system without it, or a sandbox that forbids it, loses nothing.
    with contextlib.suppress(OSError):
        comm.write_bytes(thread.name.encode()[:MAX_NAME_BYTES])
