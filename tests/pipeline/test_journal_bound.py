"""The row segments stay small, whatever the order of rows, and lose nothing when a process ends."""

import os
from pathlib import Path

import numpy as np
import pytest

from support.journalled import die_before, in_a_child
from support.pipelines import Bench, durable_rows
from usidstreamd.pipeline import backlog

CHUNK_ROWS, N_COLS = 20, 16
ROW_BYTES = 4 * N_COLS
SEGMENT_BYTES = 64 * ROW_BYTES
RATIO, SEGMENTS_COUNT = 4, 6
"""The bound: so much of the incomplete tiles' raw bytes, and so many segments."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Move a little at a time; and sync nothing, for here only processes end, never the machine."""
    monkeypatch.setattr(backlog, "MIN_MOVE_BYTES", 3 * CHUNK_ROWS * ROW_BYTES)
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _fd: None)


def values(n_rows):
    return (np.arange(n_rows * N_COLS, dtype=np.float32) + 1).reshape(n_rows, N_COLS)


def make(tmp_path, n_rows, **more):
    return Bench(
        tmp_path, values(n_rows), chunk_rows=CHUNK_ROWS, segment_bytes=SEGMENT_BYTES, **more
    )


def omit_some(rows):
    """Leave out one pixel of each tenth chunk."""
    chunks = rows // CHUNK_ROWS
    return rows[(rows % CHUNK_ROWS != 7) | (chunks % 10 != 0)]


def serpentine(n_rows, line=50):
    lines = np.arange(n_rows).reshape(-1, line)
    lines[1::2] = lines[1::2, ::-1].copy()
    return lines.ravel()


def interlaced(n_rows, line=10, apart=20):
    """Every second line of a band, then the others: each chunk is of two lines."""
    bands = np.arange(n_rows).reshape(-1, apart, 2, line)
    return bands.transpose(0, 2, 1, 3).ravel()


def in_windows(n_rows, window=200):
    return np.random.default_rng(3).permuted(np.arange(n_rows).reshape(-1, window), axis=1).ravel()


class Watch:
    """What a scan's segments take after each commit, against the incomplete tiles."""

    def __init__(self):
        self.most_open = self.most = self.excess = self.most_parked = 0

    def look(self, bench):
        self.most_open = max(self.most_open, bench.open_bytes)
        self.most = max(self.most, bench.segments_bytes)
        self.most_parked = max(self.most_parked, bench.parked_bytes)
        limit = RATIO * self.most_open + SEGMENTS_COUNT * SEGMENT_BYTES
        self.excess = max(self.excess, bench.segments_bytes - limit)


def acquire(bench, rows, watch, step=7):
    for start in range(0, len(rows), step):
        bench.write(rows[start : start + step])
        bench.commit()
        watch.look(bench)


@pytest.mark.parametrize("budget_bytes", [1 << 30, 8 * CHUNK_ROWS * ROW_BYTES])
@pytest.mark.parametrize("order", [serpentine, interlaced, in_windows])
def test_a_few_incomplete_tiles_keep_no_gigabytes(tmp_path, order, budget_bytes):
    n_rows = 4000
    bench, watch = make(tmp_path, n_rows, budget_bytes=budget_bytes), Watch()
    rows = omit_some(order(n_rows))
    acquire(bench, rows, watch)
    assert watch.excess == 0
    assert watch.most < 20 * SEGMENT_BYTES
    assert bool(watch.most_parked) == (budget_bytes < n_rows * ROW_BYTES)
    assert watch.most_parked <= watch.most_open  # slots are used again
    assert bench.threads.journalled_bytes > 30 * SEGMENT_BYTES
    assert bench.threads.journalled_bytes < 2.5 * len(rows) * ROW_BYTES
    held = durable_rows(bench.directory, bench.data, CHUNK_ROWS)
    assert np.array_equal(np.flatnonzero(held), np.sort(rows))
    bench.close()


