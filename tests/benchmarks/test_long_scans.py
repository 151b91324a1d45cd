"""The script that measures long scans runs, and what it measures is there."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("bench_long_scans.py")


def test_large_grids_open_many_chunks_pass_and_rows_are_seen(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "--chunks", "2000", "--data-dir", tmp_path, "--json"]
    told = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    assert told["opening"]["open_s"] > 0
    assert [part["chunks"] for part in told["many_chunks"]["parts"]][-1] == 2000
    # How many is a matter of the machine; a checkpoint shows whole chunks.
    rows_seen = told["visible"]["rows_seen"]
    assert 0 < rows_seen <= 4000
    assert rows_seen % 250 == 0
    assert told["visible"]["fill_s"] == 0.25
