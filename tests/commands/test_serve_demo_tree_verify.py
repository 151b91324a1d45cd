"""``usidstreamd`` as a user runs it: real processes, exit codes and output."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest

import usidstream
from support.daemon import Daemon, command
from support.feedfiles import main_datasets
from usidstream import connect
from usidstream.feeds import preset


class Demo(NamedTuple):
    """What one run of the demo printed, and the file that it left."""

    done: subprocess.CompletedProcess[str]
    file: Path


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    done = command("usidstreamd", "demo", "--data-dir", folder / "files")
    assert done.returncode == 0, done.stderr
    return Demo(done, Path(done.stdout.splitlines()[-1].removeprefix("complete: ")))


def test_the_demo_ends_with_a_whole_file_its_tree_and_its_path(demo: Demo) -> None:
    lines = demo.done.stdout.splitlines()
    assert lines[0] == "/"
    assert "├ Measurement_000" in lines
    assert any(line.startswith('<HDF5 dataset "Raw_Data": shape (4096, 3072)') for line in lines)
    assert lines[-1] == f"complete: {demo.file}"
    feed = preset("be")
    rows = np.sort(np.random.default_rng(0).choice(feed.layout.n_positions, 64, replace=False))
    with h5py.File(demo.file, "r") as h5_file:
        dataset = main_datasets(h5_file, feed)["Raw_Data"]
        np.testing.assert_array_equal(
            dataset[np.sort(rows)], feed.values("Raw_Data", np.sort(rows))
        )
        assert (h5_file["Measurement_000/completed_positions"][...] == 1).all()
    assert [path.name for path in demo.file.parent.glob("*.h5*")] == [demo.file.name]


def test_the_demo_speaks_to_a_newcomer(demo: Demo) -> None:
    first, second, *others = demo.done.stderr.splitlines()
    assert first.startswith("A daemon listens at tcp://127.0.0.1:")
    assert second.startswith("See it live at http://127.0.0.1:")
    assert others
    assert all(line.startswith("be scan: ") for line in others), "no line of the daemon's log"


def test_verify_finds_nothing_in_a_sound_file(demo: Demo) -> None:
    told = command("usidstreamd", "verify", demo.file)
    assert (told.returncode, told.stdout.splitlines()[-1].split(",")[0]) == (
        0,
        f"{demo.file}: no fault found",
    )
    report = command("usidstreamd", "verify", demo.file, "--json")
    assert (report.returncode, report.stderr) == (0, "")
    plain = json.loads(report.stdout)
    assert (plain["sound"], plain["faults"]) == (True, [])
    assert plain["mains"][0]["complete"] == 4096


def test_verify_finds_a_damaged_chunk(demo: Demo, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(demo.file.read_bytes())
    with h5py.File(damaged) as h5_file:
        chunk = h5_file["Measurement_000/Raw_Data"].id.get_chunk_info(3)
    with damaged.open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(bytes(chunk.size))
    told = command("usidstreamd", "verify", damaged)
    assert told.returncode == 1
    assert "/Measurement_000/Raw_Data" in told.stdout
    assert told.stdout.splitlines()[-1].startswith(f"{damaged}: 1 fault found")
    report = command("usidstreamd", "verify", damaged, "--json")
    assert (report.returncode, json.loads(report.stdout)["sound"]) == (1, False)


def test_tree_shows_a_file_even_while_it_is_written(tmp_path: Path) -> None:
    feed = preset("raman", size=(4, 4))
    with (
        Daemon(tmp_path / "data") as daemon,
        connect(daemon.endpoint) as client,
        client.open_scan(feed.layout) as scan,
    ):
        told = command("usidstreamd", "tree", scan.file)
        scan.abort()
    assert (told.returncode, told.stderr) == (0, "")
    assert "├ completed_positions" in told.stdout
    assert "Intensity (counts)" in told.stdout


def test_version(demo: Demo) -> None:
    assert command("usidstreamd", "version").stdout == f"{usidstream.__version__}\n"


@pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_by_a_signal_with_every_scan_resumable(tmp_path: Path, stop_signal: int) -> None:
    feed = preset("raman", size=(4, 4))
    with Daemon(tmp_path / "data") as daemon:
        with connect(daemon.endpoint, write_timeout_s=20) as client:
            scan = client.open_scan(feed.layout)
            scan.write_block(0, feed.values("Raw_Data", np.arange(8)))
            scan.wait_durable(timeout_s=20)
            assert daemon.stop(stop_signal) == 0
            scan.detach()
        assert "Traceback" not in daemon.log
        daemon.start()
        with connect(daemon.endpoint) as client:
            with client.open_scan(feed.layout, scan_id=scan.scan_id) as resumed:
                resumed.write_block(0, feed.values("Raw_Data", np.arange(16))[:8])
                assert resumed.skipped == 8
                resumed.write_block(8, feed.values("Raw_Data", np.arange(8, 16)))
            assert resumed.result.status == "complete"
