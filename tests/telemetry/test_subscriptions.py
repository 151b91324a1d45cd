"""What is listened to, from the bytes that an XPUB socket gives."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from usidstream import wire
from usidstreamd.telemetry.subscriptions import Subscriptions

SCAN = "0" * 32
MEAN = wire.preview_topic(SCAN, 0, "mean")


def subscribe(subscriptions: Subscriptions, topic: str) -> str | None:
    return subscriptions.take(b"\1" + topic.encode())


def unsubscribe(subscriptions: Subscriptions, topic: str) -> None:
    assert subscriptions.take(b"\0" + topic.encode()) is None


def test_a_prefix_wants_every_topic_that_it_begins() -> None:
    subscriptions = Subscriptions()
    assert not subscriptions.wants("daemon")
    assert subscribe(subscriptions, "scan/") == "scan/"
    assert subscriptions.wants(wire.scan_topic(SCAN))
    assert not subscriptions.wants(wire.layout_topic(SCAN))
    subscribe(subscriptions, "")
    assert subscriptions.wants(wire.layout_topic(SCAN))
    unsubscribe(subscriptions, "")
    unsubscribe(subscriptions, "scan/")
    assert not subscriptions.wants(wire.scan_topic(SCAN))


def test_a_whole_preview_topic_asks_for_its_computation() -> None:
    subscriptions = Subscriptions()
    for reduction in ("mean", "at:17", "newest", "max"):
        subscribe(subscriptions, wire.preview_topic(SCAN, 3, reduction))
    assert subscriptions.previews == {(SCAN, 3): ("mean", "at:17", "max", "newest")}
    assert subscriptions.mains_of(SCAN) == [3]
    unsubscribe(subscriptions, wire.preview_topic(SCAN, 3, "at:17"))
    assert subscriptions.previews == {(SCAN, 3): ("mean", "max", "newest")}
    for reduction in ("mean", "newest", "max"):
        unsubscribe(subscriptions, wire.preview_topic(SCAN, 3, reduction))
    assert subscriptions.previews == {}


@pytest.mark.parametrize(
    "topic",
    [
        "preview/",
        f"preview/{SCAN}",
        f"preview/{SCAN}/0/",
        f"preview/{SCAN}/0/median",
        f"preview/{SCAN}/0/at:",
        f"preview/{SCAN}/0/at:-1",
        f"preview/{SCAN}/0/at:01",
        f"preview/{SCAN}/0/at:1 ",
        f"preview/{SCAN}/0/at:\u0661",
        f"preview/{SCAN}/0/at:{'9' * 40}",
        f"preview/{SCAN}/00/mean",
        f"preview/{SCAN[1:]}/0/mean",
        f"preview/{SCAN}/0/mean/0",
    ],
)
def test_other_words_ask_for_nothing(topic: str) -> None:
    subscriptions = Subscriptions()
    assert subscribe(subscriptions, topic) == topic
    assert subscriptions.previews == {}


def test_the_reductions_of_a_main_are_bounded_and_the_first_are_served() -> None:
    subscriptions = Subscriptions()
    topics = [wire.preview_topic(SCAN, 0, f"at:{column}") for column in range(10)]
    for topic in topics:
        subscribe(subscriptions, topic)
    served = [f"at:{column}" for column in range(wire.MAX_REDUCTIONS_COUNT)]
    assert list(subscriptions.previews[SCAN, 0]) == served
    assert subscriptions.crowded == {SCAN}
    unsubscribe(subscriptions, topics[0])
    assert subscriptions.previews[SCAN, 0][-1] == "at:8"
    assert subscriptions.crowded == {SCAN}
    unsubscribe(subscriptions, topics[9])
    assert subscriptions.crowded == frozenset()


def test_one_subscription_too_many_is_not_heeded() -> None:
    subscriptions = Subscriptions()
    for number in range(wire.MAX_SUBSCRIPTIONS_COUNT):
        subscribe(subscriptions, f"x{number}")
    assert subscribe(subscriptions, MEAN) is None
    assert subscriptions.previews == {}
    assert subscribe(subscriptions, "x0") == "x0"
    unsubscribe(subscriptions, "x0")
    assert subscribe(subscriptions, MEAN) == MEAN


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_whatever_comes_is_heeded_or_not(frames: list[bytes]) -> None:
    subscriptions = Subscriptions()
    for frame in [*frames, b"\1" + b"x" * 256, b"\1\xff", b""]:
        subscriptions.take(frame)
    assert all(len(prefix.encode()) <= wire.MAX_TOPIC_BYTES for prefix in subscriptions.prefixes)
    assert subscriptions.previews == {}
