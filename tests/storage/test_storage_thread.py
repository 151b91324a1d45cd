import errno
import os
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from support.storing import (
    CREATED,
    SCAN_ID,
    Events,
    block_of,
    chunks_of,
    complete,
    decision,
    layout_of,
    main_of,
    plans_for,
    random_data,
)
from usidstreamd.storage import (
    Close,
    Closed,
    Commit,
    Committed,
    Create,
    Finalise,
    Finalised,
    FinishedScans,
    Ready,
    Resume,
    SpaceBack,
    SpaceShort,
    StorageError,
    StorageFailed,
    StorageThread,
    SyncError,
    TileWritten,
    WriteTile,
    find_journals,
    live,
    record,
    scan_journal,
    template,
    thread,
)
from usidstreamd.storage.scan import OpenScan
from usidstreamd.storage.scan_journal import ScanJournal

LAYOUT = layout_of(main_of())
PLANS = plans_for(LAYOUT)
DATA = random_data(LAYOUT, "Raw_Data")


class Store:
    """A storage thread with its events; its scan's journal is used as a journal thread does."""

    def __init__(self, data_dir):
        self.data_dir = data_dir
        self.events = Events()
        self.finished = FinishedScans(data_dir)
        self.thread = StorageThread(self.events.post, self.finished)
        self.journal = None

    def create(self, file="scan", **more):
        command = Create(
            data_dir=self.data_dir, file=file, layout=more.get("layout", LAYOUT), plans=PLANS,
            scan_id=SCAN_ID, created=CREATED, token=1,
        )  # fmt: skip
        return self.ask(command)

    def resume(self, **more):
        return self.ask(Resume(record=only_journal(self.data_dir), **more))

    def ask(self, command):
        self.thread.submit(command)
        event = self.events.next()
        if isinstance(event, Ready):
            self.journal = event.journal
        return event

    def write(self, start, stop, token=None):
        chunks = chunks_of(DATA, PLANS["Raw_Data"], start, stop)
        return self.ask(WriteTile(main="Raw_Data", chunks=chunks, token=token))

    def store(self, start, stop):
        """Write rows and make them durable."""
        self.journal.commit(self.write(start, stop).chunks, [], {})

    def commit(self, lo, hi, **more):
        return self.ask(Commit(updates={"Raw_Data": complete(lo, hi)}, **more))

    def end(self, status="complete", token=None, **attrs):
        """Record how the scan ends, then end it; its journal goes once the result is told."""
        self.journal.finalise(decision(status, **attrs))
        self.journal.close(is_clean=False)
        self.journal = None
        told = self.ask(Finalise(status=status, ended=CREATED, attrs=attrs, token=token))
        if isinstance(told, Finalised):
            assert self.thread.join(30)
        return told

    def close(self, token=None):
        """Close the file, and then the journal; what the file said is returned."""
        closed = self.ask(Close(token=token))
        assert self.thread.join(30)
        if self.journal is not None:
            self.journal.close(is_clean=isinstance(closed, Closed))
            self.journal = None
        return closed

    def has_ended(self):
        return self.thread.join(30)


@pytest.fixture
def stores(tmp_path):
    """Make one storage thread after the other in the same data directory."""
    made = []

    def make():
        made.append(Store(tmp_path))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def store(stores):
    return stores()


def only_journal(tmp_path):
    (found,) = find_journals(tmp_path)
    return found


def fail_with(number):
    def fail(*_args, **_more):
        raise OSError(number, "injected")

    return fail


# ---------------------------------------------------------------- a scan's way


