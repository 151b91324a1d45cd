"""When an instrument has stalled: its own pace decides; what is not its fault does not count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usidstreamd.supervision.arrivals import Arrivals, Resumed, Stalled, StallRule

FLOOR_S = 60.0
RULE = StallRule(FLOOR_S, 10.0)


class Instrument:
    """An instrument on a clock of its own, and what was told of it."""

    def __init__(self, pixel_time_s: float | None = None) -> None:
        self.now = 1000.0
        self.count = 0
        self.arrivals = Arrivals(pixel_time_s, self.now)
        self.told: list[Stalled | Resumed] = []

    def wait(self, seconds: float, *, may_send: bool = True, step_s: float = 1.0) -> None:
        end_s = self.now + seconds
        while self.now < end_s:
            self.now = min(end_s, self.now + step_s)
            self._look(may_send)

    def send(self, *, may_send: bool = True) -> None:
        self.count += 1
        self._look(may_send)

    def _look(self, may_send: bool) -> None:
        told = self.arrivals.see(self.now, self.count, RULE, may_send=may_send)
        if told is not None:
            self.told.append(told)


@pytest.mark.parametrize(
    ("pixel_time_s", "pause_s", "limit_s"),
    [
        (None, 0.001, FLOOR_S),
        (0.01, 0.001, FLOOR_S),
        (30.0, 0.001, 300.0),  # a pixel takes half a minute
        (0.01, 20.0, 200.0),  # lines of many pixels come at once
        (5.0, 20.0, 200.0),
    ],
)
def test_the_pace_decides(pixel_time_s: float | None, pause_s: float, limit_s: float) -> None:
    instrument = Instrument(pixel_time_s)
    for _ in range(5):
        instrument.send()
        instrument.wait(pause_s, step_s=pause_s)
    instrument.send()
    instrument.wait(limit_s - 1)
    assert instrument.told == []
    instrument.wait(3600)
    (stalled,) = instrument.told
    assert isinstance(stalled, Stalled)
    assert stalled.limit_s == pytest.approx(limit_s)
    assert limit_s <= stalled.silent_s <= limit_s + 1
    instrument.send()
    assert instrument.told[1:] == [Resumed(pytest.approx(limit_s + 3599))]
    assert not instrument.arrivals.is_stalled


def test_a_scan_for_which_nothing_ever_comes_has_stalled() -> None:
    instrument = Instrument()
    instrument.wait(FLOOR_S + 1)
    assert [type(told) for told in instrument.told] == [Stalled]


def test_a_stall_does_not_hide_the_next_one() -> None:
    instrument = Instrument()
    for _ in range(2):
        instrument.send()
        instrument.wait(10_000, step_s=100)
    instrument.send()
    kinds = [type(told) for told in instrument.told]
    assert kinds == [Stalled, Resumed, Stalled, Resumed]


def test_a_flyback_is_part_of_the_pace_but_not_for_ever() -> None:
    instrument = Instrument()
    instrument.send()
    instrument.wait(30.0)  # a pause that the floor allows
    for _ in range(20):
        instrument.send()
        instrument.wait(0.1, step_s=0.1)
    instrument.wait(299)
    assert instrument.told == [], "ten times the pause of 30 s"
    for _ in range(40):
        instrument.send()
        instrument.wait(0.1, step_s=0.1)
    instrument.wait(FLOOR_S + 1)
    assert [type(told) for told in instrument.told] == [Stalled], "it is forgotten by now"


def test_who_may_not_send_does_not_stall() -> None:
    instrument = Instrument()
    instrument.send()
    instrument.wait(10_000, may_send=False)
    instrument.wait(FLOOR_S - 1)
    assert instrument.told == []
    instrument.send()
    instrument.wait(FLOOR_S + 1)
    assert [type(told) for told in instrument.told] == [Stalled], "that pause was not its own"


def test_who_has_stalled_stays_so_when_credit_goes() -> None:
    instrument = Instrument()
    instrument.wait(FLOOR_S + 1)
    instrument.wait(10, may_send=False)
    instrument.wait(10_000)
    instrument.send()
    assert [type(told) for told in instrument.told] == [Stalled, Resumed]


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0, 1e5)), max_size=60),
    st.one_of(st.none(), st.floats(1e-6, 1e4)),
)
def test_stalls_and_resumptions_take_turns(
    steps: list[tuple[bool, bool, float]], pixel_time_s: float | None
) -> None:
    arrivals = Arrivals(pixel_time_s, 0.0)
    now, count, last_s = 0.0, 0, 0.0
    told: list[Stalled | Resumed] = []
    for comes, may_send, seconds in steps:
        now += seconds
        count += comes
        news = arrivals.see(now, count, RULE, may_send=may_send)
        if isinstance(news, Stalled):
            assert now - last_s >= FLOOR_S, "whatever the pace, and whoever is to blame"
        if isinstance(news, Resumed):
            assert comes
        if comes:
            last_s = now
        told += [news] if news else []
    kinds = [type(news) for news in told]
    assert kinds == [Stalled, Resumed] * (len(kinds) // 2) + [Stalled] * (len(kinds) % 2)
