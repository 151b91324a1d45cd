"""The processes of a benchmark: a daemon as users start it, and workers that talk in JSON lines.

A worker is started with one JSON object that says what to do, prints one line for each thing that
happened, and reads a line before it begins. Nothing is left running at the end of a ``with`` block.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .figures import BenchError

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 900.0
"""The longest that a worker may be silent."""
MAX_ERROR_LINES = 5

_SERVE = "from usidstreamd.cli import main; main()"
_WORK = "from usidstreamd.bench.worker import main; main()"


class Worker:
    """A process that works and tells."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str], what: str) -> None:
        self.pid = process.pid
        self._process = process
        self._errors = errors
        self._what = what
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name=f"read {what}", daemon=True)
        self._reader.start()

    def tell(self) -> None:
        """Let it begin."""
        if self._process.stdin is None:
            raise BenchError(f"{self._what} reads nothing")
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def next_line(self, timeout_s: float) -> str | None:
        """Return the next line; None if none came in time.

        Raises
        ------
        BenchError
            The process ended without another line; its last words are part of the message.
        """
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if line is None:
            raise BenchError(f"{self._what} ended early: {self._last_words()}")
        return line

    def expect(self, event: str, timeout_s: float = ANSWER_TIMEOUT_S) -> dict[str, Any]:
        """Wait for an event and return what it says."""
        line = self.next_line(timeout_s)
        if line is None:
            raise BenchError(f"{self._what} said nothing for {timeout_s:g} s")
        return self.read(line, event)

    def read(self, line: str, event: str) -> dict[str, Any]:
        """Return what a line says, if it is of this event."""
        told: dict[str, Any] = json.loads(line)
        if told.get("event") != event:
            raise BenchError(f"{self._what} said {line.strip()!r} instead of {event}")
        return told

    def stop(self) -> None:
        """End the process, if it has not ended by itself, and close its pipes."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(STOP_TIMEOUT_S)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def _read(self) -> None:
        if self._process.stdout is not None:
            for line in self._process.stdout:
                self._lines.put(line)
        self._lines.put(None)

    def _last_words(self) -> str:
        self._errors.seek(0)
        return " / ".join(self._errors.read().splitlines()[-MAX_ERROR_LINES:]) or "no word"


@contextmanager
def _started(arguments: list[str], what: str) -> Iterator[Worker]:
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(  # noqa: S603 - this interpreter, with arguments of our own
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        worker = Worker(process, errors, what)
        try:
            yield worker
        finally:
            worker.stop()


@contextmanager
def working(role: str, **spec: Any) -> Iterator[Worker]:
    """Run a worker in a role of `worker.ROLES` while the ``with`` block lasts."""
    with _started(["-c", _WORK, json.dumps({"role": role, **spec})], role) as worker:
        yield worker


@contextmanager
def serving(data_dir: Path, config: Mapping[str, Any]) -> Iterator[tuple[Worker, str]]:
    """Run ``usidstreamd serve`` on a free port; yield the process and its endpoint.

    Without a dashboard beside it unless ``config`` asks for one: that is another program.
    """
    data_dir.mkdir()
    file = data_dir.with_suffix(".toml")
    file.write_text(
        "".join(
            f"{name} = {json.dumps(value)}\n"
            for name, value in ({"dashboard": "off"} | dict(config)).items()
        )
    )
    arguments = ["serve", "--config", str(file), "--data-dir", str(data_dir)]
    arguments += ["--bind", "tcp://127.0.0.1:0"]
    with _started(["-c", _SERVE, *arguments], "usidstreamd serve") as daemon:
        line = daemon.next_line(START_TIMEOUT_S)
        if line is None or not line.startswith("usidstreamd ready "):
            raise BenchError(f"the daemon said {line!r} instead of being ready")
        yield daemon, line.split()[-1]
