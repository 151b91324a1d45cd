"""A daemon that dies while it opens or ends a scan: the next one finds all of it or nothing."""

import sys
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from support.journalled import die, in_a_child
from support.storing import (
    CREATED,
    SCAN_ID,
    chunks_of,
    complete,
    decision,
    end,
    layout_of,
    main_of,
    plans_for,
    random_data,
    store,
    suspend,
)
from usidstreamd.storage import DataDirectory, FinishedScans, OpenRecord
from usidstreamd.storage.scan import OpenScan, let_journal_go

DATA = random_data(layout_of(main_of()), "Raw_Data")
STEPS = {"os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir"}
FEWEST_STEPS, MAX_STEPS = 6, 200


def run_all(tmp_path, phase):
    """Yield the data directory of a process that died at each of its steps in a phase."""
    for n in range(1, MAX_STEPS):
        data_dir = tmp_path / str(n)
        data_dir.mkdir()
        if in_a_child(partial(phase, data_dir, n)):
            assert n > FEWEST_STEPS
            return
        yield data_dir
    raise AssertionError(f"more than {MAX_STEPS} steps")


def die_at(number, data_dir):
    """Let this process die at a step of a number, counted from 1."""
    step = 0

    def count(event, args):
        nonlocal step
        if event in STEPS or (event == "open" and str(data_dir) in str(args[0])):
            step += 1
            if step == number:
                die()

    sys.addaudithook(count)


def open_scan(data_dir):
    layout = layout_of(main_of())
    return OpenScan.create(
        data_dir, "scan", layout, plans_for(layout), scan_id=SCAN_ID, created=CREATED
    )


def opening(data_dir, last):
    die_at(last, data_dir)
    open_scan(data_dir)


def ending(data_dir, last):
    scan = open_scan(data_dir)
    plan = scan.record.plans["Raw_Data"]
    store(scan, "Raw_Data", chunks_of(DATA, plan, 0, 32))
    die_at(last, data_dir)
    scan.journal.finalise(decision("incomplete", note="of the end"))
    scan.journal.close(is_clean=False)
    scan.commit({"Raw_Data": complete(0, 32)})
    scan.finalise("incomplete", {"note": "of the end"}, CREATED, FinishedScans(data_dir))
    let_journal_go(scan.record)


def test_every_step_of_an_opening(tmp_path):
    outcomes = [what_is_left(data_dir) for data_dir in run_all(tmp_path, opening)]
    assert set(outcomes) == {"nothing", "a scan"}
    assert outcomes == sorted(outcomes, key=["nothing", "a scan"].index)


def test_every_step_of_an_end(tmp_path):
    for data_dir in run_all(tmp_path, ending):
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
    if finished.get(record.scan_id) is not None:
        let_journal_go(record)
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
