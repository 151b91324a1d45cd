"""Everything that is checked in a file, in its order."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import h5py

from .checksums import load_checksums
from .chunks import check_data, check_extents, stored_chunks, units_of
from .measurements import check_measurements
from .report import READ_ERRORS, Report
from .structure import check_mains, find_datasets


class Steps(Protocol):
    """Is told how the reading goes on."""

    def expect(self, total: int) -> None:
        """Take the number of chunks that will be read."""

    def step(self) -> None:
        """Something was read that is not counted."""

    def advance(self) -> None:
        """A chunk was read."""


def read_file(path: Path, report: Report, steps: Steps) -> None:
    """Check a closed HDF5 file; what is wrong goes in the report."""
    try:
        with h5py.File(path, "r", rdcc_nbytes=0) as h5_file:
            _check(h5_file, path, report, steps)
    except READ_ERRORS as error:
        report.fault("", f"cannot be read: {error}")


def _check(h5_file: Any, path: Path, report: Report, steps: Steps) -> None:
    datasets = find_datasets(h5_file, report, steps.step)
    check_mains(datasets, report, steps.step)
    check_measurements(h5_file, report, steps.step)
    checksums = load_checksums(h5_file, path, report)
    steps.step()
    steps.expect(sum(units_of(dataset) for dataset in datasets))
    chunks = {}
    for dataset in datasets:
        chunks[dataset.name] = stored_chunks(dataset, report)
        steps.step()
    check_extents(chunks, path.stat().st_size, report)
    for dataset in datasets:
        held = checksums.get(dataset.name)
        check_data(dataset, chunks[dataset.name], report, steps.advance, held)
