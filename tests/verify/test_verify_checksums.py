"""Every flipped bit of what a scan measured is found: in chunks, coverage and checksums."""

import re
import shutil
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
    complete,
    end,
    layout_of,
    main_of,
    plans_for,
    random_data,
    store,
    suspend,
)
from usidstreamd import codecs
from usidstreamd.h5usid import check_if_main, get_all_main
from usidstreamd.storage import CoverageUpdate, FinishedScans, MainPlan
from usidstreamd.storage.salvage import salvage
from usidstreamd.storage.scan import OpenScan
from usidstreamd.verify import Report, verify_file
from usidstreamd.verify.reading import read_file

DOCS = Path(__file__).resolve().parents[2] / "docs"
TOP = "/Measurement_000"
N_FLIPS = 24


class NoSteps:
    def expect(self, total):
        pass

    def step(self):
        pass

    advance = step


def look(path):
    """Verify without a process of its own: for files that HDF5 reads well."""
    report = Report(str(path))
    read_file(path, report, NoSteps())
    return report


def open_scan(tmp_path, layout, plans):
    return OpenScan.create(tmp_path, "s", layout, plans, scan_id=SCAN_ID, created=CREATED)


def encoded(layout, main, chunks, shuffle):
    """Return how a main is stored by its codec, and its chunks."""
    codec = codecs.choose(main.compression, shuffle, main.np_dtype)
    data = random_data(layout, main.name)
    rows, cols = chunks
    parts = [
        (row, col, codec.encode(data[row : row + rows, col : col + cols], chunks, col))
        for row in range(0, data.shape[0], rows)
        for col in range(0, data.shape[1], cols)
    ]
    return MainPlan(chunks, codec.hdf5_filters), parts


def finished(tmp_path, compression="none", shuffle=None, status="incomplete"):
    """End a scan of 61 of 64 positions, two of them partly held; return its file."""
    layout = layout_of(main_of("A", n=7, compression=compression), main_of("B", "int16"))
    stored = {main.name: encoded(layout, main, (16, 4), shuffle) for main in layout.mains}
    scan = open_scan(tmp_path, layout, {name: plan for name, (plan, _) in stored.items()})
    states = np.ones(64, np.uint8)
    states[[3, 48, 49]], states[9:11] = 0, 2
    for name, (_plan, chunks) in stored.items():
        store(scan, name, chunks)
        width = layout.shape(name)[1]
        ranges = np.array([[9, 11, 0, 2], [9, 11, 4, width]], np.int64)
        scan.commit({name: CoverageUpdate(0, states, ranges)})
    end(scan, status, FinishedScans(tmp_path))
    return scan.record.path


def stored_chunks(path, name):
    """Return address and length of each chunk of a dataset."""
    found = []
    with h5py.File(path) as h5_file:
        h5_file[name].id.chunk_iter(lambda info: found.append((info.byte_offset, info.size)))
    return found


def flip(path, byte, bit):
    with path.open("r+b") as file:
        file.seek(byte)
        (old,) = file.read(1)
        file.seek(byte)
        file.write(bytes([old ^ 1 << bit]))


# ---------------------------------------------------------------- flipped bits


