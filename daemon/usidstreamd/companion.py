"""Keeps the dashboard's process beside a daemon: starts it, learns its port, starts it again.

The daemon does not depend on it in any way: it is started when the daemon serves already, a
failure is logged and tried again ever more rarely, and nothing waits for it. It ends with the
daemon however that one ends, for it reads from a pipe whose other end closes with this process.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from urllib.parse import urlsplit

from .conditions import Warnings
from .logs import get_logger
from .ports import note_taken

log = get_logger()

READY = "usidstreamd dashboard ready "
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
STEADY_S = 60.0
"""A process that lived this long did well: the next pause is short again."""
END_TIMEOUT_S = 3.0
MAX_LINE_CHARACTERS = 400


class Dashboard:
    """The dashboard's process, kept by a thread.

    Parameters
    ----------
    options
        Of ``usidstreamd dashboard``, without its port.
    port
        Where it should listen; 0 for any free port.
    warnings
        Where it is told that the port was taken.
    tell_port
        Is told the port whenever the page is served, and None when it is not.
    """

    def __init__(
        self,
        options: Sequence[str],
        port: int,
        warnings: Warnings,
        tell_port: Callable[[int | None], None],
    ) -> None:
        self._options, self._port = tuple(options), port
        self._warnings, self._tell_port = warnings, tell_port
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._is_moved = False
        self.url = ""
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="dashboard", daemon=True)

    def start(self) -> None:
        """Start the process, and do not wait for it."""
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> str:
        """Return the page's address, or an empty string if it is not served in time."""
        self._ready.wait(timeout_s)
        return self.url

    def close(self) -> None:
        """End the process; it is killed if it does not."""
        self._stopping.set()
        with self._lock:
            process = self._process
        if process is None:
            return
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()
        try:
            process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
        self._thread.join(END_TIMEOUT_S)

    def _keep(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            began = time.monotonic()
            why = self._run()
            if self._stopping.is_set():
                return
            pause_s = FIRST_PAUSE_S if time.monotonic() - began > STEADY_S else pause_s
            log.warning("dashboard_ended", error=why, again_in_s=pause_s)
            self._stopping.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _run(self) -> str:
        """Run the process to its end; return what it said last."""
        last = ""
        try:
            with self._lock:
                if self._stopping.is_set():
                    return ""
                self._process = self._launch()
                process = self._process
            with process.stdout or nullcontext(()) as lines:
                for line in lines:
                    if line.startswith(READY):
                        self._take_url(line.removeprefix(READY).strip())
                    elif line.strip():
                        last = line.strip()[:MAX_LINE_CHARACTERS]
            code = process.wait()
        except OSError as error:
            return str(error)
        finally:
            self.url = ""
            self._tell_port(None)
        return last or f"exit code {code}"

    def _launch(self) -> subprocess.Popen[str]:
        start = "from usidstreamd.cli import main; main()"
        command = [sys.executable, "-c", start, "dashboard", "--with-parent"]
        command += ["--port", str(self._port), *self._options]
        return subprocess.Popen(  # noqa: S603 - this interpreter, with arguments of our own
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def _take_url(self, url: str) -> None:
        port = urlsplit(url).port
        if self._port and port and port != self._port and not self._is_moved:
            self._is_moved = True
            note_taken("dashboard", self._port, port, self._warnings)
        self.url = url
        self._tell_port(port)
        self._ready.set()
        log.info("dashboard_ready", url=url)
