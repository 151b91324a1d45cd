import errno
import os
import threading

import h5py
import pytest

from support.journalled import JournalledScan
from support.storing import Events, layout_of, main_of, plans_for, random_data
from usidstreamd.storage import (
    SpaceBack,
    SpaceShort,
    StorageError,
    StorageFailed,
    record,
    scan_journal,
)
from usidstreamd.storage.chunktable import ChunkAddress
from usidstreamd.storage.journal import (
    CheckpointDone,
    FinaliseRecorded,
    JournalCheckpoint,
    JournalClose,
    JournalClosed,
    JournalCommit,
    JournalFinalise,
    Journalled,
    JournalThread,
)
from usidstreamd.storage.ledger import replay
from usidstreamd.storage.ledger_records import Finalise
from usidstreamd.storage.scan_journal import ScanJournal
from usidstreamd.storage.segments import JournalBlock, RowReplay

LAYOUT = layout_of(main_of())
CHUNK = ChunkAddress(0, 0, 0, 4096, 100, 7)
DECISION = Finalise("incomplete", "2025-01-01T00:00:00+00:00", {"x": 1}, {"Raw_Data": [(0, 3)]})
BLOCK = JournalBlock(0, 3, 1, 0, 8, b"\1" * 32)


class Stage:
    """A scan's journal in its thread."""

    def __init__(self, data_dir, keep_free_bytes=0):
        self.scan = JournalledScan(data_dir, LAYOUT, plans_for(LAYOUT))
        self.directory = self.scan.directory
        self.events = Events()
        journal = ScanJournal(self.directory, self.scan.path, keep_free_bytes)
        self.thread = JournalThread(journal, self.events.post)

    def ask(self, command):
        self.thread.submit(command)
        return self.events.next()

    def ledger(self):
        return replay(self.directory / "ledger")

    def blocks(self):
        return list(RowReplay(self.directory, self.ledger().first_segment))


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path)
    yield stage
    stage.thread.submit(JournalClose(is_clean=False))
    assert stage.thread.join(30)


def test_a_commit_is_on_the_disk_when_it_is_answered(stage):
    told = stage.ask(JournalCommit(blocks=[BLOCK], chunks=[CHUNK], attrs={"a": 1}, token=17))
    assert told == Journalled(segment=1, token=17)
    assert list(stage.ledger().chunks) == [CHUNK]
    assert stage.ledger().annotations == {"a": 1}
    (block,) = stage.blocks()
    assert (block.row, bytes(block.data)) == (3, BLOCK.data)
    assert stage.ask(JournalCommit(chunks=[CHUNK])).segment is None


def test_bytes_of_chunks_are_synced_before_their_addresses_and_all_before_the_answer(
    stage, monkeypatch
):
    steps = []
    fdatasync, writev = os.fdatasync, os.writev

    def name_of(fd):
        return os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))

    def synced(fd):
        steps.append(("sync", name_of(fd)))
        fdatasync(fd)

    def written(fd, views):
        steps.append(("write", name_of(fd)))
        return writev(fd, views)

    monkeypatch.setattr(os, "fdatasync", synced)
    monkeypatch.setattr(os, "writev", written)
    stage.ask(JournalCommit(blocks=[BLOCK], chunks=[CHUNK]))
    order = {step: number for number, step in enumerate(steps)}
    assert order["sync", "scan.h5"] < order["write", "ledger"] < order["sync", "ledger"]
    assert order["write", "rows-00000001"] < order["sync", "rows-00000001"]
    steps.clear()
    stage.ask(JournalCommit(blocks=[BLOCK]))
    assert {name for _step, name in steps} == {"rows-00000001"}


