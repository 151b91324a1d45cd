"""How the C library hands out memory in the daemon.

Blocks of a megabyte are taken by libzmq's thread and given back by others, compressed chunks
likewise. glibc answers with an arena for every thread, of which none shrinks while another grows,
and with pages of 4 KiB, whose first touch costs as much as the copy of what goes there: one arena
of huge pages, which keeps what it once had, holds memory flat and saves a tenth of the processor's
time. What acquisition works in is touched at the start: the first scan is then as fast as the next,
and a machine that has too little memory shows it before a sample is in danger.

glibc (manual, "Memory Allocation Tunables"; ``hugetlb`` since 2.35) reads this from the environment
and once, before ``main``: so the program starts itself anew, in the same process. Elsewhere, and
where the operator has set such tunables, nothing happens.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping

TUNABLES = "GLIBC_TUNABLES"
PIECE_BYTES = 15 << 20
WORKING_BYTES = 4 * PIECE_BYTES
"""What a scan at full rate takes in blocks, tiles and chunks."""
SETTINGS = ":".join(
    f"glibc.malloc.{setting}"
    for setting in (
        "arena_max=1",
        "hugetlb=1",  # huge pages wherever the kernel gives them to those who ask
        f"mmap_threshold={32 << 20}",  # no mapping of its own for each block
        f"trim_threshold={128 << 20}",  # nothing is given back that is asked for again
    )
)


def start_anew() -> bool:
    """Execute this very command again with `SETTINGS`; return whether it runs with them.

    To be called before anything else: nothing of the process but its number and its open files
    outlives it. Processes that it starts inherit no settings.
    """
    if os.environ.get(TUNABLES) == SETTINGS:
        del os.environ[TUNABLES]
        return True
    if _is_glibc() and not _is_tuned(os.environ) and _is_own_command():
        arguments = [sys.executable, *sys.orig_argv[1:]]
        with contextlib.suppress(OSError):  # it serves all the same
            os.execve(sys.executable, arguments, {**os.environ, TUNABLES: SETTINGS})  # noqa: S606 - this interpreter, as it was called
    return False


def touch_working_memory() -> None:
    """Take `WORKING_BYTES` from the kernel, and leave them to the C library for whoever asks."""
    import numpy as np  # not before the program has begun anew, and said how numpy is to start

    pieces = [np.empty(PIECE_BYTES, np.uint8) for _ in range(WORKING_BYTES // PIECE_BYTES)]
    for piece in pieces:
        piece.fill(0)


def _is_own_command() -> bool:
    """Whether the command is the process's own, and not called within another program."""
    arguments = sys.argv[1:]
    return bool(sys.executable and arguments) and sys.orig_argv[-len(arguments) :] == arguments


def _is_glibc() -> bool:
    try:
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (AttributeError, ValueError, OSError):  # Windows, macOS
        return False


def _is_tuned(environ: Mapping[str, str]) -> bool:
    return TUNABLES in environ or any(name.startswith("MALLOC_") for name in environ)
