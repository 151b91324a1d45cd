"""Whether a file's main datasets and their ancillaries are what h5USID demands.

Knows the format layer's idea of a main dataset; never what has been measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import h5py
import numpy as np

from ..h5usid import check_if_main
from ..h5usid.arrangement import Arrangement, pieces
from ..h5usid.conformity import ANCILLARY_NAMES, labels_of, main_faults
from ..h5usid.reading import arrangement_of, row_reader
from .report import READ_ERRORS, MainReport, Report


def find_datasets(h5_file: Any, report: Report, step: Callable[[], None]) -> list[Any]:
    """Return every dataset of a file once; what cannot be opened is a fault."""
    found: list[Any] = []
    groups = [h5_file["/"]]
    seen = {groups[0].id}
    while groups:
        for h5_object in _members(groups.pop(), report):
            step()
            if h5_object.id in seen:
                continue
            seen.add(h5_object.id)
            if isinstance(h5_object, h5py.Group):
                groups.append(h5_object)
            elif isinstance(h5_object, h5py.Dataset):
                found.append(h5_object)
    return sorted(found, key=lambda dataset: str(dataset.name))


def _members(h5_group: Any, report: Report) -> Iterator[Any]:
    try:
        names = list(h5_group)
    except READ_ERRORS as error:
        report.fault(h5_group.name, f"its members cannot be listed: {error}")
        return
    for name in names:
        try:
            if isinstance(h5_group.get(name, getlink=True), h5py.HardLink):
                yield h5_group[name]
        except READ_ERRORS as error:
            report.fault(f"{h5_group.name.rstrip('/')}/{name}", f"cannot be opened: {error}")


def check_mains(datasets: list[Any], report: Report, step: Callable[[], None]) -> None:
    """Check each main dataset and what claims to be one; list the sound ones in the report."""
    checked: set[Any] = set()
    for dataset in datasets:
        step()
        if check_if_main(dataset):
            report.mains.append(MainReport(dataset.name, dataset.shape, str(dataset.dtype)))
            _check_ancillaries(dataset, checked, report)
        elif _claims_to_be_main(dataset):
            for fault in _faults_of(dataset):
                report.fault(dataset.name, f"is no main dataset: {fault}")
    if not report.mains:
        report.fault("", "holds no h5USID main dataset")


def _claims_to_be_main(dataset: Any) -> bool:
    try:
        return any(name in dataset.attrs for name in ANCILLARY_NAMES)
    except READ_ERRORS:
        return True


def _faults_of(dataset: Any) -> list[str]:
    try:
        return list(main_faults(dataset))
    except READ_ERRORS as error:
        return [f"it cannot be read: {error}"]


def _check_ancillaries(dataset: Any, checked: set[Any], report: Report) -> None:
    ancillaries = {name: dataset.file[dataset.attrs[name]] for name in ANCILLARY_NAMES}
    nameless = [name for name, ancillary in ancillaries.items() if ancillary.name is None]
    for name in nameless:
        report.fault(dataset.name, f"attribute {name} refers to a dataset that was deleted")
    if nameless:
        return
    pos_inds, pos_vals, spec_inds, spec_vals = ancillaries.values()
    for indices, values, is_spec in ((pos_inds, pos_vals, False), (spec_inds, spec_vals, True)):
        if indices.id in checked:  # mains share them
            continue
        checked.add(indices.id)
        try:
            _check_pair(indices, values, is_spec, report)
        except READ_ERRORS as error:
            report.fault(indices.name, f"cannot be read: {error}")


def _check_pair(indices: Any, values: Any, is_spec: bool, report: Report) -> None:
    labels = labels_of(indices)
    if len(set(labels)) < len(labels):
        report.fault(indices.name, f"dimensions have the same name: {', '.join(labels)}")
    # Others may have dimensions that depend on each other, or stop half-way through a grid; a scan
    # of the daemon's has a whole grid, or a table in which every row has its own index.
    tell = report.fault if _is_of_a_scan(indices) else report.note
    arrangement = arrangement_of(indices, is_spec)
    if arrangement.is_grid:
        for column in _columns_that_stray(arrangement, indices, values, is_spec):
            tell(values.name, f"dimension {labels[column]}: one index stands for several values")
    elif set(arrangement.sizes) != {arrangement.length}:
        tell(indices.name, f"its dimensions make no grid: {arrangement.gap}")


def _is_of_a_scan(h5_object: Any) -> bool:
    group = h5_object.parent
    while group.name != "/":
        if "scan_id" in group.attrs:
            return True
        group = group.parent
    return False


def _columns_that_stray(
    arrangement: Arrangement, indices: Any, values: Any, is_spec: bool
) -> Iterator[int]:
    """Yield the columns in which one index stands for several values, reading piece by piece."""
    read_indices, read_values = row_reader(indices, is_spec), row_reader(values, is_spec)
    n_columns = len(arrangement.sizes)
    ordered = [np.sort(units) for units in arrangement.unit_indices]
    known = [np.full(len(units), np.nan) for units in ordered]
    strayed: set[int] = set()
    for start, stop in pieces(arrangement.length):
        numbers, found = read_indices(start, stop), read_values(start, stop).astype(np.float64)
        for column in set(range(n_columns)) - strayed:
            places = np.searchsorted(ordered[column], numbers[:, column])
            steps, first = np.unique(places, return_index=True)
            fresh = np.isnan(known[column][steps])
            known[column][steps[fresh]] = found[first[fresh], column]
            if not np.array_equal(known[column][places], found[:, column], equal_nan=True):
                strayed.add(column)
                yield column
