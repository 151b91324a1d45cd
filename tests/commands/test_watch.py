"""``usidstream status`` and ``watch`` with a real daemon, as an operator meets them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from support.daemon import SCRIPTS, Daemon, command, wait_for
from usidstream import Dimension, MainLayout, ScanLayout, connect

LAYOUT = ScanLayout(
    positions=[Dimension("X", "um", 100)],
    mains=[MainLayout("Raw", "Current", "nA", "float32", [Dimension("Bias", "V", 4)])],
)
DATA = np.ones((100, 4), np.float32)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "data") as running:
        yield running


class Watching:
    """``usidstream watch`` in a process of its own, its output gathered."""

    def __init__(self, endpoint: str, *options: str) -> None:
        words = [SCRIPTS / "usidstream", "watch", "--to", endpoint, *options]
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def await_line(self, part: str) -> str:
        wait_for(lambda: any(part in line for line in self.lines), f"{part!r} in {self.lines}")
        return next(line for line in self.lines if part in line)

    def end(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        code = self.process.wait(30)
        self._reader.join(30)
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            told = stderr.read()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code, told


@contextmanager
def watching(endpoint: str, *options: str) -> Iterator[Watching]:
    made = Watching(endpoint, *options)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.end(signal.SIGKILL)


def test_watch_tells_a_pipe_a_scan_from_its_opening_to_its_end(daemon: Daemon) -> None:
    with watching(daemon.endpoint) as watch:
        watch.await_line("connected to usidstreamd")
        with connect(daemon.endpoint) as client, client.open_scan(LAYOUT, file="seen") as scan:
            watch.await_line(f"scan {scan.scan_id[:8]} is open: {scan.file}")
            scan.write_block(0, DATA[:50])
            watch.await_line(f"scan {scan.scan_id[:8]} acquiring: ")
        watch.await_line(f"scan {scan.scan_id[:8]} incomplete: {scan.file}, missing Raw 50")
        assert watch.end(signal.SIGINT) == (0, "")


def test_watch_tells_programs_one_object_a_line(daemon: Daemon) -> None:
    with watching(daemon.endpoint, "--json") as watch:
        watch.await_line('"type": "heartbeat"')
        with connect(daemon.endpoint) as client, client.open_scan(LAYOUT) as scan:
            scan.write_block(0, DATA)
        watch.await_line('"type": "scan_closed"')
        assert watch.end(signal.SIGINT) == (0, "")
    told = [json.loads(line) for line in watch.lines]
    assert told[0]["type"] == "connected"
    assert told[-1]["status"] == "complete" or told[-1]["type"] == "heartbeat"


def test_watch_says_that_nobody_is_there_and_finds_who_comes(daemon: Daemon) -> None:
    daemon.stop()
    with watching(daemon.endpoint) as watch:
        watch.await_line("not connected: no daemon answered at ")
        daemon.start()
        watch.await_line("connected to usidstreamd")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_watch_draws_on_a_terminal(daemon: Daemon) -> None:
    import pty

    ours, theirs = pty.openpty()
    words = [SCRIPTS / "usidstream", "watch", "--to", daemon.endpoint]
    process = subprocess.Popen(
        words, stdout=theirs, stderr=subprocess.PIPE, env=os.environ | {"COLUMNS": "80"}
    )
    os.close(theirs)
    seen = b""

    def shows(text: bytes) -> bool:
        nonlocal seen
        seen += os.read(ours, 65536)
        return text in seen

    try:
        wait_for(lambda: shows(b"no open scans"), "the daemon on the screen")
        with connect(daemon.endpoint) as client, client.open_scan(LAYOUT) as scan:
            scan.write_block(0, DATA[:25])
            wait_for(lambda: shows(b"25 of 100"), "the scan's progress")
            scan.abort("done")
        wait_for(lambda: shows(b"aborted:"), "the scan's end")
        process.send_signal(signal.SIGINT)
        with suppress(OSError):  # the end of a terminal that nobody writes to any more
            while os.read(ours, 65536):  # what it still draws must not stop it
                pass
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)
        assert process.stderr is not None
        process.stderr.close()
        os.close(ours)


def test_status_is_a_table_with_what_an_operator_asks(daemon: Daemon) -> None:
    with connect(daemon.endpoint) as client, client.open_scan(LAYOUT) as scan:
        scan.write_block(0, DATA[:30])
        scan.write_block(40, DATA[40:60])
        scan.wait_durable()
        told = command("usidstream", "status", "--to", daemon.endpoint)
        assert (told.returncode, told.stderr) == (0, "")
        row = next(line for line in told.stdout.splitlines() if line.startswith(scan.scan_id))
        assert "acquiring  50 of 100  50.0 %" in row
        assert "Raw 10" in row
        assert row.endswith(scan.file)
        assert "free on the disk" in told.stdout
        told = command("usidstream", "status", "--json", "--to", daemon.endpoint)
        (entry,) = json.loads(told.stdout)["scans"]
        assert (entry["positions"], entry["missing"]) == (50, {"Raw": 10})
        scan.abort("done")
