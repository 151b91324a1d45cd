"""Rates and percentiles as operators are told them."""

from __future__ import annotations

import pytest

from usidstreamd.rates import MAX_DURATIONS_COUNT, Durations, Rate


def test_a_rate_is_since_the_beginning_until_the_window_is_full() -> None:
    rate = Rate(5.0, now=100.0, count=10.0)
    assert rate.per_s == 0.0
    rate.see(102.0, 20.0)
    assert rate.per_s == 5.0


def test_later_only_the_window_counts() -> None:
    rate = Rate(5.0, now=0.0)
    for second in range(1, 101):
        rate.see(float(second), 1000.0 if second > 50 else 0.0)
    assert rate.per_s == 0.0
    rate.see(101.0, 1600.0)
    assert rate.per_s == pytest.approx(600.0 / 5.0, rel=0.25)


def test_a_rate_looked_at_rarely_is_since_the_look_before() -> None:
    rate = Rate(5.0, now=0.0)
    rate.see(1000.0, 1000.0)
    rate.see(2000.0, 4000.0)
    assert rate.per_s == pytest.approx(3.0)


def test_durations_forget_the_oldest() -> None:
    durations = Durations()
    assert durations.percentile(50) is None
    for _ in range(MAX_DURATIONS_COUNT):
        durations.note(9.0)
    for _ in range(MAX_DURATIONS_COUNT):
        durations.note(1.0)
    assert durations.percentile(99) == 1.0