@pytest.mark.parametrize(
    ("compression", "shuffle"),
    [("gzip", False), ("gzip", True), ("none", False), ("bitshuffle-lz4", None)],
)
def test_any_flipped_bit_of_any_chunk_is_told_with_its_place(tmp_path, compression, shuffle):
    if compression == "bitshuffle-lz4":
        pytest.importorskip("hdf5plugin")
    path = finished(tmp_path, compression, shuffle)
    report = look(path)
    assert (report.faults, report.notes) == ([], [])
    assert [main.checksums for main in report.mains] == [8, 8]
    name, rng = f"{TOP}/Channel_000/A", np.random.default_rng(0)
    for offset, size in stored_chunks(path, name):
        for _ in range(N_FLIPS // 8):
            byte, bit = offset + int(rng.integers(size)), int(rng.integers(8))
            flip(path, byte, bit)
            told = [fault for fault in look(path).faults if "chunk_checksums" in fault]
            assert len(told) == 1
            assert told[0].startswith(f"{name}: the chunk at row ")
            assert f"its {size} bytes from byte {offset} of the file on" in told[0]
            flip(path, byte, bit)
    assert look(path).faults == []


@pytest.mark.parametrize("dataset", ["completed_positions", "partial_ranges", "chunk_checksums"])
def test_any_flipped_bit_of_what_is_said_about_chunks_is_told(tmp_path, dataset):
    path = finished(tmp_path)
    name, rng = f"{TOP}/Channel_001/{dataset}", np.random.default_rng(0)
    with h5py.File(path) as h5_file:
        nbytes = h5_file[name][...].nbytes  # what lies behind it in its chunk means nothing
    ((offset, _size),) = stored_chunks(path, name)
    for _ in range(N_FLIPS):
        byte, bit = offset + int(rng.integers(nbytes)), int(rng.integers(8))
        flip(path, byte, bit)
        assert any(fault.startswith(f"{name}: is damaged") for fault in look(path).faults)
        flip(path, byte, bit)


def test_checksums_that_are_damaged_are_not_believed(tmp_path):
    path = finished(tmp_path)
    ((offset, _size),) = stored_chunks(path, f"{TOP}/Channel_000/chunk_checksums")
    flip(path, offset, 0)
    report = look(path)
    (fault,) = report.faults
    assert "does not match its content_crc32" in fault
    (note,) = report.notes
    assert note == f"{TOP}/Channel_000/A: no checksums of its chunks are held"


def test_the_command_tells_all_of_it(tmp_path):
    path = finished(tmp_path)
    (offset, _), *_ = stored_chunks(path, f"{TOP}/Channel_001/B")
    flip(path, offset, 3)
    (fault,) = verify_file(path).faults
    assert "rows 0 to 16, columns 0 to 4" in fault
    assert f"byte {offset}" in fault


# ---------------------------------------------------------------- what is compared


def test_a_chunk_that_the_checksums_know_and_the_file_does_not(tmp_path):
    path = finished(tmp_path)
    with h5py.File(path, "r+") as h5_file:
        table = h5_file[TOP]["Channel_000/chunk_checksums"]
        main = h5_file[TOP]["Channel_000/A"]
        copy = {attr: main.attrs[attr] for attr in main.attrs}
        fill, plist = main[16:], main.id.get_create_plist()
        del h5_file[TOP]["Channel_000/A"]
        space = h5py.h5s.create_simple((64, 7))
        h5py.h5d.create(table.parent.id, b"A", h5py.h5t.py_create(fill.dtype), space, plist)
        table.parent["A"][16:] = fill
        for attr, value in copy.items():
            table.parent["A"].attrs[attr] = value
    told = [fault for fault in look(path).faults if "chunk_checksums has it" in fault]
    assert [fault.split(" is missing")[0].split(": ")[1] for fault in told] == [
        "the chunk at row 0, column 0 (rows 0 to 16, columns 0 to 4)",
        "the chunk at row 0, column 4 (rows 0 to 16, columns 4 to 7)",
    ]


def test_a_covered_chunk_without_a_checksum(tmp_path):
    layout = layout_of(main_of())
    scan = open_scan(tmp_path, layout, plans_for(layout))
    chunks = chunks_of(random_data(layout, "Raw_Data"), plans_for(layout)["Raw_Data"])
    store(scan, "Raw_Data", chunks[1:])
    scan.write("Raw_Data", chunks[:1], is_complete=True)  # nobody says that it is durable
    scan.commit({"Raw_Data": complete(0, 64)})
    scan.journal.close(is_clean=False)
    scan._live.finalise("complete", {}, CREATED, scan.journal.state.chunks)
    faults = look(scan.record.path).faults
    assert f"{TOP}/Raw_Data: the chunk at row 0, column 0 has no checksum, though covered" in faults


def test_of_a_chunk_written_twice_the_later_counts(tmp_path):
    layout = layout_of(main_of())
    plan = plans_for(layout)["Raw_Data"]
    scan = open_scan(tmp_path, layout, {"Raw_Data": plan})
    for seed in (1, 2):
        store(scan, "Raw_Data", chunks_of(random_data(layout, "Raw_Data", seed), plan))
    scan.commit({"Raw_Data": complete(0, 64)})
    end(scan, "complete", FinishedScans(tmp_path))
    assert look(scan.record.path).faults == []


def test_while_a_scan_waits_its_ledger_is_compared(tmp_path):
    layout = layout_of(main_of(compression="none"))
    plan = plans_for(layout)["Raw_Data"]
    scan = open_scan(tmp_path, layout, {"Raw_Data": plan})
    data = random_data(layout, "Raw_Data")
    addresses = store(scan, "Raw_Data", chunks_of(data, plan, 0, 32))
    scan.commit({"Raw_Data": complete(0, 32)})
    suspend(scan)
    path = scan.record.path
    assert look(path).faults == []
    assert look(path).mains[0].checksums == len(addresses)
    flip(path, addresses[2].offset, 7)
    (fault,) = look(path).faults
    assert "do not match the ledger" in fault
    (scan.record.journal / "ledger").write_bytes(b"")
    report = look(path)
    assert report.faults == []
    assert any("the ledger is not compared" in note for note in report.notes)
    shutil.rmtree(scan.record.journal)
    assert f"{TOP}/Raw_Data: no checksums of its chunks are held" in look(path).notes


def test_a_scan_that_goes_on_has_no_checksums_until_it_ends_again(tmp_path):
    layout = layout_of(main_of(compression="none"))
    plan = plans_for(layout)["Raw_Data"]
    scan = open_scan(tmp_path, layout, {"Raw_Data": plan})
    data = random_data(layout, "Raw_Data")
    store(scan, "Raw_Data", chunks_of(data, plan, 0, 32))
    scan.commit({"Raw_Data": complete(0, 32)})
    scan._live.finalise("incomplete", {}, CREATED, scan.journal.state.chunks)
    scan._lock.close()
    scan.journal.close(is_clean=True)
    path = scan.record.path
    with h5py.File(path) as h5_file:
        assert h5_file[TOP]["chunk_checksums"].attrs["content_crc32"] >= 0
    scan = OpenScan.resume(scan.record)
    store(scan, "Raw_Data", chunks_of(data, plan, 32, 64))
    scan.commit({"Raw_Data": complete(0, 64)})
    suspend(scan)
    with h5py.File(path) as h5_file:
        assert h5_file[TOP]["chunk_checksums"].attrs["content_crc32"] == -1
    end(OpenScan.resume(scan.record), "complete", FinishedScans(tmp_path))
    report = look(path)
    assert report.faults == report.notes == []
    assert report.mains[0].checksums == 8


def test_a_file_of_older_make_is_verified_as_before(tmp_path):
    path = finished(tmp_path, "gzip")
    with h5py.File(path, "r+") as h5_file:
        for channel in h5_file[TOP].values():
            if isinstance(channel, h5py.Group):
                del channel["chunk_checksums"]
                for name in ("completed_positions", "partial_ranges"):
                    del channel[name].attrs["content_crc32"]
    report = look(path)
    assert report.faults == []
    assert len(report.notes) == 2
    assert [main.checksums for main in report.mains] == [None, None]
    (offset, size), *_ = stored_chunks(path, f"{TOP}/Channel_000/A")
    flip(path, offset + size - 1, 0)
    (fault,) = look(path).faults
    assert "cannot be decoded" in fault


def test_a_scan_of_older_make_is_ended_without_checksums(tmp_path):
    layout = layout_of(main_of())
    scan = open_scan(tmp_path, layout, plans_for(layout))
    suspend(scan)
    with h5py.File(scan.record.path, "r+") as h5_file:
        del h5_file[TOP]["chunk_checksums"]
        for name in ("completed_positions", "partial_ranges"):
            del h5_file[TOP][name].attrs["content_crc32"]
    end(OpenScan.resume(scan.record), "incomplete", FinishedScans(tmp_path))
    assert look(scan.record.path).faults == []


def test_what_was_salvaged_keeps_its_checksums(tmp_path):
    path = finished(tmp_path)
    flip(path, stored_chunks(path, f"{TOP}/Channel_000/A")[2][0], 5)  # decodes all the same
    saved = Path(salvage(path).file)
    (fault,) = look(saved).faults
    assert fault.startswith(f"{TOP}/Channel_000/A: the chunk at row ")
    assert [main.checksums for main in look(saved).mains] == [8, 8]


# ---------------------------------------------------------------- the dataset itself


def test_nobody_takes_the_checksums_for_a_main(tmp_path):
    path = finished(tmp_path)
    with h5py.File(path) as h5_file:
        assert [main.name for main in get_all_main(h5_file)] == [
            f"{TOP}/Channel_000/A", f"{TOP}/Channel_001/B",
        ]  # fmt: skip
        table = h5_file[TOP]["Channel_000/chunk_checksums"]
        assert not check_if_main(table)
        pyusid = pytest.importorskip("pyUSID")
        assert not pyusid.hdf_utils.check_if_main(table)
        assert len(pyusid.hdf_utils.get_all_main(h5_file)) == 2


@pytest.mark.parametrize(
    ("n_positions", "n", "chunk"), [(70_000, 1, (1, 1)), (3, 30_000, (1, 2)), (40, 40, (8, 8))]
)
def test_the_checksums_are_small_and_right_in_any_shape(tmp_path, n_positions, n, chunk):
    layout = layout_of(main_of(dtype="uint8", n=n, compression="none"), n_positions=n_positions)
    scan = open_scan(tmp_path, layout, {"Raw_Data": MainPlan(chunk, {})})
    rows, cols = (
        -(-size // step) * step for size, step in zip((n_positions, n), chunk, strict=True)
    )
    last = (rows - chunk[0], cols - chunk[1], b"\x01" * (chunk[0] * chunk[1]))
    (address,) = store(scan, "Raw_Data", [last], is_complete=False)
    end(scan, "aborted", FinishedScans(tmp_path))
    with h5py.File(scan.record.path) as h5_file:
        table = h5_file[TOP]["chunk_checksums"]
        assert table.shape == (rows // chunk[0], cols // chunk[1], 2)
        assert np.prod(table.chunks) * 4 <= 64 << 10
        assert np.count_nonzero(table[:]) == 2
        assert table[-1, -1].tolist() == [address.crc32, address.nbytes]


def test_the_example_of_the_documentation(tmp_path, capsys):
    (example,) = re.findall(
        r"```python\n(.*?content_crc32.*?)```", (DOCS / "format.md").read_text(), re.S
    )
    layout = layout_of(main_of(compression="none"))
    plan = plans_for(layout)["Raw_Data"]
    scan = open_scan(tmp_path, layout, {"Raw_Data": plan})
    chunks = chunks_of(random_data(layout, "Raw_Data"), plan)
    (address,) = store(scan, "Raw_Data", chunks[3:4])
    scan.commit({"Raw_Data": CoverageUpdate(0, np.zeros(64, np.uint8), NO_RANGES)})
    end(scan, "aborted", FinishedScans(tmp_path))
    path = tmp_path / "sample_A.h5"
    scan.record.path.rename(path)
    run = example.replace("sample_A.h5", str(path))
    exec(run, {})  # noqa: S102  # the example itself is what is tested
    assert capsys.readouterr().out == "1 chunks are as they were written\n"
    flip(path, address.offset, 0)
    with pytest.raises(AssertionError):
        exec(run, {})  # noqa: S102  # as above
    assert zlib.crc32(chunks[3][2]) == address.crc32
