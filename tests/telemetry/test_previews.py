"""Taps and the budget of time: bounded in memory and in time, whatever comes, and it is told."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from usidstream import wire
from usidstream.layout import Dimension, MainLayout, ScanLayout
from usidstreamd.storage import JournalBlock
from usidstreamd.telemetry import previews as previews_module
from usidstreamd.telemetry.previews import Previews
from usidstreamd.telemetry.subscriptions import Subscriptions
from usidstreamd.telemetry.tap import MAX_HELD_BLOCKS_COUNT, MAX_HELD_BYTES, Tap

SCAN = "0" * 32
LAYOUT = ScanLayout(
    positions=[Dimension("X", "um", 1000)],
    mains=[
        MainLayout("Raw", "Current", "nA", "float32", [Dimension("Bias", "V", 4)]),
        MainLayout("Other", "Current", "nA", "float32", [Dimension("Bias", "V", 4)]),
    ],
)


def block(row: int, main: int = 0, nbytes: int = 16) -> JournalBlock:
    return JournalBlock(main, row, 1, 0, nbytes // 4, bytes(nbytes))


def tap_of(*mains: int) -> Tap:
    tap = Tap()
    tap.watch(frozenset(mains))
    return tap


def test_a_tap_holds_what_is_watched() -> None:
    tap = tap_of(1)
    tap.offer(block(0, main=0), True)
    tap.offer(block(1, main=1), True)
    taken = tap.take()
    assert [held.row for held in taken.blocks] == [1]
    assert taken.offered_bytes == 16
    assert tap.take().blocks == []


def test_a_tap_holds_no_more_than_it_may() -> None:
    tap = tap_of(0)
    for row in range(10):
        tap.offer(block(row, nbytes=MAX_HELD_BYTES // 4), True)
    taken = tap.take()
    assert len(taken.blocks) == 4
    assert taken.skipped == {0: 6}
    for row in range(MAX_HELD_BLOCKS_COUNT + 5):
        tap.offer(block(row), True)
    taken = tap.take()
    assert len(taken.blocks) == MAX_HELD_BLOCKS_COUNT
    assert taken.skipped == {0: 5}


def test_a_tap_holds_one_block_however_large() -> None:
    tap = tap_of(0)
    for row in range(2):
        tap.offer(block(row, nbytes=2 * MAX_HELD_BYTES), True)
    assert len(tap.take().blocks) == 1


def test_what_was_held_before_is_left_out() -> None:
    tap = tap_of(0)
    tap.offer(block(0), False)
    taken = tap.take()
    assert (taken.blocks, taken.skipped) == ([], {0: 1})


def test_a_tap_thins_out_evenly_and_recovers() -> None:
    tap = tap_of(0)
    tap.thin_out(offered_bytes=1000, affordable_bytes=250.0)
    for row in range(40):
        tap.offer(block(row), True)
    rows = [held.row for held in tap.take().blocks]
    assert len(rows) == 10
    assert set(np.diff(rows)) == {4}
    tap.thin_out(offered_bytes=100, affordable_bytes=250.0)
    tap.offer(block(1), True)
    assert len(tap.take().blocks) == 1


def watched(*topics: str) -> tuple[Previews, Tap]:
    subscriptions = Subscriptions()
    for topic in topics:
        subscriptions.take(b"\1" + topic.encode())
    made = Previews(subscriptions)
    tap = tap_of(*subscriptions.mains_of(SCAN))
    made.add(SCAN, LAYOUT, tap)
    return made, tap


class Clock:
    """A processor that needs a millisecond for each look at it."""

    def __init__(self) -> None:
        self._ticks = itertools.count()

    def thread_time(self) -> float:
        return next(self._ticks) * 1e-3


def test_what_there_is_no_time_for_is_skipped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews_module, "time", Clock())
    made, tap = watched(wire.preview_topic(SCAN, 0, "mean"))
    for row in range(100):
        tap.offer(block(row), True)
    (message,) = [message for _, message in made.tick(budget_s=0.01)]
    assert isinstance(message, wire.Increment)
    done = len(wire.unpack_increment(message)[0])
    assert 5 < done < 10
    assert message.skipped == 100 - done
    for row in range(100):  # and less is kept the next time
        tap.offer(block(row), True)
    assert len(tap.take().blocks) <= done


def test_the_newest_row_is_shown_even_where_there_is_no_time() -> None:
    made, tap = watched(*(wire.preview_topic(SCAN, 0, name) for name in ("mean", "newest")))
    for row in range(3):
        tap.offer(block(row), True)
    told: dict[str, Any] = {message.type: message for _, message in made.tick(budget_s=0.0)}
    assert told["newest"].row == 2
    assert told["increment"].skipped == 3


def test_only_mains_that_are_watched_are_told_of() -> None:
    made, tap = watched(wire.preview_topic(SCAN, 1, "mean"))
    tap.offer(block(0, main=0), True)
    tap.offer(block(0, main=1), True)
    assert [topic for topic, _ in made.tick()] == [wire.preview_topic(SCAN, 1, "mean")]
    made.remove(SCAN)
    assert not made
    assert list(made.tick()) == []


def test_a_main_that_the_scan_does_not_have_is_not_answered() -> None:
    made, tap = watched(wire.preview_topic(SCAN, 7, "mean"))
    tap.offer(block(0, main=0), True)
    assert list(made.tick()) == []
