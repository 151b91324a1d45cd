"""A real daemon tells of stalled instruments, ends, failures, disks: warnings, log and command."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.daemon import Daemon, command, wait_for
from support.failing_disk import FailingDisk
from support.left_scans import leave_a_scan
from support.rowscan import CHUNK_ROWS, MAIN, N_ROWS, make_layout, values
from support.telling import Teller
from usidstream import Client, Scan, connect
from usidstream.errors import DeliveryError

ALL = np.arange(N_ROWS)
IO_STALL_S = 0.3
SCAN_ID = "5e" * 16

Start = Callable[..., Daemon]


@pytest.fixture
def teller(tmp_path: Path) -> Teller:
    return Teller(tmp_path)


@pytest.fixture
def disk(tmp_path: Path) -> FailingDisk:
    return FailingDisk(tmp_path / "rules")


@pytest.fixture
def start(tmp_path: Path, teller: Teller) -> Iterator[Start]:
    """Return what starts the daemon with options, and the disk's rules if it is to feel them."""
    with ExitStack() as running:

        def begin(feels: FailingDisk | None = None, **options: object) -> Daemon:
            daemon = Daemon(tmp_path / "data", on_event=teller.command, **options)
            daemon.environment = feels.environment if feels else {}
            return running.enter_context(daemon)

        yield begin


def warnings_of(client: Client) -> dict[str, Any]:
    """Return the warnings in force by code."""
    return {warning["code"]: warning for warning in client.status()["daemon"]["warnings"]}


def await_warning(client: Client, code: str) -> Any:
    wait_for(lambda: code in warnings_of(client), f"the warning {code}")
    return warnings_of(client)[code]


def await_no_warning(client: Client, code: str) -> None:
    wait_for(lambda: code not in warnings_of(client), f"the end of {code}")


def write(scan: Scan, start: int, stop: int) -> None:
    scan.write_at(ALL[start:stop], values(ALL[start:stop]))
    scan.wait_durable(timeout_s=30)


# ---------------------------------------------------------------- instruments


def test_an_instrument_that_stalls_and_goes_on(start: Start, teller: Teller) -> None:
    daemon = start(stall_floor_s=0.4)
    with connect(daemon.endpoint) as client:
        scan = client.open_scan(make_layout(), file="stalling")
        write(scan, 0, 100)
        warning = await_warning(client, "instrument_stalled")
        assert warning["scan"] == scan.scan_id
        assert warning["text"].startswith("nothing has come for ")
        told = teller.expect("stalled")
        assert (told["scan"], told["file"], told["clients"]) == (scan.scan_id, scan.file, 1)
        assert told["silent_s"] >= told["limit_s"] >= 0.4
        write(scan, 100, N_ROWS)
        assert teller.expect("resumed")["silent_s"] >= 0.4
        assert scan.finish().status == "complete", "nothing was ended"
        assert warnings_of(client) == {}
    assert teller.expect("finished")["status"] == "complete"


def test_a_slow_instrument_is_left_in_peace(start: Start, teller: Teller) -> None:
    daemon = start(stall_floor_s=0.2, stall_factor=50)
    layout = make_layout()
    layout = type(layout).from_dict(layout.to_dict() | {"pixel_time_s": 60.0})
    with connect(daemon.endpoint) as client:
        slow = client.open_scan(layout, file="slow")
        quick = client.open_scan(make_layout(), file="quick")
        write(slow, 0, 1)
        write(quick, 0, 1)
        assert await_warning(client, "instrument_stalled")["scan"] == quick.scan_id
        teller.expect("stalled")
        stalled = {told["scan"] for told in teller.events("stalled")}
        assert stalled == {quick.scan_id}
        slow.abort("enough")
        quick.abort("enough")
    wait_for(lambda: len(teller.events("finished")) == 2, "both ends")
    assert {told["status"] for told in teller.events("finished")} == {"aborted"}


