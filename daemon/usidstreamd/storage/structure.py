"""What stands in a scan's file, and where: built once, empty, before anything is written.

One main stands directly in ``<name>_000``; several have a ``Channel_NNN`` each, with the position
datasets in ``<name>_000`` and equal spectroscopic datasets in the first channel that has them.
Beside each main stand ``completed_positions``, ``partial_ranges`` and ``chunk_checksums``. All
attributes that finalising sets are here from the start at fixed size, for nothing may be created
while the file is in SWMR mode. This module knows the USID model and our own names; it writes no
data.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import h5py
import numpy as np

from usidstream.errors import LayoutError
from usidstream.layout import MainLayout, PositionTable, ScanLayout

from ..h5usid import (
    create_indexed_group,
    write_ind_val_dsets,
    write_main_dataset,
    write_simple_attrs,
)
from .filters import require_filter
from .ledger_records import STATUS_INTERRUPTED
from .record import MainPlan

COMPLETED = "completed_positions"
PARTIAL_RANGES = "partial_ranges"
CHECKSUMS = "chunk_checksums"
# All are unfiltered, so that a chunk written again takes its old place instead of leaking it.
COMPLETED_CHUNK_POSITIONS = 64 * 1024
PARTIAL_CHUNK_RANGES = 256
CHECKSUMS_CHUNK_ENTRIES = 8 * 1024
CHECKSUM_COLUMNS = ("crc32", "nbytes")

CONTENT_CRC = "content_crc32"
NOT_SEALED = -1
"""The value of `CONTENT_CRC` until the scan has ended."""

NO_UNITS = "a. u."  # h5USID wants units that are not empty, and calls none arbitrary
STATUS_ACQUIRING = "acquiring"
FINAL_STATUSES = ("complete", "incomplete", "aborted", STATUS_INTERRUPTED)

_TEXT_NBYTES: Mapping[str, int] = {
    "acquisition_status": 16,
    "acquisition_start": 40,
    "acquisition_end": 40,
    "scan_id": 32,
}
_COUNTS = ("positions_complete", "recoveries")

reserved_names = frozenset(
    {
        *_TEXT_NBYTES,
        *_COUNTS,
        "quantity", "units", "labels", "type",
        "Position_Indices", "Position_Values", "Spectroscopic_Indices", "Spectroscopic_Values",
        "machine_id", "timestamp", "platform", "usidstream_version",
    }
)  # fmt: skip
"""Names of attributes that are the daemon's own."""
_ANCILLARY_ENTRY_BYTES = 8  # an index, uint32, and a value, float32


def refuse_reserved(attrs: Mapping[str, Any], field: str = "attrs") -> None:
    """Raise `LayoutError` (``bad_attribute``) if a name is one of `reserved_names`."""
    for name in attrs:
        if name in reserved_names:
            raise LayoutError(
                "is a name that the daemon writes itself.",
                field=f"{field}.{name}",
                hint="Rename the attribute.",
                code="bad_attribute",
            )


def refuse_reserved_in(layout: ScanLayout) -> None:
    """Apply `refuse_reserved` to the attributes of a layout and of its mains."""
    refuse_reserved(layout.attrs)
    for number, main in enumerate(layout.mains):
        refuse_reserved(main.attrs, f"mains[{number}].attrs")


def ancillary_nbytes(layout: ScanLayout) -> int:
    """Return what the tables of indices and values of all positions and points take, in bytes.

    With a byte for each position of each main, which tells how complete it is. A layout of a few
    words may ask for any number of them.
    """
    if isinstance(layout.positions, PositionTable):
        n_dimensions = len(layout.positions.labels)
    else:
        n_dimensions = len(layout.positions)
    n_entries = layout.n_positions * n_dimensions
    n_entries += sum(main.n_spectroscopic * len(main.spectroscopic) for main in layout.mains)
    return n_entries * _ANCILLARY_ENTRY_BYTES + layout.n_positions * len(layout.mains)


def measurement_path(layout: ScanLayout) -> str:
    """Return the path of the measurement's group."""
    return f"/{layout.name}_000"


