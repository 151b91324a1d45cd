"""A recovery killed before each of its file operations, and begun again."""

import shutil
from functools import partial

import h5py
import numpy as np
import pytest

from support.journalled import (
    JournalledScan,
    damage_index,
    die,
    die_before,
    files_of,
    in_a_child,
    read_main,
    read_states,
)
from support.storing import layout_of, main_of, plans_for, random_data
from usidstreamd.storage import recovery, relocation
from usidstreamd.storage.address import AddressedWriter
from usidstreamd.storage.datasets import LiveMain
from usidstreamd.storage.inspection import inspect
from usidstreamd.storage.ledger import replay
from usidstreamd.storage.record import OpenRecord, mark_suspect
from usidstreamd.storage.segments import JournalBlock, RowReplay

LAYOUT = layout_of(main_of(n=16), n_positions=60)
PLANS = plans_for(LAYOUT, rows=10, cols=16)
DATA = random_data(LAYOUT, "Raw_Data")
DURABLE, FLUSHED = 40, 20
MAX_STEPS = 200
COUNTED = [
    (AddressedWriter, "write"),
    (LiveMain, "write_coverage"),
    (h5py.File, "flush"),
    (h5py.File, "close"),
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Compare in the same process: a hundred children would cost a minute."""

    def in_process(path, journal, ledger, _n_chunks, _timeout_s):
        return inspect(path, OpenRecord.read(journal), replay(ledger).chunks)

    monkeypatch.setattr(recovery, "compare", in_process)


def acquire(scan):
    scan.open()
    scan.store("Raw_Data", DATA, 0, FLUSHED)
    scan.h5_file.flush()
    scan.store("Raw_Data", DATA, FLUSHED, DURABLE)
    block = JournalBlock(0, DURABLE, 1, 0, 16, memoryview(DATA[DURABLE : DURABLE + 1]))
    scan.journal.commit([], [block], {"note": 1})
    die()


@pytest.fixture(params=["sound", "damaged", "suspect"])
def killed(request, tmp_path):
    return dead_scan(tmp_path, request.param)


def dead_scan(tmp_path, state):
    (tmp_path / "killed").mkdir()
    scan = JournalledScan(tmp_path / "killed", LAYOUT, PLANS)
    assert not in_a_child(lambda: acquire(scan))
    if state == "damaged":
        assert damage_index(scan.path)
    elif state == "suspect":
        mark_suspect(scan.directory, "EIO")
    return scan


def require_whole(directory):
    path = directory / "scan.h5"
    np.testing.assert_array_equal(read_main(path, LAYOUT, "Raw_Data")[:DURABLE], DATA[:DURABLE])
    states = read_states(path, LAYOUT, "Raw_Data")
    assert (states == (np.arange(60) < DURABLE)).all()
    with h5py.File(path, "r") as h5_file:
        assert h5_file["Measurement_000"].attrs["recoveries"] == 1
    journal = directory / "scan.h5.journal"
    state = replay(journal / "ledger")
    found = inspect(path, OpenRecord.read(journal), state.chunks)
    assert found.agrees, found
    assert state.annotations == {"note": 1}
    (block,) = RowReplay(journal, state.first_segment)
    assert bytes(block.data) == DATA[DURABLE].tobytes()
    names = {entry.name for entry in directory.iterdir()}
    assert names == {"scan.h5", "scan.h5.journal"}
    assert {entry.name for entry in journal.iterdir()} <= {
        "ledger", "lock", "open", "rows-00000001", "template.h5",
    }  # fmt: skip


def dying(work, number):
    def work_and_die():
        die_before(number, COUNTED)
        work()

    return not in_a_child(work_and_die)


def test_a_recovery_killed_at_any_step_is_done_again(killed, tmp_path):
    steps = 0
    for number in range(1, MAX_STEPS):
        directory = tmp_path / f"try-{number}"
        shutil.copytree(killed.path.parent, directory)
        died = dying(partial(recovery.recover, directory / "scan.h5.journal"), number)
        assert in_a_child(partial(recovery.recover, directory / "scan.h5.journal"))
        require_whole(directory)
        before = files_of(directory)
        assert recovery.recover(directory / "scan.h5.journal").how == "nothing to do"
        assert files_of(directory) == before
        shutil.rmtree(directory)
        if not died:
            break
        steps = number
    assert 10 < steps < MAX_STEPS - 1


def test_recoveries_killed_one_after_the_other_come_to_an_end(killed, tmp_path):
    rng = np.random.default_rng(5)
    for round_number in range(6):
        directory = tmp_path / f"try-{round_number}"
        shutil.copytree(killed.path.parent, directory)
        for number in rng.integers(1, 30, 5).tolist():
            dying(partial(recovery.recover, directory / "scan.h5.journal"), number)
        recovery.recover(directory / "scan.h5.journal")
        require_whole(directory)


def test_a_move_killed_at_any_step_leaves_the_scan_and_can_be_done_again(tmp_path):
    killed = dead_scan(tmp_path, "damaged")
    before = files_of(killed.path.parent)
    steps = 0
    for number in range(1, MAX_STEPS):
        target = tmp_path / f"to-{number}"
        move = partial(relocation.recover_into, killed.directory, target)
        died = dying(move, number)
        assert files_of(killed.path.parent) == before
        if died:
            steps = number
            if not (target / "scan.h5").exists():
                assert in_a_child(move)
            recovery.recover(target / "scan.h5.journal")
        require_whole(target)
        shutil.rmtree(target)
        if not died:
            break
    assert 10 < steps < MAX_STEPS - 1
