"""In what order an instrument visits positions. Pure: shapes in, row numbers out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

ORDERS = ("raster", "serpentine", "random")

RowNumbers = npt.NDArray[np.int64]


def visit(order: str, shape: tuple[int, ...], *, batch: int, seed: int = 0) -> Iterator[RowNumbers]:
    """Yield every row number of a grid once, in pieces of at most ``batch``.

    Parameters
    ----------
    order
        ``raster``: each line from its start. ``serpentine``: every other line backwards, and so for
        slower dimensions, so that each step leads to a neighbour. ``random``: a seeded permutation,
        which takes 4 bytes of memory a position.
    shape
        Steps of each dimension, fastest first.
    batch
        Largest piece.
    seed
        For ``random``.

    Raises
    ------
    ValueError
        Unknown order.
    """
    total = math.prod(shape)
    if order == "random":
        yield from _shuffled(total, batch, seed)
        return
    if order not in ORDERS:
        raise ValueError(f"Order {order!r} is not known; use one of {', '.join(ORDERS)}.")
    for start in range(0, total, batch):
        steps = np.arange(start, min(start + batch, total), dtype=np.int64)
        yield steps if order == "raster" else fold(steps, shape)


def fold(steps: RowNumbers, shape: tuple[int, ...]) -> RowNumbers:
    """Return the rows at ``steps`` of the serpentine way through a grid.

    A digit of the mixed-radix number ``step`` runs backwards wherever the number formed by the
    slower digits is odd: the reflected Gray code (Knuth, TAOCP 4A, 7.2.1.1).
    """
    rows = np.zeros_like(steps)
    stride = 1
    for size in shape:
        digit = steps // stride % size
        is_backwards = steps // (stride * size) % 2 == 1
        rows += stride * np.where(is_backwards, size - 1 - digit, digit)
        stride *= size
    return rows


def _shuffled(total: int, batch: int, seed: int) -> Iterator[RowNumbers]:
    kind: Any = np.uint32 if total <= 2**32 else np.uint64
    rows = np.arange(total, dtype=kind)
    np.random.default_rng(seed).shuffle(rows)
    for start in range(0, total, batch):
        yield rows[start : start + batch].astype(np.int64)
