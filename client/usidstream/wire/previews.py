"""The raw frames of previews: row numbers and values, packed and unpacked."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .limits import bad_message
from .messages import Frame
from .telemetry import (
    MAX_INCREMENT_ROWS_COUNT,
    MAX_NEWEST_DIMENSIONS,
    MAX_NEWEST_POINTS_COUNT,
    Increment,
    Newest,
)

Rows = npt.NDArray[np.integer[Any]]
Values = npt.NDArray[np.float32]

RANGES = "ranges"
NUMBERS = "numbers"


def pack_rows(rows: Rows) -> tuple[str, bytes]:
    """Return how distinct row numbers are told, and the frame: the shorter one of two forms."""
    starts = np.flatnonzero(np.diff(rows, prepend=rows[:1] - 2) != 1)
    if 2 * len(starts) >= len(rows):
        return NUMBERS, rows.astype("<u8").tobytes()
    stops = np.append(starts[1:], len(rows)) - 1
    return RANGES, np.stack([rows[starts], rows[stops] + 1], axis=1).astype("<u8").tobytes()


def unpack_increment(message: Increment) -> tuple[npt.NDArray[np.int64], Values]:
    """Return an increment's row numbers and its values, arrays of one length.

    Raises
    ------
    WireError
        ``bad_message``: the frames do not fit each other, or hold over
        `MAX_INCREMENT_ROWS_COUNT` rows.
    """
    if len(message.frames) != 2:
        raise bad_message("increment", "has other than two raw frames", field="rows")
    values = _unpack_values(message.frames[1])
    if len(values) > MAX_INCREMENT_ROWS_COUNT:
        raise bad_message("increment", f"has {len(values)} rows", field="rows")
    rows = _unpack_rows(message.rows, message.frames[0], len(values))
    return rows, values


def unpack_newest(message: Newest) -> Values:
    """Return the newest row's values as an array with one axis a dimension, slowest first.

    Raises
    ------
    WireError
        ``bad_message``: the frame does not fit the shape, or the shape not the steps.
    """
    if len(message.frames) != 1 or len(message.shape) != len(message.steps):
        raise bad_message("newest", "has other than one raw frame and a step for each length")
    if len(message.shape) > MAX_NEWEST_DIMENSIONS:
        raise bad_message("newest", f"has {len(message.shape)} dimensions", field="shape")
    n_points = math.prod(message.shape)
    if not 1 <= n_points <= MAX_NEWEST_POINTS_COUNT or n_points * 4 != len(message.frames[0]):
        problem = f"has {len(message.frames[0])} bytes for {message.shape}"
        raise bad_message("newest", problem, field="shape")
    return _unpack_values(message.frames[0]).reshape(message.shape[::-1])


def _unpack_values(frame: Frame) -> Values:
    if len(frame) % 4:
        raise bad_message("preview", "its values are not made of float32")
    values: Values = np.frombuffer(frame, "<f4").astype(np.float32, copy=False)
    return values


def _unpack_rows(form: str, frame: Frame, n_rows: int) -> npt.NDArray[np.int64]:
    width = {RANGES: 16, NUMBERS: 8}.get(form)
    if width is None or len(frame) % width:
        problem = f"no {form[:40]!r} can be made of {len(frame)} bytes"
        raise bad_message("increment", problem, field="rows")
    numbers = np.frombuffer(frame, "<u8")
    if numbers.max(initial=0) > np.iinfo(np.int64).max:
        raise bad_message("increment", "a row number is over 2**63 - 1", field="rows")
    rows: npt.NDArray[np.int64] = numbers.astype(np.int64)
    if form == RANGES:
        rows = _spread(rows.reshape(-1, 2), n_rows)
    if len(rows) != n_rows:
        raise bad_message("increment", f"{n_rows} values for {len(rows)} rows", field="rows")
    return rows


def _spread(ranges: npt.NDArray[np.int64], n_rows: int) -> npt.NDArray[np.int64]:
    """Write ranges out, once it is certain that they hold ``n_rows``."""
    lengths = ranges[:, 1] - ranges[:, 0]
    if np.any(lengths < 1) or np.any(lengths > n_rows) or int(lengths.sum()) != n_rows:
        raise bad_message("increment", f"its ranges hold other than {n_rows} rows", field="rows")
    starts = np.repeat(ranges[:, 0], lengths)
    within = np.arange(n_rows) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows: npt.NDArray[np.int64] = starts + within
    return rows
