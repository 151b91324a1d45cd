"""Files of writers that really died, recovered; judged by what their ledger had."""

import os
import shutil
import subprocess
import sys
import zlib

import h5py
import numpy as np
import pytest

from support.journalled import (
    JournalledScan,
    damage_index,
    die,
    files_of,
    in_a_child,
    read_main,
    read_states,
)
from support.storing import GZIP, layout_of, main_of, random_data
from usidstreamd.storage import (
    MainPlan,
    StorageError,
    comparison,
    recovery,
    structure,
    superblock,
)
from usidstreamd.storage.chunktable import ChunkAddress
from usidstreamd.storage.inspection import inspect
from usidstreamd.storage.ledger import Ledger, replay
from usidstreamd.storage.ledger_records import Chunks, Finalise, Held
from usidstreamd.storage.losses import Lost
from usidstreamd.storage.record import OpenRecord, mark_suspect
from usidstreamd.storage.recovery import journal_lock, recover
from usidstreamd.storage.relocation import recover_into
from usidstreamd.storage.segments import JournalBlock

LAYOUT = layout_of(
    main_of("Raw", n=64), main_of("Whole", "int16", 4, compression="none"), n_positions=4100
)
PLANS = {"Raw": MainPlan((4, 32), GZIP), "Whole": MainPlan((100, 4), {})}
DATA = {name: random_data(LAYOUT, name) for name in ("Raw", "Whole")}
HALF, DURABLE = 2000, 3000


def in_process(path, journal, ledger, n_chunks, timeout_s):
    return inspect(path, OpenRecord.read(journal), replay(ledger).chunks)


@pytest.fixture
def quick(monkeypatch):
    """Compare without a process of its own, where that is not what is tested."""
    monkeypatch.setattr(recovery, "compare", in_process)


def acquire(scan, *, flush_last=False, more=lambda _scan: None):
    """Write 3000 rows durably, flushed up to 2000; then die, with a few more written."""
    scan.open()
    for start in range(0, DURABLE, 500):
        scan.store("Raw", DATA["Raw"], start, start + 500)
        scan.store("Whole", DATA["Whole"], start, start + 500)
        if start + 500 == HALF:
            scan.h5_file.flush()
    block = JournalBlock(0, DURABLE, 2, 0, 64, memoryview(DATA["Raw"][DURABLE : DURABLE + 2]))
    scan.journal.commit([], [block], {"note": "x"})
    scan.write("Raw", DATA["Raw"], DURABLE, DURABLE + 100)  # never promised
    if flush_last:
        scan.h5_file.flush()
    more(scan)
    die()


@pytest.fixture
def killed(request, tmp_path):
    """Return a scan whose writer died; parametrized with True, after a last flush."""
    scan = JournalledScan(tmp_path, LAYOUT, PLANS)
    scan.flushed = getattr(request, "param", False)
    assert not in_a_child(lambda: acquire(scan, flush_last=scan.flushed))
    return scan


flushed_or_not = pytest.mark.parametrize("killed", [False, True], indirect=True)


def require_durable(scan, path=None):
    """Every durable row is in the file, and the coverage says so and no more."""
    path = path or scan.path
    assert superblock.consistency_flags(path) == 0
    state = replay(path.with_name(path.name + ".journal") / "ledger")
    assert state.is_closed
    content = path.read_bytes()
    for name in DATA:
        np.testing.assert_array_equal(read_main(path, LAYOUT, name)[:DURABLE], DATA[name][:DURABLE])
        states = read_states(path, LAYOUT, name)
        assert (states[:DURABLE] == 1).all()
        assert not states[DURABLE:].any()
    for chunk in state.chunks:
        assert zlib.crc32(content[chunk.offset : chunk.offset + chunk.nbytes]) == chunk.crc32


def recoveries(path):
    with h5py.File(path, "r") as h5_file:
        return int(h5_file["Measurement_000"].attrs["recoveries"])


@flushed_or_not
def test_a_sound_file_is_repaired_in_place(killed):
    report = recover(killed.directory)
    assert report.how == "in place", report
    n_chunks = len(replay(killed.directory / "ledger").chunks)
    put_back = 0 if killed.flushed else n_chunks - n_chunks * HALF // DURABLE
    assert (report.chunks_put_back, report.chunks_in_place) == (put_back, n_chunks - put_back)
    assert (report.blocks_to_replay, report.uncertain, report.chunks_rebuilt) == (1, [], 0)
    require_durable(killed)
    assert recoveries(killed.path) == 1


