"""One main dataset of a scan: what a value is, and what each position's spectrum runs over."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast

import numpy as np

from ..errors import LayoutError
from .attributes import AttributeValue, check_attrs, same_attrs
from .dimension import Dimension
from .dtypes import PlainDtype, check_dtype, plain_dtype
from .fields import (
    at,
    check_choice,
    check_integer,
    check_keys,
    check_name,
    check_text,
    check_unique,
    kind_of,
)

Order = Literal["rows", "columns"]
Compression = Literal["gzip", "bitshuffle-lz4", "none"]

ORDERS: tuple[Order, ...] = ("rows", "columns")
COMPRESSIONS: tuple[Compression, ...] = ("gzip", "bitshuffle-lz4", "none")

MAX_CHUNK_BYTES = 2**32 - 1
"""HDF5's limit for one chunk."""

RESERVED_DATASETS = frozenset(
    {
        "Position_Indices",
        "Position_Values",
        "Spectroscopic_Indices",
        "Spectroscopic_Values",
        "chunk_checksums",
        "completed_positions",
        "partial_ranges",
    }
)
"""Datasets that stand beside a main and that it must not be called."""

SINGLE_STEP = Dimension("Single_Step", "a. u.", 1)
"""The spectroscopic dimension of one value a position, labelled as pyUSID does."""


