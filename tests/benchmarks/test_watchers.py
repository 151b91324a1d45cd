"""The script that measures what watching costs runs, and what it compares is there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("bench_watchers.py")
TINY = ("--browsers", "0", "--rounds", "1", "--scale", "0.01", "--paced-s", "0.3", "--json")


def test_a_feed_is_compared_with_itself_alone() -> None:
    command = [sys.executable, SCRIPT, *TINY, "spectra-blocks"]
    told = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    assert told["browsers"] == 0
    found = told["workloads"]["spectra-blocks"]
    for way in ("saturated", "paced"):
        assert found[way]["ratios"]["cpu_us"] > 0
        assert found[way]["seen"]["ScanOpened"] == 1
    alone_per_s = found["saturated"]["alone"]["rate_per_s"]
    assert found["paced"]["asked_per_s"] == pytest.approx(alone_per_s / 3)
    assert found["paced"]["watched_kept"] > 0
