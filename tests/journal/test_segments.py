import errno
import os
import struct

import numpy as np
import pytest

from usidstreamd.storage import StorageError, segments
from usidstreamd.storage.records import RecordFile
from usidstreamd.storage.segments import JournalBlock, RowJournal, RowReplay


def block(seed, rows=3, cols=5, scattered=False):
    data = np.random.default_rng(seed).bytes(rows * cols * 4)
    numbers = np.arange(seed, seed + rows, dtype="<u8").tobytes() if scattered else None
    return JournalBlock(seed % 3, 0 if scattered else seed, rows, seed % 7, cols, data, numbers)


def plain(found):
    numbers = None if found.numbers is None else bytes(found.numbers)
    return (found.main, found.row, found.rows, found.col, found.cols, bytes(found.data), numbers)


def replayed(directory, first=1):
    replay = RowReplay(directory, first)
    return [plain(found) for found in replay], replay.faults


def names(directory):
    return sorted(entry.name for entry in directory.iterdir())


def fill(directory, *groups, target_bytes=segments.SEGMENT_TARGET_BYTES):
    rows = RowJournal(directory, target_bytes=target_bytes)
    numbers = [rows.append(group) for group in groups]
    rows.sync()
    rows.close()
    return numbers


def test_blocks_come_back_in_order(tmp_path):
    blocks = [block(seed, scattered=bool(seed % 2)) for seed in range(20)]
    fill(tmp_path, blocks[:7], blocks[7:])
    assert replayed(tmp_path) == ([plain(b) for b in blocks], [])


def test_no_segment_is_made_before_there_is_a_block(tmp_path):
    rows = RowJournal(tmp_path)
    rows.sync()
    rows.drop_before(4)
    rows.close()
    assert names(tmp_path) == []
    assert replayed(tmp_path) == ([], [])


def test_a_segment_cut_anywhere_gives_its_whole_blocks(tmp_path):
    blocks = [block(seed, rows=1, cols=2) for seed in range(4)]
    fill(tmp_path, blocks)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    counts = set()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        found, faults = replayed(tmp_path)
        assert found == [plain(b) for b in blocks[: len(found)]]
        assert not faults
        counts.add(len(found))
    assert counts == {0, 1, 2, 3}


def test_a_new_process_cuts_the_torn_tail_and_goes_on_in_a_new_segment(tmp_path):
    fill(tmp_path, [block(1)])
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes() + b"torn")
    rows = RowJournal(tmp_path)
    assert rows.append([block(2)]) == 2
    rows.sync()
    rows.close()
    assert replayed(tmp_path) == ([plain(block(1)), plain(block(2))], [])


def test_damage_in_an_earlier_segment_is_told_and_hides_no_later_one(tmp_path, caplog):
    assert fill(tmp_path, [block(1), block(2)], [block(3)], target_bytes=1) == [1, 2]
    path = tmp_path / "rows-00000001"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    found, faults = replayed(tmp_path)
    assert found == [plain(block(1)), plain(block(3))]
    assert len(faults) == 1
    assert "rows-00000001 is damaged" in faults[0]
    (told,) = caplog.records
    assert told.message == "journal_damaged"
    assert told.problem == faults[0], "a daemon reads the rows once, and asks for no faults"


def test_a_missing_or_foreign_segment_is_told(tmp_path):
    fill(tmp_path, *([block(seed)] for seed in range(4)), target_bytes=1)
    (tmp_path / "rows-00000002").unlink()
    (tmp_path / "rows-00000004").write_bytes((tmp_path / "rows-00000003").read_bytes())
    found, faults = replayed(tmp_path)
    assert found == [plain(block(0)), plain(block(2))]
    assert faults[0] == "segments 2 to 2 of the rows are missing"
    assert "does not begin as segment 4" in faults[1]


def test_disk_use_stays_bounded_and_numbers_are_never_used_again(tmp_path):
    rows, most = RowJournal(tmp_path, target_bytes=1000), 0
    for seed in range(300):
        number = rows.append([block(seed, rows=10)])
        rows.sync()
        if seed % 20 == 19:
            rows.drop_before(number)
        most = max(most, sum(path.stat().st_size for path in tmp_path.iterdir()))
    assert most < 20 * 1000
    rows.drop_before(number + 1)  # the open one is not needed either
    assert names(tmp_path) == []
    assert rows.append([block(1)]) == number + 1
    rows.close()
    again = RowJournal(tmp_path, first_segment=number + 5)
    assert again.append([block(2)]) == number + 5
    again.close()
    assert replayed(tmp_path, number + 5) == ([plain(block(2))], [])


def test_segments_before_the_first_needed_are_not_read(tmp_path):
    fill(tmp_path, [block(1)], [block(2)], [block(3)], target_bytes=1)
    assert replayed(tmp_path, 3) == ([plain(block(3))], [])
    assert [number for number, _block in RowReplay(tmp_path, 2).numbered()] == [2, 3]
    assert [path.name for path in segments.segment_files(tmp_path, 2)] == [
        "rows-00000002",
        "rows-00000003",
    ]


def test_a_system_that_writes_little_at_a_time_loses_nothing(tmp_path, monkeypatch):
    writev, calls = os.writev, []

    def little(fd, views):
        calls.append(len(views))
        return writev(fd, [views[0][:11]])

    monkeypatch.setattr(os, "writev", little)
    blocks = [block(seed) for seed in range(3)]
    fill(tmp_path, blocks)
    assert replayed(tmp_path) == ([plain(b) for b in blocks], [])
    assert len(calls) > 20


def test_a_system_without_writev(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "writev")
    blocks = [block(seed) for seed in range(3)]
    fill(tmp_path, blocks)
    assert replayed(tmp_path) == ([plain(b) for b in blocks], [])


def test_more_buffers_than_one_call_takes(tmp_path):
    blocks = [block(seed, rows=1, cols=1) for seed in range(700)]
    fill(tmp_path, blocks)
    assert len(replayed(tmp_path)[0]) == 700


def test_a_full_disk_leaves_no_half_block(tmp_path, monkeypatch):
    rows = RowJournal(tmp_path)
    rows.append([block(1)])
    writev = os.writev

    def full(fd, views):
        writev(fd, [views[0], views[1][:3]])
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", full)
        with pytest.raises(StorageError, match="full"):
            rows.append([block(2)])
    rows.append([block(3)])
    rows.sync()
    rows.close()
    assert replayed(tmp_path) == ([plain(block(1)), plain(block(3))], [])


def test_a_segment_that_cannot_be_begun_is_not_there(tmp_path, monkeypatch):
    def full(_fd, _views):
        raise OSError(errno.ENOSPC, "full")

    rows = RowJournal(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", full)
        with pytest.raises(StorageError) as caught:
            rows.append([block(1)])
    assert caught.value.code == "no_space"
    assert names(tmp_path) == []
    assert rows.append([block(1)]) == 1
    rows.close()


@pytest.mark.parametrize(
    ("payload", "told"),
    [(b"short", "too short"), (struct.pack("<IIQQQQ", 0, 1, 0, 9, 0, 1) + b"\0" * 71, "lacks")],
)
def test_a_whole_record_that_is_no_block_is_told(tmp_path, payload, told):
    fill(tmp_path, [block(1)])
    (path,) = tmp_path.iterdir()
    file = RecordFile(path, path.stat().st_size)
    file.append([(payload,)])
    file.close()
    found, faults = replayed(tmp_path)
    assert found == [plain(block(1))]
    assert told in faults[0]
