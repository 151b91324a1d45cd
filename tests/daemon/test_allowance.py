"""What each client may take of the loop's time and of the line: equal parts, growing again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usidstream.errors import UsidstreamError
from usidstreamd import allowance
from usidstreamd.allowance import Allowances, Pace, Restraint
from usidstreamd.holdings import Holdings

N = 4


def test_short_messages_cost_nothing_however_many() -> None:
    allowances = Allowances(share=0.25, burst_s=4.0)
    for _ in range(100_000):
        allowances.charge("a", allowance.FREE_S / 2, 0.0, N)
    assert not allowances.is_spent("a", 0.0, N)


def test_who_takes_too_much_is_spent_alone_and_not_for_ever() -> None:
    allowances = Allowances(share=0.25, burst_s=4.0)
    allowances.charge("hostile", 3.0, 0.0, N)  # of an equal part of 1 s
    assert allowances.is_spent("hostile", 0.0, N)
    assert not allowances.is_spent("other", 0.0, N)
    assert allowances.is_spent("hostile", 31.0, N)  # 1/16 s comes back each second
    assert not allowances.is_spent("hostile", 33.0, N)


def test_much_that_is_refused_makes_all_wait_once() -> None:
    restraint = Restraint()
    restraint.note(allowance.MAX_REFUSED_BYTES_PER_TURN)
    assert not restraint.begins(1.0)
    assert restraint.over_s <= 1.0
    restraint.note(1)
    assert restraint.begins(1.0)
    assert restraint.over_s == 1.0 + allowance.REFUSING_PAUSE_S
    assert not restraint.begins(2.0)


def test_a_client_is_told_of_its_debt_now_and_then() -> None:
    allowances = Allowances(share=0.25, burst_s=4.0)
    assert not allowances.has_to_be_told("a", 0.0)
    allowances.charge("a", 9.0, 0.0, 1)
    assert [allowances.has_to_be_told("a", now) for now in (0.0, 0.5, 1.0, 1.5)] == [
        *(True, False, True, False),
    ]


def test_many_debtors_take_no_more_memory_than_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "MAX_DEBTORS_COUNT", 8)
    allowances = Allowances()
    allowances.charge("worst", 99.0, 0.0, 1)
    for number in range(1000):
        allowances.charge(f"{number}", 2.0, 0.0, 1)
    assert len(allowances._debts) <= 8
    assert allowances.is_spent("worst", 0.0, 1)


@given(
    st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(0, 10_000)), min_size=1, max_size=40),
    st.integers(1, 5000),
)
def test_a_pace_never_gives_more_than_its_rate_and_a_second_s_worth(
    steps: list[tuple[float, int]], rate: int
) -> None:
    pace, now, granted = Pace(float(rate)), 0.0, 0
    pace.fill(now)
    for passed_s, wanted in steps:
        now += passed_s
        pace.fill(now)
        part = pace.take(wanted)
        assert 0 <= part <= wanted
        granted += part
        assert granted <= rate * (now + 1.0) + 1e-6


def test_a_pace_of_0_holds_nobody_up() -> None:
    assert Pace(0.0).take(1 << 40) == 1 << 40


def test_all_scans_of_a_client_share_its_pace_which_may_change() -> None:
    holdings = Holdings()
    holdings.fill(0.0, 100.0, {"a", "b"})
    pace = holdings.pace("a")
    assert holdings.pace("a") is pace
    assert pace.take(1000) == 100
    assert holdings.pace("b").take(1000) == 100
    holdings.fill(0.0, 100.0, {"a", "b"})
    holdings.fill(1.0, 50.0, {"a"})
    assert pace.take(1000) == 50
    holdings.fill(2.0, 0.0, {"a"})
    assert pace.take(1000) == 1000


def test_a_client_that_goes_and_comes_still_holds_its_scans() -> None:
    holdings = Holdings()
    for scan in ("1", "2"):
        holdings.check_may_open("a", 2)
        holdings.note_opened(scan, "a")
    with pytest.raises(UsidstreamError, match="2 open scans are this client's") as raised:
        holdings.check_may_open("a", 2)
    assert raised.value.code == "too_many_scans"
    assert raised.value.retryable
    holdings.check_may_open("b", 2)
    holdings.note_opened("1", "b")  # it was resumed by another
    holdings.check_may_open("a", 2)
    holdings.note_over("1")
