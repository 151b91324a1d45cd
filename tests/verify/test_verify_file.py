import json
import shutil
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from support.storing import (
    CREATED,
    NO_RANGES,
    SCAN_ID,
    chunks_of,
    end,
    layout_of,
    main_of,
    plans_for,
    random_data,
    store,
    suspend,
)
from usidstream import layout
from usidstream.layout import PositionTable, ScanLayout
from usidstreamd import verify
from usidstreamd.h5usid import Dimension, create_indexed_group, write_main_dataset
from usidstreamd.storage import CoverageUpdate, FinishedScans
from usidstreamd.storage.scan import OpenScan
from usidstreamd.verify import Report, chunks, verify_file
from usidstreamd.verify.reading import read_file

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
TOP = "/Measurement_000"
LAYOUT = layout_of(main_of())


def record(tmp_path, layout=LAYOUT, status="complete", *, states=None, ranges=NO_RANGES):
    """Write a scan as the daemon does; return its file."""
    plans = plans_for(layout)
    scan = OpenScan.create(tmp_path, "s", layout, plans, scan_id=SCAN_ID, created=CREATED)
    for main in layout.mains:
        data = random_data(layout, main.name)
        store(scan, main.name, chunks_of(data, plans[main.name]))
    states = np.ones(layout.n_positions, np.uint8) if states is None else states
    update = CoverageUpdate(0, states, ranges)
    scan.commit({main.name: update for main in layout.mains})
    if status == "acquiring":
        suspend(scan)
    else:
        end(scan, status, FinishedScans(tmp_path))
    return scan.record.path


def partly():
    states = np.ones(64, np.uint8)
    states[3], states[9:11] = 0, 2
    return {"states": states, "ranges": np.array([[9, 11, 0, 2], [9, 11, 5, 8]], np.int64)}


class NoSteps:
    def expect(self, total):
        pass

    def step(self):
        pass

    advance = step


def faults_here(path):
    """Return the faults, read without a process of its own: for files that HDF5 reads well."""
    report = Report(str(path))
    read_file(path, report, NoSteps())
    return report.faults


# ---------------------------------------------------------------- sound files


@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("dtype", ["float32", "complex64", [("a", "<i2"), ("b", "<f8")]])
def test_a_complete_scan_is_sound(tmp_path, dtype, compression):
    layout = layout_of(main_of(dtype=dtype, n=7, compression=compression), n_positions=61)
    report = verify_file(record(tmp_path, layout))
    assert report.faults == report.notes == []
    (main,) = report.mains
    assert (main.path, main.shape) == (f"{TOP}/Raw_Data", (61, 7))
    assert (main.complete, main.partial, main.status) == (61, 0, "complete")
    assert report.chunks >= 8


@pytest.mark.parametrize("status", ["acquiring", "incomplete", "aborted"])
def test_a_scan_with_gaps_is_sound(tmp_path, status):
    layout = layout_of(main_of("A"), main_of("B", "int16"))
    report = verify_file(record(tmp_path, layout, status, **partly()))
    assert report.faults == []
    assert [(main.complete, main.partial, main.status) for main in report.mains] == [
        (61, 2, status)
    ] * 2


def test_a_scan_that_cannot_go_on_is_noted(tmp_path):
    path = record(tmp_path, status="acquiring")
    assert not any("has not ended" in note for note in verify_file(path).notes)
    alone = tmp_path / "copy.h5"
    shutil.copy(path, alone)
    report = verify_file(alone)
    assert report.faults == []
    assert any("only with copy.h5.journal beside" in note for note in report.notes)


def test_a_table_of_positions_is_sound(tmp_path):
    values = np.random.default_rng(0).random((64, 2))
    layout = ScanLayout(
        positions=PositionTable(["X", "Y"], ["nm", "nm"], values), mains=[main_of()]
    )
    report = verify_file(record(tmp_path, layout))
    assert report.faults == report.notes == []


