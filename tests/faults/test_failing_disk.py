"""A disk that fails or hangs under one scan: it is told, no ack lies, and other scans go on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from support.daemon import Daemon, wait_for
from support.failing_disk import FailingDisk
from usidstream import Client, Dimension, MainLayout, Scan, ScanLayout, connect
from usidstream.errors import DeliveryError
from usidstreamd.verify import verify_file

N_ROWS, N_COLS, CHUNK_ROWS = 1024, 256, 16
BEFORE, WHOLE_CHUNKS, MORE = 104, 512, 520  # the last ends within a chunk
TIMEOUT_S = 60.0
DATA = np.random.default_rng(0).random((N_ROWS, N_COLS), np.float32)


def make_layout() -> ScanLayout:
    main = MainLayout(
        "Raw",
        "Current",
        "nA",
        "float32",
        spectroscopic=[Dimension("Bias", "V", N_COLS)],
        chunks=(CHUNK_ROWS, N_COLS),
    )
    return ScanLayout(positions=[Dimension("X", "um", N_ROWS)], mains=[main])


@pytest.fixture
def disk(tmp_path: Path) -> FailingDisk:
    return FailingDisk(tmp_path / "rules")


@pytest.fixture
def daemon(tmp_path: Path, disk: FailingDisk) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path / "data", flush_interval_s=0.2)
    daemon.environment = disk.environment
    with daemon:
        yield daemon
    assert "Traceback" not in daemon.log


def open_scan(client: Client, name: str, **more: Any) -> Scan:
    return client.open_scan(make_layout(), file=name, **more)


def write(scan: Scan, start: int, stop: int) -> None:
    scan.write_block(start, DATA[start:stop])


def require_whole(file: str) -> None:
    with h5py.File(file) as h5_file:
        np.testing.assert_array_equal(h5_file["Measurement_000/Raw"][...], DATA)
    assert verify_file(Path(file)).faults == []


def covers(ranges: list[tuple[int, int]], stop: int) -> bool:
    return any(a <= 0 and b >= stop for a, b in ranges)


@pytest.mark.parametrize(
    ("operation", "part", "stop"),
    [
        ("write", "{file}$", WHOLE_CHUNKS),
        ("sync", "{file}$", WHOLE_CHUNKS),
        ("write", "{file}.journal/ledger", WHOLE_CHUNKS),
        ("sync", "{file}.journal/ledger", WHOLE_CHUNKS),
        ("write", "{file}.journal/rows-", MORE),
        ("sync", "{file}.journal/rows-", MORE),
    ],
)
def test_an_io_error_ends_its_scan_alone_and_nothing_acknowledged_is_lost(
    daemon: Daemon, disk: FailingDisk, operation: str, part: str, stop: int
) -> None:
    with connect(daemon.endpoint) as client, connect(daemon.endpoint) as other:
        scan, neighbour = open_scan(client, "broken"), open_scan(other, "sound")
        write(scan, 0, BEFORE)
        scan.wait_durable(TIMEOUT_S)
        with disk.rule(operation, "EIO", part.format(file=scan.file)):
            write(scan, BEFORE, stop)
            with pytest.raises(DeliveryError) as failed:
                scan.wait_durable(TIMEOUT_S)
            assert failed.value.code == "storage_failed"
            assert "Input/output error" in failed.value.message
            assert scan.durable == BEFORE
            write(neighbour, 0, N_ROWS)
            assert neighbour.finish().status == "complete"
        scan.detach()
    told = [line for line in daemon.events("scan_failed") if line["scan"] == scan.scan_id]
    assert [line["code"] for line in told] == ["storage_failed"]
    assert "could not" in told[0]["problem"]
    with connect(daemon.endpoint) as client:
        again = open_scan(client, "broken", scan_id=scan.scan_id)
        assert covers(again.durable_ranges(), BEFORE)
        write(again, 0, N_ROWS)
        assert again.finish().status == "complete"
    require_whole(again.result.file)
    require_whole(neighbour.result.file)


def test_an_io_error_at_the_close_is_told_and_the_end_redone(
    daemon: Daemon, disk: FailingDisk
) -> None:
    with connect(daemon.endpoint) as client:
        scan = open_scan(client, "broken")
        write(scan, 0, N_ROWS)
        scan.wait_durable(TIMEOUT_S)
        with disk.rule("close", "EIO", f"{scan.file}$"), pytest.raises(DeliveryError) as failed:
            scan.finish(timeout_s=TIMEOUT_S)
        assert failed.value.code == "storage_failed"
        scan.detach()
    with connect(daemon.endpoint) as client:
        again = open_scan(client, "broken", scan_id=scan.scan_id)
        write(again, 0, N_ROWS)
        assert again.finish().status == "complete"
    require_whole(scan.file)


def test_a_file_that_hangs_holds_up_no_other_scans_acks(daemon: Daemon, disk: FailingDisk) -> None:
    with connect(daemon.endpoint) as client, connect(daemon.endpoint) as other:
        hanging, sound = open_scan(client, "hanging"), open_scan(other, "sound")
        with disk.rule("write", "hold", f"{hanging.file}$"):
            write(hanging, 0, WHOLE_CHUNKS)
            hanging.wait_durable(TIMEOUT_S)  # by its row journal
            for start, stop in ((0, BEFORE), (BEFORE, WHOLE_CHUNKS), (WHOLE_CHUNKS, MORE)):
                write(sound, start, stop)
                sound.wait_durable(TIMEOUT_S)
        for scan, done in ((hanging, WHOLE_CHUNKS), (sound, MORE)):
            write(scan, done, N_ROWS)
            assert scan.finish().status == "complete"
            require_whole(scan.result.file)


@pytest.mark.parametrize("what", ["write", "sync"])
def test_what_is_durable_while_a_file_hangs_outlives_the_daemon(
    daemon: Daemon, disk: FailingDisk, what: str
) -> None:
    with connect(daemon.endpoint) as client, connect(daemon.endpoint) as other:
        hanging, sound = open_scan(client, "hanging"), open_scan(other, "sound")
        with disk.rule(what, "hold", hanging.file):  # and its journal
            write(hanging, 0, WHOLE_CHUNKS)
            write(sound, 0, MORE)
            sound.wait_durable(TIMEOUT_S)
            assert hanging.durable == 0
            daemon.stop(signal.SIGKILL)
        for scan in (hanging, sound):
            scan.detach()
    daemon.start()
    with connect(daemon.endpoint) as client:
        again = open_scan(client, "sound", scan_id=sound.scan_id)
        assert covers(again.durable_ranges(), MORE)
        write(again, MORE, N_ROWS)  # what was durable is not sent again
        assert again.finish().status == "complete"
    require_whole(again.result.file)


def test_row_segments_of_hanging_tiles_go_when_the_file_has_them(
    daemon: Daemon, disk: FailingDisk
) -> None:
    with connect(daemon.endpoint) as client:
        scan = open_scan(client, "hanging")
        journal = Path(f"{scan.file}.journal")
        with disk.rule("write", "hold", f"{scan.file}$"):
            write(scan, 0, WHOLE_CHUNKS)
            scan.wait_durable(TIMEOUT_S)
            assert list(journal.glob("rows-*"))
        wait_for(lambda: not list(journal.glob("rows-*")), "the row segments to go")
        write(scan, WHOLE_CHUNKS, N_ROWS)
        assert scan.finish().status == "complete"
    require_whole(scan.result.file)


@pytest.mark.parametrize(
    ("part", "stop"),
    [
        ("{file}$", WHOLE_CHUNKS),
        ("{file}.journal/ledger", WHOLE_CHUNKS),
        ("{file}.journal/rows-", MORE),
    ],
)
def test_what_finds_no_space_is_written_once_there_is_some(
    daemon: Daemon, disk: FailingDisk, part: str, stop: int
) -> None:
    with connect(daemon.endpoint) as client:
        scan = open_scan(client, "short")
        write(scan, 0, BEFORE)
        scan.wait_durable(TIMEOUT_S)
        with disk.rule("write", "ENOSPC", part.format(file=scan.file)):
            write(scan, BEFORE, stop)
            wait_for(lambda: client.status()["scans"][0]["shortage"], "the scan to lack room")
            assert scan.durable == BEFORE
        scan.wait_durable(TIMEOUT_S)
        assert scan.durable == stop
        write(scan, stop, N_ROWS)
        assert scan.finish().status == "complete"
    require_whole(scan.result.file)
    assert len(daemon.events("scan_waits_for_room")) == len(daemon.events("scan_has_room")) == 1
