"""What a real daemon's metrics say of scans, errors and syncs, from the start to the end."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from support.daemon import Daemon, command, wait_for
from support.rawpeer import RawPeer
from support.rowscan import N_COLS, N_ROWS, make_layout, values
from support.scraping import Scrape, metrics_port, scrape
from usidstream import connect, wire
from usidstreamd.metrics.names import METRICS, PREFIX, markdown_table

DOCS = Path(__file__).resolve().parents[2] / "docs" / "operating.md"
ROW_BYTES = N_COLS * 4
TOKEN = "0123456789abcdef-0123"  # noqa: S105 - it guards nothing


def whole_scan(daemon: Daemon) -> str:
    with connect(daemon.endpoint) as client, client.open_scan(make_layout(), file="s") as scan:
        scan.write_block(0, values(np.arange(N_ROWS)))
    return scan.scan_id


def settled(port: int, name: str, expected: float) -> Scrape:
    wait_for(lambda: scrape(port).total(name) == expected, f"{name} to be {expected}")
    return scrape(port)


def test_every_metric_is_there_with_the_labels_it_is_said_to_have(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data") as daemon, connect(daemon.endpoint) as client:
        scan = client.open_scan(make_layout(), file="s")
        scan.write_block(0, values(np.arange(64)))
        scan.wait_durable(20)
        with RawPeer(daemon.endpoint) as peer:
            peer.send_frames([b"\xc1"])
            peer.expect(wire.Error)
        found = scrape(metrics_port(daemon.endpoint))
        for name, spec in METRICS.items():
            sample = PREFIX + name + ("_count" if spec.kind == "histogram" else "")
            for labels in found[sample]:
                assert {key for key, _ in labels} == set(spec.labels), name
        ours = {name for name in found if name.startswith(PREFIX)}
        suffixes = re.compile(r"_(bucket|count|sum|created)$")
        assert {suffixes.sub("", name.removeprefix(PREFIX)) for name in ours} == set(METRICS)
        scan.abort()


def test_the_table_of_the_docs_is_current() -> None:
    text = DOCS.read_text("utf-8")
    (table,) = re.findall(r"<!-- metrics -->\n(.*?)<!-- end of metrics -->", text, re.S)
    assert table == markdown_table(), "run: python config/generate.py"


@pytest.mark.parametrize("name", METRICS)
def test_names_follow_the_conventions(name: str) -> None:
    spec = METRICS[name]
    assert (spec.kind == "counter") == name.endswith("_total")
    assert not re.search(r"_(ms|mb|mib|s|percent)(_|$)", name), "base units, in full"
    assert spec.help.endswith(".")
    assert "instance" not in spec.labels


def test_counts_go_on_when_scans_end_and_begin_again(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data") as daemon:
        port = metrics_port(daemon.endpoint)
        for number in (1, 2):
            whole_scan(daemon)
            settled(port, "scans_ended_total", number)
        found = scrape(port)
        assert found.value("pixels_total") == 2 * N_ROWS
        assert found.value("received_bytes_total") == 2 * N_ROWS * ROW_BYTES
        assert found.value("codec_input_bytes_total") == 2 * N_ROWS * ROW_BYTES
        assert found.value("written_bytes_total") > 0
        assert found.value("codec_seconds_total") > 0
        assert found.value("scans_ended_total", status="complete") == 2
        assert found.total("scans") == 0
        assert found.value("sync_seconds_count", file="journal") > 0
        assert found.value("sync_seconds_count", file="hdf5") > 0
        assert PREFIX + "scan_info" not in found, "no label of a scan that is over"


def test_what_was_there_before_is_not_counted_again(tmp_path: Path) -> None:
    with (
        Daemon(tmp_path / "data", flush_interval_s=0.2) as daemon,
        connect(daemon.endpoint) as client,
    ):
        scan = client.open_scan(make_layout(), file="left")
        scan.write_block(0, values(np.arange(1000)))
        scan.wait_durable(20)
        daemon.restart(signal.SIGKILL)
        port = metrics_port(daemon.endpoint)
        scan.write_block(1000, values(np.arange(1000, 1500)))
        scan.wait_durable(30)
        found = scrape(port)
        assert found.value("pixels_total") == 500
        assert found.value("received_bytes_total") == 500 * ROW_BYTES
        assert found.value("scan_positions_durable", scan=scan.scan_id) == 1500
        assert found.value("scan_positions", scan=scan.scan_id) == N_ROWS
        assert found.total("recoveries_total") == 1
        scan.abort()


def test_no_counter_ever_falls_while_scans_come_and_go(tmp_path: Path) -> None:
    """A fall would look like a restart, and make a rate jump."""
    with Daemon(tmp_path / "data") as daemon:
        port = metrics_port(daemon.endpoint)
        last, is_over, falls = Scrape(), threading.Event(), []

        def watch() -> None:
            nonlocal last
            while not is_over.is_set():
                found = scrape(port)
                counters = {name for name in last if name.endswith(("_total", "_count"))}
                falls.extend(n for n in counters if sum(found[n].values()) < sum(last[n].values()))
                last = found

        watcher = threading.Thread(target=watch)
        watcher.start()
        for _ in range(8):
            whole_scan(daemon)
        is_over.set()
        watcher.join()
        assert falls == []
        assert settled(port, "pixels_total", 8 * N_ROWS)


def test_errors_are_counted_by_code_also_where_the_log_is_silent(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data") as daemon:
        with RawPeer(daemon.endpoint) as peer:
            for _ in range(1000):
                peer.send_frames([b"\xc1"])
            for _ in range(3):
                peer.send(wire.Finish(scan="f" * 32, seq=1))
            peer.send(wire.Ping())
            peer.expect(wire.Pong)
            found = scrape(metrics_port(daemon.endpoint))
        assert found.value("errors_total", code="bad_message") == 1000
        assert found.value("errors_total", code="unknown_scan") == 3


def test_warnings_are_told_by_their_codes(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data", disk_reserve_mb=1 << 30) as daemon:
        found = scrape(metrics_port(daemon.endpoint))
        assert found.value("warnings", code="disk_short") == 1
        assert found.value("warnings", code="scan_failed") == 0
        assert found.value("disk_needed_bytes") == 1 << 50


def test_it_tells_of_a_daemon_that_hangs(tmp_path: Path) -> None:
    """Not of one that is stopped, but of one whose loop waits: that it does, and since when."""
    slow = (
        "import sys, time\n"
        "from usidstreamd import disk\n"
        "look = disk.Disk.look\n"
        "def hang(self, *args):\n"
        "    time.sleep(3.0 if getattr(self, 'is_hung', False) else 0.0)\n"
        "    self.is_hung = True\n"
        "    return look(self, *args)\n"
        "disk.Disk.look = hang\n"
    )
    (tmp_path / "sitecustomize.py").write_text(slow)
    daemon = Daemon(tmp_path / "data", metrics=0)
    daemon.environment = {"PYTHONPATH": str(tmp_path)}
    with daemon:
        wait_for(lambda: daemon.events("daemon_ready"), "the port")
        port = daemon.events("daemon_ready")[0]["ports"]["metrics"]
        wait_for(lambda: scrape(port).value("loop_idle_seconds") > 1.0, "the hang to show")
        daemon.stop(signal.SIGKILL)


def test_a_taken_port_is_a_warning_and_another_one(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wanted = taken.getsockname()[1]
        with Daemon(tmp_path / "data", metrics=wanted) as daemon:
            port = metrics_port(daemon.endpoint)
            assert port != wanted
            assert scrape(port).value("warnings", code="port_taken") == 1
            wait_for(lambda: daemon.events("port_taken"), "the log")
            (told,) = daemon.events("port_taken")
            assert (told["service"], told["wanted"], told["port"]) == ("metrics", wanted, port)


def test_it_can_be_turned_off(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data", metrics="off") as daemon, RawPeer(daemon.endpoint) as peer:
        assert peer.welcome.ports["metrics"] is None


@pytest.mark.skipif(os.name == "nt", reason="only 127.0.0.1 is there without further ado")
def test_it_is_told_beyond_loopback_only_to_those_with_the_token(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN + "\n")
    hosts = ["127.0.0.1", "127.0.0.2"]
    for options, reachable in [
        ({}, [True, False]),
        ({"metrics_token_file": token_file}, [False, True]),
    ]:
        daemon = Daemon(tmp_path / "data", allow_insecure=True, **options)
        daemon.endpoint = "tcp://127.0.0.2:0"
        with daemon:
            port = metrics_port(daemon.endpoint)
            assert [is_listening(daemon.pid, host, port) for host in hosts] == reachable


def is_listening(pid: int, host: str, port: int) -> bool:
    """Whether this process does; somebody else may, at the same port of another address."""
    connections = psutil.Process(pid).net_connections("tcp")
    return (host, port) in [c.laddr for c in connections if c.status == psutil.CONN_LISTEN]


def test_a_bad_token_file_keeps_it_from_starting_and_check_config_says_so(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(f'data_dir = "{tmp_path}/d"\nmetrics_token_file = "{tmp_path}/none"\n')
    checked = command("usidstreamd", "check-config", config)
    served = command("usidstreamd", "serve", "--config", config)
    assert checked.returncode == 1
    assert "metrics_token_file" in checked.stdout
    assert f"{tmp_path}/none cannot be read as a token" in served.stderr
    assert served.returncode != 0