@flushed_or_not
def test_a_second_recovery_changes_nothing(killed, quick):
    recover(killed.directory)
    before = files_of(killed.path.parent)
    report = recover(killed.directory)
    assert (report.how, report.blocks_to_replay) == ("nothing to do", 1)
    assert files_of(killed.path.parent) == before


def test_a_file_that_was_closed_stays_as_it_is(tmp_path, quick):
    scan = JournalledScan(tmp_path, LAYOUT, PLANS)
    scan.open()
    scan.store("Raw", DATA["Raw"], 0, 100)
    scan.close()
    before = files_of(tmp_path)
    assert recover(scan.directory).how == "nothing to do"
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("damage", ["index", "everything", "superblock", "short"])
def test_a_damaged_file_is_rebuilt_bit_for_bit(killed, damage, quick):
    state = replay(killed.directory / "ledger")
    content = killed.path.read_bytes()
    if damage == "index":
        assert damage_index(killed.path) > 0
    elif damage == "everything":
        only_chunks = bytearray(len(content))
        for chunk in state.chunks:
            span = slice(chunk.offset, chunk.offset + chunk.nbytes)
            only_chunks[span] = content[span]
        killed.path.write_bytes(only_chunks)
    elif damage == "superblock":
        killed.path.write_bytes(b"\0" * 48 + content[48:])
    else:
        os.truncate(killed.path, state.chunks.end)
        damage_index(killed.path)
    report = recover(killed.directory)
    assert (report.how, report.uncertain, report.kept) == ("rebuilt", [], "")
    assert (report.chunks_rebuilt, report.chunks_in_place) == (len(state.chunks), 0)
    require_durable(killed)
    assert recoveries(killed.path) == 1
    assert sorted(path.name for path in killed.path.parent.iterdir()) == [
        "scan.h5",
        "scan.h5.journal",
    ]
    assert replay(killed.directory / "ledger").annotations == {"note": "x"}
    before = files_of(killed.path.parent)
    assert recover(killed.directory).how == "nothing to do"
    assert files_of(killed.path.parent) == before


def test_a_file_whose_sync_failed_is_rebuilt_whatever_it_looks_like(killed, quick):
    mark_suspect(killed.directory, "a sync failed: EIO")
    report = recover(killed.directory)
    assert (report.how, report.reason) == ("rebuilt", "a sync failed: EIO")
    require_durable(killed)
    assert recover(killed.directory).how == "nothing to do"


def test_a_durable_chunk_that_the_disk_lost_is_told_and_the_damaged_file_kept(killed, quick):
    (chunk, *_rest) = replay(killed.directory / "ledger").chunks
    content = bytearray(killed.path.read_bytes())
    content[chunk.offset + 5] ^= 1
    killed.path.write_bytes(content)
    damage_index(killed.path)
    report = recover(killed.directory)
    assert report.how == "rebuilt"
    assert report.lost == [Lost("Raw", 0, 4, 0, 32)]
    assert report.uncertain == [
        "Raw: rows 0 to 4, columns 0 to 32 were durable and are LOST: "
        "the disk did not keep what it had synced"
    ]
    assert report.kept == str(killed.path) + ".damaged"
    assert os.path.exists(report.kept)
    states = read_states(killed.path, LAYOUT, "Raw")
    assert (states[:4] == 2).all()
    assert (states[4:DURABLE] == 1).all()
    mark_suspect(killed.directory, "again")
    content = bytearray(killed.path.read_bytes())
    content[-1] ^= 1
    recover(killed.directory)
    assert os.path.exists(report.kept), "what was kept is never overwritten"


def test_without_room_nothing_is_touched(killed, quick, monkeypatch):
    damage_index(killed.path)
    before = files_of(killed.path.parent)
    usage = shutil.disk_usage(killed.path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1000))
    with pytest.raises(StorageError) as caught:
        recover(killed.directory)
    assert caught.value.code == "no_space_for_rebuild"
    assert "--into" in caught.value.hint
    assert files_of(killed.path.parent) == before
    monkeypatch.undo()
    assert recover(killed.directory).how == "rebuilt"


def test_a_scan_is_rebuilt_in_another_directory(killed, quick, tmp_path):
    damage_index(killed.path)
    before = files_of(killed.path.parent)
    report = recover_into(killed.directory, tmp_path / "big" / "disk")
    assert files_of(killed.path.parent) | before == files_of(killed.path.parent)
    moved = tmp_path / "big" / "disk" / "scan.h5"
    assert (report.how, report.file, report.blocks_to_replay) == ("rebuilt", str(moved), 1)
    require_durable(killed, moved)
    assert recover(tmp_path / "big" / "disk" / "scan.h5.journal").how == "nothing to do"
    with pytest.raises(StorageError, match="there already"):
        recover_into(killed.directory, tmp_path / "big" / "disk")


