"""A daemon that dies while it opens or ends a scan: the next one finds all of it or nothing."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

from support.storing import SCAN_ID, complete, end, layout_of, main_of, random_data, suspend
from usidstreamd.storage import DataDirectory, FinishedScans, OpenRecord
from usidstreamd.storage.scan import OpenScan, conclude, ended_before

DATA = random_data(layout_of(main_of()), "Raw_Data")
_DYING = """
import os, sys
from pathlib import Path
from support.storing import *
from usidstreamd.storage import FinishedScans
from usidstreamd.storage.scan import OpenScan

phase, data_dir, last = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
layout = layout_of(main_of())
STEPS = {"os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir"}
step = 0

def die(event, args):
    global step
    if event in STEPS or (event == "open" and str(data_dir) in str(args[0])):
        step += 1
        if step == last:
            os._exit(9)

if phase == "open":
    sys.addaudithook(die)
scan = OpenScan.create(
    data_dir, "scan", layout, plans_for(layout), scan_id=SCAN_ID, created=CREATED
)
if phase == "end":
    plan = plans_for(layout)["Raw_Data"]
    store(scan, "Raw_Data", chunks_of(random_data(layout, "Raw_Data"), plan, 0, 32))
    sys.addaudithook(die)
    scan.journal.finalise(decision("incomplete", note="of the end"))
    scan.journal.close(is_clean=False)
    scan.commit({"Raw_Data": complete(0, 32)})
    scan.finalise("incomplete", {"note": "of the end"}, CREATED, FinishedScans(data_dir))
    print(step)
else:
    print(step)
    suspend(scan)
"""


def run_all(tmp_path, phase):
    """Yield the data directory of a process that died at each of its steps in a phase."""
    with start(tmp_path / "whole", phase, 0) as process:
        n_steps = int(process.communicate(timeout=60)[0])
    assert n_steps > 5
    dying = {n: start(tmp_path / str(n), phase, n) for n in range(1, n_steps + 1)}
    for n, process in dying.items():
        with process:
            process.communicate(timeout=60)
        assert process.returncode == 9
        yield tmp_path / str(n)


def start(data_dir, phase, last):
    data_dir.mkdir()
    return subprocess.Popen(
        [sys.executable, "-c", _DYING, phase, str(data_dir), str(last)],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(filter(None, sys.path))},
    )


def test_every_step_of_an_opening(tmp_path):
    outcomes = [what_is_left(data_dir) for data_dir in run_all(tmp_path, "open")]
    assert set(outcomes) == {"nothing", "a scan"}
    assert outcomes == sorted(outcomes, key=["nothing", "a scan"].index)


def test_every_step_of_an_end(tmp_path):
    for data_dir in run_all(tmp_path, "end"):
        directory, finished = DataDirectory(data_dir), FinishedScans(data_dir)
        for record in directory.waiting():
            go_on_ending(record, finished)
        directory.close()
        result = finished.get(SCAN_ID)
        assert result is not None
        assert (result.status, result.missing) == ("incomplete", {"Raw_Data": [(32, 64)]})
        assert {path.name for path in data_dir.iterdir()} == {
            ".usidstream", Path(result.file).name,
        }  # fmt: skip
        with h5py.File(result.file) as h5_file:
            assert h5_file["Measurement_000"].attrs["note"] == "of the end"
            assert np.array_equal(h5_file["Measurement_000/Raw_Data"][:32], DATA[:32])


def go_on_ending(record, finished):
    """End a scan as the next daemon does."""
    result = ended_before(record, finished)
    if result is not None:
        conclude(record, result, finished)
        return
    scan = OpenScan.resume(record)
    decided = scan.journal.state.finalise
    assert (decided.status, decided.attrs) == ("incomplete", {"note": "of the end"})
    scan.commit({"Raw_Data": complete(0, 32)})
    end(scan, decided.status, finished, **decided.attrs)


def what_is_left(data_dir):
    directory = DataDirectory(data_dir)
    waiting = list(directory.waiting())
    directory.close()
    if not waiting:
        assert [path.name for path in data_dir.iterdir()] == [".usidstream"]
        return "nothing"
    (record,) = waiting
    assert isinstance(record, OpenRecord)
    assert record.layout == layout_of(main_of())
    scan = OpenScan.resume(record)
    scan.commit({})
    suspend(scan)
    return "a scan"
