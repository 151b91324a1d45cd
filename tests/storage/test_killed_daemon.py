"""A process that dies with the file open: exactly what was durable is there afterwards."""

import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest

from support.storing import (
    chunks_of,
    complete,
    end,
    layout_of,
    main_of,
    plans_for,
    random_data,
    store,
    suspend,
)
from usidstreamd.storage import (
    FinishedScans,
    LiveFile,
    OpenRecord,
    StorageError,
    find_journals,
    superblock,
)
from usidstreamd.storage.ledger import replay
from usidstreamd.storage.record import mark_suspect
from usidstreamd.storage.scan import OpenScan

LAYOUT = layout_of(main_of())
DATA = random_data(LAYOUT, "Raw_Data")
_WRITER = """
import sys
from pathlib import Path
from support.storing import *
from usidstreamd.storage.scan import OpenScan

layout = layout_of(main_of())
plans = plans_for(layout)
scan = OpenScan.create(
    Path(sys.argv[1]), "scan", layout, plans, scan_id=SCAN_ID, created=CREATED
)
data = random_data(layout, "Raw_Data")
store(scan, "Raw_Data", chunks_of(data, plans["Raw_Data"], 0, 16))
scan.commit({"Raw_Data": complete(0, 16)})
store(scan, "Raw_Data", chunks_of(data, plans["Raw_Data"], 16, 32))  # HDF5 did not flush these
scan.write("Raw_Data", chunks_of(data, plans["Raw_Data"], 32, 48), is_complete=True)
scan.journal.commit([], [block_of(data, 50, 55)], {"drift": 1.5})
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def killed(tmp_path):
    """Return the open record of a scan whose writer was killed."""
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(filter(None, sys.path))},
    ) as process:
        try:
            assert process.stdout.readline() == "written\n"
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    (record,) = find_journals(tmp_path)
    assert isinstance(record, OpenRecord)
    return record


def test_hdf5_never_opens_it_as_it_was_left(killed, tmp_path):
    before = killed.path.read_bytes()
    assert superblock.consistency_flags(killed.path) == 5
    with pytest.raises(StorageError, match="not closed by its writer") as caught:
        LiveFile.resume(killed.path, LAYOUT, killed.scan_id)
    assert caught.value.code == "file_damaged"
    assert "Nothing was changed" in caught.value.hint
    assert killed.path.read_bytes() == before


def test_it_is_recovered_with_exactly_what_was_durable(killed, tmp_path):
    scan = OpenScan.resume(killed)
    assert scan.coverage()["Raw_Data"].states.tolist() == [1] * 32 + [0] * 32
    assert scan.coverage()["Raw_Data"].partial.tolist() == []
    assert np.array_equal(scan.read_rect("Raw_Data", 0, 32, 0, 8), DATA[:32])
    assert scan.journal.state.annotations == {"drift": 1.5}
    (block,) = scan.replay()
    assert (block.row, block.rows, bytes(block.data)) == (50, 5, DATA[50:55].tobytes())
    store(scan, "Raw_Data", chunks_of(DATA, plans_for(LAYOUT)["Raw_Data"], 32, 64))
    scan.commit({"Raw_Data": complete(0, 64)})
    result = end(scan, "complete", FinishedScans(tmp_path), drift=1.5)
    with h5py.File(result.file) as h5_file:
        assert np.array_equal(h5_file["Measurement_000/Raw_Data"], DATA)
        assert h5_file["Measurement_000"].attrs["recoveries"] == 1
        assert h5_file["Measurement_000"].attrs["drift"] == 1.5
    assert list(find_journals(tmp_path)) == []


def test_the_operator_is_told_what_was_recovered_and_what_is_lost(killed, caplog):
    suspend(OpenScan.resume(killed))
    (told,) = caplog.records
    assert (told.levelname, told.message) == ("WARNING", "file_recovered")
    assert told.file == str(killed.path)
    assert (told.how, told.reason) == ("in place", "it was not closed, but is sound")
    caplog.clear()
    suspend(OpenScan.resume(killed))
    assert not caplog.records, "there was nothing to do"


def test_a_durable_chunk_that_the_disk_lost_is_told_as_an_error(killed, caplog):
    chunk = replay(killed.journal / "ledger").chunks.entries[0]
    with killed.path.open("r+b") as file:
        file.seek(int(chunk["offset"]))
        file.write(bytes(int(chunk["nbytes"])))
    mark_suspect(killed.journal, "EIO")
    suspend(OpenScan.resume(killed))
    rebuilt, lost = caplog.records
    assert (rebuilt.how, lost.levelname, lost.message) == ("rebuilt", "ERROR", "rows_uncertain")
    assert "rows 0 to 16, columns 0 to 4 were durable and are LOST" in lost.problem


def test_a_second_resume_after_a_clean_end_recovers_nothing(killed):
    suspend(OpenScan.resume(killed))
    scan = OpenScan.resume(killed)
    assert scan.journal.state.recoveries == 1
    assert scan.coverage()["Raw_Data"].states.tolist() == [1] * 32 + [0] * 32
    suspend(scan)