def test_a_scan_from_its_opening_to_its_end(store, tmp_path):
    ready = store.create()
    assert isinstance(ready, Ready)
    assert (ready.token, ready.resumed, ready.decision) == (1, False, None)
    assert ready.coverage["Raw_Data"].states.tolist() == [0] * 64
    assert (ready.annotations, list(ready.replay)) == ({}, [])
    assert ready.record.path.name.startswith("scan_")
    assert ready.record.path.exists()
    assert only_journal(tmp_path).scan_id == SCAN_ID
    written = store.write(0, 64, token=2)
    assert isinstance(written, TileWritten)
    assert written.token == 2
    expected = chunks_of(DATA, PLANS["Raw_Data"])
    assert [(a.main, a.row, a.col) for a in written.chunks] == [
        (0, row, col) for row, col, _payload in expected
    ]
    content = ready.record.path.read_bytes()
    assert [content[a.offset : a.offset + a.nbytes] for a in written.chunks] == [
        payload for _row, _col, payload in expected
    ]
    store.journal.commit(written.chunks, [], {})
    assert store.commit(0, 64, token=3) == Committed(token=3)
    done = store.end("complete", token=4, a=1, b=3)
    assert isinstance(done, Finalised)
    assert done.token == 4
    assert store.has_ended()
    assert store.finished.get(SCAN_ID) == done.result
    assert list(find_journals(tmp_path)) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".usidstream", ready.record.path.name,
    ]  # fmt: skip
    with h5py.File(done.result.file) as h5_file:
        assert np.array_equal(h5_file["Measurement_000/Raw_Data"], DATA)
        assert h5_file["Measurement_000"].attrs["a"] == 1
        assert h5_file["Measurement_000"].attrs["b"] == 3


def test_a_closed_scan_is_resumed_by_the_next_thread(store, stores, tmp_path):
    store.create()
    store.store(0, 32)
    store.journal.commit([], [block_of(DATA, 40, 43)], {"drift": 1.5})
    store.commit(0, 32)
    assert store.close(token=5) == Closed(token=5)
    (only_journal(tmp_path).journal / "scratch-0").write_bytes(b"of a killed daemon")

    again = stores()
    ready = again.resume(token=6)
    assert isinstance(ready, Ready)
    assert (ready.token, ready.resumed, ready.annotations) == (6, True, {"drift": 1.5})
    assert ready.decision is None
    assert dict(ready.record.plans) == PLANS
    assert ready.coverage["Raw_Data"].states.tolist() == [1] * 32 + [0] * 32
    assert [bytes(block.data) for block in ready.replay] == [DATA[40:43].tobytes()]
    assert not (ready.record.journal / "scratch-0").exists()
    assert np.array_equal(again.thread.fetch("Raw_Data", 5, 40, 1, 6)[:27], DATA[5:32, 1:7])
    again.store(32, 64)
    again.commit(32, 64)
    done = again.end("complete", drift=1.5, speed=2)
    with h5py.File(done.result.file) as h5_file:
        assert np.array_equal(h5_file["Measurement_000/Raw_Data"], DATA)
        assert h5_file["Measurement_000"].attrs["drift"] == 1.5
        assert h5_file["Measurement_000"].attrs["speed"] == 2
        assert h5_file["Measurement_000"].attrs["recoveries"] == 0


def test_coverage_is_the_ledgers_whatever_was_shown(store, stores):
    """Incomplete chunks do not count, nor what the file was told before its chunks were durable."""
    store.create()
    store.store(0, 16)
    chunks = chunks_of(DATA, PLANS["Raw_Data"], 16, 32)
    tile = store.ask(WriteTile(main="Raw_Data", chunks=chunks, is_complete=False))
    store.journal.commit(tile.chunks, [], {})
    store.write(32, 48)
    store.commit(0, 48)
    store.close()
    ready = stores().resume()
    assert ready.coverage["Raw_Data"].states.tolist() == [1] * 16 + [0] * 48
    assert ready.coverage["Raw_Data"].partial.tolist() == []


def test_commands_are_done_in_their_order(store):
    store.create()
    for row in range(0, 64, 16):
        chunks = chunks_of(DATA, PLANS["Raw_Data"], row, row + 16)
        store.thread.submit(WriteTile(main="Raw_Data", chunks=chunks, token=row))
        update = {"Raw_Data": complete(row, row + 16)}
        store.thread.submit(Commit(updates=update, token=-row))
    store.thread.submit(Finalise(status="complete", ended=CREATED))
    assert store.has_ended()
    kinds = [type(event) for event in store.events.rest()]
    assert kinds == [TileWritten, Committed] * 4 + [Finalised]


