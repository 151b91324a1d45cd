"""The unit that ships under a real systemd: start, a hang, the restart, a stop; no row is lost."""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path

import numpy as np
import pytest

from support.daemon import SCRIPTS, wait_for
from support.rowscan import N_ROWS, make_layout, values
from support.systemd import Systemd
from usidstream import connect

ROOT = Path(__file__).resolve().parents[2]
UNIT = "usidstreamd.service"
CHANGED = {
    "WatchdogSec": "3s",
    "RestartSec": "100ms",
    "User": None,  # a manager of one user knows no other
    "Group": None,
    "OOMScoreAdjust": None,
    "RequiresMountsFor": None,
    "After": None,
    "Wants": None,
}
"""What cannot be, or need not take so long, in a test."""
NOT_IN_CONTAINERS = ("ProtectKernelTunables", "ProtectKernelLogs")
EXIT_NAMESPACE = "226"
HALF, REST = np.arange(N_ROWS // 2), np.arange(N_ROWS // 2, N_ROWS)


def unit_text(port: int, *, without: tuple[str, ...] = ()) -> str:
    text = (ROOT / "config" / UNIT).read_text("utf-8")
    text = text.replace("/opt/usidstream/bin", str(SCRIPTS))
    text = text.replace(
        "--config /etc/usidstream/usidstream.toml", f"--bind tcp://127.0.0.1:{port}"
    )
    for name, value in (CHANGED | dict.fromkeys(without)).items():
        line = "" if value is None else f"{name}={value}\n"
        text, count = re.subn(rf"^{name}=.*\n", line, text, flags=re.M)
        assert count == 1, name
    if _is_at_home():  # where a checkout may well stand, but no installation
        text = text.replace("ProtectHome=yes\n", "")
    return text


def _is_at_home() -> bool:
    places = {Path(sys.executable).resolve(), SCRIPTS.resolve(), ROOT}
    return any(place.is_relative_to(home) for place in places for home in ("/root", "/home"))


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def start(systemd: Systemd, units: Path, port: int) -> None:
    systemd.run("mkdir /srv/usidstream")
    for without in ((), NOT_IN_CONTAINERS):
        (units / UNIT).write_text(unit_text(port, without=without))
        told = systemd.run(f"systemctl --user daemon-reload; systemctl --user start {UNIT}")
        if systemd.show(UNIT, "ExecMainStatus") != EXIT_NAMESPACE:
            break
        systemd.run(f"systemctl --user stop {UNIT}")
    assert systemd.show(UNIT, "ActiveState") == "active", told


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="systemd is Linux's")
def test_start_hang_restart_and_stop(tmp_path: Path) -> None:
    if SCRIPTS.is_relative_to("/tmp"):  # noqa: S108 - nothing is written there
        pytest.skip("the unit has a /tmp of its own, and this environment stands in it")
    port = free_port()
    with Systemd(tmp_path) as systemd:
        start(systemd, tmp_path, port)
        wait_for(lambda: "GiB free" in systemd.show(UNIT, "StatusText"), "its status")
        with connect(f"tcp://127.0.0.1:{port}") as client:
            scan = client.open_scan(make_layout())
            scan.write_at(HALF, values(HALF))
            scan.wait_durable(timeout_s=30)
            systemd.run(f"kill -STOP {systemd.show(UNIT, 'MainPID')}")
            wait_for(lambda: systemd.show(UNIT, "NRestarts") == "1", "the watchdog to bite")
            scan.write_at(REST, values(REST))
            assert scan.finish(timeout_s=60).status == "complete"
            waiting = client.open_scan(make_layout(), file="waiting")
            waiting.write_at(HALF, values(HALF))
            waiting.wait_durable(timeout_s=30)
            systemd.run(f"systemctl --user stop {UNIT}")
            assert systemd.show(UNIT, "Result") == "success"
            assert systemd.show(UNIT, "ExecMainStatus") == "0"
            waiting.detach()
        told = systemd.run(f"{SCRIPTS}/usidstreamd journals /srv/usidstream")
        assert ": waiting: " in told, "closed, and not left"
