"""kill -9 to the daemon, at any moment of a scan's life; the client lives on and resends.

In acquisition, with checkpoints one upon the other, at the end, and while it recovers from the
kill before. Every row that was called durable is in the file, bit for bit, in the end.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.acquisition import WRITE_TIMEOUT_S, Acquisition
from support.autopsy import damage_index, examine, recoveries_told, wait_for_comparisons
from support.census import REBUILT, Tally
from support.daemon import Daemon, wait_for
from support.rowscan import MAIN, N_ROWS, lost_rows, make_layout, ordered, require_only, values
from support.witness import durable_rows
from usidstream import Scan, ScanResult, connect

SECONDS_PER_KILL = 1.3
LONGEST_LIFE_S = 0.4
CHECKPOINTS_WITHOUT_PAUSE_S = 0.001
KILLS_PER_SCAN = 6
KILLS_IN_A_ROW = 3


@pytest.mark.parametrize(
    ("order", "flush_interval_s", "moment"),
    [
        ("raster", 0.2, "acquiring"),
        ("random", 0.2, "acquiring"),
        ("raster", CHECKPOINTS_WITHOUT_PAUSE_S, "checkpoint"),
    ],
)
def test_killed_in_acquisition(
    tmp_path: Path, kills: int, tally: Tally, order: str, flush_interval_s: float, moment: str
) -> None:
    chance = random.Random(f"lives {order} {moment}")
    rows = ordered(order)
    data_dir = tmp_path / "data"
    with Daemon(data_dir, flush_interval_s=flush_interval_s, memory_budget_mb=1) as daemon:
        left = kills
        while left:
            acquisition = Acquisition(
                daemon.endpoint, rows, min(left, KILLS_PER_SCAN) * SECONDS_PER_KILL / N_ROWS
            )
            for _ in range(min(left, KILLS_PER_SCAN)):
                if acquisition.done.wait(chance.uniform(0.02, LONGEST_LIFE_S)):
                    break
                told = recoveries_told(daemon.log).total()
                daemon.restart(signal.SIGKILL)
                tally.killed(moment)
                left -= 1
                wait_for(
                    lambda: recoveries_told(daemon.log).total() > told or acquisition.done.is_set(),  # noqa: B023 - waited for in this turn
                    "the scan to go on",
                )
            result = acquisition.result()
            assert result.status == "complete"
            tally.judge(rows, lost_rows(result.file, rows))
            require_only(result.file, rows)
        tally.recoveries += recoveries_told(daemon.log)
        assert "Traceback" not in daemon.log


def test_killed_while_it_ends_the_scan(tmp_path: Path, kills: int, tally: Tally) -> None:
    chance = random.Random("ends")
    with Daemon(tmp_path / "data", memory_budget_mb=1) as daemon:
        left = kills
        while left > 0:
            # Half of the scans have all their chunks, the others must write incomplete ones first.
            rows = np.arange(N_ROWS)[:: chance.choice([1, 2])]
            with connect(daemon.endpoint, write_timeout_s=WRITE_TIMEOUT_S) as client:
                scan = client.open_scan(make_layout())
                scan_id = scan.scan_id
                scan.write_at(rows, values(rows))
                scan.wait_durable(timeout_s=60)
                results: list[ScanResult] = []
                finisher = threading.Thread(
                    target=lambda: results.append(scan.finish())  # noqa: B023 - joined in this turn
                )
                finisher.start()
                for _ in range(min(left, KILLS_PER_SCAN)):
                    _wait_for_a_moment_of_the_end(daemon, scan_id, chance)
                    if not finisher.is_alive() and chance.random() < 0.5:
                        break  # it has ended; half of the time it is killed all the same
                    daemon.stop(signal.SIGKILL)
                    tally.killed(examine(daemon.data_dir, scan_id).moment)
                    left -= 1
                    daemon.start()
                finisher.join(WRITE_TIMEOUT_S)
            (result,) = results
            assert result.status == ("complete" if len(rows) == N_ROWS else "incomplete")
            _wait_for_no_journal(daemon, scan_id)
            tally.judge(rows, lost_rows(result.file, rows))
            require_only(result.file, rows)
        tally.recoveries += recoveries_told(daemon.log)
        assert "Traceback" not in daemon.log


@pytest.mark.parametrize("is_damaged", [False, True], ids=["sound", "damaged"])
def test_killed_while_it_recovers(
    tmp_path: Path, kills: int, tally: Tally, is_damaged: bool
) -> None:
    """Half of the kills come at random, the others just after the file was looked at."""
    chance = random.Random(f"recovers {is_damaged}")
    # Chunks of two rows: every other row stays in the journal.
    chunks, journalled = np.arange(N_ROWS // 2), np.arange(N_ROWS // 2, N_ROWS, 2)
    rows = np.concatenate([chunks, journalled])
    with Daemon(tmp_path / "data", memory_budget_mb=1, flush_interval_s=0.05) as daemon:
        with connect(daemon.endpoint, write_timeout_s=WRITE_TIMEOUT_S) as client:
            scan = client.open_scan(make_layout())
            _write_in_two_parts(scan, daemon, rows)
            scan_id = scan.scan_id
            scan.detach()
        while tally.moments["recovery"] < kills:
            daemon.stop(signal.SIGKILL)
            before = examine(daemon.data_dir, scan_id)
            assert before.record is not None
            tally.killed(before.moment)
            if is_damaged:
                assert damage_index(before.record.path)
            for _ in range(chance.randint(1, KILLS_IN_A_ROW)):
                daemon.start()
                _wait_for_a_moment_of_recovery(daemon, chance, 2 if is_damaged else 1)
                daemon.stop(signal.SIGKILL)
                after = examine(daemon.data_dir, scan_id)
                if after.is_open and after.recoveries > before.recoveries:
                    tally.killed(after.moment)  # it had just recovered
                    break
                tally.killed("recovery")
            daemon.start()
            held = durable_rows(daemon.endpoint, scan_id, MAIN)
            assert len(held) == len(rows)
            tally.judge(rows, set(rows.tolist()) - held)
        # A rebuild may be done and not told when it is killed; this one is not.
        daemon.stop(signal.SIGKILL)
        if is_damaged:
            assert damage_index(before.record.path)
        daemon.start()
        with connect(daemon.endpoint, write_timeout_s=WRITE_TIMEOUT_S) as client:
            result = client.open_scan(make_layout(), scan_id=scan_id).finish()
        tally.judge(rows, lost_rows(result.file, rows))
        require_only(result.file, rows)
        tally.recoveries += recoveries_told(daemon.log)
        assert "Traceback" not in daemon.log
    assert tally.moments["recovery"]
    assert bool(tally.recoveries[REBUILT]) == is_damaged
    assert not list(daemon.data_dir.glob("*.damaged*")), "nothing was lost, so it need not stay"


def _write_in_two_parts(scan: Scan, daemon: Daemon, rows: Any) -> None:
    """Let HDF5 flush the chunks' index, then write what it never gets to flush."""
    half = len(rows) // 2
    scan.write_at(rows[:half], values(rows[:half]))
    scan.wait_durable()
    file = Path(scan.file)
    wait_for(lambda: b"FADB" in file.read_bytes(), "the first checkpoint")
    scan.write_at(rows[half:], values(rows[half:]))
    scan.wait_durable()
    assert scan.retained_bytes == 0


def _wait_for_a_moment_of_the_end(daemon: Daemon, scan_id: str, chance: random.Random) -> None:
    """Let some time pass; in half of the cases from when the end is decided."""
    if chance.random() < 0.5:
        time.sleep(chance.uniform(0.0, 1.0))
        return

    def is_decided() -> bool:
        return examine(daemon.data_dir, scan_id).moment != "acquiring"

    wait_for(is_decided, "the end to be decided", WRITE_TIMEOUT_S)
    time.sleep(chance.uniform(0.0, 0.1))


def _wait_for_no_journal(daemon: Daemon, scan_id: str) -> None:
    wait_for(lambda: not examine(daemon.data_dir, scan_id).record, "the journal to go")


def _wait_for_a_moment_of_recovery(
    daemon: Daemon, chance: random.Random, n_comparisons: int
) -> None:
    """Let some time pass; in half of the cases from when a file was compared, or the new one."""
    if chance.random() < 0.5:
        wait_for_comparisons(daemon, chance.randint(1, n_comparisons))
        time.sleep(chance.uniform(0.0, 0.05))
    else:
        time.sleep(chance.uniform(0.0, 0.3))