def test_a_finish_cut_short_is_ended_again(store, stores, tmp_path, monkeypatch):
    """The daemon ended after the file was finalised and before its result was remembered."""
    store.create()
    store.store(0, 16)
    store.commit(0, 16)
    monkeypatch.setattr(FinishedScans, "remember", fail_with(errno.EIO))
    assert isinstance(store.end("incomplete"), StorageFailed)
    store.close()
    monkeypatch.undo()

    again = stores()
    assert isinstance(again.resume(), Ready)
    again.commit(0, 16)
    done = again.end("incomplete")
    assert isinstance(done, Finalised)
    assert (done.result.status, done.result.missing) == ("incomplete", {"Raw_Data": [(16, 64)]})
    assert again.has_ended()
    assert again.finished.get(SCAN_ID) == done.result
    assert list(find_journals(tmp_path)) == []


def test_a_result_that_cannot_be_remembered_keeps_its_journal(store, stores, tmp_path, monkeypatch):
    """The daemon died before it had remembered the result, and the next one cannot either."""
    store.create()
    store.store(0, 64)
    store.commit(0, 64)
    monkeypatch.setattr(FinishedScans, "remember", fail_with(errno.EIO))
    assert isinstance(store.end("complete"), StorageFailed)
    store.close()
    again = stores()
    assert isinstance(again.resume(), Ready)
    again.commit(0, 64)
    assert isinstance(again.end("complete"), StorageFailed)
    again.close()
    assert only_journal(tmp_path).scan_id == SCAN_ID
    monkeypatch.undo()
    last = stores()
    last.resume()
    last.commit(0, 64)
    assert last.end("complete").result.status == "complete"
    assert last.has_ended()
    assert list(find_journals(tmp_path)) == []


def test_a_journal_that_was_half_removed_goes_with_the_resume(
    store, stores, tmp_path, monkeypatch, caplog
):
    store.create()
    store.store(0, 64)
    store.commit(0, 64)
    removed = []
    unlink = Path.unlink

    def unlink_some(path, **more):
        if path.name == record.RECORD_NAME:
            raise OSError(errno.EIO, "injected")
        removed.append(path.name)
        unlink(path, **more)

    monkeypatch.setattr(Path, "unlink", unlink_some)
    ended = store.end("complete")
    assert ended.result.status == "complete"  # and is remembered: what stays does no harm
    monkeypatch.undo()
    assert [entry.msg for entry in caplog.records] == ["journal_left"]
    assert "injected" in caplog.records[0].problem
    assert "ledger" in removed
    assert [path.name for path in only_journal(tmp_path).journal.iterdir()] == ["open"]

    again = stores()
    done = again.resume()
    assert isinstance(done, Finalised)
    assert done.result == again.finished.get(SCAN_ID) == ended.result
    assert again.has_ended()
    assert list(find_journals(tmp_path)) == []


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("module", "step"),
    [
        (record, "publish"),
        (live, "publish_new"),
        (live, "sync_file"),
        (live.structure, "build"),
        (template, "sync_file"),
        (live, "_open_for_writing"),
        (scan_journal, "_open_for_sync"),
    ],
)
def test_a_failed_creation_leaves_nothing_behind(tmp_path, monkeypatch, module, step):
    monkeypatch.setattr(module, step, fail_with(errno.EIO))
    store = Store(tmp_path)
    failed = store.create()
    assert isinstance(failed, StorageFailed)
    assert (failed.operation, failed.token) == ("create", 1)
    assert list(tmp_path.iterdir()) == []
    assert store.has_ended()


def test_a_bad_name_leaves_nothing_behind(tmp_path):
    store = Store(tmp_path)
    failed = store.create("../evil")
    assert failed.error.code == "bad_name"
    assert list(tmp_path.iterdir()) == []
    assert store.has_ended()


def test_an_existing_file_of_the_name_stays(store, stores, tmp_path):
    path = store.create().record.path
    store.close()
    assert isinstance(stores().create(), StorageFailed)
    assert only_journal(tmp_path).path == path
    assert path.exists()


