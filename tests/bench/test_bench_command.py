"""``usidstreamd bench`` with tiny sizes: what it says is consistent, and nothing is left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.daemon import command
from usidstreamd.bench.figures import STAGES
from usidstreamd.bench.plan import Options, run_bench

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 110.0


def bench(data_dir: Path, *options: object) -> subprocess.CompletedProcess[str]:
    return command("usidstreamd", "bench", "--data-dir", data_dir, *options, timeout_s=TIMEOUT_S)


def refresh(figures: Path, document: Path) -> None:
    script = ROOT / "tests" / "benchmarks" / "refresh_performance.py"
    options = ["--figures", figures, "--document", document]
    subprocess.run([sys.executable, script, *options], check=True, timeout=60)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("bench")
    steps: list[tuple[int, int]] = []
    found = run_bench(
        Options(directory, compare=True, scale=0.02, rounds=1, workloads=("timeseries",)),
        lambda done, total: steps.append((done, total)),
    )
    assert steps == [(done, 7) for done in range(8)]
    assert list(directory.iterdir()) == [], "nothing is left behind"
    report: dict[str, Any] = json.loads(json.dumps(found))
    return report


def test_the_report_has_every_contestant_in_every_round(compared: dict[str, Any]) -> None:
    assert compared["schema"] == 1
    assert compared["options"] | {"data_dir": ""} == {
        "data_dir": "",
        "compare": True,
        "scale": 0.02,
        "rounds": 1,
        "workloads": ["timeseries"],
    }
    (work,) = compared["workloads"].values()
    assert set(work["contestants"]) == {"usidstream", "loop", "receive", "codec"}
    assert {len(found["runs"]) for found in work["contestants"].values()} == {1}
    assert work["units"] == 3
    assert 1000 < work["reference_data_bytes"] < 3 * 512 * 512 * 2
    assert 1000 < work["data_bytes"] <= 3 * 512 * 512 * 2


def test_ratios_follow_from_the_runs(compared: dict[str, Any]) -> None:
    found = compared["workloads"]["timeseries"]["contestants"]
    for contestant in found.values():
        (run,) = contestant["runs"]
        assert contestant["rate_per_s"] == pytest.approx(run["units"] / run["seconds"])
    told = {target["what"]: target for target in compared["targets"]}
    ratio = told["timeseries: times faster than loop"]
    wanted = found["usidstream"]["rate_per_s"] / found["loop"]["rate_per_s"]
    assert ratio["measured"] == pytest.approx(wanted)
    assert ratio["met"] == (wanted >= 10)


def test_limits_of_the_machine_are_told(compared: dict[str, Any]) -> None:
    limits = compared["limits"]
    assert limits["memory_bytes_per_s"] > 0
    assert limits["disk_bytes_per_s"] > 0
    assert 0 < limits["sync"]["p50_s"] <= limits["sync"]["p99_s"]
    ours = compared["workloads"]["timeseries"]["contestants"]["usidstream"]
    if ours["limit_per_s"] is not None:
        assert list(ours["cpu_us_per_unit"]) == list(STAGES)
        assert ours["share_of_limit"] > 0


def test_figures_go_into_the_document_between_its_marks(
    compared: dict[str, Any], tmp_path: Path
) -> None:
    document, figures = tmp_path / "performance.md", tmp_path / "out.json"
    document.write_text("before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n")
    figures.write_text(json.dumps(compared))
    refresh(figures, document)
    lines = document.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "old" not in lines
    assert any(line.startswith("| timeseries | the guide's loop") for line in lines)
    assert any("timeseries: times faster than loop" in line for line in lines)
    once = document.read_text()
    refresh(figures, document)
    assert document.read_text() == once


def test_without_comparing_it_speaks_plainly(tmp_path: Path) -> None:
    told = bench(tmp_path, "--scale", "0.01", "--workload", "spectra")
    assert told.returncode == 0, told.stderr
    assert "spectra" in told.stdout
    assert "gzip, durable" in told.stdout
    assert "the guide's loop" not in told.stdout
    assert "A 256 x 256 spectrum map at " in told.stdout
    assert "bench: 4 of 4 steps" in told.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--workload", "spectre"], "'spectre' is no workload"),
        (["--compare", "--rounds", "2"], "2 give no median"),
    ],
)
def test_what_cannot_be_measured_is_refused(options: list[str], words: str, tmp_path: Path) -> None:
    told = bench(tmp_path, *options)
    assert told.returncode == 2
    assert words in told.stderr
    assert list(tmp_path.iterdir()) == []
