"""Scans whose client never comes back: closed as interrupted, and resumed all the same."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from support.daemon import Daemon, command
from support.journalled import files_of
from support.left_scans import (
    DATA,
    N_ROWS,
    SHORT,
    SOME,
    leave_a_scan,
    make_layout,
    require_what_was_sent,
    require_whole,
    resume_and_finish,
    send,
    state_of,
    status_in,
    wait_until_interrupted,
)
from support.rawpeer import RawPeer
from usidstream import Dimension, ScanLayout, connect, wire
from usidstream.errors import UsidstreamError


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_a_left_scan_is_interrupted_and_resumed(tmp_path: Path, compression: str) -> None:
    scan_id, layout = secrets.token_hex(16), make_layout(compression)
    with Daemon(tmp_path / "data", **SHORT) as daemon:
        file = leave_a_scan(daemon, scan_id, layout)
        wait_until_interrupted(daemon, scan_id)
        require_what_was_sent(file)
        with connect(daemon.endpoint) as client:
            scan = client.open_scan(layout, scan_id=scan_id)
            with h5py.File(file, "r", libver="latest", swmr=True) as h5_file:
                attrs = h5_file["Measurement_000"].attrs
                assert (attrs["acquisition_status"], attrs["acquisition_end"]) == (
                    b"acquiring",
                    b"",
                )
            scan.detach()
        wait_until_interrupted(daemon, scan_id)
        require_what_was_sent(file)
        result = resume_and_finish(daemon, scan_id, layout)
        assert result.file == file
        require_whole(file)
        assert [path.name for path in daemon.data_dir.iterdir() if path.suffix != ".h5"] == [
            ".usidstream"
        ]
        assert "Traceback" not in daemon.log


def test_what_may_be_asked_of_an_interrupted_scan(tmp_path: Path) -> None:
    scan_id = secrets.token_hex(16)
    with Daemon(tmp_path / "data", **SHORT) as daemon:
        file = leave_a_scan(daemon, scan_id)
        wait_until_interrupted(daemon, scan_id)
        with RawPeer(daemon.endpoint) as peer:
            peer.send(wire.StatusRequest())
            (entry,) = peer.expect(wire.StatusReport).scans
            assert (entry["scan"], entry["state"], entry["file"]) == (scan_id, "interrupted", file)
            for message in (
                wire.Finish(scan=scan_id, seq=0),
                wire.Abort(scan=scan_id),
                wire.Leave(scan=scan_id, seq=0),
                wire.Annotate(scan=scan_id, seq=1, attrs={}),
                wire.StatusRequest(scan=scan_id, coverage=True),
            ):
                peer.send(message)
                error = peer.expect(wire.Error)
                assert (error.code, error.operation) == ("not_joined", message.type)
                assert "interrupted" in error.message
                assert "Open it again" in error.hint
        assert state_of(daemon, scan_id) == "interrupted"
        require_what_was_sent(file)


def test_a_joiner_that_comes_first_opens_it_too(tmp_path: Path) -> None:
    scan_id = secrets.token_hex(16)
    with Daemon(tmp_path / "data", **SHORT) as daemon:
        leave_a_scan(daemon, scan_id)
        wait_until_interrupted(daemon, scan_id)
        with connect(daemon.endpoint) as helper:
            with helper.join_scan(scan_id) as joined:
                joined.write(30, {main: data[30] for main, data in DATA.items()})
            with connect(daemon.endpoint) as client:
                scan = client.open_scan(make_layout(), scan_id=scan_id)
                assert scan.durable == len(SOME) + 1
                send(scan, list(range(N_ROWS)))
                require_whole(scan.finish().file)


def test_a_client_that_is_there_keeps_its_scan(tmp_path: Path) -> None:
    scan_id, other_id = secrets.token_hex(16), secrets.token_hex(16)
    with Daemon(tmp_path / "data", **SHORT) as daemon, connect(daemon.endpoint) as client:
        with client.open_scan(make_layout(), scan_id=scan_id) as scan:
            send(scan, SOME)
            leave_a_scan(daemon, other_id)
            wait_until_interrupted(daemon, other_id)  # that took longer than the time-out
            assert state_of(daemon, scan_id) == "acquiring"
            send(scan, sorted(set(range(N_ROWS)) - set(SOME)))
        assert scan.skipped == 0
        require_whole(scan.result.file)


def test_restarts_leave_an_interrupted_scan_alone(tmp_path: Path) -> None:
    scan_id = secrets.token_hex(16)
    with Daemon(tmp_path / "data", **SHORT) as daemon:
        file = leave_a_scan(daemon, scan_id)
        wait_until_interrupted(daemon, scan_id)
        with_signals = (signal.SIGKILL, signal.SIGTERM)
        before = files_of(daemon.data_dir)
        for with_signal in with_signals:
            daemon.restart(with_signal)
            assert state_of(daemon, scan_id) == "interrupted"
        daemon.stop()
        told = command("usidstreamd", "recover", daemon.data_dir)
        assert told.returncode == 0, told.stderr
        assert "interrupted" in told.stdout
        assert files_of(daemon.data_dir) == before
        daemon.start()
        assert resume_and_finish(daemon, scan_id).file == file
        require_whole(file)


def test_a_scan_that_nobody_opened_is_interrupted_by_the_next_daemon(tmp_path: Path) -> None:
    """Of three scans that a killed daemon left, the next one holds a single one open at a time."""
    scan_ids = [secrets.token_hex(16) for _ in range(3)]
    data_dir = tmp_path / "data"
    with Daemon(data_dir) as daemon:  # waits for days
        for scan_id in scan_ids:
            leave_a_scan(daemon, scan_id)
        daemon.stop(signal.SIGKILL)
    with Daemon(data_dir, max_scans=1, **SHORT) as daemon:
        for scan_id in scan_ids:
            wait_until_interrupted(daemon, scan_id)
        files = sorted(map(str, data_dir.glob("*.h5")))
        assert len(files) == 3
        for file in files:
            require_what_was_sent(file)
        resume_and_finish(daemon, scan_ids[1])
        assert sorted(map(status_in, files)) == ["complete", "interrupted", "interrupted"]


INSTRUMENT = """
import sys
from support.left_scans import SOME, make_layout, send
from usidstream import connect
with connect(sys.argv[1]) as client:
    scan = client.open_scan(make_layout(), scan_id=sys.argv[2])
    send(scan, SOME)
    scan.wait_durable(timeout_s=30)
    print("durable", flush=True)
    sys.stdin.read()
