"""How many cases, few by default and a million by option; and what came of them, in a table."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from support.fuzz_campaign import HEADINGS, Figures

DEFAULT_CASES = 300
DEFAULT_LEDGERS = 1_000
DEFAULT_MESSAGES = 10_000
TIMEOUT_S, TIMEOUT_PER_CASE_S = 240, 0.05

_FIGURES = pytest.StashKey[list[Figures]]()


@dataclass(frozen=True)
class Amount:
    """Which cases to run."""

    seed: int
    first: int
    cases: int
    ledgers: int
    messages: int


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fuzz", "fuzzing of all that parses")
    group.addoption("--fuzz-seed", type=int, default=0, help="another seed makes other cases")
    group.addoption("--fuzz-first", type=int, default=0, help="the number of the first case")
    group.addoption(
        "--fuzz-cases", type=int, default=DEFAULT_CASES, help="cases of each input but the next two"
    )
    group.addoption("--fuzz-ledgers", type=int, default=None, help="damaged ledgers")
    group.addoption("--fuzz-messages", type=int, default=None, help="messages to a daemon")


def amount_of(config: pytest.Config) -> Amount:
    # An option of a folder's conftest is unknown when pytest was started from further up.
    cases = config.getoption("--fuzz-cases", DEFAULT_CASES)
    is_one = cases == 1  # to repeat a case that failed
    return Amount(
        seed=config.getoption("--fuzz-seed", 0),
        first=config.getoption("--fuzz-first", 0),
        cases=cases,
        ledgers=config.getoption("--fuzz-ledgers", None) or (1 if is_one else DEFAULT_LEDGERS),
        messages=config.getoption("--fuzz-messages", None) or DEFAULT_MESSAGES,
    )


@pytest.fixture
def amount(request: pytest.FixtureRequest) -> Amount:
    """Which cases a test runs."""
    return amount_of(request.config)


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> list[Figures]:
    """Where a test puts what its cases came to."""
    return request.config.stash.setdefault(_FIGURES, [])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give a test the time for its cases."""
    amount = amount_of(config)
    most = max(amount.cases, amount.ledgers, amount.messages)
    timeout = pytest.mark.timeout(TIMEOUT_S + TIMEOUT_PER_CASE_S * most)
    for item in items:
        if "amount" in getattr(item, "fixturenames", ()):
            item.add_marker(timeout)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    found = config.stash.get(_FIGURES, None)
    if not found:
        return
    terminalreporter.section("fuzzing")
    terminalreporter.write_line(f"| {' | '.join(HEADINGS)} |")
    terminalreporter.write_line(f"| --- |{' ---: |' * (len(HEADINGS) - 1)}")
    for each in found:
        terminalreporter.write_line(f"| {' | '.join(each.cells())} |")
    for each in found:
        outcomes = ", ".join(f"{word} {n:,}" for word, n in sorted(each.outcomes.items()))
        terminalreporter.write_line(f"{each.target}, seed {each.seed}: {outcomes}")
