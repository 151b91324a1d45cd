"""A client with a spool and a daemon that takes nothing, or says what it is told to."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.client_scans import DATA, SCAN, N, make_layout, wait_until_cut
from support.daemon import wait_for
from support.fake_daemon import FakeDaemon
from usidstream import Client, DeliveryError, DeliveryTimeoutError, Scan, ScanError, connect, wire
from usidstream.client import spool_files

LAYOUT = make_layout()
MEMORY_BYTES = 6 * 1024
"""A quarter of the data."""
BLOCK_ROWS = 10


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with FakeDaemon() as daemon:
        daemon.credit_window_bytes = daemon.max_block_bytes = 2048
        daemon.acks = False
        yield daemon


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def connected(daemon: FakeDaemon, spool: Path, **more: Any) -> Client:
    options = {"retain_limit_bytes": MEMORY_BYTES, "timeout_s": 5, "write_timeout_s": 5} | more
    return connect(daemon.endpoint, spool_dir=spool, **options)


def write(scan: Scan, start: int = 0, *, started: list[int] | None = None) -> None:
    """Write blocks from a row on; ``started`` tells how far it came."""
    for row in range(start, N, BLOCK_ROWS):
        if started is not None:
            started.append(row)
        scan.write_block(row, DATA[row : row + BLOCK_ROWS])
        assert scan._channel.delivery.held_bytes <= MEMORY_BYTES


def wait_until_kept(scan: Scan) -> None:
    def is_kept() -> bool:
        with scan._channel.lock:
            spool, kept = scan._channel.delivery.spool, scan._channel.delivery.kept
            return not spool.pending and all(entry.place for entry in kept.entries)

    wait_for(is_kept, "all to be on the disk")


def test_all_goes_out_in_the_order_of_the_calls(daemon: FakeDaemon, spool: Path) -> None:
    with connected(daemon, spool) as client:
        with client.open_scan(LAYOUT) as scan:
            write(scan)
            assert scan.spooled.blocks
            daemon.acks = True
        assert daemon.taken == list(range(N))
    assert not list(spool.iterdir())


def test_a_failed_sync_is_no_proof_and_all_is_written_again(
    daemon: FakeDaemon, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [OSError(errno.EIO, "bad sector")] * 2
    sync_data = spool_files.sync_data

    def fail_twice(fd: int) -> None:
        if failures:
            raise failures.pop()
        sync_data(fd)

    with connected(daemon, spool) as client:
        with client.open_scan(LAYOUT) as scan:
            monkeypatch.setattr(spool_files, "sync_data", fail_twice)
            write(scan)
            wait_until_kept(scan)
            assert not failures
            daemon.acks = True
        assert daemon.taken == list(range(N))


def test_a_full_disk_is_told_and_when_it_has_room_all_goes_on(
    daemon: FakeDaemon, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with connected(daemon, spool, write_timeout_s=0.3) as client:
        scan = client.open_scan(LAYOUT)
        started: list[int] = []
        with monkeypatch.context() as patch:
            patch.setattr(spool_files, "write_all", fail)
            with pytest.raises(DeliveryTimeoutError, match="No space left") as caught:
                write(scan, started=started)
            assert caught.value.code == "spool_full"
        wait_until_kept(scan)
        write(scan, started[-1])
        daemon.acks = True
        scan.finish(timeout_s=20)
        assert daemon.taken == list(range(N))


def test_a_client_that_is_closed_keeps_the_rest_for_the_next(
    daemon: FakeDaemon, spool: Path
) -> None:
    client = connected(daemon, spool, timeout_s=1)
    scan = client.open_scan(LAYOUT, scan_id=SCAN)
    write(scan)
    with pytest.raises(DeliveryTimeoutError, match=f"of its blocks in {spool}"):
        client.close()
    daemon.acks = True
    daemon.taken.clear()
    with connected(daemon, spool) as client:
        client.open_scan(LAYOUT, scan_id=SCAN).finish()
    assert daemon.taken == list(range(N))
    assert not list(spool.iterdir())


def test_single_pixels_of_an_open_block_are_kept_too(daemon: FakeDaemon, spool: Path) -> None:
    with connected(daemon, spool, linger_s=60) as client:
        scan = client.open_scan(LAYOUT, scan_id=SCAN)
        scan.write(0, DATA[0])
        scan.detach()
        assert (spool / SCAN).exists()
        daemon.acks = True
        client.open_scan(LAYOUT, scan_id=SCAN).finish()
    assert daemon.taken == [0]


def test_what_a_fatal_error_would_lose_is_kept(daemon: FakeDaemon, spool: Path) -> None:
    with connected(daemon, spool) as client:
        scan = client.open_scan(LAYOUT, scan_id=SCAN)
        write(scan)
        died = wire.Error(code="storage_failed", message="the disk died", scan=SCAN)
        daemon.instead[wire.Ping] = daemon.instead[wire.Block] = lambda _: [died]
        with pytest.raises(DeliveryError, match="the disk died"):
            scan.wait_durable()
        scan.detach()
        daemon.taken.clear()
        daemon.behave()
        client.open_scan(LAYOUT, scan_id=SCAN).finish()
    assert daemon.taken == list(range(N))


def leave_behind(daemon: FakeDaemon, spool: Path) -> None:
    with connected(daemon, spool) as client:
        scan = client.open_scan(LAYOUT, scan_id=SCAN)
        write(scan)
        scan.detach()


@pytest.mark.parametrize("missing", [[], [(30, 40)]])
def test_of_a_scan_that_has_ended_only_what_its_file_has_may_go(
    daemon: FakeDaemon, spool: Path, missing: list[tuple[int, int]]
) -> None:
    leave_behind(daemon, spool)
    frames: list[wire.Frame] = []
    told = {"Raw": wire.pack_ranges(missing, frames)} if missing else {}
    finished = wire.Finished(
        scan=SCAN, file="/f.h5", status="incomplete", missing=told, frames=frames
    )
    daemon.instead[wire.Open] = lambda _: [finished]
    with connected(daemon, spool) as client:
        if missing:
            with pytest.raises(ScanError, match="rows 20 to 39") as caught:
                client.open_scan(LAYOUT, scan_id=SCAN)
            assert caught.value.code == "scan_finished"
        else:
            client.open_scan(LAYOUT, scan_id=SCAN)
    assert (spool / SCAN).exists() == bool(missing)


def test_a_block_that_was_being_written_is_warned_of(daemon: FakeDaemon, spool: Path) -> None:
    leave_behind(daemon, spool)
    last = max((spool / SCAN).glob("blocks-*"))
    last.write_bytes(last.read_bytes()[:-5])
    daemon.acks = True
    daemon.taken.clear()
    with connected(daemon, spool) as client, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scan = client.open_scan(LAYOUT, scan_id=SCAN)
        scan.finish()
    assert any(str(last) in str(warning.message) for warning in caught)
    assert daemon.taken == list(range(len(daemon.taken)))
    assert N - 4 * BLOCK_ROWS <= len(daemon.taken) < N


def test_while_the_daemon_is_away_all_that_is_not_durable_is_written(
    daemon: FakeDaemon, spool: Path
) -> None:
    with connected(daemon, spool, write_timeout_s=0.2) as client:
        scan = client.open_scan(LAYOUT, scan_id=SCAN)
        scan.write(0, DATA[0])
        daemon.wait_for(wire.Block)
        assert scan.spooled.blocks == 0
        daemon.greets = False
        with scan._channel.lock:
            scan._channel.delivery.reconnect = "a test"
        wait_until_cut(scan)
        wait_for(lambda: scan.spooled.blocks == 1, "the block to be written")
        scan.detach()
