import errno
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.journalled import die_before, in_a_child
from usidstream.framing import frame, pack
from usidstreamd.storage import StorageError, SyncError
from usidstreamd.storage import ledger as ledger_module
from usidstreamd.storage.chunktable import ChunkAddress, ChunkTable, pack_addresses, unpack_entries
from usidstreamd.storage.ledger import Ledger, LedgerState, is_interrupted, replay
from usidstreamd.storage.ledger_records import (
    Annotated,
    Checkpoint,
    Chunks,
    Closed,
    Done,
    Finalise,
    Held,
    Opened,
    Recovered,
)

ENDED = "2025-01-01T00:00:00Z"
u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**62)
few = st.integers(0, 3)
addresses = st.builds(
    ChunkAddress, main=few, row=few, col=few, offset=u64, nbytes=u32, crc32=u32,
    is_complete=st.booleans(),
)  # fmt: skip
partial = st.dictionaries(
    st.sampled_from("ab"),
    st.lists(st.tuples(few, few, few, few), max_size=3).map(
        lambda rows: np.array(rows, np.int64).reshape(-1, 4)
    ),
    max_size=2,
)
records = st.one_of(
    st.builds(Chunks, st.lists(addresses, max_size=5)),
    st.builds(Checkpoint, st.integers(1, 9)),
    st.builds(Annotated, st.dictionaries(st.text(max_size=3), st.integers(-9, 9), max_size=2)),
    st.builds(
        Finalise, st.sampled_from(["complete", "interrupted"]), st.just(ENDED),
        st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
        st.dictionaries(st.sampled_from("ab"), st.lists(st.tuples(few, few), max_size=3)),
        partial,
    ),
    st.builds(Held, partial), st.builds(Recovered, st.integers(1, 9)),
    st.sampled_from([Done(), Opened(), Closed()]),
)  # fmt: skip


def model(told):
    """What a ledger of these records says, by the plainest of means."""
    chunks, state = {}, LedgerState()
    for record in told:
        match record:
            case Chunks():
                for address in record.addresses:
                    chunks[address[:3]] = address
                state.is_closed = False
            case Checkpoint():
                state.first_segment = max(state.first_segment, record.first_segment)
            case Annotated():
                state.annotations.update(record.attrs)
            case Finalise():
                state.finalise, state.partial, state.is_closed = record, record.partial, False
            case Held():
                state.partial = record.partial
            case Recovered():
                state.recoveries, state.is_done, state.is_closed = record.count, False, False
            case Opened():
                chunks = {key: address for key, address in chunks.items() if address.is_complete}
                if state.finalise is not None and state.finalise.status == "interrupted":
                    state.finalise = None
                state.is_done, state.is_closed = False, False
            case Closed():
                state.is_closed = True
            case Done():
                state.is_done = True
    return [chunks[key] for key in sorted(chunks)], state


def same_tables(found, expected):
    assert found.keys() == expected.keys()
    for name, table in expected.items():
        np.testing.assert_array_equal(found[name], table)


def agrees(state, told):
    chunks, expected = model(told)
    assert list(state.chunks) == chunks
    same_tables(state.partial, expected.partial)
    for name in ("first_segment", "annotations", "is_done", "is_closed", "recoveries"):
        assert getattr(state, name) == getattr(expected, name), name
    assert (state.finalise is None) == (expected.finalise is None)
    assert (state.decision is None) == (
        expected.finalise is None or expected.finalise.status == "interrupted"
    )
    if expected.finalise is not None:
        same_tables(state.finalise.partial, expected.finalise.partial)
        for name in ("status", "ended", "attrs", "missing"):
            assert getattr(state.finalise, name) == getattr(expected.finalise, name), name


@settings(max_examples=60, deadline=None)
@given(told=st.lists(records, max_size=12), data=st.data())
def test_a_ledger_cut_anywhere_says_what_its_whole_records_say(tmp_path_factory, told, data):
    path = tmp_path_factory.mktemp("ledger") / "ledger"
    ledger = Ledger.create(path)
    ends = [path.stat().st_size]
    for record in told:
        ledger.append([record])
        ends.append(path.stat().st_size)
    ledger.sync()
    ledger.close()
    agrees(replay(path), told)
    cut = data.draw(st.integers(ends[0], ends[-1]))
    os.truncate(path, cut)
    n_whole = sum(end <= cut for end in ends) - 1
    state = replay(path)
    agrees(state, told[:n_whole])
    assert (state.good_bytes, state.cut_bytes) == (ends[n_whole], cut - ends[n_whole])


