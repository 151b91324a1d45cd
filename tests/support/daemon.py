"""A real daemon in a process of its own, for tests across the whole house."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.ports import steady_port

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
WAIT_TIMEOUT_S = 30.0
POLL_INTERVAL_S = 0.02

SCRIPTS = Path(sys.executable).parent


class Daemon:
    """``usidstreamd serve`` on a free port; the same port again after a restart.

    ``environment`` holds variables that its next start adds to ours. There is no dashboard beside
    it unless the options ask for one.
    """

    def __init__(self, data_dir: Path, **options: object) -> None:
        self.data_dir = data_dir
        self.config = data_dir.parent / f"{data_dir.name}.toml"
        self._defaults = {} if "dashboard" in options else {"USIDSTREAM_DASHBOARD": "off"}
        self.config.write_text("".join(f"{key} = {_toml(v)}\n" for key, v in options.items()))
        self.endpoint = f"tcp://127.0.0.1:{steady_port()}"
        self.log = ""
        self.environment: dict[str, str] = {}
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Daemon:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.runs:
            self.stop()

    def start(self) -> None:
        self.launch()
        self.await_ready()

    def launch(self) -> None:
        """Start the process, and do not wait until it serves."""
        command = [SCRIPTS / "usidstreamd", "serve", "--config", self.config]
        command += ["--data-dir", self.data_dir, "--bind", self.endpoint]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | self._defaults | self.environment,
        )
        self._drain = threading.Thread(target=self._collect_log)
        self._drain.start()

    def await_ready(self) -> None:
        """Wait until a process that was launched serves."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("usidstreamd ready tcp://"):
            self.stop(signal.SIGKILL)
            raise AssertionError(f"the daemon did not start: {line}{self.log}")
        self.endpoint = line.split()[-1]

    def send(self, number: int) -> None:
        """Send the process a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        """Signal the daemon and wait for its end; return its exit code."""
        self.send(with_signal)
        return self.wait()

    def wait(self) -> int:
        assert self._process is not None
        try:
            code = self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # a test that fails leaves no process behind
            self._process.wait(STOP_TIMEOUT_S)
            raise
        self._drain.join(STOP_TIMEOUT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code

    def restart(self, with_signal: int = signal.SIGTERM) -> None:
        self.stop(with_signal)
        self.start()

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def events(self, *names: str) -> list[dict[str, Any]]:
        """Return the log's lines, or those of some events; only whole lines are looked at."""
        whole = (line for line in self.log.splitlines(keepends=True) if line.endswith("\n"))
        lines = map(json.loads, whole)
        return [line for line in lines if not names or line["event"] in names]

    def _collect_log(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self.log += line


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str | Path) else str(value)


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = WAIT_TIMEOUT_S) -> None:
    """Wait until ``condition()`` is true; fail the test with ``what`` if it never is."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain for {what}"
        time.sleep(POLL_INTERVAL_S)


def command(
    name: str, *arguments: object, timeout_s: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run one of the project's commands to its end."""
    words = [str(SCRIPTS / name), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, check=False)
