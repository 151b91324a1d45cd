"""How a main is cut: the chunks of typical scans, and tiles that cover a main exactly once."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from usidstream.layout import Dimension, MainLayout
from usidstreamd.assembly import TileGrid, choose_chunks, make_grid

KIB, MIB = 1 << 10, 1 << 20


def main_of(n_spectroscopic: int, dtype: str, **layout: object) -> MainLayout:
    steps = [Dimension("Step", "", n_spectroscopic)]
    return MainLayout("Raw_Data", "Current", "nA", dtype, steps, **layout)


@pytest.mark.parametrize(
    ("n_positions", "main", "pixel_time_s", "chunks", "tile"),
    [
        pytest.param(65536, main_of(256, "float32"), None, (2048, 32), (2048, 256), id="spectra"),
        pytest.param(512, main_of(65536, "uint16"), None, (16, 8192), (16, 65536), id="stem"),
        pytest.param(65536, main_of(1, "float32"), None, (4096, 1), (4096, 1), id="afm"),
        pytest.param(
            4096**2, main_of(1, "float32"), None, (262144, 1), (262144, 1), id="afm-4096x4096"
        ),
        pytest.param(
            262144,
            main_of(512, "uint16", order="columns"),
            None,
            (32768, 8),
            (262144, 8),
            id="timeseries",
        ),
        pytest.param(16384, main_of(2048, "float64"), 1.0, (10, 256), (10, 2048), id="slow-scan"),
        pytest.param(4096, main_of(64, "float64"), 1.0, (32, 64), (32, 64), id="slow-16-KiB-floor"),
        pytest.param(65536, main_of(256, "float32"), 0.1, (100, 43), (100, 256), id="10-s-fill"),
        pytest.param(
            100, main_of(64 * MIB, "uint8"), None, (1, MIB), (1, 8 * MIB), id="8-MiB-band"
        ),
        pytest.param(1, main_of(2045, "float32"), None, (1, 2045), (1, 2045), id="one-curve"),
        pytest.param(
            65536, main_of(256, "float32", chunks=(64, 256)), 1.0, (64, 256), (64, 256), id="chosen"
        ),
        pytest.param(
            100, main_of(32, "int16", chunks=(999, 99)), None, (100, 32), (100, 32), id="clipped"
        ),
        pytest.param(
            4096,
            main_of(8192, "float32", chunks=(512, 1024)),
            None,
            (512, 1024),
            (512, 4096),
            id="chosen-wider-than-a-band",
        ),
    ],
)
def test_typical_scans(
    n_positions: int,
    main: MainLayout,
    pixel_time_s: float | None,
    chunks: tuple[int, int],
    tile: tuple[int, int],
) -> None:
    assert choose_chunks(main, n_positions, pixel_time_s) == chunks
    grid = make_grid(main, n_positions, pixel_time_s)
    assert (grid.chunk_rows, grid.chunk_cols) == chunks
    assert (grid.tile_rows, grid.tile_cols) == tile
    assert grid.by_columns == (main.order == "columns")


@given(
    n_positions=st.integers(1, 10**8),
    n_spectroscopic=st.integers(1, 10**7),
    dtype=st.sampled_from(["uint8", "int16", "float32", "float64", "complex128"]),
    order=st.sampled_from(["rows", "columns"]),
    pixel_time_s=st.none() | st.floats(1e-6, 1e4),
)
def test_any_scan_has_sensible_chunks(
    n_positions: int, n_spectroscopic: int, dtype: str, order: str, pixel_time_s: float | None
) -> None:
    main = main_of(n_spectroscopic, dtype, order=order)
    rows, cols = choose_chunks(main, n_positions, pixel_time_s)
    assert 1 <= rows <= n_positions
    assert 1 <= cols <= n_spectroscopic
    nbytes = rows * cols * main.np_dtype.itemsize
    whole = n_positions * main.row_nbytes
    assert nbytes <= MIB + 16 * KIB
    assert nbytes >= min(whole, 4 * KIB)
    grid = make_grid(main, n_positions, pixel_time_s)
    assert grid.tile_elements * main.np_dtype.itemsize <= 8 * MIB


def test_a_slow_scan_fills_a_chunk_within_ten_seconds() -> None:
    for pixel_time_s in (0.05, 0.5, 1.0, 3.0):
        rows, cols = choose_chunks(main_of(4096, "float64"), 16384, pixel_time_s)
        assert rows * pixel_time_s <= 10
        assert rows * cols * 8 >= 16 * KIB


@pytest.mark.parametrize("order", ["rows", "columns"])
def test_tiles_and_chunks_cover_the_main_once(order: str) -> None:
    shape = (23, 17)
    tile = {"tile_cols": 12} if order == "rows" else {"tile_cols": 4, "tile_rows": 10}
    grid = TileGrid(*shape, chunk_rows=5, chunk_cols=4, order=order, **tile)
    main = np.arange(shape[0] * shape[1]).reshape(shape)
    seen = np.zeros(shape, int)
    for index in range(grid.n_tiles):
        rect = grid.rect(index)
        elements = main[rect.row : rect.row_end, rect.col : rect.col_end]
        for (row, col), chunk in grid.chunks(rect, elements):
            assert row % 5 == col % 4 == 0
            np.testing.assert_array_equal(chunk, main[row : row + 5, col : col + 4])
            seen[row : row + 5, col : col + 4] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize(
    ("shape", "chunk", "tile", "named"),
    [
        ((10, 10), (11, 5), (11, 5), "chunk of 11 rows"),
        ((10, 10), (5, 0), (5, 5), "chunk of 0 columns"),
        ((10, 10), (5, 3), (5, 7), "tile of 7 columns"),
        ((10, 10), (3, 5), (5, 5), "tile of 5 rows"),
        ((10, 10), (5, 5), (5, 15), "tile of 15 columns"),
    ],
)
def test_a_grid_of_broken_chunks_is_refused(
    shape: tuple[int, int], chunk: tuple[int, int], tile: tuple[int, int], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        TileGrid(*shape, *chunk, tile_cols=tile[1], tile_rows=tile[0])
