"""How long a soak lasts, seconds by default and as long as asked for by option; and its figures."""

from __future__ import annotations

import pytest

DEFAULT_MINUTES = 0.2
DEFAULT_PIXELS_PER_S = 2000.0
DEFAULT_KILL_S = 4.0
KILL_S_OF_LONG_SOAKS = 60.0
LONG_MINUTES = 3.0
TIMEOUT_S, TIMEOUT_PER_MINUTE_S = 420, 180

_LINES = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("soak", "a daemon under load for a long time")
    group.addoption("--soak-minutes", type=float, default=DEFAULT_MINUTES, help="how long")
    group.addoption(
        "--soak-pixels-per-s", type=float, default=DEFAULT_PIXELS_PER_S, help="of all instruments"
    )


def minutes_of(config: pytest.Config) -> float:
    # An option of a folder's conftest is unknown when pytest was started from further up.
    minutes: float = config.getoption("--soak-minutes", DEFAULT_MINUTES)
    return minutes


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    timeout = pytest.mark.timeout(TIMEOUT_S + TIMEOUT_PER_MINUTE_S * minutes_of(config))
    for item in items:
        if "soak_lines" in getattr(item, "fixturenames", ()):
            item.add_marker(timeout)


@pytest.fixture
def soak_seconds(request: pytest.FixtureRequest) -> float:
    return 60 * minutes_of(request.config)


@pytest.fixture
def soak_rate(request: pytest.FixtureRequest) -> float:
    rate: float = request.config.getoption("--soak-pixels-per-s", DEFAULT_PIXELS_PER_S)
    return rate


@pytest.fixture
def kill_every_s(request: pytest.FixtureRequest) -> float:
    is_long = minutes_of(request.config) >= LONG_MINUTES
    return KILL_S_OF_LONG_SOAKS if is_long else DEFAULT_KILL_S


@pytest.fixture
def soak_lines(request: pytest.FixtureRequest) -> list[str]:
    """Where a soak tells its figures; they are shown at the end of the run."""
    return request.config.stash.setdefault(_LINES, [])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    lines = config.stash.get(_LINES, None)
    if lines:
        terminalreporter.section("soak")
        for line in lines:
            terminalreporter.write_line(line)