def guide_file(path, **more):
    """Write a file as anybody may, without our coverage."""
    with h5py.File(path, "w") as h5_file:
        group = create_indexed_group(h5_file, "Measurement")
        write_main_dataset(
            group,
            np.arange(15 * 7, dtype="f8").reshape(15, 7),
            "Raw_Data",
            "Current",
            "nA",
            [Dimension("X", "nm", 5), Dimension("Y", "nm", 3)],
            [Dimension("Bias", "V", 7)],
            **more,
        )
    return path


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"chunks": (4, 3)},
        {"chunks": (4, 3), "compression": "gzip", "shuffle": True},
        {"chunks": (4, 3), "compression": "gzip", "fletcher32": True},
        {"chunks": (4, 3), "compression": "lzf"},
    ],
    ids=str,
)
def test_a_file_of_another_writer_is_sound(tmp_path, more):
    report = verify_file(guide_file(tmp_path / "f.h5", **more))
    assert report.faults == []
    assert report.mains[0].complete is None


@pytest.mark.parametrize("name", ["SingFreqPFM_0003.h5", "AFM_Force_Curve.h5"])
def test_real_files_of_other_programs_are_sound(name):
    if not (REAL_DATA / name).exists():
        pytest.skip(f"the real file {name} is not beside this checkout")
    report = verify_file(REAL_DATA / name)
    assert report.faults == []
    assert len(report.mains) == {"SingFreqPFM_0003.h5": 4, "AFM_Force_Curve.h5": 1}[name]


def test_chunked_texts_of_any_length_are_sound(tmp_path):
    path = record(tmp_path)
    with h5py.File(path, "r+") as h5_file:
        h5_file.create_dataset("notes", data=["x" * 99, "y"], chunks=(1,))
        table = np.array([(1, "in a table")], [("n", "i4"), ("text", h5py.string_dtype())])
        h5_file.create_dataset("table", data=table, chunks=(1,))
    assert verify_file(path).faults == []


def test_a_main_that_was_added_later_needs_no_coverage(tmp_path):
    path = record(tmp_path)
    with h5py.File(path, "r+") as h5_file:
        raw = h5_file[TOP]["Raw_Data"]
        links = [
            h5_file[raw.attrs[f"{kind}_{what}"]]
            for kind in ("Position", "Spectroscopic")
            for what in ("Indices", "Values")
        ]
        write_main_dataset(
            h5_file[TOP], np.ones((64, 8)), "Fit", "A", "V", None, None, None, *links
        )
    report = verify_file(path)
    assert report.faults == []
    assert {main.path: main.complete for main in report.mains} == {
        f"{TOP}/Fit": None, f"{TOP}/Raw_Data": 64,
    }  # fmt: skip


def test_a_loop_of_links_ends(tmp_path):
    path = guide_file(tmp_path / "f.h5")
    with h5py.File(path, "r+") as h5_file:
        h5_file["Measurement_000/again"] = h5_file["/"]
        h5_file["Measurement_000/soft"] = h5py.SoftLink("/nowhere")
    report = verify_file(path)
    assert report.faults == []
    assert len(report.mains) == 1


# ---------------------------------------------------------------- what is no such file


def test_what_is_no_hdf5_file(tmp_path):
    path = tmp_path / "f.h5"
    path.write_bytes(b"not at all")
    assert verify_file(path).faults == [f"{path}: is not an HDF5 file"]
    (fault,) = verify_file(tmp_path / "none.h5").faults
    assert "No such file" in fault


def test_a_file_without_a_main(tmp_path):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as h5_file:
        h5_file["data"] = np.arange(5)
    assert verify_file(path).faults == [f"{path}: holds no h5USID main dataset"]


def test_a_file_that_is_being_written(tmp_path):
    scan = OpenScan.create(
        tmp_path, "s", LAYOUT, plans_for(LAYOUT), scan_id=SCAN_ID, created=CREATED
    )
    (fault,) = verify_file(scan.record.path).faults
    assert "was not closed (flags 5)" in fault
    suspend(scan)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_cut_file_is_a_fault_and_no_crash(tmp_path, share):
    path = record(tmp_path)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(int(size * share))
    assert verify_file(path).faults


def test_damaged_metadata_are_a_fault_wherever_they_are(tmp_path):
    path = record(tmp_path)
    whole = path.read_bytes()
    for start in np.random.default_rng(0).integers(48, len(whole) - 64, 6):
        damaged = tmp_path / "damaged.h5"
        damaged.write_bytes(whole[:start] + bytes(64) + whole[start + 64 :])
        assert isinstance(verify_file(damaged).to_dict()["faults"], list)


