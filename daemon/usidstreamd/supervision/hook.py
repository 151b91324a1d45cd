"""The operator's command: run in the background for each happening, and never in the way.

It is a list of words, run without a shell, with the happening as JSON on its standard input and in
variables. Few run at a time, few wait, what comes too often is withheld and counted, and one that
takes too long is ended with all that it started. Whatever goes wrong with it is a line in the log.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from ..logs import get_logger
from ..service import VARIABLES as SERVICE_VARIABLES
from ..threads import start_thread
from .happenings import Happening
from .rationing import Rationing

log = get_logger()

MAX_RUNNING_COUNT = 2
MAX_WAITING_COUNT = 64
BURST_COUNT = 5
"""So many of the same happening of the same scan at once, and then"""
INTERVAL_S = 60.0
"""one more after each of these."""
MAX_OUTPUT_BYTES = 1000
"""Of what a command that failed has printed, for the log: its end."""
CLOSE_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class _Task:
    happening: Happening
    withheld: int


class Hook:
    """Runs the command; its threads begin with the first happening.

    Parameters
    ----------
    command
        Program and arguments; empty: nothing is run.
    timeout_s
        How long it may take.

    Attributes
    ----------
    command, timeout_s
        May change at any time.
    """

    def __init__(self, command: Sequence[str], timeout_s: float) -> None:
        self.command = list(command)
        self.timeout_s = timeout_s
        self._rationing = Rationing(BURST_COUNT, INTERVAL_S)
        self._lock = threading.Lock()
        self._tasks: queue.Queue[_Task | None] = queue.Queue(MAX_WAITING_COUNT)
        self._threads: list[threading.Thread] = []
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_closing = False

    def post(self, happening: Happening) -> None:
        """Run the command for a happening soon, from any thread; never waits."""
        if not self.command or self._is_closing:
            return
        with self._lock:
            key = (happening.event, happening.scan)
            withheld = self._rationing.take(key, time.monotonic())
            if withheld is None:
                return
            self._start_threads()
        try:
            self._tasks.put_nowait(_Task(happening, withheld))
        except queue.Full:
            log.warning("hook_crowded", event_of=happening.event, scan=happening.scan or None)

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Run what waits, as far as there is time; then end what runs."""
        self._is_closing = True
        deadline_s = time.monotonic() + timeout_s
        for _ in self._threads:
            with contextlib.suppress(queue.Full):  # they look at the flag as well
                self._tasks.put_nowait(None)
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        with self._lock:
            running = list(self._running)
        for process in running:
            _end(process)

    def _start_threads(self) -> None:
        if self._threads:
            return
        self._threads = [
            start_thread(self._work, f"hook-{number}") for number in range(MAX_RUNNING_COUNT)
        ]

    # ------------------------------------------------------------ on a hook thread

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                self._run(self.command, task)
            except Exception as error:  # noqa: BLE001 - the operator's command, not the daemon's work
                log.warning(
                    "hook_failed",
                    command=self.command[:1],
                    event_of=task.happening.event,
                    problem=f"{type(error).__name__}: {error}",
                )
            if self._is_closing and self._tasks.empty():
                return

    def _run(self, command: Sequence[str], task: _Task) -> None:
        with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as output:
            happening = task.happening
            text = happening.to_json(host=socket.gethostname(), withheld=task.withheld)
            told.write(text.encode())
            told.seek(0)
            process = _start(command, told, output, _environment(happening))
            with self._lock:
                self._running.add(process)
            try:
                problem = self._wait(process)
            finally:
                with self._lock:
                    self._running.discard(process)
            if problem:
                log.warning(
                    "hook_failed",
                    command=list(command[:1]),
                    event_of=happening.event,
                    problem=problem,
                    output=_tail(output),
                )

    def _wait(self, process: subprocess.Popen[bytes]) -> str:
        """Wait for a command's end, or bring it about; return what was wrong with it."""
        timeout_s = self.timeout_s
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            _end(process)
            return f"it took longer than {timeout_s:g} s and was ended"
        return f"it exited with {code}" if code else ""


def _environment(happening: Happening) -> dict[str, str]:
    ours = {key: value for key, value in os.environ.items() if key not in SERVICE_VARIABLES}
    return ours | happening.to_variables()


def _start(
    command: Sequence[str], told: IO[bytes], output: IO[bytes], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    more: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        more = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return subprocess.Popen(  # noqa: S603 - the operator's own command, and no shell
        list(command), stdin=told, stdout=output, stderr=output, env=dict(environment), **more
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a command, and where there are process groups all that it started."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(output: IO[bytes]) -> str:
    output.seek(0, os.SEEK_END)
    output.seek(max(0, output.tell() - MAX_OUTPUT_BYTES))
    return output.read().decode(errors="replace").strip()
