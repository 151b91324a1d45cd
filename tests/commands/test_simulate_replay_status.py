"""``usidstream`` as a user runs it: real processes, a real daemon, exit codes and output."""

from __future__ import annotations

import json
import os
import pty
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from support.daemon import SCRIPTS, Daemon, command, wait_for
from support.feedfiles import differing_rows
from support.source_files import new_file, write_usid
from support.terminals import read_until_hang_up
from usidstream import connect
from usidstream.feeds import load_feed, preset

LAYOUTS = Path(__file__).resolve().parents[2] / "config" / "layouts"
CRASHED = 70


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("commands") / "data", flush_interval_s=0.2) as daemon:
        yield daemon
    assert "Traceback" not in daemon.log


def usidstream(daemon: Daemon, *words: object) -> subprocess.CompletedProcess[str]:
    return command("usidstream", *words, "--to", daemon.endpoint)


def simulate(daemon: Daemon, *words: object, code: int = 0) -> dict[str, Any]:
    """Run ``simulate --json`` to an expected exit code; return what it printed."""
    done = usidstream(daemon, "simulate", *words, "--json")
    assert (done.returncode, done.stderr) == (code, ""), done.stdout
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def is_plain(text: str) -> bool:
    return not any(mark in text for mark in ("\x1b", "\r", "━", "╭", "│", "Traceback"))


@pytest.mark.parametrize(
    ("name", "size", "order"),
    [
        ("afm", (16, 12), "serpentine"),
        ("be", (5, 4), "random"),
        ("raman", (7, 5), "raster"),
        ("4dstem", (4, 3), "serpentine"),
        ("timeseries", (16, 12, 9), "random"),
        ("timeseries", (12, 5, 6), "raster"),
    ],
)
def test_every_preset_in_its_own_order(
    daemon: Daemon, name: str, size: tuple[int, ...], order: str
) -> None:
    result = simulate(
        daemon, name, "--size", "x".join(map(str, size)), "--order", order, "--seed", 7
    )
    assert (result["status"], result["missing"], result["refused"]) == ("complete", {}, {})
    feed = preset(name, size=size, seed=7)
    units = size[2] if name == "timeseries" else feed.layout.n_positions
    assert result["sent"] == units
    assert not differing_rows(result["file"], feed)
    with h5py.File(result["file"]) as h5_file:
        assert h5_file["Measurement_000"].attrs["seed"] == 7


def test_a_layout_of_the_user_s_own(daemon: Daemon) -> None:
    path = LAYOUTS / "timeseries.toml"
    result = simulate(daemon, path)
    assert result["status"] == "complete"
    assert Path(result["file"]).name.startswith("timeseries_")
    assert not differing_rows(result["file"], load_feed(str(path)))


def test_images_are_counted_as_images(daemon: Daemon) -> None:
    done = usidstream(daemon, "simulate", "timeseries", "--size", "8x8x5")
    assert done.stderr.splitlines()[-1] == "timeseries: 5 of 5 images"
    assert "5 images in" in done.stdout


def test_the_rate_holds_and_the_file_is_named(daemon: Daemon) -> None:
    result = simulate(daemon, "raman", "--size", "8x5", "--rate", 100, "--file", "slow")
    assert result["seconds"] >= 39 / 100, "pixel number k is not due before k / rate"
    assert Path(result["file"]).name.startswith("slow_")


def test_what_a_pipe_gets_is_plain(daemon: Daemon) -> None:
    done = usidstream(daemon, "simulate", "afm", "--size", "8x8")
    assert done.returncode == 0
    assert is_plain(done.stdout + done.stderr)
    assert done.stdout.startswith("complete: /")
    assert "64 pixels in" in done.stdout
    assert done.stderr.splitlines()[-1] == "afm: 64 of 64 pixels"


def test_a_terminal_gets_a_bar(daemon: Daemon) -> None:
    ours, theirs = pty.openpty()
    words = [SCRIPTS / "usidstream", "simulate", "afm", "--size", "8x8", "--to", daemon.endpoint]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        shown = read_until_hang_up(ours)
        assert process.stdout is not None
        assert process.stdout.read().startswith("complete: ")
    assert process.returncode == 0
    assert "━" in shown
    assert "64/64 pixels" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)


# -------------------------------------------------------------------- faults


def test_dropped_pixels_are_told_and_cost_the_exit_code(daemon: Daemon) -> None:
    size, faults = ("--size", "16x8"), ("--fault", "drop=0.1")
    result = simulate(daemon, "raman", *size, *faults, code=1)
    assert result["status"] == "incomplete"
    lost = [row for a, b in result["missing"]["Raw_Data"] for row in range(a, b)]
    assert len(lost) == result["faults"]["drop"] > 0
    assert differing_rows(result["file"], preset("raman", size=(16, 8))) == {"Raw_Data": lost}

    told = usidstream(daemon, "simulate", "raman", *size, *faults)
    assert told.returncode == 1
    assert told.stdout.startswith("incomplete: /")
    assert f"Raw_Data: missing {len(lost)} positions: " in told.stdout


