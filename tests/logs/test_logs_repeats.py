"""A flood of lines is bounded from one source and from many, and every line is told or counted."""

from __future__ import annotations

import logging
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usidstreamd.logs.repeats import (
    MAX_EVENT_LINES_COUNT,
    MAX_SAME_LINES_COUNT,
    MAX_WINDOWS_COUNT,
    WINDOW_S,
    Kind,
    Repeats,
)

BAD = Kind(logging.WARNING, "message_refused", "bad_shape")


def told(repeats: Repeats, kinds: list[Kind], now: float = 0.0) -> list[Kind]:
    return [kind for kind in kinds if repeats.admit(kind, now)]


def test_the_first_lines_are_told_and_then_how_many_more_there_were() -> None:
    repeats = Repeats()
    assert len(told(repeats, [BAD] * 10_000)) == MAX_SAME_LINES_COUNT
    assert repeats.due_s() == WINDOW_S
    assert repeats.take_over(WINDOW_S - 1e-3) == []
    assert repeats.take_over(WINDOW_S) == [(BAD, 10_000 - MAX_SAME_LINES_COUNT)]
    assert repeats.due_s() is None
    assert repeats.admit(BAD, WINDOW_S), "a new window has begun"


def test_one_subject_does_not_hide_another() -> None:
    repeats = Repeats()
    told(repeats, [BAD._replace(subject="a")] * 10_000)
    assert repeats.admit(BAD._replace(subject="b"), 1.0)
    assert repeats.admit(BAD._replace(code="bad_checksum", subject="a"), 1.0)
    assert repeats.admit(BAD._replace(event="scan_opened", subject="a"), 1.0)


def test_a_flood_with_a_new_subject_each_time_is_bounded_too() -> None:
    repeats = Repeats()
    flood = [BAD._replace(subject=str(number)) for number in range(10_000)]
    assert len(told(repeats, flood)) == MAX_EVENT_LINES_COUNT
    assert repeats.take_all() == [(BAD, 10_000 - MAX_EVENT_LINES_COUNT)]


def test_memory_stays_bounded_and_what_gives_way_is_counted() -> None:
    repeats = Repeats()
    kinds = [BAD._replace(event=f"text {number}") for number in range(2 * MAX_WINDOWS_COUNT)]
    told(repeats, [kinds[0]] * 100)
    told(repeats, kinds)
    assert len(repeats._windows) <= MAX_WINDOWS_COUNT
    assert repeats.due_s() == 0.0
    assert repeats.take_over(0.0) == [(kinds[0], 101 - MAX_SAME_LINES_COUNT)]


KINDS = st.builds(
    Kind,
    st.just(logging.INFO),
    st.sampled_from(["one", "two"]),
    st.sampled_from(["", "x"]),
    st.sampled_from(["", "a", "b", "c"]),
)


@given(st.lists(st.tuples(KINDS, st.floats(0.0, 30.0)), max_size=400))
def test_no_line_is_lost_or_counted_twice(lines: list[tuple[Kind, float]]) -> None:
    repeats, now = Repeats(), 0.0
    given_, seen = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for kind, pause in lines:
        now += pause
        given_[kind.event, kind.code] += 1
        seen[kind.event, kind.code] += repeats.admit(kind, now)
        for over, count in repeats.take_over(now):
            seen[over.event, over.code] += count
    for over, count in repeats.take_all():
        seen[over.event, over.code] += count
    assert seen == given_


@pytest.mark.parametrize("pause_s", [0.1, 5.0, 61.0])
def test_what_repeats_slowly_is_told_within_its_window(pause_s: float) -> None:
    repeats, lines = Repeats(), 0
    for number in range(100):
        lines += repeats.admit(BAD, number * pause_s)
    windows = 100 * pause_s / WINDOW_S + 1
    assert lines <= MAX_SAME_LINES_COUNT * windows
    assert lines == 100 if pause_s > WINDOW_S / MAX_SAME_LINES_COUNT else lines < 100
