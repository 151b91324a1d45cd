"""What HDF5 can still read of a file whose journal is gone, copied into a new file.

The damaged file is never changed. Copying is the work of a process of its own: HDF5 may crash or
hang on what it meets. When it does, another one begins anew and leaves out the object that the
last one had come to.
"""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from .errors import StorageError, damaged_error, storage_error
from .files import publish_new, remove, sync_file
from .recovery import SALVAGED, RecoveryReport
from .superblock_repair import read_superblock

CHILD = "usidstreamd.storage.salvaging"
SALVAGED_SUFFIX = ".salvaged.h5"
SALVAGING_SUFFIX = ".salvaging"
STALL_TIMEOUT_S = 120.0
"""Copying that makes no step for so long is taken for a hang of HDF5."""
MAX_SKIPPED_COUNT = 50
"""More objects that kill or stop the copying are not tried: the file is beyond this."""

NOT_CERTAIN = (
    "without its journal nobody can tell which rows were durable; chunks not flushed before the "
    "daemon died are missing, and what cannot be decoded was left out"
)


def salvage(
    path: Path, directory: Path | None = None, stall_timeout_s: float = STALL_TIMEOUT_S
) -> RecoveryReport:
    """Copy what can be read of a file into ``<name>.salvaged.h5``.

    Parameters
    ----------
    path
        The damaged file.
    directory
        Where the new file is made; beside the damaged one if not given.
    stall_timeout_s
        How long copying may make no step.

    Raises
    ------
    StorageError
        ``file_damaged``: not even its superblock is whole, or too much of it is beyond reading;
        ``no_space``; ``storage_failed``, also where the new file exists already.
    """
    read_superblock(path)
    target = (directory or path.parent) / (path.stem + SALVAGED_SUFFIX)
    if target.exists():
        raise StorageError(
            f"{target} exists already", code="storage_failed", hint="Move it away first."
        )
    copying = target.with_name(target.name + SALVAGING_SUFFIX)
    skipped: dict[str, str] = {}
    try:
        told = _copy(path, copying, skipped, stall_timeout_s)
        sync_file(copying)
        publish_new(copying, target)
    finally:
        remove(copying)
    unread = [f"{name}: {how}" for name, how in skipped.items()]
    return RecoveryReport(
        str(target.absolute()),
        SALVAGED,
        reason="it has no journal",
        chunks_rebuilt=told["chunks"],
        uncertain=[NOT_CERTAIN, *unread, *told["unread"]],
        kept=str(path.absolute()),
    )


def _copy(path: Path, target: Path, skipped: dict[str, str], stall_timeout_s: float) -> Any:
    """Copy until a child comes to its end; what stops one is added to ``skipped``."""
    while len(skipped) <= MAX_SKIPPED_COUNT:
        remove(target)
        ending, last, told = _run_child(path, target, list(skipped), stall_timeout_s)
        if told is not None:
            return told
        if last is None:
            raise StorageError(
                f"the process that reads {path} {ending} before it began", code="internal_error"
            )
        if last in skipped or last == "/":
            break
        skipped[last] = f"reading it {ending}"
    raise damaged_error(path, "is damaged beyond what HDF5 can read.", "Nothing was changed.")


def _run_child(
    path: Path, target: Path, skipped: list[str], stall_timeout_s: float
) -> tuple[str, str | None, Any]:
    """Return how the child ended, the object it had come to, and what it told at its end."""
    command = [sys.executable, "-m", CHILD, str(path), str(target), json.dumps(skipped)]
    last: str | None = None
    with subprocess.Popen(  # noqa: S603  # our own module; paths as single arguments
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as child:
        watchdog = _Watchdog(child, stall_timeout_s)
        try:
            for line in child.stdout or ():
                watchdog.step()
                kind, told = json.loads(line)
                if kind == "end":
                    return "", last, told
                if kind == "full":
                    raise storage_error("write", target, OSError(errno.ENOSPC, told))
                last = told if kind == "object" else last
        finally:
            watchdog.stop()
            child.kill()
    ending = "made no step" if watchdog.bit else f"ended with {child.returncode}"
    return ending, last, None


class _Watchdog:
    """Kills a child that makes no step for too long."""

    def __init__(self, child: subprocess.Popen[str], timeout_s: float) -> None:
        self.bit = False
        self._child = child
        self._timeout_s = timeout_s
        self._changed = threading.Condition()
        self._ended = False
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def step(self) -> None:
        """Begin to wait anew."""
        with self._changed:
            self._changed.notify()

    def stop(self) -> None:
        """End the watch."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while not self._ended:
                if not self._changed.wait(self._timeout_s) and not self._ended:
                    self.bit = True
                    self._child.kill()
                    return