@settings(max_examples=60, deadline=None)
@given(told=st.lists(records, max_size=12))
def test_a_ledger_written_anew_says_the_same_of_a_scan_that_goes_on(tmp_path_factory, told):
    path = tmp_path_factory.mktemp("ledger") / "ledger"
    told = [*told, Opened(), Annotated({"x": "x" * 100})]
    ledger = Ledger.create(path, told)
    ledger.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_module, "MAX_NOTES_BYTES", 10)
        ledger, _state = Ledger.open(path)
        before = path.stat().st_ino
        ledger.shorten()
        assert path.stat().st_ino != before
    agrees(replay(path), told)
    more = [Annotated({"x": 1}), Checkpoint(12)]
    ledger.append(more)
    ledger.sync()
    ledger.close()
    agrees(replay(path), told + more)


def annotate_for_long(path, n_notes=400, synced=None, dies_before=None):
    ledger = Ledger.create(path, [Chunks([ChunkAddress(0, 0, 0, 7, 8, 9)])])
    sizes = []
    if dies_before is not None:
        die_before(dies_before)
    for number in range(n_notes):
        ledger.shorten()
        ledger.append([Annotated({"drift": number, "image": bytes(900)})])
        ledger.sync()
        if synced is not None:
            synced[0] = number
        sizes.append(path.stat().st_size)
    ledger.close()
    return sizes


def test_annotations_for_ever_take_bounded_room(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger_module, "MAX_NOTES_BYTES", 20_000)
    sizes = annotate_for_long(tmp_path / "ledger")
    assert max(sizes) < 20_000 + 5 * 1000
    state = replay(tmp_path / "ledger")
    assert state.annotations["drift"] == 399
    assert len(state.chunks) == 1
    assert state.notes_bytes > 900  # a later process counts on from there


