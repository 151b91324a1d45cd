"""Chunks whose bytes the disk did not keep: found by every recovery, told, and never passed on."""

import json
import os

import h5py
import numpy as np
import pytest

from support.journalled import JournalledScan, die, files_of, in_a_child, read_main, read_states
from support.storing import GZIP, layout_of, main_of, random_data
from usidstreamd.storage import MainPlan, chunkbytes, recovery
from usidstreamd.storage.chunkbytes import find_damaged
from usidstreamd.storage.chunktable import (
    ChunkAddress,
    ChunkTable,
    pack_addresses,
    unpack_entries,
)
from usidstreamd.storage.inspection import inspect
from usidstreamd.storage.ledger import replay
from usidstreamd.storage.losses import MAX_LOST_TOLD_COUNT, Lost, find_lost, in_words
from usidstreamd.storage.record import OpenRecord
from usidstreamd.storage.recovery import reconcile, recover
from usidstreamd.storage.relocation import recover_into
from usidstreamd.storage.segments import JournalBlock

LAYOUT = layout_of(
    main_of("Raw", n=8), main_of("Whole", "int16", 4, compression="none"), n_positions=64
)
PLANS = {"Raw": MainPlan((8, 4), GZIP), "Whole": MainPlan((16, 4), {})}
DATA = {name: random_data(LAYOUT, name) for name in PLANS}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    def in_process(path, journal, ledger, _n_chunks, _timeout_s):
        return inspect(path, OpenRecord.read(journal), replay(ledger).chunks)

    monkeypatch.setattr(recovery, "compare", in_process)


def block(main, rows, cols, numbers=None):
    """Return rows and columns of a main, half-open, as a client sent them."""
    picked = np.arange(*rows) if numbers is None else np.array(numbers, "<u8")
    data = np.ascontiguousarray(DATA[list(PLANS)[main]][picked, cols[0] : cols[1]])
    first = rows[0] if numbers is None else 0
    packed = None if numbers is None else picked.tobytes()
    address = (main, first, len(picked), cols[0], cols[1] - cols[0])
    return JournalBlock(*address, data.tobytes(), packed)


@pytest.fixture(params=[False, True], ids=["not flushed", "flushed"])
def killed(request, tmp_path):
    """Return a scan of 48 rows in the file, a few of them also in the journal, killed."""
    scan = JournalledScan(tmp_path, LAYOUT, PLANS)

    def acquire():
        scan.open()
        for name, data in DATA.items():
            scan.store(name, data, 0, 48)
        scan.journal.commit([], [block(0, (2, 5), (0, 8)), block(0, (0,), (0, 8), [7, 9])], {})
        if request.param:
            scan.h5_file.flush()
        die()

    assert not in_a_child(acquire)
    return scan


def chunk_at(scan, main, row, col):
    chunks = replay(scan.directory / "ledger").chunks
    return next(c for c in chunks if (c.main, c.row, c.col) == (main, row, col))


def flip(path, byte, bit=0):
    with path.open("r+b") as file:
        file.seek(byte)
        (old,) = file.read(1)
        file.seek(byte)
        file.write(bytes([old ^ 1 << bit]))


