"""``usidstreamd check-config``: what holds, what is wrong, what a start would meet."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from support.daemon import command
from usidstreamd.config import Config, check
from usidstreamd.config.prospects import KEPT_ANYWAY_MB, MIB, foresee
from usidstreamd.storage.space import CHUNKS_KEEP_FREE_BYTES

PROC = Path("/proc")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "c.toml"
    file.write_text(f"data_dir = '{tmp_path / 'to' / 'be' / 'made'}'\nmax_scans = 3\n")
    return file


def test_values_and_sources_are_printed_and_nothing_is_made(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USIDSTREAM_MAX_CLIENTS", "5")
    told = command("usidstreamd", "check-config", file)
    assert (told.returncode, told.stderr) == (0, "")
    lines = [line for line in told.stdout.splitlines() if not line.startswith("note: ")]
    assert len(lines) == len(Config.model_fields)
    assert f"max_scans = 3  # {file}" in lines
    assert "max_clients = 5  # USIDSTREAM_MAX_CLIENTS" in lines
    assert "flush_interval_s = 5.0  # default" in lines
    assert list(file.parent.iterdir()) == [file]


def test_each_problem_is_printed_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USIDSTREAM_BNID", "x")
    file.write_text("max_scans = 0\nmax_client = 3\n")
    told = command("usidstreamd", "check-config", file)
    assert (told.returncode, told.stderr) == (1, "")
    assert len(told.stdout.splitlines()) == 3


def test_without_a_file_the_environment_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USIDSTREAM_BIND", "tcp://0.0.0.0:5755")
    told = command("usidstreamd", "check-config")
    assert told.returncode == 1
    assert told.stdout.startswith("USIDSTREAM_BIND: ")


def test_json_tells_the_same(file: Path) -> None:
    told = command("usidstreamd", "check-config", file, "--json")
    report = json.loads(told.stdout)
    assert (told.returncode, report["ok"], report["problems"]) == (0, True, [])
    assert set(report["options"]) == set(Config.model_fields)
    assert report["options"]["max_scans"] == {
        "value": 3,
        "source": str(file),
        "kind": "file",
        "reloadable": True,
    }
    file.write_text("max_scans = 0\n")
    told = command("usidstreamd", "check-config", file, "--json")
    report = json.loads(told.stdout)
    assert (told.returncode, report["ok"], report["options"]) == (1, False, {})
    (problem,) = report["problems"]
    assert (problem["source"], problem["option"]) == (str(file), "max_scans")


def test_a_file_in_the_place_of_the_directory_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    for path in (tmp_path / "f", tmp_path / "f" / "below"):
        (problem,) = check(None, environ={"USIDSTREAM_DATA_DIR": str(path)}).problems
        assert problem.message.startswith("USIDSTREAM_DATA_DIR: ")
        assert str(tmp_path / "f") in problem.message


@pytest.mark.skipif(not PROC.exists(), reason="needs a file system that nobody can write")
def test_a_directory_that_cannot_be_written_is_a_problem() -> None:
    (problem,) = check(None, environ={"USIDSTREAM_DATA_DIR": str(PROC / "usid")}).problems
    assert "cannot be written" in problem.message


def test_what_is_hardly_meant_is_noted(tmp_path: Path) -> None:
    config = Config(
        data_dir=tmp_path, disk_reserve_mb=63, flush_interval_s=0.01, allow_insecure=True
    )
    reserve, interval, insecure = foresee(config).notes
    assert "disk_reserve_mb = 63 is less than is kept anyway" in reserve
    assert "flush_interval_s = 0.01 is shorter than commit_interval_s = 0.05" in interval
    assert "allow_insecure" in insecure
    fine = Config(data_dir=tmp_path, disk_reserve_mb=64)
    free_mb = shutil.disk_usage(tmp_path).free // MIB
    assert foresee(fine).notes == () or free_mb < 64
    (unknown,) = foresee(fine.model_copy(update={"on_event": ["/no/such/program"]})).notes
    assert unknown == "on_event: /no/such/program is no program that this user can run"
    (short,) = foresee(Config(data_dir=tmp_path, disk_reserve_mb=1 << 30)).notes
    assert "are free for data_dir" in short


def test_what_is_kept_anyway_is_what_storage_keeps() -> None:
    assert KEPT_ANYWAY_MB * MIB == CHUNKS_KEEP_FREE_BYTES


def test_a_daemon_starts_exactly_where_the_check_says_so(file: Path) -> None:
    file.write_text("credit_window_mb = 4\n")
    checked = command("usidstreamd", "check-config", file)
    served = command("usidstreamd", "serve", "--config", file)
    assert (checked.returncode, served.returncode) == (1, 2)
    assert checked.stdout.strip() in served.stderr
