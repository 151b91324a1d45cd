"""Orders visit every position once; the pacer keeps the mean rate whatever its clock does."""

import math

import numpy as np
import pytest

from usidstream.feeds.orders import ORDERS, fold, visit
from usidstream.feeds.pacing import SHORTEST_WAIT_S, Pacer


def rows_of(order, shape, batch=7, seed=0):
    return np.concatenate(list(visit(order, shape, batch=batch, seed=seed)))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(1,), (13,), (5, 4), (4, 1, 3), (3, 4, 5)])
@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_every_position_once(order, shape, batch):
    pieces = list(visit(order, shape, batch=batch))
    assert all(1 <= len(piece) <= batch for piece in pieces)
    rows = np.concatenate(pieces)
    assert rows.dtype == np.int64
    np.testing.assert_array_equal(np.sort(rows), np.arange(math.prod(shape)))


def test_raster_is_the_row_number():
    np.testing.assert_array_equal(rows_of("raster", (3, 2)), np.arange(6))


def test_serpentine_of_a_plane():
    assert rows_of("serpentine", (3, 3)).tolist() == [0, 1, 2, 5, 4, 3, 6, 7, 8]


@pytest.mark.parametrize("shape", [(4, 3), (3, 4, 5), (2, 3, 2, 3)])
def test_each_step_of_a_serpentine_leads_to_a_neighbour(shape):
    rows = fold(np.arange(math.prod(shape)), shape)
    places = np.stack(np.unravel_index(rows, shape, order="F"))
    np.testing.assert_array_equal(np.abs(np.diff(places)).sum(axis=0), 1)


def test_random_order_is_seeded():
    np.testing.assert_array_equal(
        rows_of("random", (50,), seed=3), rows_of("random", (50,), seed=3)
    )
    assert rows_of("random", (50,), seed=3).tolist() != rows_of("random", (50,), seed=4).tolist()
    np.testing.assert_array_equal(
        rows_of("random", (50,), batch=7), rows_of("random", (50,), batch=50)
    )


def test_unknown_order_names_the_known():
    with pytest.raises(ValueError, match="serpentine"):
        list(visit("spiral", (4,), batch=2))


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def test_pacer_does_not_drift():
    clock = Clock()
    pacer = Pacer(300.0, clock=clock)
    for done in range(10_000):
        clock.now_s += pacer.wait_s(done) + 0.0005  # each wait and each write take a little longer
    elapsed = clock.now_s - 100.0
    assert elapsed == pytest.approx(10_000 / 300, abs=2 / 300)


def test_pacer_catches_up_after_a_pause():
    clock = Clock()
    pacer = Pacer(10.0, clock=clock)
    assert pacer.wait_s(1) == pytest.approx(0.1)
    clock.now_s += 1.0
    assert pacer.wait_s(10) == 0
    assert pacer.wait_s(11) == pytest.approx(0.1)


def test_pacer_skips_waits_that_are_too_short():
    assert Pacer(1e6, clock=Clock()).wait_s(int(1e6 * SHORTEST_WAIT_S / 2)) == 0


def test_pacer_without_a_rate_never_waits():
    assert Pacer(None, clock=Clock()).wait_s(10**9) == 0


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_bad_rates(rate):
    with pytest.raises(ValueError, match="positive"):
        Pacer(rate)
