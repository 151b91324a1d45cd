"""How many trials, small by default and large by option; and what came of them, in a table."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from support.census import Census, Tally
from support.filesystem import describe_file_system

DEFAULT_KILLS = 2
TIMEOUT_S, TIMEOUT_PER_KILL_S = 240, 15

_CENSUS = pytest.StashKey[Census]()
_PLACE = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kills",
        type=int,
        default=DEFAULT_KILLS,
        help="how many times a process is killed in each trial of tests/faults",
    )
    parser.addoption(
        "--images", type=int, default=10, help="how many disk images after power cuts are judged"
    )


def pytest_report_header() -> str:
    return f"faults: files are on {describe_file_system(Path(tempfile.gettempdir()))}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give a trial the time for its kills."""
    timeout = pytest.mark.timeout(TIMEOUT_S + TIMEOUT_PER_KILL_S * kills_of(config))
    for item in items:
        if "kills" in getattr(item, "fixturenames", ()):
            item.add_marker(timeout)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    census = config.stash.get(_CENSUS, None)
    if census is None or not census.table():
        return
    terminalreporter.section("faults")
    terminalreporter.write_line(f"files were on {config.stash[_PLACE]}")
    for line in census.table():
        terminalreporter.write_line(line)


def kills_of(config: pytest.Config) -> int:
    # An option of a folder's conftest is unknown when pytest was started from further up.
    count: int = config.getoption("--kills", DEFAULT_KILLS)
    return count


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    """How often a trial kills."""
    return kills_of(request.config)


@pytest.fixture
def tally(request: pytest.FixtureRequest, tmp_path: Path) -> Tally:
    """Where a trial counts; the table tells it by the test's name."""
    config = request.config
    config.stash.setdefault(_PLACE, describe_file_system(tmp_path))
    census = config.stash.setdefault(_CENSUS, Census())
    name: str = getattr(request.node, "originalname", None) or request.node.name
    return census.tally(name.removeprefix("test_").replace("_", " "))