def test_after_a_failed_write_nothing_is_reported_done(store, stores, monkeypatch):
    store.create()
    store.store(0, 16)
    store.commit(0, 16)
    monkeypatch.setattr(live.LiveMain, "write_chunk", fail_with(errno.EIO))
    failed = store.write(16, 32, token=7)
    assert isinstance(failed, StorageFailed)
    assert (failed.operation, failed.token) == ("writetile", 7)
    assert failed.error.code == "storage_failed"
    monkeypatch.undo()
    for answer in (
        store.write(16, 32),
        store.commit(16, 32),
        store.ask(Finalise(status="aborted", ended=CREATED)),
    ):
        assert isinstance(answer, StorageFailed)
        assert answer.error is failed.error
    # what was durable can be gone on with
    assert isinstance(store.close(), Closed)
    ready = stores().resume()
    assert ready.coverage["Raw_Data"].states.tolist() == [1] * 16 + [0] * 48


def holds_exactly(again, ready, n_rows, *, recoveries):
    """Assert that a recovered scan holds its first rows, and go on with it to its end."""
    assert isinstance(ready, Ready), ready
    states = ready.coverage["Raw_Data"].states
    assert states.tolist() == [1] * n_rows + [0] * (64 - n_rows)
    found = again.thread.fetch("Raw_Data", 0, 64, 0, 8)
    assert np.array_equal(found[:n_rows], DATA[:n_rows])
    again.store(n_rows, 64)
    again.commit(0, 64)
    done = again.end("complete")
    with h5py.File(done.result.file) as h5_file:
        assert np.array_equal(h5_file["Measurement_000/Raw_Data"], DATA)
        assert h5_file["Measurement_000"].attrs["recoveries"] == recoveries
    assert {path.name for path in again.data_dir.iterdir()} == {
        ".usidstream", ready.record.path.name,
    }  # fmt: skip


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_file_whose_sync_failed_is_recovered(store, stores, monkeypatch, number):
    store.create()
    store.store(0, 16)
    store.write(16, 32)
    monkeypatch.setattr(live, "sync", fail_with(number))
    failed = store.commit(0, 32, token=3)
    assert isinstance(failed, StorageFailed)
    assert (failed.token, failed.error.code) == (3, "storage_failed")
    monkeypatch.undo()
    assert isinstance(store.commit(0, 32), StorageFailed)
    assert isinstance(store.close(), StorageFailed)
    again = stores()
    ready = again.resume()
    assert not again.thread.fetch("Raw_Data", 16, 48, 0, 8).any(), "it was rebuilt"
    holds_exactly(again, ready, 16, recoveries=1)


def test_a_file_that_the_journal_could_not_sync_is_recovered(store, stores, monkeypatch):
    store.create()
    store.store(0, 16)
    addresses = store.write(16, 32).chunks
    monkeypatch.setattr(scan_journal, "sync", fail_with(errno.EIO))
    for _ in range(2):
        with pytest.raises(SyncError, match="injected"):
            store.journal.commit(addresses, [], {})
        monkeypatch.undo()  # a sync that succeeds later proves nothing
    assert isinstance(store.close(), Closed)
    again = stores()
    holds_exactly(again, again.resume(), 16, recoveries=1)


def test_a_finish_that_failed_half_way_is_made_again(store, stores, monkeypatch):
    store.create()
    store.store(0, 64)
    store.commit(0, 64)
    monkeypatch.setattr(live.structure, "set_text", fail_with(errno.EIO))
    failed = store.end("complete", note="of the end")
    assert isinstance(failed, StorageFailed)
    assert (failed.operation, failed.error.code) == ("finalise", "storage_failed")
    monkeypatch.undo()
    assert isinstance(store.close(), StorageFailed)
    assert store.finished.get(SCAN_ID) is None
    again = stores()
    ready = again.resume()
    assert ready.coverage["Raw_Data"].states.tolist() == [1] * 64
    decided = ready.decision
    assert (decided.status, decided.attrs) == ("complete", {"note": "of the end"})
    done = again.end(decided.status, **decided.attrs)
    assert isinstance(done, Finalised)
    with h5py.File(done.result.file) as h5_file:
        assert np.array_equal(h5_file["Measurement_000/Raw_Data"], DATA)
        assert h5_file["Measurement_000"].attrs["acquisition_status"] == b"complete"
        assert h5_file["Measurement_000"].attrs["note"] == "of the end"


