"""SIGTERM ends the daemon in ``shutdown_timeout_s``, whatever hangs; every scan resumes after."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from support.daemon import Daemon
from support.failing_disk import FailingDisk
from support.rowscan import N_ROWS, make_layout, require_only, values
from usidstream import Client, Scan, connect

SHUTDOWN_TIMEOUT_S = 1.5
MUCH_LATER_S = 20.0
"""What a busy machine may add; one that waits for the disk would take for ever."""
BEGUN, ALL = np.arange(100), np.arange(N_ROWS)


def begin(client: Client, name: str) -> Scan:
    scan = client.open_scan(make_layout(), file=name)
    scan.write_at(BEGUN, values(BEGUN))
    scan.wait_durable(timeout_s=30)
    return scan


@pytest.mark.parametrize(
    ("operation", "part"),
    [
        ("write", "{file}$"),
        ("sync", "{file}$"),
        ("sync", "{file}.journal/rows-"),
        ("sync", "{file}.journal/ledger"),
    ],
)
def test_several_scans_of_which_one_hangs(tmp_path: Path, operation: str, part: str) -> None:
    disk = FailingDisk(tmp_path / "rules")
    daemon = Daemon(tmp_path / "data", shutdown_timeout_s=SHUTDOWN_TIMEOUT_S)
    daemon.environment = disk.environment
    with daemon, connect(daemon.endpoint) as client, connect(daemon.endpoint) as other:
        hanging = begin(client, "hanging")
        sound = [begin(other, "sound") for _ in range(3)]
        with disk.rule(operation, "hold", part.format(file=hanging.file)):
            hanging.write_at(ALL[100:3001], values(ALL[100:3001]))  # chunks, and a row alone
            client.status()  # behind the blocks, so that they have come
            durable = hanging.durable
            begun = time.monotonic()
            code = daemon.stop()
            took_s = time.monotonic() - begun
        assert code == 1
        assert took_s < SHUTDOWN_TIMEOUT_S + MUCH_LATER_S
        left = {line["scan"] for line in daemon.events("scan_hangs")}
        assert hanging.scan_id in left
        if operation == "sync":  # HDF5 has one lock: a write that hangs in it holds up all closes
            assert left == {hanging.scan_id}
        assert durable >= len(BEGUN)
        daemon.start()
        for scan, sent in ((hanging, 3001), *((scan, 100) for scan in sound)):
            scan.write_at(ALL[sent:], values(ALL[sent:]))
            assert scan.finish().status == "complete"
    for scan in (hanging, *sound):
        require_only(scan.result.file, ALL)
