"""A running daemon takes up what may change when it gets SIGHUP, and nothing of a bad file."""

from __future__ import annotations

import logging
import secrets
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from support.daemon import Daemon, wait_for
from support.left_scans import leave_a_scan, wait_until_interrupted
from support.rawpeer import RawPeer
from usidstream import Dimension, MainLayout, ScanLayout, connect, wire
from usidstreamd.config import Config, ConfigError
from usidstreamd.config.model import RELOADABLE
from usidstreamd.reload import Reloads, differences, take_up

needs_sighup = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")
N_ROWS, N_COLS = 8, 6
LAYOUT = ScanLayout(
    positions=[Dimension("X", "um", N_ROWS)],
    mains=[
        MainLayout(
            "Raw_Data",
            "Current",
            "nA",
            "float32",
            spectroscopic=[Dimension("Bias", "V", N_COLS)],
            chunks=(4, N_COLS),
        )
    ],
)


# ---------------------------------------------------------------- the decision, and its telling


def test_only_what_may_change_is_taken_up() -> None:
    current = Config()
    wanted = Config(max_scans=3, flush_interval_s=1.0, memory_budget_mb=7, bind="tcp://127.0.0.1:1")
    taken = take_up(current, wanted)
    assert taken == Config(max_scans=3, flush_interval_s=1.0)
    assert {name for name, _, _ in differences(current, wanted)} == {
        "max_scans",
        "flush_interval_s",
        "memory_budget_mb",
        "bind",
    }
    assert ("max_scans", "16", "3") in differences(current, wanted)


def test_what_was_promised_or_laid_out_never_changes() -> None:
    fixed = {"data_dir", "bind", "memory_budget_mb", "credit_window_mb", "max_block_mb"}
    fixed |= {"max_layout_mb", "codec_threads", "row_segment_mb", "log_format"}
    assert not fixed & set(RELOADABLE)


def taken(reloads: Reloads, current: Config) -> Config | None:
    """Return the outcome of a reading; None if it was told and is not taken."""
    outcomes: list[Config | None] = []

    def is_over() -> bool:
        outcomes.append(reloads.take(current))
        return outcomes[-1] is not None or not reloads._readings._is_running

    wait_for(is_over, "the reading")
    return outcomes[-1]


def test_nothing_is_read_unless_it_is_asked_for() -> None:
    reloads = Reloads(lambda: pytest.fail("it was read"))
    assert reloads.take(Config()) is None
    assert not reloads._readings._is_running