def test_an_end_that_was_decided_is_to_be_carried_out_again(tmp_path, quick):
    partial = {"Raw": np.array([[3000, 3001, 0, 7]])}
    decision = Finalise("aborted", "2025-01-01T00:00:00+00:00", {"why": "x"}, {}, partial)
    scan = JournalledScan(tmp_path, LAYOUT, PLANS)

    def finalise(scan):
        addresses = scan.write("Raw", DATA["Raw"], DURABLE, DURABLE + 4)
        scan.journal.commit([a._replace(is_complete=False) for a in addresses], [], {})
        scan.journal.finalise(decision)

    assert not in_a_child(lambda: acquire(scan, more=finalise))
    damage_index(scan.path)
    assert recover(scan.directory).how == "rebuilt"
    state = replay(scan.directory / "ledger")
    assert (state.finalise.status, state.finalise.attrs) == ("aborted", {"why": "x"})
    assert not state.is_done
    with h5py.File(scan.path, "r") as h5_file:
        ranges = h5_file["Measurement_000/Channel_000/partial_ranges"][:]
        assert ranges.tolist() == [[3000, 3001, 0, 7]]
    assert read_states(scan.path, LAYOUT, "Raw")[3000] == 2


def test_an_end_that_was_cut_short_is_taken_back_to_be_carried_out_again(tmp_path, quick):
    """The file's own word is not enough: its coverage was set back to what the ledger knows."""

    def end_in_part(scan):
        scan.journal.finalise(Finalise(status="incomplete", ended="2025-03-04T06:00:00+00:00"))
        measurement = scan.h5_file["Measurement_000"]
        structure.set_text(measurement, "acquisition_status", "incomplete")
        structure.set_text(measurement, "acquisition_end", "2025-03-04T06:00:00+00:00")
        measurement.attrs.modify("positions_complete", np.int64(4000))
        scan.h5_file.flush()

    scan = JournalledScan(tmp_path, LAYOUT, PLANS)
    assert not in_a_child(lambda: acquire(scan, more=end_in_part))
    assert recover(scan.directory).how == "in place"
    with h5py.File(scan.path, "r") as h5_file:
        measurement = h5_file["Measurement_000"]
        assert structure.get_text(measurement, "acquisition_status") == "acquiring"
        assert structure.get_text(measurement, "acquisition_end") == ""
        assert measurement.attrs["positions_complete"] == 0


def test_an_end_that_was_decided_is_told_each_time(tmp_path, quick):
    scan = JournalledScan(tmp_path, LAYOUT, PLANS)

    def decide(scan):
        scan.journal.finalise(Finalise("aborted", "2025-01-01T00:00:00+00:00"))

    assert not in_a_child(lambda: acquire(scan, more=decide))
    for how in ("in place", "nothing to do"):
        report = recover(scan.directory)
        assert (report.how, recovery.IS_DECIDED in report.reason) == (how, True)


def test_only_one_process_recovers_a_scan(killed):
    def recover_too():
        with pytest.raises(StorageError) as caught, journal_lock(killed.directory):
            pass
        assert (caught.value.code, caught.value.retryable) == ("recovering", True)

    with journal_lock(killed.directory):
        assert in_a_child(recover_too)
    with journal_lock(killed.directory):
        pass


@pytest.mark.parametrize("name", ["open", "ledger", "template.h5"])
def test_a_journal_that_is_not_whole_is_told_and_nothing_done(killed, name, quick):
    damage_index(killed.path)
    (killed.directory / name).unlink()
    before = files_of(killed.path.parent)
    with pytest.raises(StorageError):
        recover(killed.directory)
    assert files_of(killed.path.parent) == before


def test_a_file_that_is_gone_is_told(killed):
    killed.path.unlink()
    with pytest.raises(StorageError, match="missing"):
        recover(killed.directory)


def test_progress_is_told(killed, quick):
    damage_index(killed.path)
    told = []
    recover(killed.directory, progress=lambda done, total: told.append((done, total)))
    total = len(replay(killed.directory / "ledger").chunks)
    assert told[0] == (0, total)
    assert told[-1] == (total, total)


# ---------------------------------------------------------------- the comparing process


def compared(scan, timeout_s=60.0):
    state = replay(scan.directory / "ledger")
    return comparison.compare(
        scan.path, scan.directory, scan.directory / "ledger", len(state.chunks), timeout_s
    )


