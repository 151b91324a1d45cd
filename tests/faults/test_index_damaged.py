"""Bytes of a chunk index go bad on the disk: the file is made anew, and nothing is lost.

The damage is done to the disk, after a kill, to a file of which HDF5 had flushed all there was.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from support.autopsy import damage_index, examine, recorded_chunks, recoveries_told
from support.census import REBUILT, Tally
from support.daemon import Daemon, command, wait_for
from support.rowscan import (
    CHUNK_ROWS,
    MAIN,
    N_COLS,
    N_ROWS,
    lost_rows,
    make_layout,
    ordered,
    require_only,
    values,
)
from support.witness import durable_rows
from usidstream import connect

WRITTEN = np.arange(N_ROWS // 4 * 3)


@pytest.fixture
def damaged(tmp_path: Path) -> tuple[Daemon, str, Path]:
    """Return a daemon that is dead, its scan, and the file, whose index is garbage."""
    with Daemon(tmp_path / "data", flush_interval_s=0.05, memory_budget_mb=1) as daemon:
        with connect(daemon.endpoint) as client:
            scan = client.open_scan(make_layout())
            scan.write_at(WRITTEN, values(WRITTEN))
            scan.wait_durable()
            assert scan.retained_bytes == 0
            wait_for(lambda: b"FADB" in Path(scan.file).read_bytes(), "a checkpoint")
            scan.detach()
        daemon.stop(signal.SIGKILL)
    record = examine(daemon.data_dir, scan.scan_id).record
    assert record is not None
    assert damage_index(record.path)
    return daemon, scan.scan_id, record.path


def test_the_daemon_makes_the_file_anew(damaged: tuple[Daemon, str, Path], tally: Tally) -> None:
    daemon, scan_id, path = damaged
    with daemon:
        held = durable_rows(daemon.endpoint, scan_id, MAIN)
        assert held == set(WRITTEN.tolist())
        tally.recoveries += recoveries_told(daemon.log)
        assert tally.recoveries[REBUILT] == 1
        with connect(daemon.endpoint) as client:
            scan = client.open_scan(make_layout(), scan_id=scan_id)
            scan.write_at(ordered("raster"), values(ordered("raster")))
            assert scan.skipped == len(WRITTEN)
            result = scan.finish()
    assert (result.status, Path(result.file)) == ("complete", path)
    tally.judge(WRITTEN, lost_rows(path, WRITTEN))
    require_only(path, range(N_ROWS))
    assert _files(daemon) == {path.name}, "nothing was lost: the damaged file need not stay"


def test_the_command_makes_the_file_anew(damaged: tuple[Daemon, str, Path], tally: Tally) -> None:
    daemon, scan_id, path = damaged
    done = command("usidstreamd", "recover", daemon.data_dir, "--json")
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)
    assert (report["how"], report["uncertain"]) == ("rebuilt", [])
    assert report["chunks_rebuilt"] == len(WRITTEN) // CHUNK_ROWS
    tally.recoveries[REBUILT] += 1
    before = path.read_bytes()
    (again,) = json.loads(command("usidstreamd", "recover", daemon.data_dir, "--json").stdout)
    assert again["how"] == "nothing to do"
    assert path.read_bytes() == before, "a second recovery changes nothing"
    with daemon, connect(daemon.endpoint) as client:
        result = client.open_scan(make_layout(), scan_id=scan_id).finish()
    tally.judge(WRITTEN, lost_rows(path, WRITTEN))
    require_only(path, WRITTEN)
    assert result.missing == {MAIN: [(len(WRITTEN), N_ROWS)]}


def test_a_durable_chunk_that_went_bad_too_is_told_and_the_damaged_file_stays(
    damaged: tuple[Daemon, str, Path],
) -> None:
    daemon, scan_id, path = damaged
    _spoil_first_chunk(path, daemon, scan_id)
    with daemon:
        held = durable_rows(daemon.endpoint, scan_id, MAIN)
        assert held == set(WRITTEN[CHUNK_ROWS:].tolist())
        with connect(daemon.endpoint) as client:
            client.open_scan(make_layout(), scan_id=scan_id).finish()
        wait_for(lambda: daemon.events("rows_uncertain"), "the operator to be told")
        (told,) = daemon.events("rows_uncertain")
        assert (told["level"], told["scan"]) == ("error", scan_id)
        assert (
            f"rows 0 to {CHUNK_ROWS}, columns 0 to {N_COLS} were durable and are LOST"
            in (told["problem"])
        )
    require_only(path, WRITTEN[CHUNK_ROWS:])
    assert _files(daemon) == {path.name, path.name + ".damaged"}


def _spoil_first_chunk(path: Path, daemon: Daemon, scan_id: str) -> None:
    record = examine(daemon.data_dir, scan_id).record
    assert record is not None
    chunks = recorded_chunks(record.journal)
    first = chunks[chunks["row"] == 0][-1]
    with path.open("r+b") as file:
        file.seek(int(first["offset"]) + 8)
        file.write(b"\xff" * 16)


def _files(daemon: Daemon) -> set[str]:
    return {path.name for path in daemon.data_dir.iterdir() if not path.name.startswith(".")}
