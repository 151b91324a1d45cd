"""Instruments that outrun or lose a real daemon, with a spool: nothing blocks, nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from support.daemon import Daemon, command, wait_for
from usidstream import (
    BlockError,
    DeliveryError,
    DeliveryTimeoutError,
    Dimension,
    MainLayout,
    Scan,
    ScanLayout,
    UsidstreamError,
    connect,
)

N, M = 3000, 256
SCAN = "5a" * 16
DATA = np.random.default_rng(4).normal(size=(N, M)).astype("f4")
LIMIT_BYTES = 512 * 1024
"""Of memory: a sixth of the data."""
BLOCK_BYTES = LIMIT_BYTES // 4
"""Of what the client gathers; one of them may come back from the disk beyond the limit."""
LAYOUT = ScanLayout(
    positions=[Dimension("X", "um", N)],
    mains=[
        MainLayout(
            "Raw", "Current", "nA", "float32", [Dimension("Bias", "V", np.linspace(-1, 1, M))]
        )
    ],
)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    (tmp_path / "data").mkdir()
    with Daemon(tmp_path / "data") as daemon:
        yield daemon


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def options(spool: Path, **more: object) -> dict[str, object]:
    return {
        "spool_dir": spool,
        "retain_limit_bytes": LIMIT_BYTES,
        "timeout_s": 5,
        "write_timeout_s": 20,
    } | more


def assert_complete(scan: Scan, spool: Path) -> None:
    assert scan.result.status == "complete"
    with h5py.File(scan.result.file) as file:
        assert np.array_equal(file["Measurement_000/Raw"][()], DATA)
    assert not list(spool.iterdir())


def wait_until_all_is_kept(scan: Scan) -> None:
    """Wait until everything written, and not durable, is on the disk."""
    channel = scan._channel

    def is_kept() -> bool:
        with channel.lock:
            channel.lanes.seal_all()
            channel.post()
            kept, spool = channel.delivery.kept, channel.delivery.spool
            return not spool.pending and all(entry.place for entry in kept.entries)

    wait_for(is_kept, "all to be on the disk")


def write_until_refused(scan: Scan) -> tuple[int, DeliveryError]:
    """Write rows until one is not taken."""
    for row in range(N):
        try:
            scan.write(row, DATA[row])
        except DeliveryError as error:
            return row, error
    raise AssertionError("all were taken")


@pytest.mark.parametrize("way", ["pixels", "scattered"])
def test_a_daemon_that_is_killed_holds_nobody_up(daemon: Daemon, spool: Path, way: str) -> None:
    with connect(daemon.endpoint, **options(spool)) as client:
        with client.open_scan(LAYOUT, scan_id=SCAN) as scan:
            scan.write_block(0, DATA[:200])
            scan.wait_durable(10)
            daemon.stop(signal.SIGKILL)
            if way == "pixels":
                for row in range(200, N):
                    scan.write(row, DATA[row])
            else:
                rows = np.random.default_rng(1).permutation(np.arange(200, N))
                for part in np.split(rows, 28):
                    scan.write_at(part, DATA[part])
            assert scan.spooled.blocks > 0
            assert scan.spooled.nbytes > DATA.nbytes // 2
            assert scan._channel.delivery.held_bytes <= LIMIT_BYTES + BLOCK_BYTES
            daemon.start()
        assert_complete(scan, spool)


def test_a_daemon_that_is_stopped_holds_nobody_up(daemon: Daemon, spool: Path) -> None:
    with connect(daemon.endpoint, **options(spool)) as client:
        with client.open_scan(LAYOUT) as scan:
            os.kill(daemon.pid, signal.SIGSTOP)
            try:
                for row in range(N):
                    scan.write(row, DATA[row])
                held_bytes = scan._channel.delivery.held_bytes
            finally:
                os.kill(daemon.pid, signal.SIGCONT)
        assert held_bytes <= LIMIT_BYTES + BLOCK_BYTES
        assert_complete(scan, spool)


def test_writes_go_on_while_a_spool_drains(daemon: Daemon, spool: Path) -> None:
    with connect(daemon.endpoint, **options(spool)) as client:
        with client.open_scan(LAYOUT) as scan:
            daemon.stop(signal.SIGKILL)
            for row in range(0, N, 2):
                scan.write(row, DATA[row])
            scan.annotate({"tip": "old"})
            daemon.start()
            for row in range(1, N, 2):
                scan.write(row, DATA[row])
            scan.annotate({"tip": "new"})
        assert_complete(scan, spool)
    with h5py.File(scan.result.file) as file:
        assert file["Measurement_000"].attrs["tip"] == "new"


CHILD = """
import sys, time
import numpy as np
sys.path.insert(0, {tests!r})
sys.path.insert(0, {here!r})
from test_spool_served import DATA, LAYOUT, SCAN, options, wait_until_all_is_kept
from pathlib import Path
from usidstream import connect
client = connect({endpoint!r}, **options(Path({spool!r})))
scan = client.open_scan(LAYOUT, scan_id=SCAN)
scan.write_block(0, DATA[:200])
scan.wait_durable(10)
print("away", flush=True)
sys.stdin.readline()
for row in range(200, {rows}):
    scan.write(row, DATA[row])
