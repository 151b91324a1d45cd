"""A scan on a real daemon whose every file operation is recorded, and what its client was told.

The acks are written down by the test's own process: how far the log had come when an ack was in
hand. Whatever the daemon had to do for that ack stands before that place; so an image of the disk
that is cut behind it must hold what was acknowledged.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from support.daemon import Daemon, wait_for
from support.rawpeer import RawPeer
from support.recording import Operation, environment, read_log
from usidstream import Dimension, MainLayout, ScanLayout, wire

N_ROWS, N_COLS, CHUNK_ROWS = 4096, 8, 2
"""2,048 chunks in a main: their index is larger than a page, so that it can be torn."""
BLOCK_ROWS = 16
BLOCK_PAUSE_S = 0.004
ABSENCE_S = 0.5
"""A scan whose client is away for so long is interrupted, where a script wants that."""
SCAN_ID = "5ca1ab1e" * 4
NOTE = {"drift_nm": 1.5}
ANSWER_TIMEOUT_S = 60.0

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Script:
    """What a recorded scan does.

    Parameters
    ----------
    name
    mains
    is_random
        Whether rows come in random order, so that the journal keeps most of them for long.
    skips
        Every row of which this is a divisor never comes; 0: all come.
    breaks
        What happens on the way, after equal parts: the daemon is ended by a signal and started
        again; or, with None, the client stays away until the scan is closed as interrupted.
    """

    name: str
    mains: tuple[str, ...] = ("Raw",)
    is_random: bool = False
    skips: int = 0
    breaks: tuple[signal.Signals | None, ...] = ()

    def rows(self) -> Rows:
        rows = np.arange(N_ROWS)
        if self.skips:
            rows = rows[rows % self.skips != 0]
        return np.random.default_rng(1).permutation(rows) if self.is_random else rows

    def layout(self) -> ScanLayout:
        mains = [
            MainLayout(
                name,
                "Current",
                "nA",
                "float32",
                spectroscopic=[Dimension("Bias", "V", N_COLS)],
                chunks=(CHUNK_ROWS, N_COLS),
            )
            for name in self.mains
        ]
        positions = [Dimension("X", "um", 128), Dimension("Y", "um", N_ROWS // 128)]
        return ScanLayout(positions=positions, mains=mains)


def values(main: int, rows: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return the values of rows: from main and row number alone, and never 0."""
    row = np.atleast_1d(np.asarray(rows, np.uint64))[:, None] * np.uint64(2654435761)
    mixed = (row + np.arange(N_COLS, dtype=np.uint64) + np.uint64(7 * main)) % np.uint64(100003)
    return (mixed + np.uint64(1)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Promise:
    """What the client had been told when the log had come so far.

    Parameters
    ----------
    log_bytes
    rows
        How many of the script's rows are durable in every main, in the order in which it sends
        them.
    status
        How the scan ended; empty while it goes on.
    """

    log_bytes: int
    rows: int
    status: str = ""


@dataclass(slots=True)
class Recording:
    """A scan that ran to its end.

    Parameters
    ----------
    script
    operations
    promises
        In their order; the first is that the scan is open.
    finish_bytes
        How long the log was when the client asked for the end.
    """

    script: Script
    operations: list[Operation] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)
    finish_bytes: int = 0

    def promised(self, cut: int) -> Promise | None:
        """Return the last promise that the first ``cut`` operations have to keep."""
        end = self.operations[cut - 1].end if cut else 0
        return next((p for p in reversed(self.promises) if p.log_bytes <= end), None)


def record(script: Script, directory: Path, log: Path) -> Recording:
    """Run a script on a daemon that keeps its files in ``directory``, which is made here."""
    directory.mkdir()
    daemon = Daemon(
        directory,
        flush_interval_s=0.2,
        memory_budget_mb=1,
        resume_timeout_s=ABSENCE_S if None in script.breaks else 3600.0,
    )
    daemon.environment = environment(directory, log)
    recording = Recording(script)
    with daemon:
        _Instrument(recording, daemon, log).run()
    assert "Traceback" not in daemon.log, daemon.log
    recording.operations = read_log(log)
    return recording


