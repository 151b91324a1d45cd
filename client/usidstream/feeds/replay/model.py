"""What both file formats are read into: the positions, and mains that yield their data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...layout import Dimension, MainLayout, PositionTable

RowNumbers = npt.NDArray[np.int64]


class Piece(NamedTuple):
    """Data for a rectangle of a main, or for scattered rows of full width.

    Parameters
    ----------
    rows
        The first row, or a row number for each line of data.
    col
        The first column; 0 for scattered rows.
    data
        Shape (rows, columns).
    """

    rows: int | RowNumbers
    col: int
    data: npt.NDArray[Any]


@dataclass(frozen=True)
class Positions:
    """The positions of a file in our order.

    Parameters
    ----------
    layout
        Dimensions, fastest first, or a table.
    row_numbers
        For source rows start..stop gives the rows in the layout's order; None where they are equal.
    origin
        The path of the table that gives the row numbers; empty where there are none.
    """

    layout: list[Dimension] | PositionTable
    row_numbers: Callable[[int, int], RowNumbers] | None = None
    origin: str = ""

    def is_same(self, other: Positions) -> bool:
        """Tell whether rows of both are the same positions."""
        return self.origin == other.origin and self.layout == other.layout


@dataclass(frozen=True)
class SourceMain:
    """A main dataset of a file.

    Parameters
    ----------
    path
        Where it stands in the file.
    positions
        Its positions.
    layout
        What it becomes; its name is set when all mains are known.
    used
        Paths of the datasets that its description was read from.
    pieces
        Yields all of its data, in pieces of at most about so many bytes.
    is_nsid
        Whether the file format is NSID; else it is h5USID.
    """

    path: str
    positions: Positions
    layout: MainLayout
    used: frozenset[str]
    pieces: Callable[[int], Iterator[Piece]]
    is_nsid: bool = False
