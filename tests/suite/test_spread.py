"""A run of everything takes every core, and a run of less takes one process.

What is looked at is what pytest-xdist makes of a real command line, just before any test begins:
a hook in the wrong place has let all tests run one after the other without a word.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("xdist", reason="without pytest-xdist every run is one process")

ROOT = Path(__file__).parents[2]
TELLER = """
def pytest_cmdline_main(config):
    print("processes:", len(config.option.tx), config.option.dist)
    return 0  # no test runs
"""
TIMEOUT_S = 60.0


def told(tmp_path: Path, *args: str) -> str:
    (tmp_path / "teller.py").write_text(TELLER)
    # Of the run that this test is in, nothing is handed on.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "teller", *args]
    out = subprocess.check_output(command, cwd=ROOT, env=environment, text=True, timeout=TIMEOUT_S)
    return next(line for line in out.splitlines() if line.startswith("processes:"))


def test_everything_is_spread_by_files(tmp_path: Path) -> None:
    _, count, dist = told(tmp_path).split()
    assert int(count) > 1
    assert dist == "loadfile"


@pytest.mark.parametrize("args", [["tests/wire"], ["-n", "0"], ["-s"], ["-k", "wire"], ["--pdb"]])
def test_less_is_one_process(tmp_path: Path, args: list[str]) -> None:
    assert told(tmp_path, *args) == "processes: 0 no"