@pytest.mark.parametrize("error", [ConfigError("two problems; at once"), RuntimeError("a bug")])
def test_a_reading_that_fails_changes_nothing_and_is_told(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Config:
        raise error

    reloads = Reloads(fail)
    reloads.request()
    assert taken(reloads, Config()) is None
    (record,) = caplog.records
    assert (record.levelno, record.message) == (logging.ERROR, "config_refused")
    assert record.__dict__["problem"] == str(error.args[0])


def test_a_request_during_a_reading_is_answered_by_another() -> None:
    answers = [Config(max_scans=1), Config(max_scans=2)]
    go_on = threading.Event()

    def read() -> Config:
        go_on.wait(20.0)
        return answers.pop(0)

    reloads = Reloads(read)
    reloads.request()
    assert reloads.take(Config()) is None
    reloads.request()
    assert reloads.take(Config()) is None
    assert len(answers) == 2
    go_on.set()
    seen: list[Config] = []
    wait_for(lambda: seen.extend(filter(None, [reloads.take(Config())])) or len(seen) == 2, "both")
    assert [config.max_scans for config in seen] == [1, 2]


# ---------------------------------------------------------------- a real daemon


def rewrite(daemon: Daemon, event: str, *told: object, **options: object) -> None:
    """Give the daemon another file and SIGHUP; wait until its log tells of it.

    ``told``: the option, its old and its new value, where these are part of it.
    """
    before = len(daemon.events())
    keys = ("option", "old", "new")[: len(told)]

    def is_told() -> bool:
        lines = [line for line in daemon.events()[before:] if line["event"] == event]
        return told in [tuple(line[key] for key in keys) for line in lines]

    daemon.config.write_text("".join(f"{name} = {value}\n" for name, value in options.items()))
    daemon.send(signal.SIGHUP)
    wait_for(is_told, f"the log to tell {event} {told}")


def greet(peer: RawPeer) -> wire.Message | None:
    peer.send(wire.Hello(versions=[1], client="one more"))
    return peer.receive()


@needs_sighup
def test_limits_change_and_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    with (
        Daemon(tmp_path / "data", max_clients=1) as daemon,
        RawPeer(daemon.endpoint),
        RawPeer(daemon.endpoint, hello=False) as second,
    ):
        assert isinstance(greet(second), wire.Error)
        rewrite(daemon, "config_refused", max_clients=0, flush_intervall_s=1, max_scans=2)
        (refused,) = daemon.events("config_refused")
        assert "max_clients = 0 must be a whole number from 1 to 4096" in refused["problem"]
        assert "did you mean 'flush_interval_s'?" in refused["problem"]
        assert refused["level"] == "error"
        assert isinstance(greet(second), wire.Error)
        rewrite(daemon, "config_changed", "max_clients", "1", "2", max_clients=2)
        assert isinstance(greet(second), wire.Welcome)
        assert daemon.stop() == 0


@needs_sighup
def test_what_cannot_change_waits_for_a_restart(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data", memory_budget_mb=3) as daemon:
        told = "config_waits", "memory_budget_mb", "3", "4"
        rewrite(daemon, *told, memory_budget_mb=4, shutdown_timeout_s=20.0)
        (changed,) = daemon.events("config_changed")
        assert changed["option"] == "shutdown_timeout_s"
        options = {line["option"] for line in daemon.events("config_waits")}
        assert options == {"memory_budget_mb"}, "the flags hold on"
        assert memory_budget_mb(daemon) == 3
        # What waits is told again, for whoever looks at the last reload alone.
        rewrite(daemon, *told, memory_budget_mb=4, shutdown_timeout_s=20.0)
        daemon.restart()
        assert memory_budget_mb(daemon) == 4


def memory_budget_mb(daemon: Daemon) -> int:
    with RawPeer(daemon.endpoint) as peer:
        peer.send(wire.StatusRequest())
        return int(peer.expect(wire.StatusReport).daemon["memory_budget_bytes"]) >> 20


@needs_sighup
def test_a_running_scan_is_shown_to_readers_at_the_new_interval(tmp_path: Path) -> None:
    with (
        Daemon(tmp_path / "data", flush_interval_s=3600.0) as daemon,
        connect(daemon.endpoint) as client,
    ):
        scan = client.open_scan(LAYOUT, file="shown")
        scan.write_block(0, np.ones((4, N_COLS), "f4"))
        scan.wait_durable(timeout_s=30)
        (file,) = daemon.data_dir.glob("*.h5")
        assert shown(file) == 0
        told = "config_changed", "flush_interval_s", "3600.0", "0.05"
        rewrite(daemon, *told, flush_interval_s=0.05)
        wait_for(lambda: shown(file) == 4, "the rows to be shown")
        scan.abort("seen enough")


def shown(file: Path) -> int:
    with h5py.File(file, "r", libver="latest", swmr=True) as h5_file:
        done: Any = h5_file["Measurement_000/completed_positions"]
        return int(np.count_nonzero(done[...] == 1))


@needs_sighup
def test_a_scan_that_was_left_ends_after_the_new_time(tmp_path: Path) -> None:
    scan_id = secrets.token_hex(16)
    with Daemon(tmp_path / "data", flush_interval_s=0.2) as daemon:
        leave_a_scan(daemon, scan_id)
        told = "config_changed", "resume_timeout_s", "259200.0", "0.5"
        rewrite(daemon, *told, flush_interval_s=0.2, resume_timeout_s=0.5)
        wait_until_interrupted(daemon, scan_id)


@needs_sighup
def test_the_reserve_of_the_disk_changes(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data", disk_reserve_mb=1) as daemon:
        rewrite(daemon, "disk_short", disk_reserve_mb=1 << 30)
        rewrite(daemon, "disk_has_room", disk_reserve_mb=1)


@needs_sighup
def test_many_signals_do_no_harm(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data") as daemon, connect(daemon.endpoint) as client:
        with client.open_scan(LAYOUT, file="signalled") as scan:
            for row in range(N_ROWS):
                scan.write(row, np.full(N_COLS, row, "f4"))
                for _ in range(20):
                    daemon.send(signal.SIGHUP)
        assert scan.result.status == "complete"
        wait_for(lambda: daemon.events("config_unchanged"), "the log")
        assert daemon.stop() == 0