def main_paths(layout: ScanLayout) -> dict[str, str]:
    """Return, for each main by its name, the path of its dataset."""
    top = measurement_path(layout)
    if len(layout.mains) == 1:
        return {layout.mains[0].name: f"{top}/{layout.mains[0].dataset}"}
    return {
        main.name: f"{top}/Channel_{number:03d}/{main.dataset}"
        for number, main in enumerate(layout.mains)
    }


def build(
    h5_file: Any,
    layout: ScanLayout,
    plans: Mapping[str, MainPlan],
    *,
    scan_id: str,
    created: datetime,
) -> None:
    """Create everything that a scan's file will hold, in an empty file.

    Parameters
    ----------
    h5_file : h5py.File
    plans
        For each main, by its name, its chunks and filters.
    scan_id
        32 hexadecimal digits.
    created
        When the scan was opened, with time zone; stored as ISO 8601.

    Raises
    ------
    LayoutError
        An attribute has one of `reserved_names`.
    """
    refuse_reserved_in(layout)
    for name, plan in plans.items():
        if isinstance(plan.filters.get("compression"), int):
            require_filter(plan.filters["compression"], f"main '{name}'")
    measurement = create_indexed_group(h5_file, layout.name)
    _create_status(measurement, scan_id, created)
    write_simple_attrs(measurement, layout.attrs)
    shared: dict[str, Any] = {}
    if len(layout.mains) > 1:
        inds, vals = write_ind_val_dsets(measurement, _positions(layout), is_spectral=False)
        shared = {"h5_pos_inds": inds, "h5_pos_vals": vals}
    spectroscopic: list[tuple[MainLayout, dict[str, Any]]] = []
    for main in layout.mains:
        group = measurement if not shared else create_indexed_group(measurement, "Channel")
        known = next((kept for other, kept in spectroscopic if _same_spectrum(main, other)), {})
        dataset = _create_main(group, layout, main, plans[main.name], shared | known)
        if not known:
            spectroscopic.append((main, _spectroscopic_of(h5_file, dataset)))
        _create_coverage(group, main, layout.n_positions)
        _create_checksums(group, main.dataset, dataset)


class OtherStructureError(ValueError):
    """A file does not hold what its scan's layout says; the message names the first difference."""


def require_scan(h5_file: Any, layout: ScanLayout, scan_id: str) -> None:
    """Raise `OtherStructureError` unless a file is the one that `build` made for a scan."""
    top = measurement_path(layout)
    if top not in h5_file or "scan_id" not in h5_file[top].attrs:
        raise OtherStructureError(f"{top} is missing or has no scan_id")
    found = get_text(h5_file[top], "scan_id")
    if found != scan_id:
        raise OtherStructureError(f"its scan_id is {found}, not {scan_id}")
    for name, path in main_paths(layout).items():
        group = path.rpartition("/")[0]
        _require_dataset(h5_file, path, layout.shape(name), layout.main(name).np_dtype)
        completed = f"{group}/{COMPLETED}"
        _require_dataset(h5_file, completed, (layout.n_positions,), np.dtype(np.uint8))
        _require_dataset(h5_file, f"{group}/{PARTIAL_RANGES}", (None, 4), np.dtype(np.int64))


def _require_dataset(
    h5_file: Any, path: str, shape: tuple[int | None, ...], dtype: np.dtype[Any]
) -> None:
    if path not in h5_file:
        raise OtherStructureError(f"{path} is missing")
    found = h5_file[path]
    lengths = zip(getattr(found, "shape", ()), shape, strict=False)
    same = len(found.shape) == len(shape) and all(want in (None, got) for got, want in lengths)
    if not same or found.dtype != dtype:
        raise OtherStructureError(
            f"{path} is {found.shape} of {found.dtype}, not {shape} of {dtype}"
        )


def _create_status(measurement: Any, scan_id: str, created: datetime) -> None:
    texts = dict.fromkeys(_TEXT_NBYTES, "") | {
        "acquisition_status": STATUS_ACQUIRING,
        "acquisition_start": created.isoformat(timespec="milliseconds"),
        "scan_id": scan_id,
    }
    for name, text in texts.items():
        dtype = h5py.string_dtype("utf-8", _TEXT_NBYTES[name])
        measurement.attrs.create(name, np.bytes_(text.encode()), dtype=dtype)
    for name in _COUNTS:
        measurement.attrs.create(name, 0, dtype=np.int64)


