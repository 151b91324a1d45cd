"""Main datasets of h5USID files: two-dimensional, with references to four tables of axes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ...layout import Dimension, MainLayout
from .axes import AxisTable, Lines, find_grid, read_table
from .carry import STRUCTURAL, Luggage, text_of, texts_of
from .errors import SourceError
from .model import Piece, Positions, SourceMain

ANCILLARIES = (
    "Position_Indices",
    "Position_Values",
    "Spectroscopic_Indices",
    "Spectroscopic_Values",
)

FLAT_STEP = "Spectroscopic_Step"
"""The one dimension of spectra whose steps are no grid."""


def is_main(dataset: Any) -> bool:
    """Tell whether a dataset is a main: 2-D, with four ancillaries that fit its shape."""
    if len(dataset.shape or ()) != 2:
        return False
    tables = [_ancillary(dataset, name) for name in ANCILLARIES]
    if any(table is None or len(table.shape or ()) != 2 for table in tables):
        return False
    inds, vals, spec_inds, spec_vals = (table.shape for table in tables)
    return (inds == vals and spec_inds == spec_vals) and (
        (inds[0], spec_inds[1]) == tuple(dataset.shape)
    )


def read_main(
    dataset: Any, luggage: Luggage, notes: list[str], cache: dict[Any, Any]
) -> SourceMain:
    """Read what a main dataset is.

    Parameters
    ----------
    dataset
        For which `is_main` is true.
    luggage
        Takes the main's attributes.
    notes
        Takes remarks on what was not carried as it stood.
    cache
        Keeps positions by the paths of their tables, for mains that share them.
    """
    tables = [_ancillary(dataset, name) for name in ANCILLARIES]
    inds, vals, spec_inds, spec_vals = tables
    if (inds.name, vals.name) not in cache:
        cache[inds.name, vals.name] = _read_positions(inds, vals)
    positions: Positions = cache[inds.name, vals.name]
    _note_strange_attributes(tables, notes)
    spectroscopic = _read_spectroscopic(spec_inds, spec_vals, luggage, notes)
    luggage.take(dataset, skip=STRUCTURAL)
    name = dataset.name.rsplit("/", 1)[-1]
    layout = MainLayout(
        "main",
        _text_or(dataset, "quantity", name, notes),
        _text_or(dataset, "units", "a. u.", notes),
        dataset.dtype,
        spectroscopic=spectroscopic,
        attrs=luggage.attrs,
    )

    def pieces(block_bytes: int) -> Iterator[Piece]:
        return _pieces(dataset, layout.np_dtype, positions, block_bytes)

    used = frozenset(table.name for table in tables)
    return SourceMain(dataset.name, positions, layout, used, pieces)


def _ancillary(dataset: Any, name: str) -> Any:
    """Return the dataset that a reference leads to; None if it leads nowhere."""
    reference = dataset.attrs.get(name)
    if isinstance(reference, np.ndarray) and reference.size == 1:
        reference = reference.flat[0]
    try:
        found = dataset.file[reference]
    except (TypeError, ValueError, KeyError, AttributeError):
        return None
    return found if hasattr(found, "dtype") else None


def _text_or(dataset: Any, name: str, otherwise: str, notes: list[str]) -> str:
    text = text_of(dataset, name)
    if not text:
        notes.append(f"{dataset.name} has no {name}; '{otherwise}' is used")
    return text or otherwise


def _read_positions(inds: Any, vals: Any) -> Positions:
    def read_indices(start: int, stop: int) -> npt.NDArray[np.int64]:
        return np.asarray(inds[start:stop]).astype(np.int64)

    def read(start: int, stop: int) -> Lines:
        return Lines(read_indices(start, stop), np.asarray(vals[start:stop]))

    table = AxisTable(len(inds), *_labels(inds, vals, inds.shape[1], "Position"), read)
    grid = find_grid(table)
    if grid is None:
        return Positions(read_table(table))
    if grid.is_in_order:
        return Positions(grid.dimensions)
    number = grid.number
    return Positions(
        grid.dimensions, lambda start, stop: number(read_indices(start, stop)), inds.name
    )


def _read_spectroscopic(
    inds: Any, vals: Any, luggage: Luggage, notes: list[str]
) -> list[Dimension]:
    indices, values = np.asarray(inds[()]).T.astype(np.int64), np.asarray(vals[()]).T
    labels, units = _labels(inds, vals, indices.shape[1], "Spectroscopic")
    table = AxisTable(
        len(indices),
        labels,
        units,
        lambda start, stop: Lines(indices[start:stop], values[start:stop]),
    )
    grid = find_grid(table)
    if grid is not None and grid.is_in_order:
        return grid.dimensions
    if len(labels) == 1:
        return [Dimension(labels[0], units[0], values[:, 0])]
    for d, label in enumerate(labels):
        luggage.put(f"{label} [{units[d]}]", values[:, d], place=FLAT_STEP)
    notes.append(f"{inds.name} is no grid; its values become attributes over {FLAT_STEP}")
    return [Dimension(FLAT_STEP, "", len(values))]


def _labels(inds: Any, vals: Any, count: int, kind: str) -> tuple[list[str], list[str]]:
    """Return labels and units, from whichever table has them, or made up."""
    made_up = [f"{kind}_Dimension_{d}" for d in range(count)]
    found: dict[str, list[str]] = {"labels": made_up, "units": [""] * count}
    for name in found:
        for table in (inds, vals):
            texts = texts_of(table, name)
            if len(texts) == count:
                found[name] = texts
    return found["labels"], found["units"]


def _note_strange_attributes(tables: list[Any], notes: list[str]) -> None:
    """Note attributes of axis tables that are neither part of the format nor book-keeping."""
    for table in tables:
        known = {"labels", "units", "type", "machine_id", "timestamp", "platform"}
        known.update(texts_of(table, "labels"))  # old files: a region reference for each dimension
        for name in table.attrs:
            note = f"attribute {table.name}@{name} is not carried: axis tables have none"
            if name not in known and not name.endswith("_version") and note not in notes:
                notes.append(note)


def _pieces(
    dataset: Any, dtype: np.dtype[Any], positions: Positions, block_bytes: int
) -> Iterator[Piece]:
    is_scattered = positions.row_numbers is not None
    chunks = None if is_scattered else dataset.chunks
    for start, stop, col, col_stop in _rectangles(
        dataset.shape, chunks, dtype.itemsize, block_bytes, full_width=is_scattered
    ):
        try:
            data = dataset[start:stop, col:col_stop].astype(dtype, copy=False)
        except OSError as error:
            raise SourceError(
                f"Rows {start} to {stop - 1} of {dataset.name} cannot be read: {error}.",
                hint="The file is damaged there, or a compression filter is not installed.",
            ) from error
        numbers = positions.row_numbers
        yield Piece(numbers(start, stop) if numbers else start, col, data)


def _rectangles(
    shape: tuple[int, int],
    chunks: tuple[int, int] | None,
    itemsize: int,
    block_bytes: int,
    *,
    full_width: bool,
) -> Iterator[tuple[int, int, int, int]]:
    """Divide a dataset in rectangles of whole chunks, of about ``block_bytes`` each."""
    chunk_rows, chunk_cols = chunks or (1, 1)
    band_bytes = chunk_rows * shape[1] * itemsize
    rows, cols = chunk_rows, shape[1]
    if band_bytes <= block_bytes:
        rows = chunk_rows * (block_bytes // band_bytes)
    elif not full_width:
        cols = chunk_cols * max(1, block_bytes // (chunk_rows * chunk_cols * itemsize))
    for start in range(0, shape[0], rows):
        for col in range(0, shape[1], cols):
            yield start, min(start + rows, shape[0]), col, min(col + cols, shape[1])
