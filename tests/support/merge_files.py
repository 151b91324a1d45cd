"""Finished scans to be merged, and ways to hold a session against them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from support.storing import CREATED, end, layout_of, main_of, plans_for, random_data, store
from usidstream.layout import ScanLayout
from usidstreamd import codecs
from usidstreamd.storage import CoverageUpdate, FinishedScans, MainPlan
from usidstreamd.storage.scan import OpenScan

REFERENCES = (h5py.Reference, h5py.RegionReference)


def two_channels(compression: str = "gzip", name: str = "Measurement", **more: Any) -> ScanLayout:
    """Return a layout whose mains share positions and, two of them, the spectroscopic steps."""
    mains = [
        main_of("A", n=7, compression=compression),
        main_of("B", "int16", n=7, compression=compression),
        main_of("C", n=3, compression=compression),
    ]
    return layout_of(*mains, name=name, **more)


def open_scan(folder: Path, layout: ScanLayout, scan_id: str) -> OpenScan:
    """Open a scan with half of its chunks in the file."""
    folder.mkdir(exist_ok=True)
    plans = plans_for(layout)
    for main in layout.mains:
        codec = codecs.choose(main.compression, None, main.np_dtype)
        plans[main.name] = MainPlan(plans[main.name].chunks, codec.hdf5_filters)
    scan = OpenScan.create(folder, "s", layout, plans, scan_id=scan_id, created=CREATED)
    for main in layout.mains:
        codec = codecs.choose(main.compression, None, main.np_dtype)
        rows, cols = plans[main.name].chunks
        data = random_data(layout, main.name, seed=int(scan_id[:4], 16))
        chunks = [
            (row, col, codec.encode(data[row : row + rows, col : col + cols], (rows, cols), col))
            for row in range(0, data.shape[0], rows)
            for col in range(0, data.shape[1], cols)
        ]
        store(scan, main.name, chunks)
    return scan


def finished(
    folder: Path, scan_id: str, layout: ScanLayout | None = None, status: str = "incomplete"
) -> Path:
    """End a scan, incomplete ones with a missing and some partial positions; return its file."""
    layout = layout or two_channels()
    scan = open_scan(folder, layout, scan_id)
    states = np.ones(layout.n_positions, np.uint8)
    ranges = np.empty((0, 4), np.int64)
    if status == "incomplete":
        states[3], states[9:11] = 0, 2
        ranges = np.array([[9, 11, 0, 2]], np.int64)
    scan.commit({main.name: CoverageUpdate(0, states, ranges) for main in layout.mains})
    end(scan, status, FinishedScans(folder), drift_nm=1.5)
    return scan.record.path


def scan_id(number: int) -> str:
    return f"{number:04x}" + "0123456789ab" * 2 + "cdef"


def stored(dataset: Any) -> dict[tuple[int, ...], tuple[int, bytes]]:
    """Return filter mask and bytes of every chunk, as they stand in the file."""
    found = []
    dataset.id.chunk_iter(lambda info: found.append(info.chunk_offset))
    return {offset: dataset.id.read_direct_chunk(offset) for offset in found}


def described(group: Any) -> dict[str, Any]:
    """Return all that a group holds, with paths relative to it, to compare copies."""
    found: dict[str, Any] = {"": _attributes(group, group)}

    def visit(name: str, item: Any) -> None:
        entry: list[Any] = [_attributes(item, group)]
        if isinstance(item, h5py.Dataset):
            entry += [item.shape, item.dtype, item.chunks, item.maxshape, _filters(item)]
            plain = h5py.check_ref_dtype(item.dtype) is None
            entry.append(stored(item) if item.chunks and plain else repr(item[()]))
        found[name] = entry

    group.visititems(visit)
    return found


def _filters(dataset: Any) -> list[Any]:
    plist = dataset.id.get_create_plist()
    return [plist.get_filter(number)[:3] for number in range(plist.get_nfilters())]


def _attributes(item: Any, top: Any) -> dict[str, Any]:
    def told(value: Any) -> Any:
        if isinstance(value, h5py.RegionReference):
            return "region", item.file[value].name.removeprefix(top.name), repr(item[value])
        if isinstance(value, h5py.Reference):
            return "object", item.file[value].name.removeprefix(top.name)
        return type(value).__name__, getattr(value, "dtype", None), repr(value)

    return {
        name: told(item.attrs[name]) for name in item.attrs if not name.startswith("merged_from_")
    }


def everything(folder: Path) -> dict[str, str]:
    """Return a digest of every file in a folder and below."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
