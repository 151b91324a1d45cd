"""The end of a scan, cut short: whatever was decided and acknowledged is in the file afterwards.

A real daemon on a disk whose syncs are held up or fail, and killed there. What no sync had brought
to the disk is then taken from its file.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from support.daemon import STOP_TIMEOUT_S, Daemon, command, wait_for
from support.failing_disk import FailingDisk
from support.left_scans import SHORT, wait_until_interrupted
from support.rawpeer import RawPeer
from support.recorded_scan import N_ROWS, SCAN_ID, Script, open_scan, scattered_block
from usidstream import wire
from usidstreamd.storage.ledger import replay
from usidstreamd.storage.superblock import consistency_flags
from usidstreamd.verify import verify_file

LAYOUT = Script("end").layout()
LONG_TEXT = "what was seen in the sample, at length; " * 75


@pytest.fixture
def disk(tmp_path: Path) -> FailingDisk:
    return FailingDisk(tmp_path / "rules")


@pytest.fixture
def daemon(tmp_path: Path, disk: FailingDisk) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path / "data", **SHORT)
    daemon.environment = disk.environment
    with daemon:
        yield daemon


def only_file(daemon: Daemon) -> Path:
    [file] = daemon.data_dir.glob("*.h5")
    return file


def journal_of(file: Path) -> Path:
    return file.with_name(file.name + ".journal")


def acquire(peer: RawPeer, n_rows: int = N_ROWS) -> int:
    """Fill the scan's first rows, and wait until they are durable; return the last number."""
    open_scan(peer, LAYOUT, SCAN_ID)
    starts = range(0, n_rows, 512)
    for seq, start in enumerate(starts, 1):
        rows = np.arange(start, min(start + 512, n_rows))
        peer.send(scattered_block("Raw", seq, 0, rows))
    make_durable(peer, len(starts))
    return len(starts)


def make_durable(peer: RawPeer, seq: int) -> None:
    peer.send(wire.Ping(scan=SCAN_ID, commit=True))
    wait_for(lambda: _is_durable(peer.receive(1.0), seq), "a durable ack")


def _is_durable(message: Any, seq: int) -> bool:
    return isinstance(message, wire.Ack) and message.durable >= seq


def result_after_restart(daemon: Daemon) -> Any:
    daemon.start()
    with RawPeer(daemon.endpoint) as peer:
        return open_scan(peer, LAYOUT, SCAN_ID)


def attributes_of(file: Path) -> dict[str, Any]:
    assert verify_file(file).faults == []
    with h5py.File(file, "r", locking=False) as h5_file:
        return dict(h5_file["Measurement_000"].attrs)


@pytest.mark.parametrize(("n_rows", "status"), [(2048, "incomplete"), (N_ROWS, "complete")])
def test_what_was_decided_after_an_interruption_is_done(
    daemon: Daemon, disk: FailingDisk, n_rows: int, status: str
) -> None:
    """The file looks final, for it was closed as interrupted; but its scan went on, and ended."""
    with RawPeer(daemon.endpoint) as peer:
        acquire(peer, n_rows)
    wait_until_interrupted(daemon, SCAN_ID)
    file = only_file(daemon)
    ledger = journal_of(file) / "ledger"
    wait_for(lambda: replay(ledger).is_done, "its end")
    on_the_disk = file.read_bytes()
    with disk.rule("sync", "hold", f"{file.name}$"), RawPeer(daemon.endpoint) as peer:
        open_scan(peer, LAYOUT, SCAN_ID)
        peer.send(wire.Annotate(scan=SCAN_ID, seq=1, attrs={"temperature_K": 4.2}))
        make_durable(peer, 1)
        peer.send(wire.Finish(scan=SCAN_ID, seq=1))
        wait_for(lambda: replay(ledger).decision is not None, "the decision")
        daemon.stop(signal.SIGKILL)
    file.write_bytes(on_the_disk)
    result = result_after_restart(daemon)
    assert isinstance(result, wire.Finished)
    assert result.status == status
    found = attributes_of(file)
    assert (found["acquisition_status"].decode(), found["temperature_K"]) == (status, 4.2)


def test_an_annotation_that_was_torn_is_written_again(daemon: Daemon, disk: FailingDisk) -> None:
    """HDF5 has no checksum for long texts: one that reads well may still lack its end."""
    with RawPeer(daemon.endpoint) as peer:
        seq = acquire(peer) + 1
        peer.send(wire.Annotate(scan=SCAN_ID, seq=seq, attrs={"note": LONG_TEXT}))
        make_durable(peer, seq)
        file = only_file(daemon)
        with disk.rule("sync", "hold", f"{file.name}$"):
            peer.send(wire.Finish(scan=SCAN_ID, seq=seq))
            wait_for(lambda: LONG_TEXT.encode() in file.read_bytes(), "the text in the file")
            daemon.stop(signal.SIGKILL)
    left = file.read_bytes()
    middle = left.index(LONG_TEXT.encode()) + len(LONG_TEXT) // 2
    file.write_bytes(left[:middle] + bytes(512) + left[middle + 512 :])
    result = result_after_restart(daemon)
    assert isinstance(result, wire.Finished)
    assert attributes_of(file)["note"] == LONG_TEXT


