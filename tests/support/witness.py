"""The third process: it starts instruments, hears of their acks, and outlives them.

What an instrument said through its pipe is known here whatever kills it afterwards; so a daemon is
judged by acks that nobody can take back, and by nobody's resending.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from support.daemon import WAIT_TIMEOUT_S
from support.rawpeer import RawPeer
from usidstream import wire

TESTS = Path(__file__).resolve().parents[1]
ASK_AGAIN_S = 0.05


class Instrument:
    """A running instrument of `support.instrument`, and all that it told."""

    def __init__(self, kind: str, endpoint: str, scan_id: str, **options: Any) -> None:
        words = [f"{k}={v if k == 'order' else json.dumps(v)}" for k, v in options.items()]
        path = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.instrument", kind, endpoint, scan_id, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        self.acked: set[int] = set()
        self._errors = ""
        self._lines: queue.SimpleQueue[list[Any] | None] = queue.SimpleQueue()
        self._ears = [
            threading.Thread(target=self._hear),
            threading.Thread(target=self._hear_errors),
        ]
        for ear in self._ears:
            ear.start()

    def __enter__(self) -> Instrument:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                if not line.endswith("\n"):  # it died in the middle of it
                    break
                word, *rest = json.loads(line)
                if word == "acked":
                    self.acked |= set(rest[0])
                self._lines.put([word, *rest])
        self._lines.put(None)

    def _hear_errors(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as errors:
            self._errors = errors.read()

    def expect(self, word: str, timeout_s: float = WAIT_TIMEOUT_S) -> list[Any]:
        """Return what it told with a word, from now on; fail if it ends before."""
        deadline = time.monotonic() + timeout_s
        while True:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            if line is None:
                self.kill()
                raise AssertionError(f"the instrument ended: {self._errors}")
            if line[0] == word:
                return line[1:]

    def send(self, number: int) -> None:
        """Send the process a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it, and hear all that it had told."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        for ear in self._ears:
            ear.join()

    def end(self) -> None:
        """Wait until it has ended by itself, well."""
        code = self._process.wait(WAIT_TIMEOUT_S)
        self.kill()
        assert code == 0, self._errors


def durable_rows(endpoint: str, scan_id: str, main: str) -> set[int]:
    """Ask a daemon which rows of a scan are durable, taking no part; wait while it recovers."""
    with RawPeer(endpoint) as peer:
        while True:
            peer.send(wire.StatusRequest(scan=scan_id, coverage=True))
            answer = peer.receive()
            if isinstance(answer, wire.StatusReport):
                index = answer.coverage[main]["complete"]
                ranges = wire.unpack_ranges(index, answer.frames, 2)
                return {row for start, stop in ranges for row in range(start, stop)}
            assert isinstance(answer, wire.Error), answer
            assert answer.code == "recovering", answer
            time.sleep(ASK_AGAIN_S)