class FullDisk:
    """Lets so many chunks be written, then none."""

    def __init__(self, monkeypatch, n_chunks):
        self.left = n_chunks
        self.written = []
        write = live.LiveMain.write_chunk

        def write_chunk(main, row, col, payload, writer):
            if not self.left:
                raise OSError(errno.ENOSPC, "full")
            self.left -= 1
            self.written.append((row, col))
            return write(main, row, col, payload, writer)

        monkeypatch.setattr(live.LiveMain, "write_chunk", write_chunk)


def test_a_write_without_space_waits_and_goes_on_where_it_stopped(store, monkeypatch):
    store.create()
    disk = FullDisk(monkeypatch, 3)
    told = store.write(0, 32, token=7)
    assert isinstance(told, SpaceShort)
    assert (told.source, told.error.code) == ("file", "no_space")
    disk.left = 1 << 20
    assert isinstance(store.events.next(), SpaceBack)
    event = store.events.next()
    assert isinstance(event, TileWritten)
    assert event.token == 7
    chunks = chunks_of(DATA, PLANS["Raw_Data"], 0, 32)
    assert [(c.row, c.col) for c in event.chunks] == [(row, col) for row, col, _ in chunks]
    assert len(disk.written) == len(set(disk.written)) == len(chunks)
    store.journal.commit(event.chunks, [], {})
    assert isinstance(store.commit(0, 32), Committed)


def test_a_close_ends_the_waiting_for_space(store, stores, monkeypatch):
    store.create()
    store.store(0, 16)
    disk = FullDisk(monkeypatch, 1)
    assert isinstance(store.write(16, 32, token=7), SpaceShort)
    store.thread.submit(Commit(updates={}, token=8))
    store.thread.submit(Close())
    told = [store.events.next() for _ in range(3)]
    assert [type(event) for event in told] == [StorageFailed, StorageFailed, Closed]
    assert [event.token for event in told] == [7, 8, None]
    assert store.thread.join(30)
    store.journal.close(is_clean=False)
    store.journal = None
    disk.left = 1 << 20
    ready = stores().resume()
    assert ready.coverage["Raw_Data"].states.tolist() == [1] * 16 + [0] * 48


def test_a_result_that_cannot_be_remembered_yet_is_later(store, monkeypatch):
    store.create()
    store.store(0, 64)
    store.commit(0, 64)
    with monkeypatch.context() as patch:
        patch.setattr(FinishedScans, "remember", fail_with_no_space)
        assert isinstance(store.end("complete"), SpaceShort)
    assert isinstance(store.events.next(), SpaceBack)
    event = store.events.next()
    assert isinstance(event, Finalised)
    assert store.finished.get(SCAN_ID) == event.result


def fail_with_no_space(*_args):
    raise StorageError("full", code="no_space")


def test_a_finish_without_space_can_be_made_later(store, stores, monkeypatch):
    store.create()
    store.store(0, 64)
    store.commit(0, 64)
    monkeypatch.setattr(live, "COMMITS_KEEP_FREE_BYTES", 1 << 62)
    told = store.end("complete")
    assert isinstance(told, SpaceShort)
    assert told.error.code == "no_space"
    refused = store.close()
    assert isinstance(refused, StorageFailed)
    assert refused.operation == "finalise"
    assert isinstance(store.events.next(), Closed)
    monkeypatch.undo()
    again = stores()
    ready = again.resume()
    assert ready.decision.status == "complete"
    assert ready.coverage["Raw_Data"].states.tolist() == [1] * 64
    assert isinstance(again.end("complete"), Finalised)


def test_a_missing_file_is_told(store, stores, tmp_path):
    path = store.create().record.path
    store.close()
    path.rename(tmp_path / "elsewhere.h5")
    resumed = stores().resume()
    assert resumed.error.code == "file_damaged"
    assert "is missing" in resumed.error.message


