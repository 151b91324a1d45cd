"""Whether what a measurement says of itself holds: its status, its counts, its mains' coverage.

Concerns only files with ``completed_positions`` beside a main, which this project's daemon writes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..h5usid import get_attr
from ..storage.coverage import COMPLETE, PARTIAL, used_ranges
from ..storage.datasets import STATES_BLOCK_POSITIONS
from ..storage.files import journal_dir
from ..storage.seals import checksums_beside, sealed_crc
from ..storage.structure import (
    COMPLETED,
    FINAL_STATUSES,
    PARTIAL_RANGES,
    STATUS_ACQUIRING,
    chunk_grid,
    covered_main,
)
from .coverage import missing_chunks, positions_complete, range_faults, state_faults
from .report import READ_ERRORS, MainReport, Report

STATUSES = (STATUS_ACQUIRING, *FINAL_STATUSES)


def check_measurements(h5_file: Any, report: Report, step: Callable[[], None]) -> None:
    """Check the coverage of each main that has one, then the measurements that hold them."""
    covered: dict[str, list[Any]] = {}
    for main in report.mains:
        step()
        try:
            states = _check_main(h5_file, main, report)
            measurement = _measurement_of(h5_file[main.path])
            if measurement is not None:
                main.status = str(get_attr(measurement, "acquisition_status"))
                covered.setdefault(measurement.name, []).append(states)
        except READ_ERRORS as error:
            report.fault(main.path, f"its coverage cannot be read: {error}")
    for name, states_of_mains in covered.items():
        step()
        try:
            _check_status(h5_file[name], states_of_mains, report)
        except READ_ERRORS as error:
            report.fault(name, f"its status cannot be read: {error}")


def _measurement_of(main: Any) -> Any:
    """Return the group that says how the acquisition of a main went, if any does."""
    group = main.parent
    if COMPLETED not in group or not covered_main(group, main):
        return None
    while "acquisition_status" not in group.attrs:
        if group.name == "/":
            return None
        group = group.parent
    return group


def _check_main(h5_file: Any, main: MainReport, report: Report) -> Any:
    """Check the coverage of a main; return its ``completed_positions``, None if it has none."""
    dataset = h5_file[main.path]
    group = dataset.parent
    if not covered_main(group, dataset):
        return None
    if COMPLETED not in group or PARTIAL_RANGES not in group:
        report.fault(main.path, f"has only one of {COMPLETED} and {PARTIAL_RANGES}")
        return None
    states, ranges = group[COMPLETED], group[PARTIAL_RANGES]
    if states.shape != dataset.shape[:1] or ranges.ndim != 2 or ranges.shape[1] != 4:
        report.fault(main.path, f"its coverage has shapes {states.shape} and {ranges.shape}")
        return None
    table = used_ranges(ranges[:])
    main.complete, main.partial = _count(states, COMPLETE), _count(states, PARTIAL)
    for fault in range_faults(table, *dataset.shape):
        report.fault(ranges.name, fault)
    for fault in state_faults(_blocks(states), table):
        report.fault(states.name, fault)
    _check_stored(dataset, states, table, report)
    return states


def _check_stored(dataset: Any, states: Any, table: Any, report: Report) -> None:
    if dataset.chunks is None:
        return
    rows, cols = dataset.chunks
    stored = np.zeros(chunk_grid(dataset.shape, dataset.chunks), np.bool_)

    def mark(info: Any) -> None:
        row, col = info.chunk_offset
        stored[row // rows, col // cols] = True

    dataset.id.chunk_iter(mark)
    inside = table[(table[:, 0] >= 0) & (table[:, 2] >= 0)]
    for row, col in missing_chunks(stored, (rows, cols), _blocks(states), inside):
        report.fault(
            dataset.name, f"the chunk at row {row}, column {col} is missing, though covered"
        )
    checksums = checksums_beside(dataset.parent)
    if checksums is None or sealed_crc(checksums) is None or checksums.shape[:2] != stored.shape:
        return
    has_checksum = ~stored | (checksums[..., 1] > 0)
    for row, col in missing_chunks(has_checksum, (rows, cols), _blocks(states), inside):
        report.fault(
            dataset.name, f"the chunk at row {row}, column {col} has no checksum, though covered"
        )


def _check_status(measurement: Any, states_of_mains: list[Any], report: Report) -> None:
    status = str(get_attr(measurement, "acquisition_status"))
    if status not in STATUSES:
        report.fault(measurement.name, f"acquisition_status {status!r} is unknown")
    if any(states is None for states in states_of_mains):
        return  # told already
    n_positions = len(states_of_mains[0])
    whole = positions_complete(zip(*map(_blocks, states_of_mains), strict=True))
    if status == "complete" and whole < n_positions:
        report.fault(
            measurement.name,
            f"is called complete, but only {whole} of {n_positions} positions are",
        )
    if status == "incomplete" and whole == n_positions:
        report.fault(measurement.name, "is called incomplete, but every position is complete")
    if status == STATUS_ACQUIRING:
        _note_if_alone(measurement, report)
    counted = int(get_attr(measurement, "positions_complete"))
    if status != STATUS_ACQUIRING and counted != whole:
        report.fault(measurement.name, f"positions_complete is {counted}, but {whole} are")


def _note_if_alone(measurement: Any, report: Report) -> None:
    """Note that a scan cannot go on: no fault, for a copy of a file that waits is sound."""
    journal = journal_dir(Path(report.file))
    if not journal.exists():
        report.note(
            measurement.name,
            f"the scan has not ended, and can go on only with {journal.name} beside the file: "
            "put that back, if there is one; the rows that are complete are there in any case",
        )


def _count(states: Any, state: int) -> int:
    return sum(int(np.count_nonzero(block == state)) for block in _blocks(states))


def _blocks(states: Any) -> Any:
    for start in range(0, len(states), STATES_BLOCK_POSITIONS):
        yield states[start : start + STATES_BLOCK_POSITIONS]
