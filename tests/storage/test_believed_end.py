"""A scan is finished when its closed file has what the ledger says: never a moment before."""

import os
import shutil
from datetime import UTC, datetime

import h5py
import numpy as np
import pytest

from support.journalled import damage_index
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
)
from usidstream.checksum import crc32
from usidstreamd.storage import FinishedScans, LiveFile, StorageError
from usidstreamd.storage import scan as scan_module
from usidstreamd.storage.chunktable import ChunkAddress
from usidstreamd.storage.inspection import inspect, inspect_indexes
from usidstreamd.storage.ledger import replay
from usidstreamd.storage.record import OpenRecord, suspicion
from usidstreamd.storage.scan import OpenScan
from usidstreamd.verify import verify_file

LAYOUT = layout_of(main_of(compression="none"), main_of("Other", "int16"))
PLANS = plans_for(LAYOUT)
DATA = {name: random_data(LAYOUT, name) for name in PLANS}
NOTE = "what was seen in the sample; " * 20
ENDED = datetime(2025, 3, 4, 9, 8, 7, 654321, tzinfo=UTC)


@pytest.fixture
def scan(tmp_path):
    """Return a scan whose rows are all durable."""
    scan = OpenScan.create(tmp_path, "s", LAYOUT, PLANS, scan_id=SCAN_ID, created=CREATED)
    for name in PLANS:
        store(scan, name, chunks_of(DATA[name], PLANS[name]))
    scan.commit({name: complete(0, 64) for name in PLANS})
    return scan


@pytest.fixture
def finished(tmp_path):
    return FinishedScans(tmp_path)


def flip(path, byte):
    with path.open("r+b") as file:
        file.seek(byte)
        (old,) = file.read(1)
        file.seek(byte)
        file.write(bytes([old ^ 1]))


def damage_after_closing(monkeypatch, *damages):
    """Let each damage happen to the file right after it was finalised, one for each time."""
    left, real = list(damages), LiveFile.finalise

    def finalise(self, *args):
        result = real(self, *args)
        if left:
            left.pop(0)(self.path)
        return result

    monkeypatch.setattr(LiveFile, "finalise", finalise)


def require_whole(path, recoveries=1):
    assert verify_file(path).faults == []
    with h5py.File(path) as h5_file:
        top = h5_file["Measurement_000"]
        assert top.attrs["acquisition_status"] == b"complete"
        assert top.attrs["recoveries"] == recoveries
        for name, channel in (("Raw_Data", "Channel_000"), ("Other", "Channel_001")):
            assert np.array_equal(top[channel][name][:], DATA[name])


# ---------------------------------------------------------------- the comparison at the end


def test_an_end_that_is_as_it_should_be(scan, finished):
    result = end(scan, "complete", finished)
    require_whole(scan.record.path, recoveries=0)
    assert finished.get(SCAN_ID) == result


def test_a_file_that_is_closed_damaged_is_made_anew_and_ended_again(scan, finished, monkeypatch):
    damage_after_closing(monkeypatch, damage_index)
    result = end(scan, "complete", finished, note="kept")
    assert (result.status, result.missing) == ("complete", {})
    require_whole(scan.record.path)
    with h5py.File(scan.record.path) as h5_file:
        assert h5_file["Measurement_000"].attrs["note"] == "kept"
    assert finished.get(SCAN_ID) == result
    assert {path.name for path in scan.record.path.parent.iterdir()} == {
        ".usidstream", scan.record.path.name,
    }  # fmt: skip


def test_a_chunk_that_the_index_forgot_comes_back(scan, finished):
    """Its bytes are in the file and its address in the ledger, but HDF5 does not know it."""
    path = scan.record.path
    payload = chunks_of(DATA["Raw_Data"] + 1, PLANS["Raw_Data"])[5][2]
    with path.open("ab") as file:
        offset = file.tell()
        file.write(payload)
    row, col, _ = chunks_of(DATA["Raw_Data"], PLANS["Raw_Data"])[5]
    forgotten = ChunkAddress(0, row, col, offset, len(payload), crc32(payload))
    scan.journal.commit([forgotten], [], {})
    # HDF5 takes the file's end from its superblock, and must not cut the chunk off when it closes
    kept = path.with_name("kept")
    shutil.copy(path, kept)
    real = scan._live.finalise

    def finalise(*args):
        result = real(*args)
        with kept.open("rb") as source, path.open("r+b") as target:
            source.seek(offset)
            os.pwrite(target.fileno(), source.read(len(payload)), offset)
        return result

    scan._live.finalise = finalise
    end(scan, "complete", finished)
    with h5py.File(path) as h5_file:
        raw = h5_file["Measurement_000/Channel_000/Raw_Data"]
        assert raw.id.read_direct_chunk((row, col))[1] == payload
    assert verify_file(path).faults == []


def test_an_end_that_fails_again_is_not_remembered(scan, finished, monkeypatch):
    damage_after_closing(monkeypatch, damage_index, damage_index)
    with pytest.raises(StorageError, match="not what was written") as caught:
        end(scan, "complete", finished)
    assert caught.value.code == "file_damaged"
    assert finished.get(SCAN_ID) is None
    assert "not what was written" in suspicion(scan.record.journal)
    with pytest.raises(StorageError):
        scan.close()
    record = OpenRecord.read(scan.record.journal)
    again = OpenScan.resume(record)
    assert again.journal.state.finalise.status == "complete"
    again.commit({name: complete(0, 64) for name in PLANS})
    end(again, "complete", finished)
    require_whole(record.path, recoveries=2)