def _create_main(
    group: Any, layout: ScanLayout, main: MainLayout, plan: MainPlan, linked: Mapping[str, Any]
) -> Any:
    return write_main_dataset(
        group,
        layout.shape(main.name),
        main.dataset,
        main.quantity,
        main.units or NO_UNITS,
        None if "h5_pos_inds" in linked else _positions(layout),
        None if "h5_spec_inds" in linked else list(main.spectroscopic),
        main_dset_attrs=dict(main.attrs),
        dtype=main.np_dtype,
        chunks=plan.chunks,
        **linked,
        **plan.filters,
    )


def _positions(layout: ScanLayout) -> Any:
    positions = layout.positions
    return positions if isinstance(positions, PositionTable) else list(positions)


def _same_spectrum(main: MainLayout, other: MainLayout) -> bool:
    return tuple(main.spectroscopic) == tuple(other.spectroscopic)


def _spectroscopic_of(h5_file: Any, dataset: Any) -> dict[str, Any]:
    return {
        "h5_spec_inds": h5_file[dataset.attrs["Spectroscopic_Indices"]],
        "h5_spec_vals": h5_file[dataset.attrs["Spectroscopic_Values"]],
    }


def _create_coverage(group: Any, main: MainLayout, n_positions: int) -> None:
    completed = group.create_dataset(
        COMPLETED,
        shape=(n_positions,),
        dtype=np.uint8,
        chunks=(min(n_positions, COMPLETED_CHUNK_POSITIONS),),
    )
    states = ["missing", "complete", "partial"]
    write_simple_attrs(completed, {"main": main.dataset, "states": states, "order": main.order})
    ranges = group.create_dataset(
        PARTIAL_RANGES,
        shape=(0, 4),
        maxshape=(None, 4),
        dtype=np.int64,
        chunks=(PARTIAL_CHUNK_RANGES, 4),
    )
    write_simple_attrs(
        ranges, {"main": main.dataset, "columns": ["row", "row_end", "column", "column_end"]}
    )
    for dataset in (completed, ranges):
        dataset.attrs.create(CONTENT_CRC, NOT_SEALED, dtype=np.int64)


def _create_checksums(group: Any, main: str, dataset: Any) -> None:
    bands, across = chunk_grid(dataset.shape, dataset.chunks)
    wide = min(across, CHECKSUMS_CHUNK_ENTRIES)
    checksums = group.create_dataset(
        CHECKSUMS,
        shape=(bands, across, len(CHECKSUM_COLUMNS)),
        dtype=np.dtype("<u4"),
        chunks=(min(bands, CHECKSUMS_CHUNK_ENTRIES // wide), wide, len(CHECKSUM_COLUMNS)),
    )
    write_simple_attrs(checksums, {"main": main, "columns": list(CHECKSUM_COLUMNS)})
    checksums.attrs.create(CONTENT_CRC, NOT_SEALED, dtype=np.int64)


def chunk_grid(shape: tuple[int, int], chunks: tuple[int, int]) -> tuple[int, int]:
    """Return how many rows of chunks a main has, and chunks in each."""
    return -(-shape[0] // chunks[0]), -(-shape[1] // chunks[1])


def covered_main(group: Any, main: Any) -> bool:
    """Whether the coverage datasets in a group, if there are any, are those of a main in it.

    Mains that were added to the group later have none.
    """
    name = str(main.name).rpartition("/")[2]
    beside = [group[found] for found in (COMPLETED, PARTIAL_RANGES) if found in group]
    return bool(beside) and all(dataset.attrs.get("main", name) == name for dataset in beside)


def say_acquiring(measurement: Any) -> None:
    """Take back what an end, such as an interruption, has said of a scan that goes on."""
    if get_text(measurement, "acquisition_status") == STATUS_ACQUIRING:
        return
    set_text(measurement, "acquisition_status", STATUS_ACQUIRING)
    set_text(measurement, "acquisition_end", "")
    measurement.attrs.modify("positions_complete", np.int64(0))


def set_text(measurement: Any, name: str, text: str) -> None:
    """Set one of the measurement's own texts in place; h5py pads it to its fixed size."""
    measurement.attrs.modify(name, np.bytes_(text.encode()))


def get_text(measurement: Any, name: str) -> str:
    """Return one of the measurement's own texts."""
    return bytes(measurement.attrs[name]).decode()