def test_a_file_on_which_hdf5_hangs(tmp_path, monkeypatch):
    """Nothing protects the heap of strings: zeros in it are an endless loop to HDF5 2.0."""
    monkeypatch.setattr(verify, "STALL_TIMEOUT_S", 3)
    path = record(tmp_path)
    data = bytearray(path.read_bytes())
    heap = data.index(b"GCOL")
    data[heap + 16 : heap + 80] = bytes(64)
    path.write_bytes(data)
    faults = verify_file(path).faults
    assert any("does not come back" in fault or "Raw_Data" in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("last_act", "expected"),
    [
        ("os.kill(os.getpid(), 11)", "crashed while reading it (signal 11)"),
        ("raise SystemExit('torn')", "ended early (exit code 1): torn"),
    ],
)
def test_a_reader_that_dies_is_a_fault_and_what_it_told_stays(
    tmp_path, monkeypatch, last_act, expected
):
    script = f'import os; print(\'["fault", "/a: first"]\', flush=True); {last_act}'
    real_popen = subprocess.Popen
    monkeypatch.setattr(
        verify.subprocess,
        "Popen",
        lambda _command, **more: real_popen([sys.executable, "-c", script], **more),
    )
    first, last = verify_file(record(tmp_path)).faults
    assert first == "/a: first"
    assert expected in last


# ---------------------------------------------------------------- damage, one by one