"""


def test_a_client_that_was_killed_is_missed(tmp_path: Path) -> None:
    scan_id = secrets.token_hex(16)
    with Daemon(tmp_path / "data", peer_silence_s=1.0, **SHORT) as daemon:
        words = [sys.executable, "-c", INSTRUMENT, daemon.endpoint, scan_id]
        paths = ":".join(filter(None, sys.path))
        with subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": paths},
            text=True,
        ) as instrument:
            assert instrument.stdout is not None
            assert instrument.stdout.readline() == "durable\n"
            instrument.kill()
        wait_until_interrupted(daemon, scan_id)
        resume_and_finish(daemon, scan_id)


def test_pyusid_reads_it(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyUSID tells of its own future
        patch.setattr(np, "product", np.prod, raising=False)  # 0.0.12 calls what numpy 2 dropped
        origin = pytest.importorskip("pyUSID")
        scan_id = secrets.token_hex(16)
        with Daemon(tmp_path / "data", **SHORT) as daemon:
            file = leave_a_scan(daemon, scan_id)
            wait_until_interrupted(daemon, scan_id)
        with h5py.File(file, "r") as h5_file:
            mains = origin.hdf_utils.get_all_main(h5_file)
            assert sorted(main.name.rpartition("/")[2] for main in mains) == ["Height", "Phase"]
            for main in mains:
                name = main.name.rpartition("/")[2]
                assert np.array_equal(main[SOME], DATA[name][SOME])


def test_a_scan_of_another_layout_is_not_resumed(tmp_path: Path) -> None:
    scan_id = secrets.token_hex(16)
    with Daemon(tmp_path / "data", **SHORT) as daemon:
        file = leave_a_scan(daemon, scan_id)
        wait_until_interrupted(daemon, scan_id)
        with connect(daemon.endpoint) as client:
            other = ScanLayout(positions=[Dimension("X", "um", 64)], mains=make_layout().mains)
            with pytest.raises(UsidstreamError) as caught:
                client.open_scan(other, scan_id=scan_id)
            assert caught.value.code == "layout_differs"
        wait_until_interrupted(daemon, scan_id)
        require_what_was_sent(file)