def test_a_client_that_is_gone_has_stalled_too_and_then_the_scan_is_interrupted(
    start: Start, teller: Teller
) -> None:
    daemon = start(stall_floor_s=0.2, resume_timeout_s=1.5)
    leave_a_scan(daemon, SCAN_ID)
    assert teller.expect("stalled")["clients"] == 0
    told = teller.expect("interrupted")
    assert told["scan"] == SCAN_ID
    assert told["positions"] == 12
    with connect(daemon.endpoint) as client:
        assert warnings_of(client) == {}


# ---------------------------------------------------------------- ends


def test_a_finish_with_missing_rows_says_exactly_which(start: Start, teller: Teller) -> None:
    daemon = start()
    there = np.setdiff1d(ALL, [0, 1, 2, 77, 100, 101, N_ROWS - 1])
    missing = [(0, 3), (77, 78), (100, 102), (N_ROWS - 1, N_ROWS)]
    with connect(daemon.endpoint) as client:
        scan = client.open_scan(make_layout())
        scan.write_at(there, values(there))
        result = scan.finish()
        (end,) = client.status()["daemon"]["ended"]
    assert result.status == "incomplete"
    assert (end["scan"], end["status"], end["missing_ranges"]) == (scan.scan_id, "incomplete", 4)
    assert end["missing"] == {MAIN: [list(r) for r in missing]}
    assert result.missing == {MAIN: missing}
    told = teller.expect("finished")
    assert told["status"] == "incomplete"
    assert told["missing"] == {MAIN: [list(r) for r in missing]}
    words = f"{MAIN} lacks 7 positions: 0..2, 77, 100..101, {N_ROWS - 1}"
    assert words in told["text"]
    assert words in daemon.log
    status = command("usidstream", "status", "--to", daemon.endpoint)
    assert f"{scan.scan_id}  incomplete; {words}  {result.file}" in status.stdout


def test_a_scan_that_fails(start: Start, teller: Teller, disk: FailingDisk) -> None:
    daemon = start(disk)
    with connect(daemon.endpoint) as client:
        scan = client.open_scan(make_layout())
        with disk.rule("sync", "EIO", f"{scan.file}$"):
            scan.write_at(ALL[:100], values(ALL[:100]))
            with pytest.raises(DeliveryError, match="Input/output error"):
                scan.wait_durable(timeout_s=30)
        told = teller.expect("failed")
        assert told["scan"] == scan.scan_id
        assert "Input/output error" in told["text"]
        scan.detach()


def test_a_scan_that_is_recovered(start: Start, teller: Teller) -> None:
    daemon = start()
    with connect(daemon.endpoint) as client:
        scan = client.open_scan(make_layout())
        write(scan, 0, 100)
        daemon.stop(signal.SIGKILL)
        daemon.start()
        told = teller.expect("recovered")
        assert (told["scan"], told["how"], told["uncertain"]) == (scan.scan_id, "in place", [])
        write(scan, 100, N_ROWS)
        assert scan.finish().status == "complete"


def test_a_scan_that_goes_on_after_a_clean_stop_was_not_recovered(
    start: Start, teller: Teller
) -> None:
    daemon = start()
    with connect(daemon.endpoint) as client:
        scan = client.open_scan(make_layout())
        write(scan, 0, 100)
        daemon.restart()
        write(scan, 100, N_ROWS)
        scan.finish()
    teller.expect("finished")
    assert teller.events("recovered") == []


# ---------------------------------------------------------------- disks


def test_a_disk_that_is_short_and_has_room_again(start: Start, teller: Teller) -> None:
    daemon = start(disk_reserve_mb=1 << 30)
    with connect(daemon.endpoint) as client:
        await_warning(client, "disk_short")
        assert "free" in teller.expect("disk_short")["text"]
        text = daemon.config.read_text().replace(str(1 << 30), "1")
        daemon.config.write_text(text)
        daemon.send(signal.SIGHUP)
        await_no_warning(client, "disk_short")
        teller.expect("disk_back")