wait_until_all_is_kept(scan)
print("kept", flush=True)
time.sleep(60)
"""


@pytest.fixture
def left_behind(daemon: Daemon, spool: Path) -> int:
    """Kill a client, in a process of its own, that had spooled; return how many rows it wrote."""
    rows = 2000
    here = Path(__file__).resolve().parent
    code = CHILD.format(
        tests=str(here.parent),
        here=str(here),
        endpoint=daemon.endpoint,
        spool=str(spool),
        rows=rows,
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout.readline() == "away\n"
            daemon.stop(signal.SIGKILL)
            child.stdin.write("\n")
            child.stdin.flush()
            assert child.stdout.readline() == "kept\n"
        finally:
            child.kill()
    return rows


def test_a_new_process_goes_on_spooling_while_the_daemon_is_away(
    daemon: Daemon, spool: Path, left_behind: int
) -> None:
    other = ScanLayout(positions=[Dimension("X", "um", 3)], mains=LAYOUT.mains)
    with connect(daemon.endpoint, **options(spool, timeout_s=0.5)) as client:
        with pytest.raises(DeliveryTimeoutError, match="was not opened"):
            client.open_scan(LAYOUT, scan_id="77" * 16)
        assert [path.name for path in spool.iterdir()] == [SCAN], "nothing stays of it"
        with pytest.raises(UsidstreamError) as caught:
            client.open_scan(other, scan_id=SCAN)
        assert caught.value.code == "layout_differs"
        with client.open_scan(LAYOUT, scan_id=SCAN) as scan:
            before = scan.spooled.nbytes
            for row in range(left_behind, N):
                scan.write(row, DATA[row])
            assert scan.spooled.nbytes > before
            daemon.start()
        assert_complete(scan, spool)
    daemon.stop()
    with pytest.raises(DeliveryTimeoutError, match="no daemon answered"):
        connect(daemon.endpoint, **options(spool, timeout_s=0.5))


def test_the_command_drains_what_was_left(daemon: Daemon, spool: Path, left_behind: int) -> None:
    daemon.start()
    done = command("usidstream", "drain", spool)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("acquiring: ")
    assert not list(spool.iterdir())
    with connect(daemon.endpoint, timeout_s=5) as client:
        with client.open_scan(LAYOUT, scan_id=SCAN) as scan:
            assert scan.durable == left_behind
            scan.write_block(left_behind, DATA[left_behind:])
        assert_complete(scan, spool)


def test_a_finish_that_comes_too_early_says_where_the_rest_is(daemon: Daemon, spool: Path) -> None:
    with connect(daemon.endpoint, **options(spool)) as client:
        scan = client.open_scan(LAYOUT, scan_id=SCAN)
        daemon.stop(signal.SIGKILL)
        for row in range(N):
            scan.write(row, DATA[row])
        with pytest.raises(DeliveryTimeoutError, match="usidstream drain") as caught:
            scan.finish(timeout_s=0.3)
        assert str(spool / SCAN) in str(caught.value)
        scan.detach()
    daemon.start()
    done = command("usidstream", "drain", spool, "--to", daemon.endpoint, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"status": "complete"' in done.stdout
    assert not list(spool.iterdir())


def test_a_full_spool_waits_and_then_says_so(daemon: Daemon, spool: Path) -> None:
    few = options(spool, spool_limit_mb=0.5, write_timeout_s=0.3)
    with connect(daemon.endpoint, **few) as client:
        scan = client.open_scan(LAYOUT, scan_id=SCAN)
        daemon.stop(signal.SIGKILL)
        row, error = write_until_refused(scan)
        assert error.code == "spool_full"
        assert error.retryable
        assert scan.spooled.nbytes <= 500_000
        daemon.start()
        wait_for(lambda: scan.spooled.blocks == 0, "the spool to drain")
        scan._channel.options = replace(client._options, write_timeout_s=20)
        for again in range(row, N):
            scan.write(again, DATA[again])
        scan.finish()
        assert_complete(scan, spool)


def test_a_spool_is_of_one_process(daemon: Daemon, spool: Path) -> None:
    with (
        connect(daemon.endpoint, **options(spool)) as client,
        connect(daemon.endpoint, **options(spool)) as other,
    ):
        scan = client.open_scan(LAYOUT, scan_id=SCAN)
        with pytest.raises(DeliveryError) as caught:
            other.open_scan(LAYOUT, scan_id=SCAN)
        assert caught.value.code == "spool_busy"
        again = client.open_scan(LAYOUT, scan_id=SCAN)  # the same client takes it over
        with pytest.raises(DeliveryError, match="opened again"):
            scan.write(0, DATA[0])
        again.abort()
    assert not list(spool.iterdir())


def test_nothing_stays_of_a_spool_that_was_not_needed(daemon: Daemon, spool: Path) -> None:
    with connect(daemon.endpoint, **options(spool)) as client:
        for end in ("abort", "detach", "finish"):
            scan = client.open_scan(LAYOUT)
            scan.write(0, DATA[0])
            scan.wait_durable(10)
            assert scan.spooled.nbytes == 0
            getattr(scan, end)()
            assert not list(spool.iterdir()), end


def test_a_damaged_block_is_told_and_the_rest_is_sent(
    daemon: Daemon, spool: Path, left_behind: int
) -> None:
    segment = max((spool / SCAN).glob("blocks-*"), key=lambda path: path.stat().st_size)
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    daemon.start()
    with connect(daemon.endpoint, **options(spool)) as client:
        scan = client.open_scan(LAYOUT, scan_id=SCAN)
        with pytest.raises(BlockError, match="damaged") as caught:
            scan.wait_durable(20)
        assert caught.value.code == "spool_damaged"
        assert str(segment) in str(caught.value)
        scan.wait_durable(20)
        lost = left_behind - scan.durable
        assert 0 < lost <= 200
        for row in range(N):
            scan.write(row, DATA[row])
        scan.finish()
        assert scan.result.status == "complete"
    assert [path.name for path in (spool / SCAN).iterdir()] == [segment.name + ".damaged"]