class _Instrument:
    """Sends a script's rows, and writes down what it is told."""

    def __init__(self, recording: Recording, daemon: Daemon, log: Path) -> None:
        self._recording = recording
        self._script = recording.script
        self._daemon = daemon
        self._log = log
        self._layout = self._script.layout()
        self._rows = self._script.rows()

    def run(self) -> None:
        *parts, last = np.array_split(self._rows, len(self._script.breaks) + 1)
        done = 0
        for part, ending in zip(parts, self._script.breaks, strict=True):
            with RawPeer(self._daemon.endpoint) as peer:
                self._send(peer, part, done)
            done += len(part)
            if ending is None:
                self._wait_until_interrupted()
            else:
                self._daemon.restart(ending)
        with RawPeer(self._daemon.endpoint) as peer:
            self._finish(peer, self._send(peer, last, done))

    def _wait_until_interrupted(self) -> None:
        with RawPeer(self._daemon.endpoint) as peer:

            def is_interrupted() -> bool:
                peer.send(wire.StatusRequest(scan=SCAN_ID))
                (entry,) = peer.expect(wire.StatusReport).scans
                return bool(entry["state"] == "interrupted")

            wait_for(is_interrupted, "the scan to be interrupted")

    def _promise(self, rows: int, status: str = "") -> None:
        self._recording.promises.append(Promise(self._log.stat().st_size, rows, status))

    def _send(self, peer: RawPeer, rows: Rows, done: int) -> int:
        """Open the scan and send rows, until all are durable; return the last seq."""
        open_scan(peer, self._layout, SCAN_ID)
        self._promise(done)
        n_mains, seq = len(self._script.mains), 0
        counts = {0: done}  # by seq: how many rows are durable in every main when that is
        for start in range(0, len(rows), BLOCK_ROWS):
            some = rows[start : start + BLOCK_ROWS]
            for number in range(n_mains):
                seq += 1
                peer.send(scattered_block(self._script.mains[number], seq, number, some))
                counts[seq] = done + start + (len(some) if number == n_mains - 1 else 0)
            time.sleep(BLOCK_PAUSE_S)
            while (message := peer.receive(0)) is not None:
                self._note(message, counts)
        seq += 1
        peer.send(wire.Annotate(scan=SCAN_ID, seq=seq, attrs=NOTE))
        counts[seq] = done + len(rows)
        peer.send(wire.Ping(scan=SCAN_ID, commit=True))
        while (durable := self._note(peer.receive(ANSWER_TIMEOUT_S), counts)) != seq:
            assert durable is None or durable < seq
        return seq

    def _note(self, message: wire.Message | None, counts: dict[int, int]) -> int | None:
        assert message is not None, "the daemon has fallen silent"
        assert not isinstance(message, wire.Error | wire.Resend), message
        if not isinstance(message, wire.Ack):
            return None
        self._promise(counts[message.durable])
        return message.durable

    def _finish(self, peer: RawPeer, seq: int) -> None:
        self._recording.finish_bytes = self._log.stat().st_size
        peer.send(wire.Finish(scan=SCAN_ID, seq=seq))
        status = peer.expect(wire.Finished).status
        self._promise(len(self._rows), status)


def scattered_block(main: str, seq: int, number: int, rows: Rows) -> wire.Block:
    """Return a block of scattered rows of a main with the script's values."""
    frames = (rows.astype("<u8").tobytes(), values(number, rows).tobytes())
    crc = wire.block_crc(0, len(rows), 0, N_COLS, frames)
    address = {"row": 0, "rows": len(rows), "col": 0, "cols": N_COLS}
    return wire.Block(scan=SCAN_ID, main=main, seq=seq, crc=crc, frames=frames, **address)


def open_scan(peer: RawPeer, layout: ScanLayout, scan_id: str) -> wire.Opened | wire.Finished:
    """Open a scan or go on with it; wait while the daemon recovers it."""
    frames: list[wire.Frame] = []
    request = wire.Open(
        scan=scan_id, layout=wire.pack_layout(layout.to_dict(), frames), file="cut", frames=frames
    )
    peer.send(request)
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while time.monotonic() < deadline:
        message = peer.receive(ANSWER_TIMEOUT_S)
        if isinstance(message, wire.Opened | wire.Finished):
            return message
        assert message is not None, "the daemon did not answer"
        if isinstance(message, wire.Error):
            assert message.retryable, message
            time.sleep(0.1)  # as its hint says: try again a little later
            peer.send(request)
    raise AssertionError("the scan did not open")