def test_nobody_recovers_a_scan_whose_result_is_being_remembered(
    daemon: Daemon, disk: FailingDisk
) -> None:
    with RawPeer(daemon.endpoint) as peer:
        seq = acquire(peer)
        file = only_file(daemon)
        results = daemon.data_dir / ".usidstream" / "finished"
        with disk.rule("sync", "hold", ".usidstream/finished/"):
            peer.send(wire.Finish(scan=SCAN_ID, seq=seq))
            wait_for(lambda: results.is_dir() and any(results.iterdir()), "the result")
            require_refused(file)
        assert peer.expect(wire.Finished).status == "complete"
    wait_for(lambda: not journal_of(file).exists(), "the journal to go")
    assert attributes_of(file)["acquisition_status"] == b"complete"


def require_refused(file: Path) -> None:
    told = command("usidstreamd", "recover", file)
    assert told.returncode != 0
    assert "in use by another process" in told.stdout + told.stderr


def test_nobody_recovers_a_scan_whose_journal_is_being_closed(
    daemon: Daemon, disk: FailingDisk
) -> None:
    """The file is closed already, and what is recovered now would be written over."""
    with RawPeer(daemon.endpoint) as peer:
        acquire(peer)
        file = only_file(daemon)
        with disk.rule("write", "hold", "/ledger$"):
            daemon.send(signal.SIGTERM)
            wait_for(lambda: consistency_flags(file) == 0, "the file to be closed")
            require_refused(file)
        assert daemon.wait() == 0
    daemon.start()
    assert isinstance(ended(daemon), wire.Finished)


def ended(daemon: Daemon) -> Any:
    """Finish the scan that waits."""
    with RawPeer(daemon.endpoint) as peer:
        open_scan(peer, LAYOUT, SCAN_ID)
        peer.send(wire.Finish(scan=SCAN_ID, seq=0))
        return peer.expect(wire.Finished)


def test_a_stop_does_not_wait_for_a_journal_that_hangs(daemon: Daemon, disk: FailingDisk) -> None:
    with RawPeer(daemon.endpoint) as peer:
        seq = acquire(peer)
        file = only_file(daemon)
        with disk.rule("sync", "hold", ".h5.journal$"):
            peer.send(wire.Finish(scan=SCAN_ID, seq=seq))
            assert peer.expect(wire.Finished).status == "complete"
            assert daemon.stop() == 0, f"in less than {STOP_TIMEOUT_S} s"
    assert [line["file"] for line in daemon.events("journal_left")] == [str(file)]
    assert not daemon.events("scan_hangs")
    daemon.start()
    wait_for(lambda: not journal_of(file).exists(), "the journal to go")


@pytest.mark.parametrize("trouble", ["a folder in it", "EIO"])
def test_a_journal_that_cannot_go_keeps_no_daemon_from_starting(
    daemon: Daemon, disk: FailingDisk, trouble: str
) -> None:
    with RawPeer(daemon.endpoint) as peer:
        seq = acquire(peer)
        journal = journal_of(only_file(daemon))
        pattern = ".h5.journal$" if trouble == "EIO" else "nothing at all"
        if trouble != "EIO":
            (journal / "lost+found").mkdir()
        with disk.rule("sync", "EIO", pattern):
            peer.send(wire.Finish(scan=SCAN_ID, seq=seq))
            assert peer.expect(wire.Finished).status == "complete"
            wait_for(lambda: "journal_left" in daemon.log, "a word about it")
            daemon.stop()
            assert isinstance(result_after_restart(daemon), wire.Finished)
            wait_for(lambda: daemon.log.count("journal_left") > 1, "a word from the next daemon")


def test_a_result_is_on_the_disk_before_a_journal_goes_for_it(
    daemon: Daemon, disk: FailingDisk
) -> None:
    """Its name was made just before the daemon died, and not synced: a power cut may take it."""
    with RawPeer(daemon.endpoint) as peer:
        seq = acquire(peer)
        journal = journal_of(only_file(daemon))
        finished = daemon.data_dir / ".usidstream" / "finished" / SCAN_ID
        with disk.rule("sync", "hold", "finished$"):
            peer.send(wire.Finish(scan=SCAN_ID, seq=seq))
            wait_for(finished.exists, "the name to be made")
            daemon.stop(signal.SIGKILL)
    with disk.rule("sync", "EIO", "finished$"):
        daemon.start()
        wait_for(lambda: "journal_unreadable" in daemon.log, "a word about it")
        assert journal.exists()
        daemon.stop()
    assert isinstance(result_after_restart(daemon), wire.Finished)
    wait_for(lambda: not journal.exists(), "the journal to go")
