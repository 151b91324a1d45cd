"""Blocks to previews: what viewers see equals the data, whatever the blocks' shapes and dtypes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from usidstream import live, wire
from usidstream.layout import Dimension, MainLayout
from usidstreamd.storage import JournalBlock
from usidstreamd.telemetry.feeds import MainFeed, choose_steps

SCAN = "0" * 32
N, M = 12, 6
RNG = np.random.default_rng(3)


def main_of(dtype: Any = "float32", sizes: Any = (M,)) -> MainLayout:
    axes = [Dimension(f"D{i}", "", size) for i, size in enumerate(sizes)]
    return MainLayout("Raw", "Current", "nA", dtype, axes)


def block_of(data: Any, rows: Any, cols: slice = slice(0, M)) -> JournalBlock:
    """Return the block that a client sends of these rows, scattered unless they are a slice."""
    if isinstance(rows, slice):
        taken, row, numbers = data[rows, cols], rows.start, None
    else:
        taken, row, numbers = data[rows][:, cols], 0, np.array(rows, "<u8").tobytes()
    return JournalBlock(0, row, len(taken), cols.start, taken.shape[1], taken.tobytes(), numbers)


class Audience:
    """Viewers of one main: what they know, from the messages alone."""

    def __init__(self, main: MainLayout, *wanted: str) -> None:
        self.feed = MainFeed(SCAN, 0, main)
        self.feed.watch(wanted)
        self.maps = {name: live.LiveMap(N) for name in wanted}
        self.newest: live.PreviewNewest | None = None
        self.told: list[live.PreviewRows] = []

    def see(self, *blocks: JournalBlock) -> None:
        self.feed.show(blocks)
        for block in blocks:
            self.feed.reduce(block)
        self.listen()

    def listen(self) -> None:
        for topic, message in self.feed.messages():
            assert topic.startswith(f"preview/{SCAN}/0/")
            event = live.read_event(message)
            if isinstance(event, live.PreviewNewest):
                self.newest = event
            if isinstance(event, live.PreviewRows):
                assert len(set(event.rows.tolist())) == len(event.rows)
                self.told.append(event)
                self.maps[event.reduction].add(event)

    def value(self, name: str) -> Any:
        return self.maps[name].values


def dtype_samples() -> list[tuple[Any, Any, Any]]:
    """Return layout dtype, data, and the real numbers that a preview is made of."""
    compound = [("height", "int32"), ("phase", "float64")]
    pairs = np.zeros((N, M), [("height", "<i4"), ("phase", "<f8")])
    pairs["height"] = RNG.integers(-9, 9, (N, M))
    pairs["phase"] = 99.0
    waves = (RNG.normal(size=(N, M)) + 1j * RNG.normal(size=(N, M))).astype("<c8")
    numbers = [
        RNG.normal(size=(N, M)).astype("<f4"),
        RNG.normal(size=(N, M)).astype("<f8"),
        RNG.normal(size=(N, M)).astype("<f2"),
        RNG.integers(0, 2**16, (N, M)).astype("<u2"),
        RNG.integers(-(2**62), 2**62, (N, M)).astype("<i8"),
    ]
    samples: list[tuple[Any, Any, Any]] = [(data.dtype.name, data, data) for data in numbers]
    return [*samples, ("complex64", waves, np.abs(waves)), (compound, pairs, pairs["height"])]


SAMPLES = dtype_samples()


@pytest.mark.parametrize(("dtype", "data", "real"), SAMPLES, ids=[str(s[0]) for s in SAMPLES])
def test_the_reductions_are_those_of_the_data(dtype: Any, data: Any, real: Any) -> None:
    audience = Audience(main_of(dtype), "mean", "max", "at:0", "at:5", "newest")
    audience.see(block_of(data, slice(0, 4)), block_of(data, [9, 5, 7, 6, 8, 4]))
    audience.see(block_of(data, slice(10, 12)))
    loose = 1e-3 if dtype == "float16" else 1e-6
    np.testing.assert_allclose(audience.value("mean"), real.mean(axis=1, dtype="f8"), rtol=loose)
    np.testing.assert_array_equal(audience.value("max"), real.max(axis=1).astype("f4"))
    np.testing.assert_array_equal(audience.value("at:5"), real[:, 5].astype("f4"))
    assert audience.newest is not None
    assert audience.newest.row == 11
    np.testing.assert_array_equal(audience.newest.values, real[11].astype("f4"))
    assert all(found.is_exact for found in audience.maps.values())


cuts = st.lists(st.integers(1, M - 1), max_size=3, unique=True).map(lambda c: [0, *sorted(c), M])
row_cuts = st.lists(st.integers(1, N - 1), max_size=3, unique=True).map(
    lambda c: [0, *sorted(c), N]
)


@given(st.data(), row_cuts)
def test_blocks_of_any_columns_in_any_order_make_the_whole(draw: Any, bounds: list[int]) -> None:
    data = SAMPLES[0][1]
    blocks = []
    for row, row_end in pairwise(bounds):
        edges = draw.draw(cuts)
        for col, col_end in pairwise(edges):
            rows: Any = slice(row, row_end)
            if draw.draw(st.booleans()):
                rows = draw.draw(st.permutations(range(row, row_end)))
            blocks.append(block_of(data, rows, slice(col, col_end)))
    audience = Audience(main_of(), "mean", "max", "at:3")
    waiting = draw.draw(st.permutations(blocks))
    while waiting:
        count = draw.draw(st.integers(1, len(waiting)))
        audience.see(*waiting[:count])
        waiting = waiting[count:]
    np.testing.assert_allclose(audience.value("mean"), data.mean(axis=1), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(audience.value("max"), data.max(axis=1))
    np.testing.assert_array_equal(audience.value("at:3"), data[:, 3])
    assert (audience.maps["mean"].cols == M).all()


def test_whole_images_of_some_columns_are_put_together_before_they_are_sent() -> None:
    data = SAMPLES[0][1]
    audience = Audience(main_of(), "mean")
    audience.see(*(block_of(data, slice(0, N), slice(col, col + 1)) for col in range(M)))
    (event,) = audience.told
    assert (event.cols, event.n_cols, len(event.rows)) == (M, M, N)


def test_what_is_skipped_is_told_with_the_next_increment_or_alone() -> None:
    data = SAMPLES[0][1]
    audience = Audience(main_of(), "mean", "at:2")
    audience.feed.skip(3)
    audience.see(block_of(data, slice(0, 2)))
    assert [(event.skipped, len(event.rows)) for event in audience.told] == [(3, 2), (3, 2)]
    audience.feed.skip(4)
    audience.listen()
    assert [(event.skipped, len(event.rows)) for event in audience.told[2:]] == [(4, 0), (4, 0)]
    audience.listen()
    assert [event.seq for event in audience.told] == [1, 1, 2, 2]


def test_nothing_new_is_no_message() -> None:
    audience = Audience(main_of(), "mean", "newest")
    assert list(audience.feed.messages()) == []
    audience.see(block_of(SAMPLES[0][1], slice(0, 2)))
    assert list(audience.feed.messages()) == []


def test_a_column_that_does_not_exist_is_not_answered() -> None:
    audience = Audience(main_of(), f"at:{M}", "at:0")
    audience.see(block_of(SAMPLES[0][1], slice(0, 2)))
    assert {event.reduction for event in audience.told} == {"at:0"}


def test_what_nobody_watches_any_more_is_forgotten() -> None:
    audience = Audience(main_of(), "mean", "at:0")
    audience.feed.reduce(block_of(SAMPLES[0][1], slice(0, 2)))
    audience.feed.watch(["at:0"])
    audience.listen()
    assert {event.reduction for event in audience.told} == {"at:0"}


def test_many_rows_are_sent_in_several_increments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_INCREMENT_ROWS_COUNT", 5)
    audience = Audience(main_of(), "max")
    audience.see(block_of(SAMPLES[0][1], slice(0, N)))
    assert [len(event.rows) for event in audience.told] == [5, 5, 2]
    np.testing.assert_array_equal(audience.value("max"), SAMPLES[0][1].max(axis=1))


def test_what_float32_cannot_hold_is_an_infinity() -> None:
    data = np.full((N, M), 1e300)
    audience = Audience(main_of("float64"), "mean", "max", "at:0", "newest")
    audience.see(block_of(data, slice(0, N)))
    for name in ("mean", "max", "at:0"):
        assert np.isinf(audience.value(name)).all()
    assert audience.newest is not None
    assert np.isinf(audience.newest.values).all()


# ---------------------------------------------------------------- the newest row


def test_the_newest_row_has_the_mains_axes() -> None:
    data = SAMPLES[0][1]
    audience = Audience(main_of(sizes=(3, 2)), "newest")
    audience.see(block_of(data, slice(0, 5)))
    assert audience.newest is not None
    np.testing.assert_array_equal(audience.newest.values, data[4].reshape(2, 3))
    assert audience.newest.steps == (1, 1)


def test_the_last_of_scattered_rows_is_the_newest() -> None:
    audience = Audience(main_of(), "newest")
    audience.see(block_of(SAMPLES[0][1], [7, 2, 4]))
    assert audience.newest is not None
    assert audience.newest.row == 4
    np.testing.assert_array_equal(audience.newest.values, SAMPLES[0][1][4])


def test_parts_of_a_row_are_drawn_together_and_the_rest_is_nan() -> None:
    data = SAMPLES[0][1]
    audience = Audience(main_of(), "newest")
    audience.see(block_of(data, slice(0, 2), slice(0, 2)), block_of(data, [1], slice(4, 6)))
    assert audience.newest is not None
    expected = data[1].copy()
    expected[2:4] = np.nan
    np.testing.assert_array_equal(audience.newest.values, expected)
    audience.see(block_of(data, slice(5, 6), slice(0, 1)))
    assert audience.newest.row == 5
    assert np.isnan(audience.newest.values[1:]).all()


@pytest.mark.parametrize(
    ("sizes", "most", "steps"),
    [((6,), 6, [1]), ((7,), 6, [2]), ((8, 8), 16, [2, 2]), ((2, 100), 50, [1, 4]), ((9,), 1, [16])],
)
def test_steps_are_as_small_as_a_screen_allows(sizes: Any, most: int, steps: list[int]) -> None:
    assert choose_steps(sizes, most) == steps


def test_a_large_frame_is_decimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_NEWEST_POINTS_COUNT", 8)
    frame = np.arange(5 * 6, dtype="<f4").reshape(1, 30)
    audience = Audience(main_of(sizes=(6, 5)), "newest")
    audience.feed.show([JournalBlock(0, 3, 1, 0, 30, frame.tobytes())])
    audience.listen()
    assert audience.newest is not None
    assert audience.newest.steps == (2, 4)
    np.testing.assert_array_equal(audience.newest.values, frame.reshape(5, 6)[::2, ::4])


def test_a_row_of_very_many_dimensions_is_told_as_one() -> None:
    data = SAMPLES[0][1][:, :4]
    audience = Audience(main_of(sizes=(2, 2, *[1] * 40)), "newest")
    audience.feed.show([JournalBlock(0, 0, 1, 0, 4, data[:1].tobytes())])
    audience.listen()
    assert audience.newest is not None
    np.testing.assert_array_equal(audience.newest.values, data[0])


def test_the_latest_column_alone_is_followed() -> None:
    """Of images that come piece by piece, in any order, viewers have the one that came last."""
    data = RNG.normal(size=(N, M)).astype("<f4")
    audience = Audience(main_of(), "latest", "mean")
    halves = slice(0, N // 2), [*range(N // 2, N)]
    for columns in (slice(3, 4), slice(0, 1), slice(4, 6)):
        audience.see(block_of(data, halves[0], columns))
        expected = np.where(np.arange(N) < N // 2, data[:, columns.stop - 1], np.nan)
        np.testing.assert_array_equal(audience.value("latest"), expected)
        audience.see(block_of(data, halves[1], columns))
        np.testing.assert_array_equal(audience.value("latest"), data[:, columns.stop - 1])
        assert audience.maps["latest"].column == columns.stop - 1
    audience.see(  # all within one tick
        block_of(data, slice(0, N), slice(1, 2)), block_of(data, slice(0, 3), slice(2, 3))
    )
    assert audience.maps["latest"].column == 2
    assert np.flatnonzero(np.isfinite(audience.value("latest"))).tolist() == [0, 1, 2]
    assert {event.column for event in audience.told if event.reduction == "mean"} == {None}
