"""Whether a block is what it claims: bounds, length, row numbers, checksum."""

from __future__ import annotations

import numpy as np

from usidstream import wire
from usidstream.errors import UsidstreamError
from usidstream.layout import MainLayout, ScanLayout


def check_block(layout: ScanLayout, block: wire.Block) -> None:
    """Refuse a block that cannot be placed.

    The checksum comes first: where it differs, nothing else that the block says can be believed.

    Raises
    ------
    UsidstreamError
        ``unknown_main``, ``bad_checksum``, ``out_of_bounds`` or ``bad_shape``; the details name
        main, row, rows, col and cols.
    """
    main = _find_main(layout, block)
    crc = wire.block_crc(block.row, block.rows, block.col, block.cols, block.frames)
    if crc != block.crc:
        raise block_error(
            block, "bad_checksum", f"the checksum is {block.crc:#010x}, computed {crc:#010x}"
        )
    _check_lengths(block, main)
    _check_bounds(block, layout.n_positions, main.n_spectroscopic)
    if len(block.frames) == 2:
        _check_row_numbers(block, layout.n_positions)


def block_error(block: wire.Block, code: str, problem: str, hint: str = "") -> UsidstreamError:
    """Return an error that names the block."""
    address = {"main": block.main, "row": block.row, "rows": block.rows}
    address |= {"col": block.col, "cols": block.cols}
    where = f"block {block.seq} of {block.main!r} (row {block.row}, {block.rows} rows, "
    where += f"col {block.col}, {block.cols} cols)"
    return UsidstreamError(f"{where}: {problem}", code=code, hint=hint, details=address)


def _find_main(layout: ScanLayout, block: wire.Block) -> MainLayout:
    try:
        return layout.main(block.main)
    except UsidstreamError as error:
        raise block_error(block, error.code, error.message, error.hint) from error


def _check_bounds(block: wire.Block, n_positions: int, n_spectroscopic: int) -> None:
    rows_end = block.row + block.rows
    if len(block.frames) == 1 and rows_end > n_positions:
        raise block_error(block, "out_of_bounds", f"the main has {n_positions} positions")
    if block.col + block.cols > n_spectroscopic:
        raise block_error(block, "out_of_bounds", f"the main has {n_spectroscopic} columns")


def _check_lengths(block: wire.Block, main: MainLayout) -> None:
    if len(block.frames) not in (1, 2):
        raise block_error(
            block, "bad_shape", f"a block has 1 or 2 raw frames, not {len(block.frames)}"
        )
    if block.rows < 1 or block.cols < 1:
        raise block_error(block, "bad_shape", "rows and cols are at least 1")
    expected = block.rows * block.cols * main.np_dtype.itemsize
    actual = len(block.frames[-1])
    if actual != expected:
        raise block_error(
            block, "bad_shape", f"the payload has {actual} bytes, {main.dtype} needs {expected}"
        )


def _check_row_numbers(block: wire.Block, n_positions: int) -> None:
    if block.row != 0 or len(block.frames[0]) != 8 * block.rows:
        raise block_error(
            block, "bad_shape", f"scattered rows need row 0 and {block.rows} x u64 numbers"
        )
    numbers = np.frombuffer(block.frames[0], dtype="<u8")
    if int(numbers.max()) >= n_positions:
        raise block_error(
            block, "out_of_bounds", f"row {int(numbers.max())} of a main of {n_positions} rows"
        )
    if np.unique(numbers).size != numbers.size:
        raise block_error(block, "bad_shape", "a row number stands twice")
