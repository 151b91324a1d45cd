"""A caller's data: what fits, what does not, and what the refusal says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from usidstream import BlockError
from usidstream.delivery import MainShape, conform

FLOAT = MainShape("Height", 10, 6, np.dtype("<f4"), (3, 2))
COUNT = MainShape("Counts", 10, 3, np.dtype("<u2"))
SINGLE = MainShape("Phase", 10, 1, np.dtype("<f8"))
PAIR = MainShape("Pair", 10, 2, np.dtype([("a", "<f4"), ("b", "<i2")]))


@pytest.mark.parametrize(
    ("main", "values"),
    [
        (FLOAT, np.arange(6, dtype="f4")),
        (FLOAT, np.arange(6, dtype=">f4")),
        (FLOAT, np.arange(6, dtype="f8")),
        (FLOAT, np.arange(6)),
        (FLOAT, [0, 1, 2, 3, 4, 5]),
        (FLOAT, np.arange(6.0).reshape(2, 3)),  # n-dimensional, slowest dimension first
        (FLOAT, np.arange(12.0)[::2]),
        (COUNT, [1, 2, 65535]),
        (COUNT, np.array([1, 2, 3], "u1")),
        (COUNT, np.array([1, 2, 3], "u8")),
        (SINGLE, 1.5),
        (SINGLE, [1.5]),
        (SINGLE, np.float32(1.5)),
        (PAIR, [(1.0, 2), (3.0, 4)]),
        (PAIR, np.zeros(2, PAIR.dtype)),
    ],
)
def test_what_fits_is_taken(main: MainShape, values: Any) -> None:
    spectrum = conform.spectrum(main, 0, values)
    stored = np.empty(main.n_cols, dtype=main.dtype)
    stored[:] = spectrum
    if main.dtype.names is None:
        np.testing.assert_array_equal(stored, np.asarray(values).reshape(-1))


@pytest.mark.parametrize(
    ("main", "values", "code", "words"),
    [
        (FLOAT, np.zeros(5), "bad_shape", "(6,) or (2, 3), not (5,)"),
        (FLOAT, np.zeros((3, 2)), "bad_shape", "(6,) or (2, 3), not (3, 2)"),
        (FLOAT, 1.0, "bad_shape", "not ()"),
        (FLOAT, np.zeros(6, "c8"), "bad_dtype", "complex64 cannot be stored as float32"),
        (FLOAT, ["a"] * 6, "bad_dtype", "cannot be stored as float32"),
        (FLOAT, [[1], [2, 3]], "bad_dtype", "'Height' holds float32"),
        (COUNT, np.zeros(3), "bad_dtype", "float64 cannot be stored as uint16"),
        (COUNT, np.zeros(3, "i2"), "bad_dtype", "int16 cannot be stored as uint16"),
        (COUNT, [1, 2, 65536], "bad_dtype", "values 1 to 65536 do not fit uint16"),
        (COUNT, [-1, 2, 3], "bad_dtype", "int64 cannot be stored as uint16"),
        (SINGLE, np.zeros(2), "bad_shape", "(1,) or (), not (2,)"),
        (SINGLE, None, "bad_dtype", "object cannot be stored"),
        (PAIR, [1.0, "x"], "bad_dtype", "main 'Pair' holds"),
    ],
)
def test_what_does_not_fit_is_refused(main: MainShape, values: Any, code: str, words: str) -> None:
    with pytest.raises(BlockError) as caught:
        conform.spectrum(main, 4, values)
    assert caught.value.code == code
    assert words in caught.value.message
    assert caught.value.details["main"] == main.name


def test_integers_are_never_wrapped_around() -> None:
    main = MainShape("Small", 4, 2, np.dtype("<i2"))
    assert conform.spectrum(main, 0, np.array([-32768, 32767])).tolist() == [-32768, 32767]
    with pytest.raises(BlockError, match="70000 do not fit int16"):
        conform.spectrum(main, 0, np.array([0, 70000]))


def test_blocks_are_tables() -> None:
    assert conform.table(FLOAT, np.zeros((4, 6)), None, None).shape == (4, 6)
    assert conform.table(FLOAT, np.zeros((4, 2)), None, 1).shape == (4, 2)
    assert conform.table(SINGLE, np.zeros(4), None, 0).shape == (4, 1)
    for values, n_rows, col in [
        (np.zeros(6), None, 0),
        (np.zeros((0, 6)), None, 0),
        (np.zeros((4, 5)), 4, None),
        (np.zeros((4, 6)), 3, None),
    ]:
        with pytest.raises(BlockError, match="takes a block of shape") as caught:
            conform.table(FLOAT, values, n_rows, col)
        assert caught.value.code == "bad_shape"


@pytest.mark.parametrize(
    ("row", "rows", "col", "cols"), [(-1, 1, 0, 1), (9, 2, 0, 6), (0, 1, -1, 2), (0, 1, 5, 2)]
)
def test_bounds(row: int, rows: int, col: int, cols: int) -> None:
    with pytest.raises(BlockError, match="10 rows and 6 columns") as caught:
        conform.span(FLOAT, row, rows, col, cols)
    assert caught.value.code == "out_of_bounds"
    conform.span(FLOAT, 8, 2, 4, 2)


@pytest.mark.parametrize("value", [1.0, "1", None, True, np.array([1])])
def test_an_index_is_an_integer(value: Any) -> None:
    with pytest.raises(BlockError, match="row must be an integer"):
        conform.integer(value, "row")
    assert conform.integer(np.uint8(7), "row") == 7


def test_row_numbers() -> None:
    assert conform.row_numbers(FLOAT, [3, 0, 9]).tolist() == [3, 0, 9]
    for rows, code in [
        ([3, 10], "out_of_bounds"),
        ([-1, 3], "out_of_bounds"),
        ([3, 3], "already_covered"),
        ([], "bad_shape"),
        ([[1, 2]], "bad_shape"),
        ([1.0], "bad_shape"),
    ]:
        with pytest.raises(BlockError) as caught:
            conform.row_numbers(FLOAT, rows)
        assert caught.value.code == code, rows
