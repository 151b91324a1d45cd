"""kill -9 to the client: alone, and a new process sends the rest; with the daemon, and nobody does.

Acks are known to this process, which outlives both. Where daemon and client die together nothing
is ever sent twice, so that only what the daemon called durable can be in the file.
"""

from __future__ import annotations

import random
import secrets
import signal
import time
from pathlib import Path

import pytest

from support.autopsy import examine, recoveries_told
from support.census import Tally
from support.daemon import Daemon
from support.instrument import BLOCK_ROWS
from support.rawpeer import RawPeer
from support.rowscan import MAIN, N_ROWS, lost_rows, make_layout, require_only
from support.witness import Instrument, durable_rows
from usidstream import connect, wire

KILLS_PER_SCAN = 8
ROWS_PER_KILL = N_ROWS // KILLS_PER_SCAN
LIFE_S = 0.6


@pytest.mark.parametrize("order", ["raster", "random"])
def test_killed_with_the_daemon_and_nothing_is_resent(
    tmp_path: Path, kills: int, tally: Tally, order: str
) -> None:
    chance = random.Random(f"both {order}")
    with Daemon(tmp_path / "data", flush_interval_s=0.1, memory_budget_mb=1) as daemon:
        for first in range(0, kills, KILLS_PER_SCAN):
            scan_id, acked = secrets.token_hex(16), set[int]()
            for turn in range(min(KILLS_PER_SCAN, kills - first)):
                start = turn * ROWS_PER_KILL
                with Instrument(
                    "stream",
                    daemon.endpoint,
                    scan_id,
                    order=order,
                    seed=first,
                    first=start,
                    stop=start + ROWS_PER_KILL,
                    pause_s=LIFE_S * BLOCK_ROWS / ROWS_PER_KILL,
                ) as instrument:
                    instrument.expect("opened" if turn else "acked")
                    time.sleep(chance.uniform(0.02, LIFE_S))
                    _kill_both(daemon, instrument, chance)
                tally.killed(examine(daemon.data_dir, scan_id).moment)
                tally.client_kills += 1
                acked |= instrument.acked
                daemon.start()
                held = durable_rows(daemon.endpoint, scan_id, MAIN)
                tally.judge(acked, acked - held)
            with connect(daemon.endpoint) as client:
                result = client.open_scan(make_layout(), scan_id=scan_id).finish()
            tally.judge(acked, lost_rows(result.file, acked))
            require_only(result.file, held, others_may_show=True)
        tally.recoveries += recoveries_told(daemon.log)
        assert "Traceback" not in daemon.log


def _kill_both(daemon: Daemon, instrument: Instrument, chance: random.Random) -> None:
    if chance.random() < 0.5:
        instrument.kill()
        daemon.stop(signal.SIGKILL)
    else:
        daemon.stop(signal.SIGKILL)
        instrument.kill()


@pytest.mark.parametrize("order", ["raster", "random"])
def test_killed_alone_and_a_new_process_sends_the_rest(
    tmp_path: Path, kills: int, tally: Tally, order: str
) -> None:
    chance = random.Random(f"alone {order}")
    with Daemon(tmp_path / "data", flush_interval_s=0.1, memory_budget_mb=1) as daemon:
        for first in range(0, kills, KILLS_PER_SCAN):
            scan_id, acked = secrets.token_hex(16), set[int]()
            options = {"order": order, "seed": first, "pause_s": 4 * LIFE_S / N_ROWS * 64}
            for _ in range(min(KILLS_PER_SCAN, kills - first)):
                with Instrument("client", daemon.endpoint, scan_id, **options) as instrument:
                    (n_known,) = instrument.expect("opened")
                    assert n_known >= len(acked)
                    time.sleep(chance.uniform(0.0, LIFE_S))
                tally.client_kills += 1
                acked |= instrument.acked
                held = durable_rows(daemon.endpoint, scan_id, MAIN)
                tally.judge(acked, acked - held)
            with Instrument("client", daemon.endpoint, scan_id, **options | {"pause_s": 0}) as last:
                assert last.expect("opened") == [len(held)], "it learns the exact coverage"
                assert last.expect("skipped") == [len(held)], "it sends the rest, and only that"
                assert _blocks_refused(daemon.endpoint, scan_id) == 0
                status, file = last.expect("ended")
                last.end()
            assert status == "complete"
            tally.judge(range(N_ROWS), lost_rows(file, range(N_ROWS)))
            require_only(file, range(N_ROWS))
        assert "Traceback" not in daemon.log


def _blocks_refused(endpoint: str, scan_id: str) -> int:
    with RawPeer(endpoint) as peer:
        peer.send(wire.StatusRequest(scan=scan_id))
        (entry,) = peer.expect(wire.StatusReport).scans
        return int(entry["blocks_refused"])