def test_chunks_that_are_lost_at_the_end_are_asked_for(scan, finished, monkeypatch):
    first, *_rest = replay(scan.record.journal / "ledger").chunks

    def damage(path):
        damage_index(path)
        flip(path, first.offset)

    damage_after_closing(monkeypatch, damage)
    with pytest.raises(StorageError):
        end(scan, "complete", finished)
    assert finished.get(SCAN_ID) is None
    with pytest.raises(StorageError):
        scan.close()
    record = OpenRecord.read(scan.record.journal)
    again = OpenScan.resume(record)
    assert (again.coverage()["Raw_Data"].states[:16] == 2).all()
    store(again, "Raw_Data", chunks_of(DATA["Raw_Data"], PLANS["Raw_Data"], 0, 16))
    again.commit({name: complete(0, 64) for name in PLANS})
    end(again, "complete", finished)
    require_whole(record.path)
    assert record.path.with_name(record.path.name + ".damaged").exists()


def test_without_room_to_make_it_anew_it_is_not_remembered(scan, finished, monkeypatch):
    damage_after_closing(monkeypatch, damage_index)
    real = scan_module.reconcile

    def on_a_full_disk(journal):
        usage = shutil.disk_usage(journal)
        with monkeypatch.context() as full:
            full.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1000))
            return real(journal)

    monkeypatch.setattr(scan_module, "reconcile", on_a_full_disk)
    with pytest.raises(StorageError) as caught:
        end(scan, "complete", finished)
    assert caught.value.code == "no_space_for_rebuild"
    assert finished.get(SCAN_ID) is None
    with pytest.raises(StorageError):
        scan.close()
    monkeypatch.undo()
    again = OpenScan.resume(OpenRecord.read(scan.record.journal))
    again.commit({name: complete(0, 64) for name in PLANS})
    end(again, "complete", finished)
    require_whole(scan.record.path)


def test_both_comparisons_find_the_same(scan, tmp_path):
    path, record = scan.record.path, scan.record
    scan.close()
    chunks = replay(record.journal / "ledger").chunks
    assert inspect_indexes(path, record, chunks).agrees
    assert inspect(path, record, chunks).agrees
    damage_index(path)
    for compare in (inspect, inspect_indexes):
        assert compare(path, record, chunks).problem
    scan.journal.close(is_clean=False)


# ---------------------------------------------------------------- an end nobody lived to remember


@pytest.fixture
def unremembered(scan, finished, monkeypatch):
    """Return the record of a scan whose daemon died before it had remembered the result."""

    def die(*_args):
        raise KeyboardInterrupt

    scan.journal.finalise(decision("complete", note=NOTE))
    scan.journal.close(is_clean=False)
    with monkeypatch.context() as dying:
        dying.setattr(FinishedScans, "remember", die)
        with pytest.raises(KeyboardInterrupt):
            scan.finalise("complete", {"note": NOTE}, ENDED, finished)
    scan._lock.close()  # as a death does
    return scan.record


def end_as_decided(record, finished):
    """End a scan as the next daemon does."""
    again = OpenScan.resume(record)
    decided = again.journal.state.finalise
    again.commit({name: complete(0, 64) for name in PLANS})
    return end(again, decided.status, finished, **decided.attrs)


def test_a_final_file_that_is_whole_is_ended_again(unremembered, finished):
    """Nobody has lived to see its last sync succeed: what it looks like proves nothing."""
    result = end_as_decided(unremembered, finished)
    assert (result.status, result.missing) == ("complete", {})
    require_whole(unremembered.path)


def test_texts_of_an_end_that_are_torn_come_back(unremembered, finished):
    """Their heap has no checksum, and HDF5 can hang on it: it is read in another process only."""
    path = unremembered.path
    left = path.read_bytes()
    heap = left.rindex(b"GCOL", 0, left.index(NOTE.encode()))
    path.write_bytes(left[:heap] + bytes(512) + left[heap + 512 :])
    end_as_decided(unremembered, finished)
    require_whole(path)
    with h5py.File(path) as h5_file:
        assert h5_file["Measurement_000"].attrs["note"] == NOTE


def chunk_of(path, name):
    with h5py.File(path) as h5_file:
        return h5_file["Measurement_000/Channel_000"][name].id.get_chunk_info(0).byte_offset


@pytest.mark.parametrize("damaged", ["the index", "completed_positions", "chunk_checksums"])
def test_a_final_file_that_is_damaged_is_ended_again(unremembered, finished, damaged):
    path = unremembered.path
    if damaged == "the index":
        damage_index(path)
    else:
        flip(path, chunk_of(path, damaged) + 3)
    again = OpenScan.resume(unremembered)
    again.commit({name: complete(0, 64) for name in PLANS})
    end(again, "complete", finished)
    require_whole(path)


def test_a_final_file_whose_chunk_is_damaged_lacks_its_rows(unremembered, finished):
    flip(unremembered.path, chunk_of(unremembered.path, "Raw_Data"))
    again = OpenScan.resume(unremembered)
    assert (again.coverage()["Raw_Data"].states == [2] * 16 + [1] * 48).all()
    again.close()
    again.journal.close(is_clean=True)


def test_the_time_of_the_end_is_the_one_that_was_recorded(unremembered):
    with h5py.File(unremembered.path) as h5_file:
        ended = h5_file["Measurement_000"].attrs["acquisition_end"].decode()
    assert ended == "2025-03-04T09:08:07.654+00:00"