def test_commits_that_wait_are_synced_together(stage, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()
    syncs = []
    sync = scan_journal.sync

    def slow(fd, synced):
        syncs.append(fd)
        begun.set()
        assert go_on.wait(30)
        sync(fd, synced)

    monkeypatch.setattr(scan_journal, "sync", slow)
    stage.thread.submit(JournalCommit(chunks=[CHUNK], token=0))
    assert begun.wait(30)
    for token in range(1, 6):
        stage.thread.submit(JournalCommit(chunks=[CHUNK._replace(row=token)], token=token))
    go_on.set()
    assert [stage.events.next().token for _ in range(6)] == list(range(6))
    assert len(syncs) == 2
    assert len(stage.ledger().chunks) == 6


def test_a_checkpoint_lets_segments_go_once_it_is_recorded(stage):
    stage.ask(JournalCommit(blocks=[BLOCK]))
    assert isinstance(stage.ask(JournalCheckpoint(first_segment=2)), CheckpointDone)
    assert stage.ledger().first_segment == 2
    assert not list(stage.directory.glob("rows-*"))
    assert stage.ask(JournalCommit(blocks=[BLOCK])).segment == 2


def test_an_end_is_recorded(stage):
    assert isinstance(stage.ask(JournalFinalise(decision=DECISION)), FinaliseRecorded)
    assert stage.ledger().finalise == DECISION


@pytest.mark.parametrize("is_done", [True, False])
def test_a_clean_end_is_recorded_and_ends_the_thread(tmp_path, is_done):
    stage = Stage(tmp_path)
    told = stage.ask(JournalClose(is_clean=True, is_done=is_done))
    assert isinstance(told, JournalClosed)
    assert stage.thread.join(30)
    state = stage.ledger()
    assert (state.is_closed, state.is_done) == (True, is_done)
    late = stage.ask(JournalCommit(chunks=[CHUNK], token=18))
    assert (late.token, late.operation) == (18, "commit")
    assert "has ended" in late.error.message
    ScanJournal(stage.directory, stage.scan.path, 0).close(is_clean=False)
    assert not stage.ledger().is_closed


def test_after_a_failed_sync_of_the_file_nothing_is_durable_any_more(stage, monkeypatch):
    def fail(_fd, _synced):
        raise OSError(errno.EIO, "dead disk")

    with monkeypatch.context() as patch:
        patch.setattr(scan_journal, "sync", fail)
        told = stage.ask(JournalCommit(chunks=[CHUNK], token=1))
    assert isinstance(told, StorageFailed)
    assert told.error.code == "storage_failed"
    assert "dead disk" in record.suspicion(stage.directory)
    for command in (JournalCommit(blocks=[BLOCK]), JournalCheckpoint(first_segment=2)):
        assert isinstance(stage.ask(command), StorageFailed)
    assert len(stage.ledger().chunks) == 0
    assert isinstance(stage.ask(JournalClose(is_clean=True)), JournalClosed)
    assert not stage.ledger().is_closed


def test_a_full_disk_refuses_and_goes_on_when_there_is_room(stage, monkeypatch):
    def full(_path, nbytes, _keep):
        if nbytes:
            raise StorageError("full", code="no_space")

    with monkeypatch.context() as patch:
        patch.setattr(scan_journal, "require_room", full)
        told = stage.ask(JournalCommit(blocks=[BLOCK], chunks=[CHUNK]))
        assert isinstance(told, SpaceShort)
        assert (told.source, told.error.code, told.error.retryable) == ("journal", "no_space", True)
        assert stage.blocks() == []
        # what makes room does not wait behind what needs it
        assert isinstance(stage.ask(JournalCheckpoint(first_segment=1)), CheckpointDone)
        stage.thread.submit(JournalCommit(blocks=[BLOCK], token=2))
    assert isinstance(stage.events.next(), SpaceBack)
    assert [stage.events.next().token for _ in range(2)] == [None, 2]
    assert len(stage.blocks()) == 2


def test_a_write_that_finds_no_room_can_be_asked_again(stage, monkeypatch):
    def full(_fd, _views):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", full)
        assert stage.ask(JournalCommit(blocks=[BLOCK])).error.code == "no_space"
    assert isinstance(stage.events.next(), SpaceBack)
    assert stage.events.next().segment == 1
    assert len(stage.blocks()) == 1


def test_a_close_ends_the_waiting_for_room(tmp_path):
    stage = Stage(tmp_path, keep_free_bytes=1 << 62)
    assert isinstance(stage.ask(JournalCommit(blocks=[BLOCK], token=1)), SpaceShort)
    stage.thread.submit(JournalFinalise(decision=DECISION, token=2))
    stage.thread.submit(JournalClose(is_clean=False, token=3))
    told = [stage.events.next() for _ in range(3)]
    assert [type(event) for event in told] == [StorageFailed, FinaliseRecorded, JournalClosed]
    assert [event.token for event in told] == [1, 2, 3]
    assert stage.thread.join(30)
    assert stage.blocks() == []


def test_the_reserve_is_kept(tmp_path):
    stage = Stage(tmp_path, keep_free_bytes=1 << 62)
    assert stage.ask(JournalCommit(blocks=[BLOCK])).error.code == "no_space"
    stage.thread.submit(JournalClose(is_clean=True))
    assert stage.thread.join(30)
    assert stage.blocks() == []


def test_a_fault_of_our_own_is_told(stage):
    told = stage.ask(JournalCommit(attrs={"x": object()}, token=3))
    assert isinstance(told, StorageFailed)
    assert (told.token, told.error.code) == (3, "internal_error")
    assert isinstance(stage.ask(JournalCommit(blocks=[BLOCK])), Journalled)


def test_syncing_waits_for_nobody_inside_h5py(stage):
    """A thread that sits in HDF5 holds h5py's lock; the journal goes on."""
    with h5py._objects.phil:
        assert isinstance(stage.ask(JournalCommit(blocks=[BLOCK], chunks=[CHUNK])), Journalled)


def test_a_journal_that_cannot_be_opened_leaves_nothing_open(tmp_path):
    scan = JournalledScan(tmp_path, LAYOUT, plans_for(LAYOUT))
    scan.path.unlink()
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(StorageError, match="could not open"):
        ScanJournal(scan.directory, scan.path, 0)
    assert set(os.listdir("/proc/self/fd")) == before


def test_blocks_are_journalled_without_a_copy_of_their_data():
    data = random_data(LAYOUT, "Raw_Data")
    parts = JournalBlock(0, 0, 64, 0, 8, memoryview(data)).parts()
    assert memoryview(parts[-1]).obj is data
