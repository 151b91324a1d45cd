"""A few at once, then one in a while; one key silences no other."""

from __future__ import annotations

from usidstreamd.supervision.rationing import MAX_KEYS_COUNT, Rationing


def test_a_burst_then_one_an_interval() -> None:
    ration = Rationing(3, 60.0)
    assert [ration.take("a", 0.0) for _ in range(5)] == [0, 0, 0, None, None]
    assert ration.take("b", 0.0) == 0, "another's"
    assert ration.take("a", 59.0) is None
    assert ration.take("a", 61.0) == 3, "what was withheld is counted"
    assert ration.take("a", 62.0) is None
    assert [ration.take("a", 1e6) for _ in range(4)] == [1, 0, 0, None]


def test_keys_are_forgotten_the_oldest_first() -> None:
    ration = Rationing(1, 60.0)
    for number in range(MAX_KEYS_COUNT + 1):
        assert ration.take(number, 0.0) == 0
    assert ration.take(MAX_KEYS_COUNT, 0.0) is None
    assert ration.take(0, 0.0) == 0, "forgotten"
    assert len(ration._rations) == MAX_KEYS_COUNT
