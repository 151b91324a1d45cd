"""An interruption, and a resume after one, killed before each of their file operations.

The rule: what was durable is there, in complete chunks or in the row segments, whatever the file's
incomplete chunks have become.
"""

import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest

from support.journalled import damage_index, die, die_before, files_of, in_a_child
from support.storing import (
    CREATED,
    NO_RANGES,
    SCAN_ID,
    block_of,
    chunks_of,
    decision,
    layout_of,
    main_of,
    plans_for,
    random_data,
    store,
    suspend,
)
from usidstreamd.storage import (
    DataDirectory,
    FinishedScans,
    is_interrupted,
    recover_path,
    recovery,
)
from usidstreamd.storage.coverage import COMPLETE, CoverageUpdate
from usidstreamd.storage.datasets import LiveMain
from usidstreamd.storage.inspection import inspect
from usidstreamd.storage.ledger import LEDGER_NAME, replay
from usidstreamd.storage.record import OpenRecord
from usidstreamd.storage.scan import OpenScan

WHOLE, HELD = 32, 40
"""Rows in complete chunks, and rows that are durable: the last of them in the row journal."""
MAX_STEPS = 200
COUNTED = [(LiveMain, "write_coverage"), (h5py.File, "flush"), (h5py.File, "close")]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Compare in the same process: a hundred children would cost a minute."""

    def in_process(path, journal, ledger, _n_chunks, _timeout_s):
        return inspect(path, OpenRecord.read(journal), replay(ledger).chunks)

    monkeypatch.setattr(recovery, "compare", in_process)


@pytest.fixture(params=["gzip", "none"])
def layout(request):
    return layout_of(main_of(compression=request.param))


def acquire(data_dir, layout):
    """Open a scan and fill some of it, as `WHOLE` and `HELD` say."""
    data_dir.mkdir()
    data, plans = random_data(layout, "Raw_Data"), plans_for(layout)
    scan = OpenScan.create(data_dir, "scan", layout, plans, scan_id=SCAN_ID, created=CREATED)
    store(scan, "Raw_Data", chunks_of(data, plans["Raw_Data"], 0, WHOLE))
    scan.journal.commit([], [block_of(data, WHOLE, HELD)], {"note": "of the scan"})
    return scan


def interrupt(scan):
    """Interrupt a scan as the pipeline does."""
    data = random_data(scan.record.layout, "Raw_Data")
    data[HELD:] = 0
    left = chunks_of(data, scan.record.plans["Raw_Data"], WHOLE, HELD)
    store(scan, "Raw_Data", left, is_complete=False)
    decided = decision("interrupted", note="of the scan")
    missing = {"Raw_Data": [(HELD, len(data))]}
    partial = {"Raw_Data": np.array([[WHOLE, HELD, 0, 8]])}
    scan.journal.finalise(replace(decided, missing=missing, partial=partial))
    scan.journal.checkpoint(1)
    states = np.where(np.arange(len(data)) < HELD, COMPLETE, 0).astype(np.uint8)
    scan.commit({"Raw_Data": CoverageUpdate(0, states, NO_RANGES)})
    finished = FinishedScans(scan.record.path.parent)
    result = scan.finalise("interrupted", decided.attrs, CREATED, finished)
    assert (result.status, result.missing) == ("interrupted", missing)
    scan.journal.close(is_clean=True, is_done=True)


def resume_and_overwrite(record):
    """Go on with an interrupted scan: the incomplete chunks are written again, whole."""
    scan = OpenScan.resume(record)
    data = random_data(record.layout, "Raw_Data")
    scan.write("Raw_Data", chunks_of(data, record.plans["Raw_Data"], WHOLE, 48), is_complete=True)
    scan.commit({})
    suspend(scan)


def record_in(data_dir):
    directory = DataDirectory(data_dir)
    (record,) = directory.waiting()
    directory.close()
    return record


def status_of(record):
    with h5py.File(record.path) as h5_file:
        return h5_file["Measurement_000"].attrs["acquisition_status"].decode()


def require_all_held(record):
    """Resume a scan as the next daemon does: everything durable is there."""
    assert FinishedScans(record.path.parent).get(SCAN_ID) is None
    data = random_data(record.layout, "Raw_Data")
    scan = OpenScan.resume(record)
    assert scan.journal.state.decision is None
    held = np.zeros(len(data), np.bool_)
    coverage = scan.coverage()["Raw_Data"]
    for row in np.flatnonzero(coverage.states == COMPLETE).tolist():
        np.testing.assert_array_equal(scan.read_rect("Raw_Data", row, 1, 0, 8), data[row : row + 1])
        held[row] = True
    for block in scan.replay():
        rows = slice(block.row, block.row + block.rows)
        values = np.frombuffer(block.data, data.dtype).reshape(block.rows, block.cols)
        np.testing.assert_array_equal(values, data[rows])
        held[rows] = True
    assert held[:HELD].all()
    assert dict(scan.journal.state.annotations) == {"note": "of the scan"}
    suspend(scan)
    assert status_of(record) == "acquiring"
    assert not is_interrupted(record.journal / LEDGER_NAME)


def kill_at_every_step(tmp_path, prepare, work):
    """Yield the directory after each death; ``work`` ran to its end in the last."""
    for step in range(1, MAX_STEPS):
        data_dir = tmp_path / str(step)

        def run(step=step, data_dir=data_dir):
            ready = prepare(data_dir)
            die_before(step, COUNTED)
            work(ready)

        is_whole = in_a_child(run)
        yield data_dir, is_whole
        if is_whole:
            assert step > 10
            return
        shutil.rmtree(data_dir)
    raise AssertionError(f"more than {MAX_STEPS} steps")


def test_every_step_of_an_interruption(tmp_path, layout):
    def prepare(data_dir):
        return acquire(data_dir, layout)

    for data_dir, is_whole in kill_at_every_step(tmp_path, prepare, interrupt):
        record = record_in(data_dir)
        is_done = is_interrupted(record.journal / LEDGER_NAME)
        assert is_done or not is_whole
        if is_done:
            require_left_alone(record)
        require_all_held(record)


def require_left_alone(record):
    """What is interrupted is found whole, and nothing about it is changed."""
    assert status_of(record) == "interrupted"
    before = files_of(record.path.parent)
    (report,) = recover_path(record.path.parent)
    assert (report.how, report.uncertain) == (recovery.NOTHING_TO_DO, [])
    assert "interrupted" in report.reason
    assert files_of(record.path.parent) == before
    with h5py.File(record.path) as h5_file:
        stored = h5_file["Measurement_000/Raw_Data"]
        np.testing.assert_array_equal(stored[:HELD], random_data(record.layout, "Raw_Data")[:HELD])


def test_every_step_of_a_resume(tmp_path, layout):
    def prepare(data_dir):
        scan = acquire(data_dir, layout)
        interrupt(scan)
        return scan.record

    for data_dir, _is_whole in kill_at_every_step(tmp_path, prepare, resume_and_overwrite):
        require_all_held(record_in(data_dir))


def test_an_interrupted_file_that_was_damaged_is_rebuilt_and_goes_on(tmp_path, layout):
    scan = acquire(tmp_path / "data", layout)
    interrupt(scan)
    content = bytearray(scan.record.path.read_bytes())
    content[11] = 1  # as if a writer had died with it
    scan.record.path.write_bytes(content)
    (report,) = recover_path(tmp_path / "data")
    assert report.how in (recovery.IN_PLACE, recovery.REBUILT)
    assert status_of(scan.record) == "acquiring"
    assert not is_interrupted(scan.record.journal / LEDGER_NAME)
    require_all_held(scan.record)


def test_a_chunk_that_is_written_over_is_no_loss_where_the_file_is_rebuilt(tmp_path):
    layout = layout_of(main_of(compression="none"))  # its chunks keep their places
    scan = acquire(tmp_path / "data", layout)
    interrupt(scan)

    def resume_and_die():
        resume_and_overwrite(scan.record)
        die()

    assert not in_a_child(resume_and_die)
    assert damage_index(scan.record.path)
    (scan.record.journal / "suspect").write_text("its index is damaged")
    (report,) = recover_path(tmp_path / "data")
    assert (report.how, report.uncertain) == (recovery.REBUILT, [])
    require_all_held(scan.record)
