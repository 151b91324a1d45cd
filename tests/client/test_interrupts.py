"""A program that is interrupted (Ctrl-C) at any step: what it wrote before is kept, and it goes on.

It is interrupted once a run, at each place in the client's code where the interpreter looks for
signals. And calls that raise: they have taken nothing, and leave nothing set aside.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import usidstream.client
import usidstream.delivery
from support.interrupts import Interrupt, interrupted
from support.prompt_daemon import COLS, VALUES, N, Session
from usidstream.errors import BlockError, DeliveryError, UsidstreamError

FOLDERS = [Path(str(part.__file__)).parent for part in (usidstream.client, usidstream.delivery)]
WIDE = 1 << 18
"""Elements of a row that is a block of its own."""


def acquire(session: Session) -> bool:
    """Write in every way: in order, with jumps, of several mains, blocks small and large.

    Tells whether the scan's end was not interrupted.
    """
    scan, write = session.scan, session.write
    one, both = VALUES["A"], VALUES["B"]
    for row in range(0, 40):
        write(scan.write, row, {"A": one[row], "B": both[row]}, wrote={"A": row, "B": row})
    for row in (90, 50, 70, 60, 95, 55):
        write(scan.write, row, {"A": one[row], "B": both[row]}, wrote={"A": row, "B": row})
    for row in range(100, 130):
        write(scan.write, row, float(one[row, 0]), "A", wrote={"A": row})
        write(scan.write, row, both[row].astype("f8"), "B", wrote={"B": row})
    for row in range(200, 224, 4):
        rows = slice(row, row + 4)
        write(scan.write_block, row, both[rows], 0, "B", wrote={"B": rows})
    for first, last in ((300, 700), (1000, 2200)):  # within what may be held, and beyond it
        rows = slice(first, last)
        write(scan.write_block, first, both[rows, 1:2], 1, "B", wrote={"B": (rows, slice(1, 2))})
    numbers = np.array([2990, 2500, 2600])
    write(scan.write_at, numbers, one[numbers], "A", wrote={"A": numbers})
    interrupted(scan.annotate, {"temperature": 4.2})
    interrupted(scan.wait_durable)
    return not interrupted(scan.finish)


def judge(session: Session) -> None:
    """Compare what came with what was written."""
    daemon, channel = session.daemon, session.channel
    for name in COLS:
        came = daemon.times[name] > 0
        assert not (session.certain[name] & ~came).any(), f"{name}: rows are lost"
        assert not (came & ~(session.certain[name] | session.perhaps[name])).any()
        assert daemon.times[name].max() <= 1, f"{name}: rows came twice"
        np.testing.assert_array_equal(daemon.values[name][came], VALUES[name][came])
    assert channel.delivery.held_bytes == 0
    assert not channel.lock.locked()


def run(at: int) -> Interrupt:
    session = Session()
    with Interrupt(at, *FOLDERS) as interrupt:
        session.daemon.interrupt = interrupt
        was_ended = acquire(session)
        interrupt.is_paused = True
        assert session.scan.has_ended or not was_ended
        if not session.scan.has_ended:
            session.scan.wait_durable()
        judge(session)
        assert session.scan.finish().status == "complete"
    return interrupt


# An interrupt in the end of a generator that nobody wants any more is passed over by CPython.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(600)  # with --interrupt-every 1
def test_an_interrupt_at_any_step_loses_nothing(pytestconfig: pytest.Config) -> None:
    n_places = run(0).places
    assert n_places > 2000
    for at in range(1, n_places + 1, pytestconfig.getoption("--interrupt-every")):
        interrupt = run(at)
        assert interrupt.where, f"place {at} of {n_places} was not reached"


def test_who_waits_and_is_interrupted_holds_the_lock_exactly_if_it_should() -> None:
    """By real signals, while another thread has the lock that is to be held again."""
    channel = Session().channel
    has_it, may_go = threading.Event(), threading.Event()

    def hold_it() -> None:
        with channel.lock:
            has_it.set()
            os.kill(os.getpid(), signal.SIGINT)  # the other thread waits for the lock by now
            may_go.wait(0.05)
            assert channel.lock.locked(), "somebody opened a lock that was not his"

    def call() -> None:
        with channel.lock:
            channel.without_lock(lambda: thread.start() or has_it.wait(20))

    for _ in range(20):
        has_it.clear()
        thread = threading.Thread(target=hold_it)
        assert interrupted(call)
        thread.join()
        assert not channel.lock.locked()


# ---------------------------------------------------------------- calls that raise


def test_a_scan_that_is_dropped_is_freed_at_once() -> None:
    session = Session()
    session.scan.write(0, 1.0, "A")
    channel = weakref.ref(session.channel)
    gc.disable()
    try:
        session.scan.finish()
        session.daemon.__dict__.clear()
        del session
        assert channel() is None
    finally:
        gc.enable()


def test_a_scan_that_has_ended_holds_no_memory() -> None:
    session = Session(limit_bytes=96 << 20)
    session.channel.prepare(64 << 20)
    session.scan.write(0, 1.0, "A")
    assert len(session.channel.lanes.ring._slabs) == 8
    session.scan.finish()
    assert not session.channel.lanes.ring._slabs


def test_a_lane_that_was_forgotten_while_its_writer_waited_is_sent_like_others() -> None:
    cols = {f"M{number}": 1 for number in range(40)}
    session = Session(cols, limit_bytes=1 << 20)
    scan, channel = session.scan, session.channel

    def make_room(*_: Any) -> None:
        """Others write meanwhile, as they may while a writer waits."""
        del channel.wait_for_room
        channel.delivery.reserved_bytes -= 1 << 20
        channel.lock.release()
        try:
            for number in range(1, 40):
                scan.write(number, float(number), f"M{number}")
        finally:
            channel.lock.acquire()

    channel.delivery.reserved_bytes += 1 << 20
    channel.wait_for_room = make_room
    for row in range(5):
        scan.write(row, 7.0, "M0")
    assert session.arrived("M0") == [0, 1, 2, 3, 4]
    assert session.arrived("M39") == [39]
    scan.finish()
    with pytest.raises(UsidstreamError, match="has ended"):
        scan.write(5, 7.0, "M0")


def test_a_block_that_followed_a_slow_pixel_fits() -> None:
    """Blocks of a slow writer become shorter, not shorter than a block that is gathered."""
    session = Session({"A": 1}, limit_bytes=96 << 20)
    session.scan.write(N - 1, 1.0)
    [lane] = session.channel.lanes._open
    lane.begun_s -= 1.0
    session.scan.write_block(0, np.ones((N - 1, 1), "f2"))
    assert len(session.arrived("A")) == N
    assert session.channel.delivery.held_bytes == 0


@pytest.mark.parametrize("write", ["write", "write_block", "write_at"])
def test_values_that_raise_leave_nothing_set_aside(write: str) -> None:
    session = Session({"A": 3})
    too_large = np.full((2, 3), 1e300)
    given = {"write": (0, too_large[0]), "write_block": (0, too_large)}.get(
        write, (np.array([0, 5]), too_large)
    )
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        getattr(session.scan, write)(*given)
    assert session.channel.delivery.held_bytes == 0
    session.scan.write_block(0, VALUES["B"][:8])
    assert session.arrived("A") == list(range(8))


def test_of_a_pixel_of_long_rows_all_mains_are_taken_or_none() -> None:
    session = Session({"A": WIDE, "B": WIDE}, limit_bytes=96 << 20)
    session.daemon.values = session.daemon.times = {}
    whole, too_large = np.ones(WIDE, "f4"), np.full(WIDE, 1e300)
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        session.scan.write(0, {"A": whole, "B": too_large})
    assert session.channel.delivery.kept.last_seq == 0
    assert session.channel.delivery.held_bytes == 0


def test_of_a_block_of_pieces_all_are_taken_or_none() -> None:
    session = Session({"A": 1000}, limit_bytes=96 << 20)
    block = np.zeros((1000, 1000))
    block[-1] = 1e300
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        session.scan.write_block(0, block)
    assert session.arrived("A") == []
    assert session.channel.delivery.held_bytes == 0


def test_of_a_resumed_pixel_all_that_lacks_is_taken_or_nothing() -> None:
    session = Session({"A": 1, "B": 3, "C": 3}, held={"A": [(0, 10)]})
    good, bad = VALUES["B"][3], np.zeros(4, "f4")
    with pytest.raises(BlockError):
        session.scan.write(3, {"A": 1.0, "B": good, "C": bad})
    assert session.scan.skipped == 0
    assert session.arrived("B") == []
    session.scan.write(3, {"A": 1.0, "B": good, "C": good})
    assert (session.arrived("B"), session.arrived("C"), session.scan.skipped) == ([3], [3], 1)


def test_of_rows_of_which_some_are_held_the_error_counts_those_that_were_given() -> None:
    session = Session({"A": 1000}, held={"A": [(0, 5)]})
    session.daemon.posted = lambda: None  # whatever goes, nothing becomes durable
    with pytest.raises(DeliveryError) as caught:
        session.scan.write_at(np.arange(20), np.zeros((20, 1000), "f4"))
    assert caught.value.details["rows_taken"] == 6, "five are held, and one was taken"


@pytest.mark.parametrize("is_dict", [False, True])
def test_values_that_others_make_are_made_before_anything_is_held(is_dict: bool) -> None:
    session = Session()
    channel = session.channel

    class Lazy:
        def __init__(self, row: int) -> None:
            self.row = row

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            assert not channel.lock.locked()
            assert all(lane.turn for lane in channel.lanes._open)
            return VALUES["B"][self.row]

    for row in (*range(10), 30, 20, 40):
        if is_dict:
            session.scan.write(row, {"B": Lazy(row), "A": VALUES["A"][row]})
        else:
            session.scan.write(row, Lazy(row), "B")
    rows = [*range(10), 20, 30, 40]
    assert session.arrived("B") == rows
    np.testing.assert_array_equal(session.daemon.values["B"][rows], VALUES["B"][rows])


@pytest.mark.parametrize(("row", "main"), [(None, "A"), (0, ["A"]), (0, {})])
def test_what_is_no_row_or_no_name_is_refused_in_our_words(row: Any, main: Any) -> None:
    with pytest.raises(BlockError):
        Session().scan.write(row, 1.0, main)
