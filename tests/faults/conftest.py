"""How many trials: small by default, large by option."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kills", type=int, default=6, help="how many times the daemon is killed in each trial"
    )
    parser.addoption(
        "--images", type=int, default=15, help="how many disk images after power cuts are judged"
    )


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    count: int = request.config.getoption("--kills")
    return count