def test_a_process_that_ends_while_a_ledger_is_written_anew_loses_no_annotation(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(ledger_module, "MAX_NOTES_BYTES", 3000)
    for last in range(1, 60):
        path = tmp_path / f"ledger-{last}"
        synced = np.memmap(tmp_path / "synced", "i8", "w+", shape=(1,))
        synced[0] = -1
        assert not in_a_child(lambda: annotate_for_long(path, synced=synced, dies_before=last))  # noqa: B023 - run now
        state = replay(path)
        assert state.annotations.get("drift", -1) >= synced[0]
        assert len(state.chunks) == 1
    assert synced[0] > 15


def test_a_ledger_is_not_written_anew_while_it_is_small(tmp_path):
    sizes = annotate_for_long(tmp_path / "ledger", n_notes=20)
    assert sizes == sorted(sizes)
    assert sizes[-1] > 15_000


@pytest.mark.parametrize("code", ["no_space", "storage_failed"])
def test_a_ledger_that_cannot_be_written_anew_is_as_it_was(tmp_path, monkeypatch, code):
    monkeypatch.setattr(ledger_module, "MAX_NOTES_BYTES", 10)
    path = tmp_path / "ledger"
    ledger = Ledger.create(path)
    ledger.append([Annotated({"x": 1, "y": 2})])
    before = path.read_bytes()

    def fail(*_args):
        raise StorageError("no", code=code)

    with monkeypatch.context() as patch:
        patch.setattr(ledger_module, "publish", fail)
        with pytest.raises(StorageError, match="no"):
            ledger.shorten()
    assert path.read_bytes() == before
    if code == "no_space":
        ledger.shorten()
        ledger.append([Annotated({"x": 3})])
        assert replay(path).annotations == {"x": 3, "y": 2}
    else:
        with pytest.raises(StorageError):
            ledger.append([Annotated({"x": 3})])
    ledger.close()


def test_arrays_in_attributes_come_back(tmp_path):
    attrs = {"drift": np.arange(6, dtype="<f8"), "note": "µ", "flags": [1, 2]}
    Ledger.create(tmp_path / "l", [Annotated(attrs), Finalise("complete", ENDED, attrs)]).close()
    state = replay(tmp_path / "l")
    for found in (state.annotations, state.finalise.attrs):
        np.testing.assert_array_equal(found["drift"], attrs["drift"])
        assert (found["note"], found["flags"]) == ("µ", [1, 2])


@pytest.mark.parametrize("tail", [b"\0" * 4096, b"\xff" * 7, frame(b"m")[:-1], os.urandom(300)])
def test_a_torn_tail_is_cut_before_anything_is_appended(tmp_path, tail):
    path = tmp_path / "ledger"
    Ledger.create(path, [Checkpoint(2)]).close()
    good = path.read_bytes()
    path.write_bytes(good + tail)
    ledger, state = Ledger.open(path)
    assert (state.first_segment, state.cut_bytes) == (2, len(tail))
    assert path.read_bytes() == good
    ledger.append([Checkpoint(3)])
    ledger.sync()
    ledger.close()
    assert replay(path).first_segment == 3


def test_what_stands_behind_a_damaged_record_does_not_count(tmp_path):
    path = tmp_path / "ledger"
    Ledger.create(path, [Checkpoint(2), Checkpoint(3), Checkpoint(4)]).close()
    content = bytearray(path.read_bytes())
    at = len(content) * 2 // 3
    content[at] ^= 1
    path.write_bytes(content)
    assert replay(path).first_segment in (2, 3)


@pytest.mark.parametrize(
    "content",
    [b"", b"text" * 9, frame(b"c"), frame(b"m" + pack({"t": "ledger", "version": 99}))],
)
def test_what_is_no_ledger_is_told(tmp_path, content):
    (tmp_path / "ledger").write_bytes(content)
    with pytest.raises(StorageError) as caught:
        replay(tmp_path / "ledger")
    assert caught.value.code == "file_damaged"
    assert "recover" in caught.value.hint


def test_a_whole_record_of_an_unknown_kind_is_told_not_passed_over(tmp_path):
    path = tmp_path / "ledger"
    Ledger.create(path).close()
    path.write_bytes(path.read_bytes() + frame(b"m" + pack({"t": "new"})))
    with pytest.raises(StorageError, match="not known"):
        replay(path)


def test_after_a_failed_sync_the_descriptor_is_never_trusted_again(tmp_path, monkeypatch):
    ledger = Ledger.create(tmp_path / "ledger")
    ledger.append([Checkpoint(2)])

    def fail(_fd):
        raise OSError(errno.EIO, "dead")

    with monkeypatch.context() as patch:
        patch.setattr("usidstreamd.storage.syncs.sync_data", fail)
        with pytest.raises(SyncError):
            ledger.sync()
    with pytest.raises(SyncError):
        ledger.sync()
    with pytest.raises(SyncError):
        ledger.append([Checkpoint(3)])
    ledger.close()


def test_records_that_found_no_room_leave_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "ledger"
    ledger = Ledger.create(path, [Checkpoint(2)])
    before = path.read_bytes()
    writev = os.writev

    def short(fd, views):
        writev(fd, [views[0][:5]])
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", short)
        with pytest.raises(StorageError) as caught:
            ledger.append([Checkpoint(7)])
    assert caught.value.code == "no_space"
    assert path.read_bytes() == before
    ledger.append([Checkpoint(3)])
    ledger.close()
    assert replay(path).first_segment == 3


def test_a_ledger_replaces_another_in_one_step(tmp_path):
    Ledger.create(tmp_path / "ledger", [Checkpoint(2)]).close()
    Ledger.create(tmp_path / "ledger", [Checkpoint(5)]).close()
    assert replay(tmp_path / "ledger").first_segment == 5
    assert [entry.name for entry in tmp_path.iterdir()] == ["ledger"]


def test_a_table_finds_a_mains_chunks_and_its_end():
    told = [ChunkAddress(1, 4, 0, 900, 50, 7), ChunkAddress(0, 0, 2, 100, 10, 8, False)]
    table = ChunkTable([unpack_entries(pack_addresses(told))])
    assert [len(table.of_main(main)) for main in (0, 1, 2)] == [1, 1, 0]
    assert (table.end, ChunkTable().end) == (950, 0)
    assert list(table) == told[::-1]
    assert list(table.without(table.entries["main"] == 1)) == told[1:]
    assert unpack_entries(pack_addresses(table)).tolist() == table.entries.tolist()


def test_only_the_last_record_tells_that_a_scan_is_interrupted(tmp_path):
    told = [Opened(), Finalise("interrupted", ENDED), Closed(), Done(), Opened()]
    for number in range(len(told) + 1):
        Ledger.create(tmp_path / "l", told[:number]).close()
        assert is_interrupted(tmp_path / "l") == (number == 4)
    ledger = Ledger.create(tmp_path / "l", told[:4])
    ledger.close()
    with (tmp_path / "l").open("ab") as file:  # a record that was cut off
        file.write(b"\x05")
    assert not is_interrupted(tmp_path / "l")
    with pytest.raises(StorageError, match="none"):
        is_interrupted(tmp_path / "none")


@pytest.mark.parametrize(
    "lie",
    [
        {"t": "k", "first_segment": -1}, {"t": "k", "first_segment": "1"}, {"t": "r", "count": 1.5},
        {"t": "h", "partial": "Raw"}, {"t": "h", "partial": {1: b""}}, {"t": "a", "attrs": {}},
        {"t": "a", "attrs": [], "frames": []}, {"t": "a", "attrs": {}, "frames": [1]},
        {"t": "f", "status": "done", "ended": ENDED, "attrs": {}, "frames": [], "missing": {},
         "partial": {}},
        {"t": ["k"]}, [], 7,
    ],
)  # fmt: skip
def test_a_record_that_is_whole_and_lies_is_damage(tmp_path, lie):
    path = tmp_path / "ledger"
    Ledger.create(path).close()
    path.write_bytes(path.read_bytes() + frame(b"m" + pack(lie)))
    with pytest.raises(StorageError) as caught:
        replay(path)
    assert caught.value.code == "file_damaged"


def test_a_head_that_is_no_map_is_damage(tmp_path):
    (tmp_path / "ledger").write_bytes(frame(b"m" + pack(["ledger"])))
    with pytest.raises(StorageError, match="does not begin as a ledger"):
        replay(tmp_path / "ledger")