def test_duplicate_stray_and_damaged_pixels_leave_a_whole_file(daemon: Daemon) -> None:
    faults = ["duplicate=0.1", "stray=0.1", "corrupt=0.1"]
    words = [word for fault in faults for word in ("--fault", fault)]
    result = simulate(daemon, "be", "--size", "8x8", *words)
    assert result["status"] == "complete"
    assert all(result["faults"][fault.split("=")[0]] > 0 for fault in faults)
    assert result["refused"]["out_of_bounds"] == result["faults"]["stray"]
    # A damaged block is sent again as such, and a duplicate in it is then no news.
    assert result["refused"].get("already_covered", 0) <= result["faults"]["duplicate"]
    assert not differing_rows(result["file"], preset("be", size=(8, 8)))


def test_duplicate_pixels_are_refused_and_told(daemon: Daemon) -> None:
    result = simulate(daemon, "be", "--size", "8x8", "--fault", "duplicate=0.1")
    assert result["status"] == "complete"
    # One error may name two rows that came in one block.
    assert 0 < result["refused"]["already_covered"] <= result["faults"]["duplicate"]


def test_an_abort_keeps_what_came(daemon: Daemon) -> None:
    result = simulate(daemon, "raman", "--size", "8x8", "--fault", "abort=20", code=1)
    assert result["status"] == "aborted"
    assert result["missing"] == {"Raw_Data": [[20, 64]]}
    assert differing_rows(result["file"], preset("raman", size=(8, 8))) == {
        "Raw_Data": list(range(20, 64))
    }


def test_a_crashed_instrument_is_resumed_by_the_scan_s_id(daemon: Daemon) -> None:
    scan_id = secrets.token_hex(16)
    words = ["raman", "--size", "16x16", "--scan-id", scan_id]
    crashed = usidstream(daemon, "simulate", *words, "--rate", 800, "--fault", "crash=200")
    assert crashed.returncode == CRASHED
    assert scan_id in crashed.stderr

    def held() -> list[int]:
        with connect(daemon.endpoint) as client:
            scans = client.status()["scans"]
        return [scan["positions"] for scan in scans if scan["scan"] == scan_id]

    wait_for(lambda: held()[0] > 0, "positions of the crashed instrument")
    resumed = simulate(daemon, *words)
    assert (resumed["scan_id"], resumed["status"]) == (scan_id, "complete")
    assert 0 < resumed["skipped"] <= 200
    assert not differing_rows(resumed["file"], preset("raman", size=(16, 16)))

    again = simulate(daemon, *words)
    assert (again["file"], again["skipped"]) == (resumed["file"], 256)


# -------------------------------------------------------------------- replay, status


def test_replay_sends_a_file_and_says_what_it_could_not_carry(
    daemon: Daemon, tmp_path: Path
) -> None:
    truth = new_source(tmp_path / "old.h5")
    told = usidstream(daemon, "replay", tmp_path / "old.h5")
    assert told.returncode == 0
    assert is_plain(told.stdout + told.stderr)
    assert "note: dataset /Measurement_000/Spare is no main: not replayed" in told.stderr
    assert told.stderr.splitlines()[-1] == "old: 60 of 60 elements"
    file = told.stdout.split("complete: ")[1].splitlines()[0]
    with h5py.File(file) as h5_file:
        assert (h5_file["Measurement_000/Raw_Data"][...] == truth).all()

    told = usidstream(daemon, "replay", tmp_path / "old.h5", "--json")
    result = json.loads(told.stdout)
    assert (result["status"], told.stderr) == ("complete", "")
    assert result["notes"] == ["dataset /Measurement_000/Spare is no main: not replayed"]


def new_source(path: Path) -> Any:
    truth = np.arange(60, dtype="f4").reshape(3, 4, 5)
    with new_file(path) as h5_file:
        group = h5_file.create_group("Measurement_000")
        positions = [("X", "um", np.arange(4.0)), ("Y", "um", np.arange(3.0))]
        write_usid(group, "Raw_Data", truth, positions, [("Bias", "V", np.arange(5.0))])
        group["Spare"] = [1, 2, 3]
    return truth.reshape(12, 5)


def test_status_tells_what_the_daemon_does(daemon: Daemon) -> None:
    feed = preset("raman", size=(4, 4))
    with connect(daemon.endpoint) as client, client.open_scan(feed.layout) as scan:
        scan.write_block(0, feed.values("Raw_Data", np.arange(6)))
        scan.wait_durable(timeout_s=20)
        told = usidstream(daemon, "status")
        report = usidstream(daemon, "status", "--json")
    assert (told.returncode, told.stderr) == (0, "")
    first, *lines = told.stdout.splitlines()
    assert daemon.endpoint in first
    assert str(daemon.data_dir) in first
    assert [
        line for line in lines if scan.scan_id in line and "6 of 16" in line and scan.file in line
    ]
    plain = json.loads(report.stdout)
    assert plain["daemon"]["endpoint"] == daemon.endpoint
    assert [entry["positions"] for entry in plain["scans"] if entry["scan"] == scan.scan_id] == [6]


def test_nobody_there_is_one_line() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from usidstream import commands; commands.STATUS_TIMEOUT_S = 0.5;"
            "sys.argv[:] = ['usidstream', 'status', '--to', 'tcp://127.0.0.1:1'];"
            "sys.exit(commands.run())",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("usidstream: no daemon answered at tcp://127.0.0.1:1")
    assert "usidstreamd serve" in line
