import dataclasses
from datetime import UTC, datetime

import numpy as np
import pytest

from support.storing import CREATED, SCAN_ID, layout_of, main_of, plans_for
from usidstream.framing import frame, pack, unframe, unpack
from usidstream.layout import Dimension, MainLayout, PositionTable, ScanLayout
from usidstreamd.storage import (
    MainPlan,
    OpenRecord,
    StorageError,
    find_journals,
    record,
    remove_unfinished,
)
from usidstreamd.storage.template import TEMPLATE_NAME

LAYOUTS = {
    "plain": layout_of(main_of()),
    "several": layout_of(
        main_of("Height", "int16", chunks=(4, 4)),
        main_of("Phase", "complex64", order="columns"),
        main_of("Both", [("a", "<i2"), ("b", "<f8")], compression="none"),
        name="Scan",
        pixel_time_s=0.01,
        attrs={
            "text": "ä",
            "flag": True,
            "list": ["a", "b"],
            "many": np.arange(5.0),
            "bools": [True, False],
        },
    ),
    "table": ScanLayout(
        positions=PositionTable(["X", "Y"], ["nm", "nm"], np.random.default_rng(0).random((9, 2))),
        mains=[MainLayout("Raw", "Z", "", "float64", [Dimension("t", "s", [0.0, 0.5, 2.0])])],
    ),
}


def make_record(tmp_path, layout=LAYOUTS["plain"], scan_id=SCAN_ID, file="s.h5"):
    plans = plans_for(layout)
    made = OpenRecord(scan_id, tmp_path / file, layout, plans, CREATED)
    made.journal.mkdir()
    made.write()
    return made


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_record_comes_back_whole(tmp_path, layout):
    made = make_record(tmp_path, layout)
    found = OpenRecord.read(made.journal)
    assert found.layout == layout
    assert dict(found.plans) == dict(made.plans)
    assert (found.scan_id, found.path, found.created) == (SCAN_ID, made.path, CREATED)


def test_a_plugin_filters_options_stay_a_tuple(tmp_path):
    made = make_record(tmp_path)
    plan = MainPlan((16, 4), {"compression": 32008, "compression_opts": (0, 2)})
    dataclasses.replace(made, plans={"Raw_Data": plan}).write()
    assert OpenRecord.read(made.journal).plans == {"Raw_Data": plan}


def test_the_data_directory_may_move(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    (make_record(old).journal / TEMPLATE_NAME).write_bytes(b"")
    old.rename(new)
    (found,) = find_journals(new)
    assert found.path == new / "s.h5"


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other"])
def test_a_damaged_record_names_the_file_and_what_to_do(tmp_path, damage):
    made = make_record(tmp_path)
    path = made.journal / record.RECORD_NAME
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[:-1]
    elif damage == "flip":
        data[len(data) // 2] ^= 1
    else:
        data = bytearray(b"" if damage == "empty" else b"not a record at all")
    path.write_bytes(data)
    with pytest.raises(StorageError, match="is damaged") as caught:
        OpenRecord.read(made.journal)
    assert caught.value.code == "file_damaged"
    assert str(path) in caught.value.message
    assert made.journal.name in caught.value.hint


def test_a_newer_daemons_record_is_refused(tmp_path, monkeypatch):
    made = make_record(tmp_path)
    monkeypatch.setattr(record, "RECORD_VERSION", record.RECORD_VERSION + 1)
    made.write()
    monkeypatch.undo()
    with pytest.raises(StorageError, match="newer daemon"):
        OpenRecord.read(made.journal)


def test_one_damaged_scan_does_not_hide_the_others(tmp_path):
    for name in ("a.h5", "b.h5", "c.h5"):
        made = make_record(tmp_path, file=name)
        made.path.write_bytes(b"")
    (tmp_path / "b.h5.journal" / record.RECORD_NAME).write_bytes(b"?")
    (tmp_path / "other.journal").write_bytes(b"a file, not a directory")
    found = list(find_journals(tmp_path))
    assert [type(entry) for entry in found] == [OpenRecord, StorageError, OpenRecord]


def test_only_creations_that_never_ended_are_removed(tmp_path):
    begun = tmp_path / "begun.h5.journal"
    begun.mkdir()
    (begun / "open.tmp").write_bytes(b"half")
    building = make_record(tmp_path, file="building.h5").journal
    (building / record.CREATING_NAME).write_bytes(b"")
    published = make_record(tmp_path, file="published.h5")
    (published.journal / record.CREATING_NAME).write_bytes(b"")
    published.path.write_bytes(b"")
    moved = make_record(tmp_path, file="moved.h5").journal
    (moved / TEMPLATE_NAME).write_bytes(b"")
    recorded = make_record(tmp_path, file="recorded.h5").journal
    foreign = tmp_path / "foreign.journal"
    foreign.mkdir()
    (foreign / "notes.txt").write_bytes(b"somebody's")
    assert {
        entry.path.name for entry in find_journals(tmp_path) if isinstance(entry, OpenRecord)
    } == {
        "published.h5",
        "moved.h5",
    }
    assert remove_unfinished(tmp_path) == [begun, building, recorded]
    assert {path.name for path in tmp_path.iterdir()} == {
        "published.h5", "published.h5.journal", moved.name, "foreign.journal",
    }  # fmt: skip


def test_a_journal_goes_with_its_record_last(tmp_path, monkeypatch):
    made = make_record(tmp_path)
    (made.journal / "scratch-0").write_bytes(b"x")
    (made.journal / "sub").mkdir()
    with pytest.raises(StorageError, match="remove"):
        record.remove_journal(made.journal)
    assert (made.journal / record.RECORD_NAME).exists()
    (made.journal / "sub").rmdir()
    record.remove_journal(made.journal)
    assert list(tmp_path.iterdir()) == []


def test_the_time_zone_is_kept(tmp_path):
    local = datetime.now(UTC).astimezone()
    made = dataclasses.replace(make_record(tmp_path), created=local)
    made.write()
    assert OpenRecord.read(made.journal).created == local


@pytest.mark.parametrize(
    "lie",
    [
        {"scan_id": "../../../etc/passwd"}, {"file": "other.h5"}, {"file": ["s.h5"]}, {"plans": 1},
        {"plans": {}}, {"plans": {"Raw_Data": [[], {}]}}, {"plans": {"Raw_Data": [[0, 4], {}]}},
        {"plans": {"Raw_Data": [[16, 4], []]}}, {"created": 7}, {"version": "x"},
    ],
)  # fmt: skip
def test_a_record_that_is_whole_and_lies_is_damaged(tmp_path, lie):
    made = make_record(tmp_path)
    path = made.journal / record.RECORD_NAME
    head, *arrays = unframe(path.read_bytes())
    path.write_bytes(b"".join(map(frame, [pack(unpack(head) | lie), *arrays])))
    (made.journal / TEMPLATE_NAME).write_bytes(b"")
    (found,) = find_journals(tmp_path)
    assert isinstance(found, StorageError)
    assert found.code == "file_damaged"
