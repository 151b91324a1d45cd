"""Everything that parses, given spoilt input: what is no good is refused by a stable code.

The same cases by seed, in a process that is watched, and by hypothesis, which makes a failure
small.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from support.fuzz_campaign import Figures, campaign
from support.fuzz_targets import TARGETS
from support.fuzz_worker import chance_of

QUICK = sorted(set(TARGETS) - {"ledgers"})
"""Their cases take well below a millisecond of computing."""


@pytest.mark.parametrize("target", QUICK)
def test_no_input_makes_a_process_crash_hang_or_grow(
    target: str, amount, figures: list[Figures], tmp_path: Path
) -> None:
    found = campaign(target, amount.seed, amount.first, amount.cases, tmp_path)
    figures.append(found)
    assert sum(found.outcomes.values()) == amount.cases
    if amount.cases > 100:
        assert len(found.outcomes) > 1, "cases are to be taken, and to be refused"


def test_no_damaged_ledgers_make_a_recovery_crash_hang_or_grow(
    amount, figures: list[Figures], tmp_path: Path
) -> None:
    found = campaign("ledgers", amount.seed, amount.first, amount.ledgers, tmp_path)
    figures.append(found)
    assert sum(found.outcomes.values()) == amount.ledgers
    if amount.ledgers >= 1000:
        assert {"recovery: in place", "recovery: rebuilt", "recovery: file_damaged"} <= set(
            found.outcomes
        )


@pytest.fixture(scope="module", params=QUICK)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    return TARGETS[request.param](tmp_path_factory.mktemp(request.param))


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(chance=st.randoms(use_true_random=False))
def test_whatever_hypothesis_makes_of_it(case, chance: Random) -> None:
    assert case(chance)


def test_a_case_is_the_same_again() -> None:
    one, again = (chance_of("layouts", 3, 14).random() for _ in range(2))
    assert one == again != chance_of("layouts", 3, 15).random()


def test_a_case_that_fails_is_told_with_its_number(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no-target, seed 7, case -1: the process ended"):
        campaign("no-target", 7, 0, 3, tmp_path)
