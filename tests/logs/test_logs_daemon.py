"""What a real daemon's log says of a scan, of a flood, of a crash; in both forms."""

from __future__ import annotations

import os
import pty
import secrets
import subprocess
from pathlib import Path

import numpy as np
import pytest

from support.daemon import SCRIPTS, Daemon, wait_for
from support.rawpeer import RawPeer
from support.rowscan import N_ROWS, make_layout, values
from support.terminals import read_until_hang_up
from usidstream import connect, wire

FLOOD = 10_000


def whole_scan(daemon: Daemon) -> str:
    with connect(daemon.endpoint) as client, client.open_scan(make_layout(), file="day") as scan:
        scan.write_block(0, values(np.arange(N_ROWS)))
    assert scan.result.status == "complete"
    return scan.scan_id


def test_a_normal_scan_costs_two_lines(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data") as daemon:
        ids = [whole_scan(daemon) for _ in range(3)]
        assert daemon.stop() == 0
    told = [(line["event"], line.get("scan")) for line in daemon.events()]
    scans = [[("scan_opened", scan), ("scan_ended", scan)] for scan in ids]
    assert told == [
        ("daemon_ready", None),
        *(line for scan in scans for line in scan),
        ("daemon_stopping", None),
        ("daemon_stopped", None),
    ]
    ended = daemon.events("scan_ended")[0]
    assert (ended["status"], ended["level"]) == ("complete", "info")
    assert Path(ended["file"]).is_file()


def test_a_scan_that_is_left_is_told_from_stop_to_start(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data") as daemon:
        with connect(daemon.endpoint) as client:
            scan = client.open_scan(make_layout(), file="left")
            scan.detach()
        daemon.restart()
        wait_for(lambda: daemon.events("scan_resumed"), "the scan to go on")
        daemon.stop()
    told = [line["event"] for line in daemon.events() if line.get("scan") == scan.scan_id]
    assert told == ["scan_opened", "scan_suspended", "scan_resumed", "scan_suspended"]


@pytest.mark.parametrize("n_clients", [1, 4])
def test_a_flood_of_bad_messages_is_a_few_lines_and_loses_no_count(
    tmp_path: Path, n_clients: int
) -> None:
    with Daemon(tmp_path / "data") as daemon:
        peers = [RawPeer(daemon.endpoint) for _ in range(n_clients)]
        for number in range(FLOOD):
            peers[number % n_clients].send_frames([b"not a map"])
        for peer in peers:
            peer.send(wire.Ping())
            peer.expect(wire.Pong)
            peer.close()
        assert daemon.stop() == 0
    told, more = daemon.events("message_refused"), daemon.events("and_more")
    assert {line["code"] for line in told + more} == {"bad_message"}
    assert len(told) <= 60
    assert len(told) + sum(line["count"] for line in more) == FLOOD
    assert len(daemon.events()) < 100


def test_a_flood_that_changes_scan_ids_is_bounded_too(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data") as daemon:
        with RawPeer(daemon.endpoint) as peer:
            for _ in range(FLOOD // 10):
                peer.send(wire.Finish(scan=secrets.token_hex(16), seq=1))
            peer.send(wire.Ping())
            peer.expect(wire.Pong)
        assert daemon.stop() == 0
    told, more = daemon.events("message_refused"), daemon.events("and_more")
    assert len(told) == 60
    assert len(told) + sum(line["count"] for line in more) == FLOOD // 10


@pytest.mark.skipif(os.name == "nt", reason="there are no pseudo-terminals")
def test_a_terminal_is_told_in_words_and_colours(tmp_path: Path) -> None:
    terminal, end = pty.openpty()
    daemon = subprocess.Popen(
        [SCRIPTS / "usidstreamd", "serve", "--data-dir", tmp_path, "--bind", "tcp://127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=end,
        env={k: v for k, v in os.environ.items() if k != "NO_COLOR"}
        | {"TERM": "xterm", "USIDSTREAM_DASHBOARD": "off"},
        text=True,
    )
    os.close(end)
    try:
        assert daemon.stdout is not None
        endpoint = daemon.stdout.readline().split()[-1]
        with RawPeer(endpoint) as peer:
            peer.send(wire.Finish(scan="\x1b[31mred", seq=1))
            peer.expect(wire.Error)
    finally:
        daemon.terminate()
        daemon.wait(30.0)
        daemon.stdout.close()
    text = read_until_hang_up(terminal)
    lines = text.splitlines()
    assert "daemon_ready" in lines[0]
    assert "\x1b[33mwarning" in lines[1], text
    assert "\x1b[31mred" not in text, "a client's text does not reach the terminal as it is"
    assert "daemon_stopped" in lines[-1]


def test_the_level_is_taken_from_the_configuration(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data", log_level="warning", log_format="json") as daemon:
        whole_scan(daemon)
        assert daemon.stop() == 0
    assert daemon.log == ""