@dataclass(frozen=True, eq=False)
class MainLayout:
    """A main dataset: N positions times M spectroscopic steps.

    Parameters
    ----------
    name
        Unique in the scan; the key of the main on the wire.
    quantity, units
        What a value is; units may be empty.
    dtype
        Any fixed-size number type of numpy, or a flat compound; kept as its plain name.
    spectroscopic
        Dimensions of a spectrum, fastest first; one value a position by default.
    dataset
        The name in the file, ``name`` by default. Several mains may share one.
    order
        How data will come: ``rows`` (whole positions) or ``columns`` (whole images).
    chunks
        Chunk shape (rows, columns), clipped to the dataset; by rule if None.
    compression
        ``gzip``, ``bitshuffle-lz4`` or ``none``.
    shuffle
        Byte shuffle before gzip; by rule if None.
    attrs
        Further attributes of the dataset.

    Raises
    ------
    LayoutError
        Names the field and the fix.
    """

    name: str
    quantity: str
    units: str
    dtype: Any
    spectroscopic: Sequence[Dimension] = (SINGLE_STEP,)
    dataset: str = None  # type: ignore[assignment]  # None asks for the name; always str once made
    order: Order = "rows"
    chunks: tuple[int, int] | None = None
    compression: Compression = "gzip"
    shuffle: bool | None = None
    attrs: Mapping[str, AttributeValue | Any] = field(default_factory=dict)
    np_dtype: np.dtype[Any] = field(init=False)

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        check_text(self.quantity, "quantity", empty=False)
        check_text(self.units, "units", empty=True)
        check_choice(self.order, "order", ORDERS)
        check_choice(self.compression, "compression", COMPRESSIONS)
        self._check_shuffle()
        np_dtype = check_dtype(self.dtype)
        object.__setattr__(self, "np_dtype", np_dtype)
        object.__setattr__(self, "dtype", plain_dtype(np_dtype))
        spectroscopic = check_dimensions(self.spectroscopic, "spectroscopic")
        object.__setattr__(self, "spectroscopic", spectroscopic)
        object.__setattr__(self, "dataset", self._check_dataset())
        object.__setattr__(self, "chunks", self._check_chunks())
        object.__setattr__(self, "attrs", check_attrs(self.attrs))

    @property
    def n_spectroscopic(self) -> int:
        """M: the number of elements of one position."""
        return math.prod(dimension.size for dimension in self.spectroscopic)

    @property
    def row_nbytes(self) -> int:
        """Bytes of one position."""
        return self.n_spectroscopic * self.np_dtype.itemsize

    def _check_shuffle(self) -> None:
        if self.shuffle is not None and not isinstance(self.shuffle, bool):
            raise LayoutError(
                f"must be true or false, not {kind_of(self.shuffle)}.",
                field="shuffle",
                hint="Leave it out to let the daemon choose.",
            )
        if self.shuffle and self.compression != "gzip":
            raise LayoutError(
                f"does not go with compression '{self.compression}'.",
                field="shuffle",
                hint="Leave shuffle out.",
            )

    def _check_dataset(self) -> str:
        name = self.name if self.dataset is None else check_name(self.dataset, "dataset")
        if name in RESERVED_DATASETS:
            raise LayoutError(
                f"'{name}' is the name of another dataset beside the main.",
                field="name" if self.dataset is None else "dataset",
                hint="Rename it, for instance 'Raw_Data'.",
                code="bad_name",
            )
        return name

    def _check_chunks(self) -> tuple[int, int] | None:
        if self.chunks is None:
            return None
        if not isinstance(self.chunks, list | tuple) or len(self.chunks) != 2:
            raise LayoutError(
                "must be two integers.", field="chunks", hint="Give [rows, columns], or leave out."
            )
        rows, cols = (
            check_integer(length, f"chunks[{i}]", largest=MAX_CHUNK_BYTES)
            for i, length in enumerate(self.chunks)
        )
        if rows * cols * self.np_dtype.itemsize > MAX_CHUNK_BYTES:
            raise LayoutError(
                "a chunk is larger than 4 GiB.", field="chunks", hint="About 1 MiB is good."
            )
        return rows, cols

    def to_dict(self) -> dict[str, Any]:
        """Return the main as a plain dict; arrays stay arrays, and what is None is left out."""
        plain: dict[str, Any] = {
            "name": self.name,
            "quantity": self.quantity,
            "units": self.units,
            "dtype": cast(PlainDtype, self.dtype),
            "spectroscopic": [dimension.to_dict() for dimension in self.spectroscopic],
            "dataset": self.dataset,
            "order": self.order,
            "compression": self.compression,
        }
        if self.chunks is not None:
            plain["chunks"] = list(self.chunks)
        if self.shuffle is not None:
            plain["shuffle"] = self.shuffle
        return plain | {"attrs": dict(self.attrs)}

    @classmethod
    def from_dict(cls, table: object) -> Self:
        """Make a main of a plain dict; see `to_dict`."""
        table = check_keys(
            table,
            required=("name", "quantity", "units", "dtype"),
            optional=(
                "spectroscopic", "dataset", "order", "chunks", "compression", "shuffle", "attrs",
            ),
            reserved=("positions", "open_ended"),
        )  # fmt: skip
        arguments = dict(table)
        if "spectroscopic" in table:
            dimensions = read_dimensions(table["spectroscopic"], "spectroscopic")
            arguments["spectroscopic"] = dimensions
        return cls(**arguments)

    __hash__ = None  # type: ignore[assignment]  # equal by content, which may be large

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MainLayout):
            return NotImplemented
        compared = (
            "name", "quantity", "units", "dtype", "spectroscopic", "dataset", "order", "chunks",
            "compression", "shuffle",
        )  # fmt: skip
        if any(getattr(self, key) != getattr(other, key) for key in compared):
            return False
        return same_attrs(self.attrs, other.attrs)


def check_dimensions(dimensions: object, field: str) -> tuple[Dimension, ...]:
    """Check a list of dimensions: at least one, each name once."""
    if not isinstance(dimensions, list | tuple) or not dimensions:
        raise LayoutError(
            f"must be a list of at least one Dimension, not {kind_of(dimensions)}.",
            field=field,
            hint="A single point is [Dimension('Point', '', 1)].",
        )
    for i, dimension in enumerate(dimensions):
        if not isinstance(dimension, Dimension):
            raise LayoutError(
                f"must be a Dimension, not {kind_of(dimension)}.",
                field=f"{field}[{i}]",
                hint="Use Dimension(name, units, values).",
            )
    check_unique((dimension.name for dimension in dimensions), field + "[{}].name")
    return tuple(dimensions)


def read_dimensions(tables: object, field: str) -> list[Dimension]:
    """Make the dimensions of a list of plain dicts."""
    if not isinstance(tables, list | tuple):
        raise LayoutError(
            f"must be a list of dimensions, not {kind_of(tables)}.",
            field=field,
            hint="Give a list of tables with name, units and values.",
        )
    dimensions = []
    for i, table in enumerate(tables):
        with at(f"{field}[{i}]"):
            dimensions.append(Dimension.from_dict(table))
    return dimensions