def chunk_at(path, dataset, number):
    with h5py.File(path) as h5_file:
        info = h5_file[dataset].id.get_chunk_info(number)
        return info.byte_offset, info.size


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_a_flipped_bit_in_a_chunk(tmp_path, compression):
    path = record(tmp_path, layout_of(main_of(compression=compression)))
    offset, size = chunk_at(path, f"{TOP}/Raw_Data", 3)
    with path.open("r+b") as file:
        file.seek(offset + size // 2)
        byte = file.read(1)[0]
        file.seek(offset + size // 2)
        file.write(bytes([byte ^ 1]))
    (fault,) = verify_file(path).faults
    where = f"{TOP}/Raw_Data: the chunk at row 16, column 4 (rows 16 to 32, columns 4 to 8)"
    assert fault == (
        f"{where} is damaged: its {size} bytes from byte {offset} of the file on do not match "
        f"{TOP}/chunk_checksums"
    )


def edit(path, change):
    with h5py.File(path, "r+") as h5_file:
        change(h5_file[TOP])
    return faults_here(path)


def put(target, key, value):
    target[key] = value


def drop(target, key):
    del target[key]


def test_a_chunk_that_decodes_to_too_little(tmp_path):
    short = zlib.compress(bytes(100))

    def change(top):
        drop(top, "chunk_checksums")  # which would say it first
        top["Raw_Data"].id.write_direct_chunk((0, 0), short)

    faults = edit(record(tmp_path), change)
    assert any("(0, 0) cannot be decoded: it has 100 bytes instead of 256" in f for f in faults)


def test_a_missing_chunk(tmp_path):
    plans = plans_for(LAYOUT)
    scan = OpenScan.create(tmp_path, "s", LAYOUT, plans, scan_id=SCAN_ID, created=CREATED)
    chunks = chunks_of(random_data(LAYOUT, "Raw_Data"), plans["Raw_Data"])
    store(scan, "Raw_Data", [chunk for chunk in chunks if chunk[:2] != (32, 4)])
    scan.commit({"Raw_Data": CoverageUpdate(0, np.ones(64, np.uint8), NO_RANGES)})
    end(scan, "complete", FinishedScans(tmp_path))
    assert verify_file(scan.record.path).faults == [
        f"{TOP}/Raw_Data: the chunk at row 32, column 4 is missing, though covered"
    ]


def set_attr(top, name, value):
    top.attrs.modify(name, value)


DAMAGES = {
    "called complete": lambda top: set_attr(top, "acquisition_status", b"complete"),
    "acquisition_status 'done' is unknown": lambda top: set_attr(
        top, "acquisition_status", b"done"
    ),
    "positions_complete is 5, but 61 are": lambda top: set_attr(top, "positions_complete", 5),
    "position 3 has state 9": lambda top: put(top["completed_positions"], 3, 9),
    "position 20 is partial but has no range": lambda top: put(top["completed_positions"], 20, 2),
    "clash": lambda top: put(top["partial_ranges"], (1, 2), 1),
    "outside the main": lambda top: put(top["partial_ranges"], (1, 3), 9),
    "has only one of": lambda top: drop(top, "partial_ranges"),
    "refers to a dataset that was deleted": lambda top: drop(top, "Position_Indices"),
    "attribute quantity is missing": lambda top: drop(top["Raw_Data"].attrs, "quantity"),
    "units differ": lambda top: put(top["Position_Values"].attrs, "units", ["um"]),
    "labels": lambda top: put(top["Position_Indices"].attrs, "labels", ["X", "Y"]),
    "make no grid": lambda top: put(top["Position_Indices"], (7, 0), 8),
}


@pytest.mark.parametrize(("expected", "damage"), DAMAGES.items(), ids=DAMAGES)
def test_each_damage_is_told(tmp_path, expected, damage):
    path = record(tmp_path, status="incomplete", **partly())
    assert faults_here(path) == []
    faults = edit(path, damage)
    assert any(expected in fault for fault in faults), faults


def test_a_whole_scan_that_is_called_incomplete(tmp_path):
    faults = edit(record(tmp_path), lambda top: set_attr(top, "acquisition_status", b"incomplete"))
    assert faults == [f"{TOP}: is called incomplete, but every position is complete"]


def test_values_that_stray_from_their_indices(tmp_path):
    grid = layout.ScanLayout(
        positions=[layout.Dimension("X", "nm", 8), layout.Dimension("Y", "nm", 4)],
        mains=[main_of()],
    )
    path = record(tmp_path, grid, states=np.ones(32, np.uint8))
    faults = edit(path, lambda top: put(top["Position_Values"], (17, 1), 0.25))
    assert faults == [f"{TOP}/Position_Values: dimension X: one index stands for several values"]


def test_overlapping_chunks(tmp_path):
    path = record(tmp_path, layout_of(main_of(compression="none")))
    data = path.read_bytes()
    (one, _), (other, _) = (chunk_at(path, f"{TOP}/Raw_Data", number) for number in (2, 5))
    # unfiltered chunks of a fixed array: the index holds plain addresses under one checksum
    assert data.count(one.to_bytes(8, "little")) == 1
    moved = data.replace(other.to_bytes(8, "little"), (one + 8).to_bytes(8, "little"))
    path.write_bytes(moved)
    assert verify_file(path).faults


def test_a_filter_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "is_filter_available", lambda number: number != 1)
    report = Report("f.h5")
    with h5py.File(record(tmp_path)) as h5_file:
        dataset = h5_file[TOP]["Raw_Data"]
        chunks.check_data(dataset, chunks.stored_chunks(dataset, report), report, lambda: None)
    assert report.faults == [
        f"{TOP}/Raw_Data: needs the HDF5 filter 1, which is not installed; try the extra 'plugins'"
    ]


# ---------------------------------------------------------------- the report


def test_many_faults_of_one_object_are_cut_short(tmp_path):
    layout = layout_of(main_of(n=64), n_positions=640)
    path = record(tmp_path, layout)
    with path.open("r+b") as file:
        for number in range(200):
            offset, size = chunk_at(path, f"{TOP}/Raw_Data", number)
            file.seek(offset + 4)
            file.write(bytes(size - 4))
    faults = [fault for fault in faults_here(path) if "Raw_Data" in fault]
    assert len(faults) == 21
    assert "further faults" in faults[-1]


def test_the_report_is_plain_data(tmp_path):
    report = verify_file(record(tmp_path))
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["sound"] is True
    assert plain["mains"][0]["shape"] == [64, 8]


def test_progress_runs_to_its_end(tmp_path):
    calls = []
    report = verify_file(record(tmp_path), lambda done, total: calls.append((done, total)))
    assert calls == sorted(calls)
    assert calls[-1] == (report.chunks, report.chunks)


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = guide_file(tmp_path / "f.h5")
    with h5py.File(path, "r+") as h5_file:
        options = {"chunks": (1, 1 << 18), "compression": 1}
        big = h5_file.create_dataset("big", (128, 1 << 18), "f4", **options)
        for row in range(128):
            big[row] = row
        h5_file["contiguous"] = np.zeros((64, 1 << 18), "f4")
    report = Report(str(path))
    tracemalloc.start()
    try:
        read_file(path, report, NoSteps())
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert report.faults == []
    assert peak < 24 << 20  # of 192 MiB


def test_nothing_is_written(tmp_path):
    path = record(tmp_path)
    copy = tmp_path / "copy.h5"
    shutil.copy2(path, copy)
    verify_file(path)
    assert path.read_bytes() == copy.read_bytes()
    assert path.stat().st_mtime_ns == copy.stat().st_mtime_ns
