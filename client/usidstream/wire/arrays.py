"""What raw frames hold: checksums of blocks, the arrays of layouts and attributes, and ranges."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..checksum import crc32
from .limits import MAX_LAYOUT_DEPTH, bad_message
from .messages import Frame

Ranges: TypeAlias = "np.ndarray[Any, np.dtype[np.integer[Any]]]"

ARRAY_DTYPES = (
    *("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8"),
    *("<f2", "<f4", "<f8", "<c8", "<c16"),
)
"""The element types of arrays in messages."""

MAX_ARRAY_DIMENSIONS = 2

_ADDRESS = struct.Struct("<4Q")
_REFERENCE_KEYS = frozenset({"__array__", "dtype", "shape"})


def block_crc(row: int, rows: int, col: int, cols: int, frames: Sequence[Frame]) -> int:
    """Return the CRC-32 (IEEE 802.3, as zlib's) of a block's address and raw frames.

    The address is part of it so that a damaged one cannot put good data in the wrong place.
    """
    crc = crc32(_ADDRESS.pack(row, rows, col, cols))
    for frame in frames:
        crc = crc32(frame, crc)
    return crc


def pack_layout(layout: Any, frames: list[Frame]) -> Any:
    """Replace each array in a layout's plain form by a reference to a raw frame.

    Parameters
    ----------
    layout
        What `ScanLayout.to_dict` returns, or a part of it, or attributes.
    frames
        The message's raw frames; arrays are appended, little-endian and in C order.

    Returns
    -------
    The same with ``{"__array__": index, "dtype": "<f8", "shape": [n]}`` for each array.
    """
    if isinstance(layout, np.ndarray):
        array = np.ascontiguousarray(layout, dtype=layout.dtype.newbyteorder("<"))
        frames.append(array.tobytes())
        return {
            "__array__": len(frames) - 1,
            "dtype": array.dtype.str,
            "shape": list(array.shape),
        }
    if isinstance(layout, Mapping):
        return {key: pack_layout(value, frames) for key, value in layout.items()}
    if isinstance(layout, list | tuple):
        return [pack_layout(value, frames) for value in layout]
    return layout


def unpack_layout(layout: Any, frames: Sequence[Frame]) -> Any:
    """Put the arrays of `pack_layout` back, as read-only views of the frames.

    Raises
    ------
    WireError
        ``bad_message``: a reference does not fit its frame, or two share one (so that a short
        message cannot stand for endless data), or the layout is nested too deeply.
    """
    return _unpack(layout, frames, set(), 0)


def _unpack(layout: Any, frames: Sequence[Frame], used: set[int], depth: int) -> Any:
    if depth > MAX_LAYOUT_DEPTH:
        raise bad_message("layout", f"is nested over {MAX_LAYOUT_DEPTH} deep", field="layout")
    if isinstance(layout, dict):
        if layout.keys() == _REFERENCE_KEYS:
            return _unpack_array(layout, frames, used)
        return {key: _unpack(value, frames, used, depth + 1) for key, value in layout.items()}
    if isinstance(layout, list):
        return [_unpack(value, frames, used, depth + 1) for value in layout]
    return layout


def _unpack_array(
    reference: Mapping[str, Any], frames: Sequence[Frame], used: set[int]
) -> np.ndarray[Any, Any]:
    index = reference["__array__"]
    frame = _frame(index, frames, "__array__")
    if index in used:
        raise bad_message("layout", f"two arrays share frame {index}", field="__array__")
    used.add(index)
    dtype = _array_dtype(reference["dtype"])
    shape = _array_shape(reference["shape"])
    if math.prod(shape) * dtype.itemsize != len(frame):
        problem = f"frame {index} has {len(frame)} bytes, shape {shape} of {dtype} differs"
        raise bad_message("layout", problem, field="shape")
    if dtype.kind == "b" and not _holds_booleans(frame):
        raise bad_message("layout", f"frame {index} holds other than 0 and 1", field="__array__")
    array: np.ndarray[Any, Any] = np.ndarray(shape, dtype, frame)
    array.flags.writeable = False
    return array


def _array_dtype(name: Any) -> np.dtype[Any]:
    if type(name) is not str or name not in ARRAY_DTYPES:
        raise bad_message("layout", f"an array's dtype is none of {ARRAY_DTYPES}", field="dtype")
    return np.dtype(name)


def _array_shape(shape: Any) -> tuple[int, ...]:
    if type(shape) is not list or len(shape) > MAX_ARRAY_DIMENSIONS:
        problem = f"an array's shape is no list of at most {MAX_ARRAY_DIMENSIONS} lengths"
        raise bad_message("layout", problem, field="shape")
    if not all(type(length) is int and length >= 0 for length in shape):
        raise bad_message("layout", "an array's lengths are not integers from 0", field="shape")
    return tuple(shape)


def _holds_booleans(frame: Frame) -> bool:
    return int(np.frombuffer(frame, np.uint8).max(initial=0)) <= 1


def _frame(index: Any, frames: Sequence[Frame], field: str) -> Frame:
    if type(index) is not int or not 0 <= index < len(frames):
        raise bad_message(field, "names a frame that does not exist", field=field)
    return frames[index]


def pack_ranges(ranges: Ranges | Sequence[Sequence[int]], frames: list[Frame]) -> int:
    """Append ranges as a frame of u64 LE; return its index."""
    frames.append(np.ascontiguousarray(ranges, dtype="<u8").tobytes())
    return len(frames) - 1


def unpack_ranges(index: Any, frames: Sequence[Frame], width: int) -> list[tuple[int, ...]]:
    """Read the ranges of a frame: tuples of ``width`` integers.

    Raises
    ------
    WireError
        ``bad_message``: there is no such frame, or its length is not that of whole tuples.
    """
    frame = _frame(index, frames, "ranges")
    if len(frame) % (8 * width):
        problem = f"frame {index} is not made of {width} x u64"
        raise bad_message("ranges", problem, field="ranges")
    table = np.frombuffer(frame, dtype="<u8").reshape(-1, width)
    return [tuple(entry) for entry in table.tolist()]
