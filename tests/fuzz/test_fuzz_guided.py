"""The entry for a coverage-guided fuzzer: what steers cases, and a short run of the real one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.coverage_guided import BytesRandom, one_input

TESTS = Path(__file__).parents[1]
N_RUNS = 300
TIMEOUT_S = 100


def test_bytes_are_the_chance_and_nothing_else() -> None:
    draws = [(c.random(), c.randrange(1000), c.choice("abc")) for c in map(BytesRandom, SOME * 2)]
    assert draws[: len(SOME)] == draws[len(SOME) :]
    assert len(set(draws)) == len(SOME)
    assert BytesRandom(b"").choices("abc", k=3) == ["a"] * 3


SOME = [b"", b"\x01\x80\x07\x01", b"\xff" * 40, bytes(range(90))]


@pytest.mark.parametrize("target", ["layouts", "client-messages", "row-segments"])
def test_bytes_steer_a_case(target: str, tmp_path: Path) -> None:
    run = one_input(target, tmp_path)
    for data in SOME:
        run(data * 9)


def test_the_real_fuzzer_runs(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris is not installed: pip install atheris")
    done = subprocess.run(
        [sys.executable, "-m", "support.coverage_guided", "layouts", f"-runs={N_RUNS}",
         f"-artifact_prefix={tmp_path}/"],
        cwd=TESTS, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"Done {N_RUNS} runs" in done.stderr
    assert "cov:" in done.stderr, "the code is to be instrumented"