@flushed_or_not
def test_comparing_tells_what_is_absent_and_what_is_more(killed):
    before = killed.path.read_bytes()
    found = compared(killed)
    state = replay(killed.directory / "ledger")
    assert not found.problem
    assert len(found.absent) == (0 if killed.flushed else len(state.chunks) // 3)
    assert found.extra == (50 if killed.flushed else 0)
    assert found.agrees == killed.flushed
    assert killed.path.read_bytes() == before


@pytest.mark.parametrize("killed", [True], indirect=True)
def test_a_comparison_whose_daemon_died_ends_by_itself(killed):
    os.mkfifo(killed.directory / "stuck")  # reading it would wait for ever
    paths = (killed.path, killed.directory, killed.directory / "stuck")
    command = [sys.executable, "-m", comparison.CHILD, *map(str, paths), "1.0"]
    child = subprocess.run(command, capture_output=True, timeout=60, text=True, check=False)
    assert child.returncode == 1
    assert "Timeout" in child.stderr


@pytest.mark.parametrize("killed", [True], indirect=True)
def test_what_was_never_promised_but_cannot_be_read_is_damage(killed, quick):
    content = bytearray(killed.path.read_bytes())
    end = replay(killed.directory / "ledger").chunks.end
    content[end : end + 2000] = b"\xa5" * 2000
    killed.path.write_bytes(content)
    assert recover(killed.directory).how == "rebuilt"
    require_durable(killed)


@pytest.mark.parametrize(
    ("child", "outcome"),
    [
        ("import os; print('begin', flush=True); os.abort()", "ended with -6"),
        ("import time; print('begin', flush=True); time.sleep(99)", "took longer than"),
    ],
)
def test_a_child_that_dies_or_hangs_has_met_damage(killed, tmp_path, monkeypatch, child, outcome):
    (tmp_path / "child_double.py").write_text(child)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(comparison, "CHILD", "child_double")
    monkeypatch.setattr(comparison, "COMPARE_TIMEOUT_PER_CHUNK_S", 0)
    assert outcome in compared(killed, timeout_s=2.0).problem


def test_a_child_that_never_began_is_no_verdict(killed, monkeypatch):
    monkeypatch.setattr(comparison, "CHILD", "no_such_module")
    before = killed.path.read_bytes()
    with pytest.raises(StorageError, match="before it began") as caught:
        recover(killed.directory)
    assert caught.value.code == "internal_error"
    assert killed.path.read_bytes() == before


def test_the_child_is_this_python(killed, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(StorageError, match="before it began"):
        compared(killed)


@pytest.mark.parametrize(
    "lie",
    [
        Chunks([ChunkAddress(2, 0, 0, 100, 10, 0)]), Chunks([ChunkAddress(0, 2**60, 0, 9, 10, 0)]),
        Chunks([ChunkAddress(0, 2, 0, 100, 10, 0)]), Chunks([ChunkAddress(0, 0, 64, 100, 10, 0)]),
        Chunks([ChunkAddress(0, 0, 0, 2**63, 10, 0)]), Chunks([ChunkAddress(0, 0, 0, 100, 0, 0)]),
        Held({"Other": np.array([[0, 1, 0, 1]])}), Held({"Raw": np.array([[0, 5000, 0, 1]])}),
        Held({"Raw": np.array([[-1, 1, 0, 1]])}), Held({"Raw": np.array([[3, 2, 0, 1]])}),
    ],
    ids=str,
)  # fmt: skip
def test_a_ledger_that_cannot_be_of_its_scan_changes_nothing(killed, quick, lie):
    ledger, _state = Ledger.open(killed.directory / "ledger")
    ledger.append([lie])
    ledger.sync()
    ledger.close()
    before = files_of(killed.path.parent)
    for attempt in (recover, lambda directory: recover_into(directory, killed.path.parent / "x")):
        with pytest.raises(StorageError, match="cannot be of its scan") as caught:
            attempt(killed.directory)
        assert caught.value.code == "file_damaged"
        assert files_of(killed.path.parent) == before


@pytest.mark.parametrize("killed", [True], indirect=True)
def test_an_address_far_behind_the_file_makes_it_no_larger(killed, quick):
    ledger, state = Ledger.open(killed.directory / "ledger")
    chunk = next(iter(state.chunks))
    ledger.append([Chunks([chunk._replace(offset=2**40)])])
    ledger.sync()
    ledger.close()
    nbytes = killed.path.stat().st_size
    report = recover(killed.directory)
    assert report.how == "in place"
    assert killed.path.stat().st_size < nbytes + (1 << 20)
    require_durable(killed)
    assert recover(killed.directory).how == "nothing to do"