def test_a_fetch_that_fails_is_raised_where_it_was_asked(store):
    with pytest.raises(Exception, match="no scan is open"):
        store.thread.fetch("Raw_Data", 0, 1, 0, 1)
    store.create()
    with pytest.raises(Exception, match="KeyError"):
        store.thread.fetch("None", 0, 1, 0, 1)
    assert isinstance(store.commit(0, 0), Committed)


def test_what_comes_after_the_end_is_answered(store):
    store.create()
    store.close()
    late = store.commit(0, 16, token=8)
    assert isinstance(late, StorageFailed)
    assert (late.operation, late.token) == ("commit", 8)
    with pytest.raises(Exception, match="has ended"):
        store.thread.fetch("Raw_Data", 0, 1, 0, 1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_tells_those_who_wait(tmp_path):
    events = Events()
    blocked, go_on = threading.Event(), threading.Event()

    def post(event):
        if isinstance(event, TileWritten):
            blocked.set()
            go_on.wait(30)
            events.fail("a fault of the caller")
        events.post(event)

    store = StorageThread(post, FinishedScans(tmp_path))
    store.submit(
        Create(
            data_dir=tmp_path,
            file="s",
            layout=LAYOUT,
            plans=PLANS,
            scan_id=SCAN_ID,
            created=CREATED,
        )
    )
    journal = events.expect(Ready).journal
    store.submit(WriteTile(main="Raw_Data", chunks=[]))
    blocked.wait(30)
    store.submit(Commit(updates={}, token=1))
    go_on.set()
    failed = events.expect(StorageFailed)
    assert failed.token == 1
    assert "a fault of the caller" in failed.error.message
    assert store.join(30)
    journal.close(is_clean=False)


# ---------------------------------------------------------------- the queue's limits


def test_tiles_wait_while_the_queue_is_full_and_commands_do_not(monkeypatch):
    monkeypatch.setattr(thread, "MAX_QUEUED_BYTES", 100)
    queue = thread._CommandQueue()
    big, small = (WriteTile(main="m", chunks=[(0, 0, bytes(n))]) for n in (150, 60))
    assert queue.put(big)  # larger than the limit, but alone
    taken = threading.Event()

    def put_more():
        queue.put(small)
        taken.set()

    waiting = threading.Thread(target=put_more)
    waiting.start()
    assert queue.put(Commit(updates={}))
    assert not taken.wait(0.1)
    assert queue.get() is big
    assert taken.wait(30)
    waiting.join()
    assert isinstance(queue.get(), Commit)
    assert queue.get() is small


def test_closing_the_queue_frees_whoever_waits(monkeypatch):
    monkeypatch.setattr(thread, "MAX_QUEUED_BYTES", 10)
    queue = thread._CommandQueue()
    tile = WriteTile(main="m", chunks=[(0, 0, bytes(8))])
    queue.put(tile)
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(queue.put(tile)))
    waiting.start()
    assert queue.close() == [tile]
    waiting.join(30)
    assert answers == [False]
    assert not queue.put(Close())


def test_a_caller_that_never_stops_is_stopped(monkeypatch):
    monkeypatch.setattr(thread, "MAX_QUEUED_COMMANDS_COUNT", 3)
    queue = thread._CommandQueue()
    for _ in range(3):
        queue.put(Commit(updates={}))
    with pytest.raises(RuntimeError, match="wait already"):
        queue.put(Commit(updates={}))


def test_a_journal_that_nobody_could_take_over_is_closed(stores, monkeypatch):
    """Coverage that cannot be made sense of ends the opening; nothing of it stays open."""
    first = stores()
    first.create()
    first.close()
    again = stores()

    def fail(_scan):
        raise ValueError("no sense")

    opened = []
    real = ScanJournal.__init__

    def note(self, *args):
        real(self, *args)
        opened.append(self)

    monkeypatch.setattr(OpenScan, "coverage", fail)
    monkeypatch.setattr(ScanJournal, "__init__", note)
    failed = again.resume()
    assert isinstance(failed, StorageFailed)
    assert "no sense" in failed.error.message
    (journal,) = opened
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(journal._file_fd)
    assert isinstance(again.close(), Closed)
    monkeypatch.undo()
    last = stores()
    assert isinstance(last.resume(), Ready)
