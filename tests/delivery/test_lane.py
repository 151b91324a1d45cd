"""Lanes: single pixels in, blocks out, every value where it belongs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usidstream import BlockError
from usidstream.delivery import ENDED, REFUSED, Lane, MainShape, Payload
from usidstream.delivery.lane import TARGET_BLOCK_BYTES

N = 64
WIDE = MainShape("Wide", N, 4, np.dtype("<f4"))
NARROW = MainShape("Narrow", N, 1, np.dtype("<f8"))


def write(lane: Lane, row: int, spectra: dict[str, Any]) -> list[Payload]:
    """What a channel does for a pixel, without limits or coverage."""
    sent: list[Payload] = []
    if lane.count == 1:
        outcome = lane.put(row, spectra[lane.mains[0].name])
    else:
        outcome = lane.put_all(row, spectra)
    if outcome == REFUSED and not (lane.scatters and lane.scatter(row, spectra)):
        lane.pause()
        if lane.used and not lane.takes(row):
            sent = lane.take()
        if not lane.used:
            lane.begin(row, N)
        lane.place(row, spectra)
    return sent + lane.take() if lane.full else sent


def place(blocks: list[Payload], main: MainShape) -> dict[int, list[float]]:
    rows: dict[int, list[float]] = {}
    for block in blocks:
        if block.main != main.name:
            continue
        data = np.frombuffer(block.data, dtype=main.dtype).reshape(block.rows, block.cols)
        for row, values in zip(block.row_numbers().tolist(), data.tolist(), strict=True):
            assert row not in rows, "a row is sent twice"
            rows[row] = values
    return rows


@given(
    st.lists(st.tuples(st.integers(0, N - 1), st.integers(1, 20)), max_size=12),
    st.sampled_from([16, 64, 1000]),
    st.sampled_from([(WIDE,), (NARROW,), (WIDE, NARROW)]),
)
def test_runs_in_any_order_come_out_as_they_went_in(
    runs: list[tuple[int, int]], max_bytes: int, mains: tuple[MainShape, ...]
) -> None:
    lane = Lane(mains, max_bytes)
    sent: list[Payload] = []
    expected: dict[int, list[float]] = {}
    for start, length in runs:
        for row in range(start, min(start + length, N)):
            if row in expected:
                continue
            expected[row] = [float(row)] * 4
            spectra = {"Wide": np.full(4, row, "f4"), "Narrow": float(row)}
            sent += write(lane, row, {main.name: spectra[main.name] for main in mains})
    sent += lane.take()
    for main in mains:
        assert place(sent, main) == {row: v[: main.n_cols] for row, v in expected.items()}
    assert all(block.single and block.rows <= lane.capacity for block in sent)


def test_a_raster_needs_no_row_numbers() -> None:
    lane = Lane([WIDE], 160)
    sent = [b for row in range(N) for b in write(lane, row, {"Wide": np.zeros(4, "f4")})]
    assert [(b.row, b.rows, b.numbers) for b in sent] == [(r, 10, None) for r in range(0, 60, 10)]
    assert lane.used == 4


def test_a_row_that_comes_twice_stands_in_another_block() -> None:
    """So that the daemon can refuse the second one alone."""
    lane = Lane([WIDE])
    for row in (5, 6, 5):
        sent = write(lane, row, {"Wide": np.full(4, row, "f4")})
    assert [b.row_numbers().tolist() for b in sent] == [[5, 6]]
    for row in (9, 7, 9):
        sent = write(lane, row, {"Wide": np.full(4, row, "f4")})
    assert [b.row_numbers().tolist() for b in sent] == [[5, 9, 7]]


def test_a_long_run_is_not_mixed_with_others() -> None:
    main = MainShape("Wide", N, 1024, np.dtype("<f4"))
    lane = Lane([main])
    for row in range(4):
        write(lane, row, {"Wide": np.zeros(1024, "f4")})
    assert not lane.takes(20), "16 KiB in a row go on their own"
    assert lane.takes(4)


def test_the_fast_path_ends_where_something_must_be_looked_at() -> None:
    lane = Lane([WIDE])
    lane.begin(10, 12)
    lane.place(10, {"Wide": np.zeros(4, "f4")})
    assert lane.next_row == 11
    assert lane.put(11, np.zeros(4, "f4")) == ENDED
    assert lane.next_row is None
    assert lane.used == 2


@pytest.mark.parametrize(
    "values", [np.zeros(3, "f4"), np.zeros(4, "c8"), 1.0, None, "abcd", np.zeros((2, 4), "f4")]
)
def test_what_does_not_fit_leaves_the_block_as_it_was(values: Any) -> None:
    lane = Lane([WIDE])
    write(lane, 3, {"Wide": np.ones(4, "f4")})
    with pytest.raises(BlockError, match=r"row 4|main 'Wide'"):
        write(lane, 4, {"Wide": values})
    write(lane, 4, {"Wide": np.full(4, 2, "f4")})
    assert place(lane.take(), WIDE) == {3: [1.0] * 4, 4: [2.0] * 4}


def test_of_several_mains_all_take_a_pixel_or_none() -> None:
    lane = Lane([NARROW, WIDE])
    good = {"Narrow": 1.0, "Wide": np.ones(4, "f4")}
    write(lane, 0, good)
    with pytest.raises(BlockError):
        write(lane, 1, {"Narrow": 7.0, "Wide": np.ones(5, "f4")})
    with pytest.raises(KeyError):
        write(lane, 1, {"Narrow": 7.0})
    write(lane, 1, good)
    assert place(lane.take(), NARROW) == {0: [1.0], 1: [1.0]}


@pytest.mark.parametrize("dtype", ["i1", "u2", "i8", "f2", "f4", "f8", "c8", "c16", "f4,i2"])
@pytest.mark.parametrize("cols", [1, 3])
def test_every_kind_of_number_takes_both_paths(dtype: str, cols: int) -> None:
    """Also types that a memoryview cannot hold, and types that say their byte order."""
    kind = np.dtype(dtype).newbyteorder("<")
    main = MainShape("Any", N, cols, kind)
    lane = Lane([main])
    data = np.zeros((5, cols), dtype=kind)
    data.view("u1")[:] = np.arange(data.nbytes).reshape(5, -1) % 60
    sent = [b for row in range(5) for b in write(lane, row, {"Any": data[row]})] + lane.take()
    assert b"".join(bytes(block.data) for block in sent) == data.tobytes()


@pytest.mark.parametrize("value", [1, 2.5, np.float32(2.5), np.int16(3), np.array(4.0), [5], True])
def test_a_single_element_may_be_any_number(value: Any) -> None:
    lane = Lane([NARROW])
    for row in (0, 1):
        write(lane, row, {"Narrow": value})
    expected = float(np.asarray(value).reshape(-1)[0])
    assert place(lane.take(), NARROW) == {0: [expected], 1: [expected]}


def test_scattered_rows_have_a_fast_path_for_what_needs_no_attention() -> None:
    lane = Lane([WIDE], 160)
    values = {"Wide": np.zeros(4, "f4")}
    for row in (9, 3):
        write(lane, row, values)
    assert lane.scatters
    for row in (9, 3, -1, N, 4.0, "4", None, True):
        assert not lane.scatter(row, values), row
    with pytest.raises(BlockError):
        lane.scatter(4, {"Wide": np.zeros(3)})
    assert lane.scatter(np.int64(4), values)
    lane.pause()
    assert not lane.scatters
    [block] = lane.take()
    assert block.row_numbers().tolist() == [9, 3, 4]


def test_a_block_of_scattered_rows_fills_up() -> None:
    lane = Lane([WIDE], 64)
    for row in (9, 3, 5):
        assert not write(lane, row, {"Wide": np.zeros(4, "f4")})
    assert len(write(lane, 7, {"Wide": np.zeros(4, "f4")})) == 1
    assert not lane.scatters


def test_blocks_and_pixels_that_continue_each_other_make_one_block() -> None:
    lane = Lane([WIDE])
    data = np.arange(4 * 10, dtype="f8").reshape(10, 4)
    assert not lane.extends(0, 3), "no block is open"
    lane.begin(0, N)
    lane.place_rows(data[:3])
    write(lane, 3, {"Wide": data[3]})
    assert lane.extends(4, 6)
    assert not lane.extends(5, 5), "a row lies between"
    lane.pause()
    lane.place_rows(data[4:])
    [payload] = lane.take()
    assert (payload.row, payload.rows, payload.wholes) == (0, 10, [(0, 3), (4, 10)])
    assert np.array_equal(np.frombuffer(payload.data, "<f4").reshape(10, 4), data)
    assert lane.take() == []


def test_a_block_that_does_not_fit_in_the_open_one_does_not_extend_it() -> None:
    lane = Lane([WIDE], max_bytes=8 * WIDE.row_nbytes)
    lane.begin(0, N)
    lane.place_rows(np.zeros((6, 4)))
    assert lane.extends(6, 2)
    assert not lane.extends(6, 3)


def test_where_coverage_must_be_asked_no_row_takes_the_fast_path() -> None:
    lane = Lane([WIDE])
    lane.begin(9, N, may_scatter=False)
    lane.place(9, {"Wide": np.zeros(4, "f4")})
    lane.place(3, {"Wide": np.zeros(4, "f4")})
    assert not lane.scatters


def test_a_type_that_was_accepted_once_is_no_licence_for_others() -> None:
    lane = Lane([WIDE])
    for row, values in enumerate([np.ones(4), np.ones(4), np.arange(4), [1, 2, 3, 4]]):
        write(lane, row, {"Wide": values})
    for values in (np.ones(4, "c16"), np.array(["1"] * 4), np.ones(5)):
        with pytest.raises(BlockError):
            write(lane, 4, {"Wide": values})
    small = Lane([MainShape("Small", N, 2, np.dtype("<i2"))])
    write(small, 0, {"Small": np.array([1, 2])})
    with pytest.raises(BlockError, match="70000"):
        write(small, 1, {"Small": np.array([1, 70000])})


def test_the_staging_buffer_is_free_again_at_once() -> None:
    lane = Lane([WIDE])
    write(lane, 0, {"Wide": np.ones(4, "f4")})
    [first] = lane.take()
    write(lane, 1, {"Wide": np.full(4, 9, "f4")})
    assert np.frombuffer(first.data, "<f4").tolist() == [1.0] * 4


def test_a_block_lingers_from_one_tick_to_the_next() -> None:
    lane = Lane([WIDE])
    assert not lane.lingers()
    write(lane, 0, {"Wide": np.zeros(4, "f4")})
    assert not lane.lingers(), "it may have been opened just now"
    assert lane.lingers()
    lane.take()
    write(lane, 1, {"Wide": np.zeros(4, "f4")})
    assert not lane.lingers(), "this is another block"


def test_blocks_are_bounded() -> None:
    many = 10**7
    assert Lane([MainShape("A", many, 1, np.dtype("u1"))]).capacity == 32768
    assert Lane([MainShape("A", many, 2, np.dtype("u1"))]).capacity == 4096
    assert Lane([MainShape("A", many, 256, np.dtype("f4"))]).capacity == 1024
    assert Lane([MainShape("A", many, 10**6, np.dtype("f4"))]).capacity == 1
    lane = Lane([MainShape("A", many, 256, np.dtype("f4"))], max_bytes=2048)
    assert (lane.capacity, lane.nbytes) == (2, 2 * (1024 + 8))


def test_blocks_are_short_while_they_fill_slowly_and_long_while_others_wait() -> None:
    lane = Lane([MainShape("A", 10**6, 256, np.dtype("<f4"))])
    sizes = []
    for fill_s, is_behind in [(1.0, False)] * 5 + [(0.0, False)] + [(1.0, True)] * 4:
        lane.resize(fill_s=fill_s, is_behind=is_behind)
        sizes.append(lane.capacity)
    assert sizes == [512, 256, 128, 128, 128, 128, 256, 512, 1024, 1024]


@pytest.mark.parametrize("is_by_row", [True, False])
def test_rows_are_whole_in_blocks_of_every_size(is_by_row: bool) -> None:
    main = MainShape("A", 10**6, 256, np.dtype("<f4"))
    lane = Lane([main])
    data = np.random.default_rng(1).random((6000, 256), "f4")
    row, sent = 0, []
    while row < len(data):
        slow = len(sent) % 7 < 4
        lane.resize(fill_s=1.0, is_behind=not slow)
        lane.begin(row, main.n_rows)
        stop = min(row + lane.capacity, len(data))
        if not is_by_row:
            lane.place_rows(data[row:stop])
        for index in range(row, stop if is_by_row else row):
            sent += write(lane, index, {"A": data[index]})
        row = stop
        sent += lane.take()
    assert len({block.rows for block in sent}) > 3
    assert b"".join(block.data for block in sent) == data.tobytes()


def test_a_full_block_of_wide_rows_keeps_its_values_when_the_next_is_filled() -> None:
    n_cols = TARGET_BLOCK_BYTES // 4
    lane = Lane([MainShape("Frames", N, n_cols, np.dtype("u1"))])
    blocks = [
        block
        for row in range(8)
        for block in write(lane, row, {"Frames": np.full(n_cols, row, "u1")})
    ]
    tables = [np.frombuffer(block.data, "u1").reshape(-1, n_cols) for block in blocks]
    assert [table[:, 0].tolist() for table in tables] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert all((table == table[:, :1]).all() for table in tables)


ROW = np.arange(4, dtype="<f4")


@pytest.mark.parametrize(
    "others",
    [
        ROW.astype("f8"),
        np.repeat(ROW, 2)[::2],
        ROW.reshape(2, 2),
        np.asfortranarray(ROW.reshape(2, 2)),
        ROW.astype("i4"),
        ROW.tolist(),
    ],
    ids=["f8", "strided", "2-D", "2-D in columns", "i4", "list"],
)
def test_rows_of_any_form_may_follow_rows_of_another(others: Any) -> None:
    main = MainShape("Wide", N, 4, np.dtype("<f4"), (2, 2))
    forms = [ROW, others, others, ROW, ROW, others]
    for order in (forms, forms[1:]):
        for rows in (range(len(order)), [N - 1, 5, 2, 9, 0, 7][: len(order)]):
            lane = Lane([main])
            for row, values in zip(rows, order, strict=True):
                write(lane, row, {"Wide": values})
            assert place(lane.take(), main) == dict.fromkeys(rows, ROW.tolist())


@pytest.mark.parametrize("value", [1 + 2j, np.complex64(1 + 2j), np.complex128(1 + 2j)])
def test_a_single_complex_element_may_be_any_complex_number(value: Any) -> None:
    main = MainShape("Lock-in", N, 1, np.dtype("<c8"))
    lane = Lane([main])
    for row in range(3):
        write(lane, row, {"Lock-in": value})
    assert place(lane.take(), main) == {row: [1 + 2j] for row in range(3)}


@pytest.mark.parametrize("dtype", ["<f4", "<c8"])
@pytest.mark.parametrize("cols", [1, 4])
def test_a_dict_where_one_spectrum_belongs_is_left_to_the_path_around(
    dtype: str, cols: int
) -> None:
    lane = Lane([MainShape("Any", N, cols, np.dtype(dtype))])
    values = np.zeros(cols, dtype)
    write(lane, 0, {"Any": values})
    assert lane.put(1, {"Any": values}) == REFUSED
    assert lane.put(1, values) != REFUSED


def test_other_mains_than_the_lane_has_are_left_to_the_path_around() -> None:
    lane = Lane([NARROW, WIDE])
    good = {"Narrow": 1.0, "Wide": np.ones(4, "f4")}
    write(lane, 0, good)
    for others in ({"Narrow": 7.0, "Other": 7.0}, {"Narrow": 7.0}, good | {"Other": 7.0}):
        assert lane.put_all(1, others) == REFUSED
    write(lane, 1, good)
    assert place(lane.take(), NARROW) == {0: [1.0], 1: [1.0]}
