"""What a service manager hears of a real daemon, and what it does to one that hangs."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest

from support.autopsy import damage_index
from support.daemon import Daemon, wait_for
from support.failing_disk import FailingDisk
from support.rawpeer import RawPeer
from support.rowscan import CHUNK_ROWS, N_ROWS, lost_rows, make_layout, require_only, values
from support.service_manager import ServiceManager
from usidstream import connect, wire
from usidstreamd.service import MAX_STATUS_CHARS, STATUS_INTERVAL_S, Service

WATCHDOG_S = 0.8
HALF = np.arange(N_ROWS // 2)
HALF_CHUNKS = len(HALF) // CHUNK_ROWS
ALL = np.arange(N_ROWS)


def serving(daemon: Daemon, manager: ServiceManager, **more: str) -> Daemon:
    daemon.environment = manager.environment | more
    return daemon


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_a_manager_hears_of_start_scans_and_stop(tmp_path: Path, abstract: bool) -> None:
    with (
        ServiceManager(tmp_path, abstract=abstract) as manager,
        serving(Daemon(tmp_path / "data", shutdown_timeout_s=40), manager) as daemon,
    ):
        manager.expect("READY", "1")
        with connect(daemon.endpoint) as client, client.open_scan(make_layout()) as scan:
            manager.expect("STATUS", "1 scans open (1 acquiring)")
            scan.write_at(ALL, values(ALL))
        manager.expect("STATUS", "0 scans open; ")
        assert manager.values("STOPPING") == manager.values("WATCHDOG") == []
        assert daemon.stop() == 0
        assert manager.values("STOPPING") == ["1"]
        (extended,) = manager.values("EXTEND_TIMEOUT_USEC")
        assert int(extended) > 40e6, "the manager waits longer than the daemon does"
        assert "GiB free" in manager.values("STATUS")[0]


def test_each_scan_that_is_found_may_take_its_time(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data") as daemon:
        with connect(daemon.endpoint) as client:
            scans = [client.open_scan(make_layout()) for _ in range(3)]
            for scan in scans:
                scan.detach()
        daemon.stop()
        with ServiceManager(tmp_path) as manager:
            serving(daemon, manager).start()
            manager.expect("READY", "1")
            first = [list(told) for told in manager.heard[:4]]
            assert first == [["STATUS", "EXTEND_TIMEOUT_USEC"]] * 3 + [["READY"]]
            manager.expect("STATUS", "3 scans open (3 acquiring)")
            daemon.stop()


def test_a_loop_that_hangs_gives_no_sign_of_life_and_leaves_its_stacks(tmp_path: Path) -> None:
    disk = FailingDisk(tmp_path / "rules")
    with (
        ServiceManager(tmp_path, watchdog_s=WATCHDOG_S) as manager,
        serving(Daemon(tmp_path / "data"), manager, **disk.environment) as daemon,
        connect(daemon.endpoint) as client,
    ):
        scan = client.open_scan(make_layout())
        scan.write_at(HALF, values(HALF))
        scan.wait_durable(timeout_s=30)
        for _ in range(3):
            manager.expect_more("WATCHDOG")
        with disk.rule("poll", "hold", "main"):
            manager.expect_silence(WATCHDOG_S)
            assert daemon.stop(signal.SIGABRT) == -signal.SIGABRT
        assert "Fatal Python error: Aborted" in daemon.log
        assert "server.py" in daemon.log, "the stack tells where it hung"
        assert daemon.log.count("Thread 0x") >= 2
        daemon.start()  # as a manager does
        manager.expect_more("WATCHDOG")
        rest = ALL[len(HALF) :]
        scan.write_at(rest, values(rest))
        assert scan.finish().status == "complete"
    require_only(scan.result.file, ALL)


def test_a_stopped_process_gives_no_sign_of_life_until_it_goes_on(tmp_path: Path) -> None:
    with (
        ServiceManager(tmp_path, watchdog_s=WATCHDOG_S) as manager,
        serving(Daemon(tmp_path / "data"), manager) as daemon,
    ):
        manager.expect_more("WATCHDOG")
        daemon.send(signal.SIGSTOP)
        try:
            manager.expect_silence(WATCHDOG_S)
        finally:
            daemon.send(signal.SIGCONT)
        manager.expect_more("WATCHDOG")


def test_it_is_ready_while_it_recovers_and_stops_in_time(tmp_path: Path) -> None:
    disk = FailingDisk(tmp_path / "rules")
    daemon = Daemon(tmp_path / "data", flush_interval_s=0.05, shutdown_timeout_s=1)
    with ServiceManager(tmp_path) as manager, serving(daemon, manager, **disk.environment):
        with connect(daemon.endpoint) as client:
            scan = client.open_scan(make_layout())
            scan.write_at(HALF, values(HALF))
            scan.wait_durable(timeout_s=30)
            path = Path(scan.file)
            wait_for(lambda: b"FADB" in path.read_bytes(), "a checkpoint")
            daemon.stop(signal.SIGKILL)
            scan.detach()
        assert damage_index(path)
        manager.heard.clear()
        with disk.rule("sync", "hold", f"{path.name}.rebuilding"):
            daemon.start()
            manager.expect("READY", "1")
            told = f"1 scans open (1 recovering); {HALF_CHUNKS} of {HALF_CHUNKS} chunks recovered"
            manager.expect("STATUS", told)
            with RawPeer(daemon.endpoint) as peer:
                peer.send(wire.StatusRequest(scan=scan.scan_id, coverage=True))
                assert peer.expect(wire.Error).code == "recovering"
            begun = time.monotonic()
            assert daemon.stop() == 1
            assert time.monotonic() - begun < 20, "it has given up"
        assert [line["scan"] for line in daemon.events("scan_hangs")] == [scan.scan_id]
        daemon.start()
        with connect(daemon.endpoint) as client:
            again = client.open_scan(make_layout(), scan_id=scan.scan_id)
            again.write_at(ALL, values(ALL))
            assert again.skipped == len(HALF)
            assert again.finish().status == "complete"
    assert lost_rows(again.result.file, ALL) == []


# ---------------------------------------------------------------- the socket alone


def test_a_manager_that_cannot_be_reached_costs_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(str(tmp_path / "nobody"), watchdog_s=1.0)
    service.ready()
    service.beat(now=0.0)
    service.close()
    service.beat(now=10.0)
    assert [record.message for record in caplog.records] == ["service_manager_deaf"]


def test_a_manager_that_does_not_read_holds_up_nothing(tmp_path: Path) -> None:
    with ServiceManager(tmp_path) as manager:
        manager.stop_listening()
        service = Service(manager.environment["NOTIFY_SOCKET"], watchdog_s=0.004)
        begun = time.monotonic()
        for now in range(2000):  # more than any queue of datagrams takes
            service.beat(float(now))
            if time.monotonic() - begun > 1.0:
                break
        assert time.monotonic() - begun < 10
        service.close()


def test_without_a_manager_nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service.from_environment({})
    assert service._socket is None
    assert not service.wants_status(0.0)
    service.ready()
    service.close()


@pytest.mark.parametrize(
    ("variables", "wanted_s"),
    [
        ({"WATCHDOG_USEC": "2000000"}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_if_it_is_meant_for_us(
    tmp_path: Path, variables: dict[str, str], wanted_s: float | None
) -> None:
    with ServiceManager(tmp_path) as manager:
        service = Service.from_environment(manager.environment | variables)
        for step in range(9):
            service.beat(now=step * 0.25)
        service.ready()
        service.close()
        manager.expect("READY", "1")
        # Every quarter of two seconds, from the first on.
        assert len(manager.values("WATCHDOG")) == (0 if wanted_s is None else 5)


def test_a_status_is_one_line_told_when_it_changes(tmp_path: Path) -> None:
    with ServiceManager(tmp_path) as manager:
        service = Service(manager.environment["NOTIFY_SOCKET"])
        for step, text in enumerate(["one\nREADY=1", "one\nREADY=1", "two" * MAX_STATUS_CHARS]):
            now = step * STATUS_INTERVAL_S
            assert service.wants_status(now)
            service.tell_status(text, now)
            assert not service.wants_status(now + STATUS_INTERVAL_S / 2)
        manager.expect("STATUS", "two")
        service.close()
    first, second = manager.values("STATUS")
    assert first == "one READY=1"
    assert len(second) == MAX_STATUS_CHARS
    assert manager.values("READY") == []
