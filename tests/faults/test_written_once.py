"""In a run that nothing disturbs each chunk is written once, and the file has no holes."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from support.autopsy import examine, recorded_chunks
from support.daemon import Daemon
from support.rowscan import CHUNK_ROWS, N_ROWS, PATH, make_layout, ordered, require_only, values
from usidstream import connect

N_CHUNKS = N_ROWS // CHUNK_ROWS
MOST_OVERHEAD_BYTES = 256 << 10
"""Chunk index, coverage and ancillaries, as HDF5 lays them out: 12 bytes a chunk and some pages."""


@pytest.mark.parametrize("order", ["raster", "random"])
def test_each_chunk_is_written_once(tmp_path: Path, order: str) -> None:
    rows = ordered(order, 3)
    with (
        Daemon(tmp_path / "data", flush_interval_s=0.05, memory_budget_mb=1) as daemon,
        connect(daemon.endpoint) as client,
        client.open_scan(make_layout()) as scan,
    ):
        for row in rows.tolist():
            scan.write(row, values(row)[0])
        scan.wait_durable()
        assert scan.retained_bytes == 0
        record = examine(daemon.data_dir, scan.scan_id).record
        assert record is not None
        chunks = recorded_chunks(record.journal)
        assert len(chunks) == N_CHUNKS, "the ledger has each chunk, and none twice"
        assert sorted(chunks["row"].tolist()) == list(range(0, N_ROWS, CHUNK_ROWS))
        result = scan.finish()
    require_only(result.file, rows)
    assert _overhead_bytes(Path(result.file)) < MOST_OVERHEAD_BYTES
    np.testing.assert_array_equal(
        _offsets(Path(result.file)), chunks["offset"][chunks["row"].argsort()]
    )


def _overhead_bytes(file: Path) -> int:
    with h5py.File(file, "r") as h5_file:
        stored = []
        h5_file.visititems(
            lambda _, item: stored.append(
                item.id.get_storage_size() if isinstance(item, h5py.Dataset) else 0
            )
        )
    return file.stat().st_size - sum(stored)


def _offsets(file: Path) -> list[int]:
    """Return where each chunk lies, in the order of rows."""
    found = []
    with h5py.File(file, "r") as h5_file:
        h5_file[PATH].id.chunk_iter(
            lambda info: found.append((info.chunk_offset, info.byte_offset))
        )
    return [offset for _, offset in sorted(found)]
