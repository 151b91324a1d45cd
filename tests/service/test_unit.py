"""The unit that ships, judged by systemd itself."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from usidstreamd.config import Config
from usidstreamd.server.stopping import STOP_MARGIN_S
from usidstreamd.service import BEATS_PER_WATCHDOG_COUNT

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "config" / "usidstreamd.service"
WINDOWS = ROOT / "config" / "windows" / "usidstreamd.xml"
WORST_EXPOSURE = 20
"""In tenths, of systemd's measure from 0 to 100; a service that restricts nothing has 96."""


def read_unit() -> configparser.ConfigParser:
    unit = configparser.ConfigParser(interpolation=None, delimiters=["="], strict=True)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(UNIT.read_text("utf-8"))
    return unit


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def test_its_times_fit_the_daemon() -> None:
    service = read_unit()["Service"]
    assert service["Type"] == "notify"
    wanted_s = Config().shutdown_timeout_s + STOP_MARGIN_S
    assert seconds(service["TimeoutStopSec"]) >= wanted_s
    # A file that hangs is told long before the loop counts as hanging.
    assert seconds(service["WatchdogSec"]) / BEATS_PER_WATCHDOG_COUNT >= 5


def test_the_windows_service_leaves_the_time_to_stop() -> None:
    service = ElementTree.parse(WINDOWS).getroot()  # noqa: S314 - our own file
    assert service.tag == "service"
    amount, unit = service.findtext("stoptimeout", "").split()
    assert unit == "sec"
    assert float(amount) >= Config().shutdown_timeout_s + STOP_MARGIN_S
    assert service.findtext("executable", "").endswith("usidstreamd.exe")
    assert service.findtext("arguments", "").startswith("serve --config ")


def test_the_guide_points_to_files_that_exist() -> None:
    guide = ROOT / "docs" / "operating.md"
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", guide.read_text("utf-8"))
    assert "../config/windows/usidstreamd.xml" in links
    assert [link for link in links if not (guide.parent / link).exists()] == []


@pytest.fixture
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("systemd-analyze is not installed")
    return found


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=60, check=False
    )


def test_systemd_finds_no_fault_in_it(analyze: str, tmp_path: Path) -> None:
    program = tmp_path / "usidstreamd"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(
        UNIT.read_text("utf-8").replace("/opt/usidstream/bin/usidstreamd", str(program))
    )
    told = run(analyze, "verify", "--man=no", unit)
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


def test_systemd_finds_it_well_fenced(analyze: str) -> None:
    told = run(analyze, "security", "--offline=yes", f"--threshold={WORST_EXPOSURE}", UNIT)
    assert told.returncode == 0, told.stdout + told.stderr
