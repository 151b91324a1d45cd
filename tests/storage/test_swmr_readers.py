"""A stock h5py reader in another process looks on, from the first row to after the end."""

import h5py
import numpy as np
import pytest

from support.storing import (
    CREATED,
    NO_CHUNKS,
    SCAN_ID,
    chunks_of,
    complete,
    layout_of,
    main_of,
    plans_for,
    random_data,
    reading,
)
from usidstreamd.storage import CoverageUpdate, LiveFile, files
from usidstreamd.storage.datasets import LiveMain

N_POSITIONS = 4096


def make(tmp_path, **main):
    layout = layout_of(main_of(**main), n_positions=N_POSITIONS)
    path = tmp_path / "scan.h5"
    files.journal_dir(path).mkdir()
    plans = plans_for(layout, rows=64, cols=4)
    live = LiveFile.create(path, layout, plans, scan_id=SCAN_ID, created=CREATED)
    return live, layout, plans["Raw_Data"], random_data(layout, "Raw_Data")


def write(live, data, plan, lo, hi):
    for row, col, payload in chunks_of(data, plan, lo, hi):
        live.write_chunk("Raw_Data", row, col, payload)


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_a_reader_sees_rows_appear_and_never_a_claim_without_data(tmp_path, compression):
    live, _layout, plan, data = make(tmp_path, compression=compression)
    with reading(live.path, "Measurement_000/Raw_Data") as reader:
        assert reader.look()["complete"] == 0
        for lo in range(0, N_POSITIONS, 512):
            write(live, data, plan, lo, lo + 512)
            live.commit({"Raw_Data": complete(lo, lo + 512)})
            seen = reader.look()
            assert seen["complete"] == lo + 512
            assert seen["empty_rows"] == 0
        live.finalise("complete", {"note": "x" * 5000}, CREATED, NO_CHUNKS)
        assert reader.look()["complete"] == N_POSITIONS
    with h5py.File(live.path) as h5_file:
        assert np.array_equal(h5_file["Measurement_000/Raw_Data"], data)


def test_data_reach_a_reader_before_what_is_said_about_them(tmp_path, monkeypatch):
    live, _layout, plan, data = make(tmp_path)
    seen = []
    with reading(live.path, "Measurement_000/Raw_Data") as reader:
        write_coverage = LiveMain.write_coverage

        def look_first(self, update):
            seen.append((reader.look()["complete"], reader.nonzero_rows(update.lo, 512)))
            write_coverage(self, update)

        monkeypatch.setattr(LiveMain, "write_coverage", look_first)
        for lo in range(0, N_POSITIONS, 512):
            write(live, data, plan, lo, lo + 512)
            live.commit({"Raw_Data": complete(lo, lo + 512)})
    live.close()
    assert seen == [(lo, 512) for lo in range(0, N_POSITIONS, 512)]


def test_a_reader_that_never_rests_meets_no_error(tmp_path):
    live, _layout, plan, data = make(tmp_path)
    with reading(live.path, "Measurement_000/Raw_Data") as reader:
        reader.watch()
        for lo in range(0, N_POSITIONS, 64):
            write(live, data, plan, lo, lo + 64)
            live.commit({"Raw_Data": complete(lo, lo + 64)})
        live.finalise("complete", {}, CREATED, NO_CHUNKS)
        watched = reader.line()
    assert watched["empty_rows"] == 0
    assert watched["looks"] > 1


def test_a_chunk_that_is_written_again_as_it_grows(tmp_path):
    live, _layout, plan, data = make(tmp_path)
    with reading(live.path, "Measurement_000/Raw_Data") as reader:
        for n_rows in (*range(1, 128, 9), 128):
            part = np.where(np.arange(N_POSITIONS)[:, None] < n_rows, data, 0)
            write(live, part, plan, max(0, n_rows - 10) // 64 * 64, n_rows)
            live.commit({"Raw_Data": complete(0, n_rows)})
            seen = reader.look()
            assert (seen["complete"], seen["empty_rows"]) == (n_rows, 0)
        live.close()


def test_partial_ranges_grow_and_shrink_before_the_readers_eyes(tmp_path):
    live, _layout, plan, data = make(tmp_path)
    write(live, data, plan, 0, N_POSITIONS)
    with reading(live.path, "Measurement_000/Raw_Data") as reader:
        for n_ranges in (0, 3, 2500, 7, 0, 1):
            ranges = np.array([[i, i + 1, 2, 5] for i in range(n_ranges)], np.int64).reshape(-1, 4)
            states = np.where(np.arange(N_POSITIONS) < n_ranges, 2, 0).astype(np.uint8)
            live.commit({"Raw_Data": CoverageUpdate(0, states, ranges)})
            seen = reader.look()
            assert seen["partial"] == n_ranges
            assert [entry for entry in seen["ranges"] if any(entry)] == ranges.tolist()
        live.finalise("incomplete", {}, CREATED, NO_CHUNKS)
        assert reader.look()["ranges"] == [[0, 1, 2, 5]]


def test_a_reader_holds_the_file_over_close_and_resume(tmp_path):
    live, layout, plan, data = make(tmp_path)
    with reading(live.path, "Measurement_000/Raw_Data") as reader:
        for lo in range(0, N_POSITIONS, 1024):
            write(live, data, plan, lo, lo + 1024)
            live.commit({"Raw_Data": complete(lo, lo + 1024)})
            live.close()
            assert reader.look()["complete"] == lo + 1024
            live = LiveFile.resume(live.path, layout, SCAN_ID)
        live.finalise("complete", {}, CREATED, NO_CHUNKS)
        seen = reader.look()
        assert (seen["complete"], seen["empty_rows"]) == (N_POSITIONS, 0)
