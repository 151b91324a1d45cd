"""Scans of the daemon, gathered in a session: nothing in them changes but their numbers."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest

from support.merge_files import described, everything, finished, scan_id, two_channels
from support.storing import layout_of, main_of
from usidstream.layout import ScanLayout
from usidstreamd.h5usid import USIDataset, get_all_main
from usidstreamd.merging import MergeError, SameFileError, merge
from usidstreamd.verify import verify_file

ANCILLARIES = (
    "Position_Indices",
    "Position_Values",
    "Spectroscopic_Indices",
    "Spectroscopic_Values",
)


def layouts() -> dict[str, ScanLayout]:
    return {
        "gzip": two_channels(),
        "none": two_channels("none"),
        "bitshuffle-lz4": two_channels("bitshuffle-lz4"),
        "one main": layout_of(main_of()),
        "columns": layout_of(main_of(order="columns")),
    }


@pytest.mark.parametrize("kind", layouts())
@pytest.mark.parametrize("status", ["complete", "incomplete"])
def test_all_of_a_scan_is_in_the_session_bit_for_bit(
    tmp_path: Path, kind: str, status: str
) -> None:
    if kind == "bitshuffle-lz4":
        pytest.importorskip("hdf5plugin")
    layout, session = layouts()[kind], tmp_path / "day.h5"
    paths = [finished(tmp_path / "s", scan_id(n), layout, status) for n in range(2)]
    before = everything(tmp_path / "s")
    report = merge(session, paths)
    assert everything(tmp_path / "s") == before
    assert [merged.group for merged in report.merged] == [f"/Measurement_{n:03d}" for n in range(2)]
    assert (report.notes, [m.scan_id for m in report.merged]) == (
        [],
        [scan_id(n) for n in range(2)],
    )
    with h5py.File(session) as h5_session:
        assert list(h5_session) == ["Measurement_000", "Measurement_001"]
        for path, merged in zip(paths, report.merged, strict=True):
            group = h5_session[merged.group]
            with h5py.File(path) as h5_file:
                assert described(group) == described(h5_file["Measurement_000"])
            assert group.attrs["merged_from_file"] == path.name
            assert group.attrs["merged_from_group"] == "/Measurement_000"
            assert merged.mains == tuple(main.name for main in get_all_main(group))
            assert len(merged.mains) == len(layout.mains)


def test_verify_compares_every_measurement_with_its_checksums(tmp_path: Path) -> None:
    paths = [finished(tmp_path / "s", scan_id(n)) for n in range(2)]
    single = verify_file(paths[0])
    merge(tmp_path / "day.h5", paths)
    report = verify_file(tmp_path / "day.h5")
    assert (report.faults, report.notes, len(report.mains)) == ([], [], 6)
    assert [(m.complete, m.partial, m.status, m.checksums) for m in report.mains] == 2 * [
        (m.complete, m.partial, m.status, m.checksums) for m in single.mains
    ]
    assert all(main.checksums for main in report.mains)


def test_mains_of_a_measurement_share_its_ancillaries_and_no_other_s(tmp_path: Path) -> None:
    merge(tmp_path / "day.h5", [finished(tmp_path / "s", scan_id(n)) for n in range(2)])
    with h5py.File(tmp_path / "day.h5") as h5_file:
        for group in h5_file.values():
            a, b, c = get_all_main(group)
            held = {
                name: [h5_file[main.attrs[name]].name for main in (a, b, c)] for name in ANCILLARIES
            }
            assert all(
                path.startswith(group.name + "/") for paths in held.values() for path in paths
            )
            assert len(set(held["Position_Indices"])) == len(set(held["Position_Values"])) == 1
            assert held["Spectroscopic_Values"][0] == held["Spectroscopic_Values"][1]
            assert held["Spectroscopic_Values"][0] != held["Spectroscopic_Values"][2]


def test_a_session_grows_and_keeps_what_it_has(tmp_path: Path) -> None:
    session = tmp_path / "day.h5"
    merge(session, [finished(tmp_path / "s", scan_id(0))])
    session.chmod(0o640)
    with h5py.File(session) as h5_file:
        first = described(h5_file["Measurement_000"])
    maps = finished(tmp_path / "s", scan_id(2), two_channels(name="Map"))
    report = merge(session, [finished(tmp_path / "s", scan_id(1)), maps])
    assert [merged.group for merged in report.merged] == ["/Measurement_001", "/Map_000"]
    assert session.stat().st_mode & 0o777 == 0o640
    with h5py.File(session) as h5_file:
        assert described(h5_file["Measurement_000"]) == first
    assert verify_file(session).faults == []


def test_numbers_follow_the_highest_and_pass_over_what_is_there(tmp_path: Path) -> None:
    session = tmp_path / "day.h5"
    merge(session, [finished(tmp_path / "s", scan_id(0))])
    with h5py.File(session, "r+") as h5_file:
        h5_file.move("Measurement_000", "Measurement_004")
        h5_file["Measurement_005"] = "a note"
    report = merge(session, [finished(tmp_path / "s", scan_id(1))])
    assert [merged.group for merged in report.merged] == ["/Measurement_006"]


def test_a_session_merges_into_another_and_says_where_each_scan_came_from(tmp_path: Path) -> None:
    path = finished(tmp_path / "s", scan_id(0))
    merge(tmp_path / "day.h5", [path, finished(tmp_path / "s", scan_id(1))])
    report = merge(tmp_path / "week.h5", [tmp_path / "day.h5"])
    assert len(report.merged) == 2
    with h5py.File(tmp_path / "week.h5") as h5_file:
        assert h5_file["Measurement_000"].attrs["merged_from_file"] == path.name


def test_readers_are_not_disturbed(tmp_path: Path, in_processes: None) -> None:
    session, path = tmp_path / "day.h5", finished(tmp_path / "s", scan_id(0))
    merge(session, [path])
    second = finished(tmp_path / "s", scan_id(1))
    with (
        h5py.File(session, locking=False) as reader,
        h5py.File(second, locking=False) as other,
    ):
        merge(session, [Path(other.filename)])
        assert list(reader) == ["Measurement_000"]
        assert USIDataset(reader["Measurement_000/Channel_000/A"])[:].shape == (64, 7)
        assert other["Measurement_000/Channel_000/A"][0].any()
    with h5py.File(session) as reader:
        assert list(reader) == ["Measurement_000", "Measurement_001"]


def test_a_session_through_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "day.h5"
    link.symlink_to(tmp_path / "disk" / "real.h5")
    merge(link, [finished(tmp_path / "s", scan_id(0))])
    merge(link, [finished(tmp_path / "s", scan_id(1))])
    assert link.is_symlink()
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["real.h5"]
    assert len(verify_file(link).mains) == 6


# ---------------------------------------------------------------- refused


def test_a_scan_is_merged_once(tmp_path: Path) -> None:
    path, session = finished(tmp_path / "s", scan_id(0)), tmp_path / "day.h5"
    merge(session, [path])
    renamed = path.rename(path.with_name("renamed.h5"))
    fresh = finished(tmp_path / "s", scan_id(1))
    before = everything(tmp_path)
    with pytest.raises(MergeError, match=f"scan {scan_id(0)} is merged already, as /Measurement_0"):
        merge(session, [fresh, renamed])
    copy = tmp_path / "copy.h5"
    copy.write_bytes(fresh.read_bytes())
    with pytest.raises(MergeError, match=f"as /Measurement_000 of {fresh}"):
        merge(session, [fresh, copy])
    copy.unlink()
    assert everything(tmp_path) == before


def test_no_file_is_given_twice(tmp_path: Path) -> None:
    path, session = finished(tmp_path / "s", scan_id(0)), tmp_path / "day.h5"
    with pytest.raises(SameFileError, match="given twice"):
        merge(session, [path, path.parent / ".." / "s" / path.name])
    with pytest.raises(SameFileError, match="is the session itself"):
        merge(path, [path])
    assert not session.exists()
