"""Numbers as people read them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usidstream.terminal.words import (
    at_clock,
    in_bytes,
    in_line,
    in_percent,
    in_rate,
    in_time,
)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "?"),
        (0.0, "0 s"),
        (0.0001, "1 ms"),
        (0.045, "45 ms"),
        (1.4, "1 s"),
        (59.7, "1 min"),
        (61.0, "1 min 1 s"),
        (3599.9, "1 h"),
        (9600.0, "2 h 40 min"),
        (86_399.0, "1 d"),
        (500_000.0, "5 d 19 h"),
        (1e12, "over 1000 d"),
    ],
)
def test_times(seconds: float | None, words: str) -> None:
    assert in_time(seconds) == words


@given(st.floats(0.0, 1e15))
def test_every_time_can_be_said(seconds: float) -> None:
    assert 2 < len(in_time(seconds)) < 16
    assert "60 s" not in in_time(seconds)


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (128 << 20, "128.0 MiB")],
)
def test_bytes(count: int, words: str) -> None:
    assert in_bytes(count) == words
    assert in_bytes(2**62) == "4194304.0 TiB"


@pytest.mark.parametrize(
    ("per_s", "words"),
    [
        (0.0, "0/s"),
        (0.123456, "0.123/s"),
        (12.34, "12.3/s"),
        (512.3, "512/s"),
        (2.5e6, "2 500 000/s"),
    ],
)
def test_rates(per_s: float, words: str) -> None:
    assert in_rate(per_s) == words


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [(0, 7, "0.0 %"), (99_999, 100_000, "99.9 %"), (5, 5, "100 %"), (0, 0, "100 %")],
)
def test_only_all_is_a_hundred_percent(part: int, whole: int, words: str) -> None:
    assert in_percent(part, whole) == words


def test_a_time_of_another_day_has_its_date() -> None:
    assert len(at_clock(time.time())) == len("12:00:00")
    assert at_clock(0.0).startswith(("1970-01-01", "1969-12-31"))


def test_what_others_chose_cannot_write_to_the_terminal() -> None:
    assert "\x1b" not in in_line("\x1b[2J\nname\x07")
    assert in_line("Größe µ") == "Größe µ"