def test_a_flipped_bit_is_found_and_its_rows_count_as_missing(killed):
    raw, whole = chunk_at(killed, 0, 0, 4), chunk_at(killed, 1, 16, 0)
    flip(killed.path, raw.offset + raw.nbytes // 2)
    flip(killed.path, whole.offset)
    report = recover(killed.directory)
    assert (report.how, report.chunks_damaged) == ("rebuilt", 2)
    assert "not as they were written" in report.reason
    # rows 2 to 5 and 7 are in the journal, and will be placed again
    assert report.lost == [
        Lost("Raw", 0, 2, 4, 8),
        Lost("Raw", 5, 7, 4, 8),
        Lost("Whole", 16, 32, 0, 4),
    ]
    assert len(report.uncertain) == 3
    assert report.kept == f"{killed.path}.damaged"
    assert report.mains["Raw"] == {"in_place": 0, "rebuilt": 11, "damaged": 1}
    assert report.mains["Whole"] == {"in_place": 0, "rebuilt": 2, "damaged": 1}
    assert json.loads(json.dumps(report.to_dict()))["lost"][2]["row_end"] == 32
    assert (read_states(killed.path, LAYOUT, "Raw")[:8] == 2).all()
    assert (read_states(killed.path, LAYOUT, "Whole")[:48] == [1] * 16 + [0] * 16 + [1] * 16).all()
    expected = DATA["Whole"][:48].copy()
    expected[16:32] = 0
    assert np.array_equal(read_main(killed.path, LAYOUT, "Whole")[:48], expected)
    before = files_of(killed.path.parent)
    assert recover(killed.directory).how == "nothing to do"
    assert files_of(killed.path.parent) == before


def test_every_bit_of_every_chunk_counts(killed):
    entries = replay(killed.directory / "ledger").chunks.entries
    rng = np.random.default_rng(0)
    for number, (offset, nbytes) in enumerate(entries[["offset", "nbytes"]].tolist()):
        for _ in range(8):
            byte, bit = offset + int(rng.integers(nbytes)), int(rng.integers(8))
            flip(killed.path, byte, bit)
            assert find_damaged(killed.path, entries).tolist() == [number]
            flip(killed.path, byte, bit)
    assert find_damaged(killed.path, entries).tolist() == []


def test_sound_chunks_are_all_read_and_progress_is_told(killed, monkeypatch):
    monkeypatch.setattr(chunkbytes, "PROGRESS_EVERY_CHUNKS", 4)
    told = []
    report = recover(killed.directory, progress=lambda *counts: told.append(counts))
    assert (report.how, report.chunks_damaged, report.lost) == ("in place", 0, [])
    assert report.chunks_in_place + report.chunks_put_back == 15
    assert told[:5] == [(0, 15), (4, 15), (8, 15), (12, 15), (15, 15)]
    assert sum(counts["in_place"] for counts in report.mains.values()) == report.chunks_in_place


def test_a_sector_that_cannot_be_read_loses_what_is_on_it(killed, monkeypatch):
    bad = chunk_at(killed, 1, 32, 0)
    real = chunkbytes.read_at

    def read_at(fd, nbytes, offset):
        if offset <= bad.offset < offset + nbytes:
            raise OSError(5, "Input/output error")
        return real(fd, nbytes, offset)

    monkeypatch.setattr(chunkbytes, "read_at", read_at)
    report = recover(killed.directory)
    assert report.lost == [Lost("Whole", 32, 48, 0, 4)]


def test_a_file_that_was_cut_short_loses_only_what_was_cut(killed):
    last = max(replay(killed.directory / "ledger").chunks, key=lambda chunk: chunk.offset)
    os.truncate(killed.path, last.offset + 1)
    report = recover(killed.directory)
    assert report.chunks_damaged == 1
    assert {part.main for part in report.lost} == {"Whole"}


def test_a_rebuild_elsewhere_tells_the_same(killed, tmp_path):
    flip(killed.path, chunk_at(killed, 1, 0, 0).offset)
    report = recover_into(killed.directory, tmp_path / "other")
    assert report.lost == [Lost("Whole", 0, 16, 0, 4)]
    assert (report.chunks_damaged, report.blocks_to_replay) == (1, 2)


def test_a_daemon_does_not_read_the_journalled_rows_twice(killed, monkeypatch):
    def refuse(_self):
        raise AssertionError

    monkeypatch.setattr(recovery.RowReplay, "__iter__", refuse)
    report = reconcile(killed.directory)
    assert (report.how, report.blocks_to_replay) == ("in place", None)


# ---------------------------------------------------------------- which rows, pure


RECORD = OpenRecord("0" * 32, None, LAYOUT, PLANS, None)


def entries_of(*places):
    addresses = [ChunkAddress(main, row, col, 0, 1, 0) for main, row, col in places]
    return ChunkTable([unpack_entries(pack_addresses(addresses))]).entries


def test_rows_in_several_blocks_are_held_together():
    lost = entries_of((0, 8, 0), (0, 16, 0))
    halves = [block(0, (8, 20), (0, 3)), block(0, (8, 12), (3, 4))]
    assert find_lost(RECORD, lost, halves) == [Lost("Raw", 12, 24, 0, 4)]
    halves.append(block(0, (12, 24), (2, 8)))
    assert find_lost(RECORD, lost, halves) == [Lost("Raw", 20, 24, 0, 4)]
    halves.append(block(0, (0, 64), (0, 8)))
    assert find_lost(RECORD, lost, halves) == []


def test_scattered_rows_and_other_mains():
    lost = entries_of((0, 0, 4))
    assert find_lost(RECORD, lost, [block(1, (0, 64), (0, 4))]) == [Lost("Raw", 0, 8, 4, 8)]
    assert find_lost(RECORD, lost, [block(0, (0,), (4, 8), [0, 3, 7, 60])]) == [
        Lost("Raw", 1, 3, 4, 8),
        Lost("Raw", 4, 7, 4, 8),
    ]


def test_columns_of_a_chunk_are_lost_apart():
    lost = entries_of((0, 0, 0), (0, 0, 4), (0, 8, 0))
    assert find_lost(RECORD, lost, []) == [Lost("Raw", 0, 16, 0, 4), Lost("Raw", 0, 8, 4, 8)]


def test_many_losses_are_told_in_few_words():
    lost = [Lost("Raw", row, row + 1, 0, 4) for row in range(0, 1000, 2)]
    told = in_words(lost)
    assert len(told) == MAX_LOST_TOLD_COUNT + 1
    assert told[-1] == "and 400 more such parts are LOST"


def test_the_damaged_file_can_still_be_looked_at(killed):
    flip(killed.path, chunk_at(killed, 1, 0, 0).offset)
    report = recover(killed.directory)
    with h5py.File(report.file) as rebuilt:
        assert rebuilt["Measurement_000"].attrs["recoveries"] == 1
    assert os.path.getsize(report.kept) > 0
