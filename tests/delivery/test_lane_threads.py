"""Lanes that several threads write at once, which switch as often as the interpreter lets them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from support.crowd import in_threads, switching_often
from usidstream.delivery import REFUSED, Lane, MainShape, Payload

N = 10_000


class Reading:
    """A number that takes its time: other threads run before it is stored."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        threads = [threading.current_thread() for _ in range(2)]
        return self.value if threads else 0.0


@pytest.fixture(autouse=True)
def _switching_often() -> Iterator[None]:
    with switching_often():
        yield


def open_lane(main: MainShape) -> Lane:
    lane = Lane([main])
    lane.begin(0, lane.capacity)
    lane.place(0, {main.name: np.zeros(main.n_cols, main.dtype) if main.n_cols > 1 else 0.0})
    return lane


@pytest.mark.parametrize(
    ("dtype", "cols", "make"),
    [("<f4", 1, float), ("<f8", 1, Reading), ("<f4", 8, None), ("<c8", 8, None)],
)
def test_of_those_who_write_the_same_row_one_is_taken_and_its_values_stand(
    dtype: str, cols: int, make: Callable[[float], Any] | None
) -> None:
    main = MainShape("Any", N, cols, np.dtype(dtype))
    lane = open_lane(main)
    winners: list[tuple[int, int]] = []

    def work(number: int) -> None:
        spectrum = make(float(number + 1)) if make else np.full(cols, number + 1, main.dtype)
        while (row := lane.next_row) is not None:
            if lane.put(row, spectrum) != REFUSED:
                winners.append((row, number + 1))

    in_threads(work)
    [block] = lane.take()
    table = np.frombuffer(block.data, main.dtype).reshape(-1, cols)
    assert sorted(row for row, _ in winners) == list(range(1, lane.capacity))
    assert all((table[row] == number).all() for row, number in winners)


def test_blocks_that_are_taken_meanwhile_hold_what_was_written_to_them() -> None:
    """As a channel does it: all but the fast path under a lock."""
    main = MainShape("Any", N, 1, np.dtype("<f8"))
    lane = Lane([main], 64 * main.row_nbytes)
    lock = threading.Lock()
    rows = iter(range(main.n_rows))
    blocks: list[Payload] = []

    def work(number: int) -> None:
        for row in rows:
            value: Any = Reading(float(row)) if row % 3 else float(row)
            if lane.put(row, value) == REFUSED:
                with lock:
                    place(row, value)
            if row % 50 == number:
                with lock:
                    blocks.extend(lane.take())

    def place(row: int, value: Any) -> None:
        lane.pause()
        if lane.used and not lane.takes(row):
            blocks.extend(lane.take())
        if not lane.used:
            lane.begin(row, main.n_rows)
        lane.place(row, {"Any": float(value)})

    in_threads(work)
    blocks += lane.take()
    numbers = np.concatenate([block.row_numbers() for block in blocks])
    values = np.concatenate([np.frombuffer(block.data, main.dtype) for block in blocks])
    assert sorted(numbers.tolist()) == list(range(main.n_rows))
    assert np.array_equal(numbers, values)


def test_an_interrupt_leaves_the_lane_as_it_was() -> None:
    lane = open_lane(MainShape("Any", N, 1, np.dtype("<f8")))

    class Interrupted:
        def __float__(self) -> float:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lane.put(1, Interrupted())
    assert lane.put(1, 2.5) != REFUSED
    [block] = lane.take()
    assert np.frombuffer(block.data, "<f8").tolist() == [0.0, 2.5]


def test_whoever_takes_the_block_waits_for_a_row_that_is_being_written() -> None:
    lane = open_lane(MainShape("Any", N, 1, np.dtype("<f8")))
    is_within, may_go_on = threading.Event(), threading.Event()
    blocks: list[Payload] = []

    class Slow:
        def __float__(self) -> float:
            is_within.set()
            assert may_go_on.wait(20)
            return 7.0

    writer = threading.Thread(target=lane.put, args=(1, Slow()))
    writer.start()
    assert is_within.wait(20)
    assert lane.put(1, 8.0) == REFUSED
    taker = threading.Thread(target=lambda: blocks.extend(lane.take()))
    taker.start()
    taker.join(0.02)
    assert not blocks
    may_go_on.set()
    writer.join()
    taker.join()
    assert np.frombuffer(blocks[0].data, "<f8").tolist() == [0.0, 7.0]