@pytest.mark.parametrize(
    ("operation", "part", "told_as"),
    [
        ("write", "{file}$", "writing chunks into the file"),
        ("sync", "{file}$", "syncing the file"),
        ("write", "{file}.journal/rows-", "writing rows into the journal"),
        ("sync", "{file}.journal/rows-", "syncing the journal's rows"),
        ("sync", "{file}.journal/ledger", "syncing the ledger"),
    ],
)
def test_an_operation_that_hangs_is_told_while_it_does(
    start: Start, teller: Teller, disk: FailingDisk, operation: str, part: str, told_as: str
) -> None:
    daemon = start(disk, io_stall_s=IO_STALL_S)
    with connect(daemon.endpoint) as client, connect(daemon.endpoint) as other:
        scan = client.open_scan(make_layout())
        write(scan, 0, 100)
        with disk.rule(operation, "hold", part.format(file=scan.file)):
            scan.write_at(ALL[100:1001], values(ALL[100:1001]))  # chunks, and a row alone
            # A busy disk may be slow without any rule, and is told of, too.
            told = teller.expect("io_stalled", scan=scan.scan_id, operation=told_as)
            assert told["seconds"] >= IO_STALL_S
            warning = await_warning(other, "io_stalled")
            assert warning["scan"] == scan.scan_id
            assert " has not returned for " in warning["text"]
            assert told_as not in [back["operation"] for back in teller.events("io_back")]
        back = teller.expect("io_back", scan=scan.scan_id, operation=told_as)
        assert back["seconds"] >= told["seconds"]
        await_no_warning(other, "io_stalled")
        write(scan, 1001, N_ROWS)
        assert scan.finish().status == "complete"


def test_a_flush_of_hdf5_that_hangs_is_told(
    start: Start, teller: Teller, disk: FailingDisk
) -> None:
    daemon = start(disk, io_stall_s=IO_STALL_S, flush_interval_s=1.0)
    with connect(daemon.endpoint) as client:
        scan = client.open_scan(make_layout())
        write(scan, 0, 10 * CHUNK_ROWS)  # they are in the file before it is flushed
        with disk.rule("write", "hold", f"{scan.file}$"):
            teller.expect("io_stalled", operation="flushing the file")
        teller.expect("io_back", operation="flushing the file")
        write(scan, 10 * CHUNK_ROWS, N_ROWS)
        assert scan.finish().status == "complete"


def test_a_loop_that_hangs_is_told_by_another_thread(
    start: Start, teller: Teller, disk: FailingDisk
) -> None:
    daemon = start(disk, io_stall_s=IO_STALL_S)
    with disk.rule("statvfs", "hold", daemon.data_dir.name):
        teller.expect("io_stalled", scan="", operation="the loop that serves clients")
        assert "loop_stalled" in daemon.log
    back = teller.expect("io_back", scan="", operation="the loop that serves clients")
    assert back["seconds"] >= IO_STALL_S
    with connect(daemon.endpoint) as client:
        await_no_warning(client, "loop_stalled")


@pytest.mark.parametrize(
    "words",
    [["/nowhere/at/all"], ["false"], ["sleep", "1000"]],
    ids=["missing", "fails", "hangs"],
)
def test_a_bad_command_hurts_no_scan_and_no_stop(tmp_path: Path, words: list[str]) -> None:
    daemon = Daemon(tmp_path / "data", on_event=words, on_event_timeout_s=0.3, stall_floor_s=0.1)
    with daemon, connect(daemon.endpoint) as client:
        with client.open_scan(make_layout()) as scan:
            write(scan, 0, 100)
            wait_for(lambda: "hook_failed" in daemon.log, "the log of it")
            write(scan, 100, N_ROWS)
        assert scan.result.status == "complete"
        assert daemon.stop() == 0