def test_rows_in_random_order_take_at_most_their_raw_size_and_go_when_chunks_are_complete(tmp_path):
    n_rows = 4000
    bench, watch = make(tmp_path, n_rows), Watch()
    acquire(bench, np.random.default_rng(1).permutation(n_rows), watch)
    assert watch.excess == 0
    assert watch.most < 1.5 * n_rows * ROW_BYTES
    assert bench.threads.journalled_bytes < 2 * 1.5 * n_rows * ROW_BYTES
    bench.checkpoint()
    assert bench.segments_bytes == 0
    bench.close()


def test_rows_in_order_are_written_once_or_journalled_once_and_nothing_is_moved(tmp_path):
    n_rows = 4000
    bench, watch = make(tmp_path, n_rows), Watch()
    acquire(bench, np.arange(n_rows), watch, step=CHUNK_ROWS)
    assert bench.threads.journalled_bytes == 0
    assert not list(bench.directory.glob("rows-*"))
    bench.close()


def test_a_resumed_scan_lets_the_segments_of_earlier_processes_go(tmp_path):
    n_rows, watch = 4000, Watch()
    rows = omit_some(interlaced(n_rows))
    parts = np.array_split(rows, 5)
    for number, part in enumerate(parts):
        bench = make(tmp_path, n_rows)
        acquire(bench, part, watch)
        assert watch.excess == 0
        bench.close()
        held = durable_rows(bench.directory, bench.data, CHUNK_ROWS)
        assert np.array_equal(np.flatnonzero(held), np.sort(np.concatenate(parts[: number + 1])))


def test_rows_sent_again_take_no_room(tmp_path):
    bench = make(tmp_path, 400)
    rows = omit_some(np.arange(0, 400, 2))
    for _ in range(5):
        bench.write(rows, again=True)
        bench.commit()
    assert bench.threads.journalled_bytes < 1.5 * len(rows) * ROW_BYTES
    bench.close()


# ---------------------------------------------------------------- ended at every file operation

N_ROWS, STEP = 1200, 20
ROWS = omit_some(np.concatenate([np.arange(0, N_ROWS, 2), np.arange(1, N_ROWS, 2)]))
ROWS = ROWS[(ROWS < 150) | (ROWS >= 250)]  # ten chunks that stay empty
MAX_KILLS = 1000


def acquire_in_the_child(directory, last, *, acked):
    """Go on with a scan and mark each row that is durable; die before a file operation."""
    bench = make(directory, N_ROWS)
    die_before(last)
    todo = ROWS[~acked[ROWS]]
    for start in range(0, len(todo), STEP):
        rows = todo[start : start + STEP]
        bench.write(rows, again=True)
        bench.commit()
        acked[rows] = True
    bench.close()


def shared(path: Path):
    """Return flags in a file, which a child that is killed has set all the same."""
    return np.memmap(path, np.bool_, "w+", shape=(N_ROWS,))


def test_a_process_that_ends_at_any_file_operation_has_lost_nothing(tmp_path):
    drops, number = 0, 1
    while number < MAX_KILLS:
        directory = tmp_path / str(number)
        directory.mkdir()
        acked = shared(directory / "acked")
        ended = in_a_child(lambda: acquire_in_the_child(directory, number, acked=acked))  # noqa: B023 - run now
        journal = directory / "scan.h5.journal"
        held = durable_rows(journal, values(N_ROWS), CHUNK_ROWS)
        assert not (acked & ~held).any()
        drops += not (journal / "rows-00000001").exists() and acked.any()
        if ended:
            break
        number += 7 if number % 2 else 4
    assert 30 < number < MAX_KILLS - 10
    assert drops > 3


def test_processes_that_end_one_after_the_other_lose_nothing_and_come_to_an_end(tmp_path):
    acked, chance = shared(tmp_path / "acked"), np.random.default_rng(11)
    journal = tmp_path / "scan.h5.journal"
    kills = 0
    while not in_a_child(
        lambda: acquire_in_the_child(tmp_path, int(chance.integers(2, 60)), acked=acked)
    ):
        kills += 1
        held = durable_rows(journal, values(N_ROWS), CHUNK_ROWS)
        assert not (acked & ~held).any()
        chance.integers(2)  # the child's draw was not ours
        assert kills < MAX_KILLS
    assert kills > 5
    held = durable_rows(journal, values(N_ROWS), CHUNK_ROWS)
    assert np.array_equal(np.flatnonzero(held), np.sort(ROWS))
