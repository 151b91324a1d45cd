"""kill -9 around the moments at which a left scan is interrupted, and resumed."""

from __future__ import annotations

import random
import secrets
import signal
import time
from pathlib import Path
from typing import Any

from support.census import Tally
from support.daemon import Daemon
from support.left_scans import (
    SHORT,
    SOME,
    leave_a_scan,
    make_layout,
    require_what_was_sent,
    require_whole,
    resume_and_finish,
    wait_until_interrupted,
)
from support.rawpeer import RawPeer
from usidstream import wire


def test_killed_while_it_interrupts_and_resumes(tmp_path: Path, kills: int, tally: Tally) -> None:
    """Kill it at random moments; whatever it was doing, all that was durable is there."""
    chance = random.Random("interrupts")
    scan_id = secrets.token_hex(16)
    said: set[str] = set()
    with Daemon(tmp_path / "data", **SHORT | {"resume_timeout_s": 0.05}) as daemon:
        file = leave_a_scan(daemon, scan_id)
        for _ in range(kills):
            begin_a_resume(daemon, scan_id)
            time.sleep(chance.uniform(0.0, 0.3))
            daemon.stop(signal.SIGKILL)
            said.add(status := status_in_bytes(file))
            tally.killed("finalise" if status == "interrupted" else "recovery")
            daemon.start()
        wait_until_interrupted(daemon, scan_id)
        require_what_was_sent(file)
        tally.judge(SOME, [])
        resume_and_finish(daemon, scan_id)
        require_whole(file)
        assert "Traceback" not in daemon.log
    assert kills < 10 or said == {"acquiring", "interrupted"}


def begin_a_resume(daemon: Daemon, scan_id: str) -> None:
    """Ask for the scan, and go without waiting for the answer."""
    frames: list[Any] = []
    layout = wire.pack_layout(make_layout().to_dict(), frames)
    with RawPeer(daemon.endpoint) as peer:
        peer.send(wire.Open(scan=scan_id, layout=layout, frames=frames))


def status_in_bytes(file: str) -> str:
    """Return the status in a file that may not be closed."""
    is_interrupted = b"interrupted\0" in Path(file).read_bytes()
    return "interrupted" if is_interrupted else "acquiring"
