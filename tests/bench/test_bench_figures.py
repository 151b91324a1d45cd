"""What is concluded from measured numbers, and what the kernel's texts say."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from support.daemon import wait_for
from usidstreamd.bench import targets
from usidstreamd.bench.figures import (
    Run,
    bottleneck,
    limit_rate,
    median,
    median_run,
    percentile,
    share_of_limit,
    spread,
    summarise,
    thread_limit,
)
from usidstreamd.bench.kernel import (
    CpuTracker,
    machine_cpu_s,
    parse_schedstat,
    parse_stat,
    peak_memory_bytes,
    stage_of,
)
from usidstreamd.threads import show_thread_name

CORES = 2
HAS_PROC = Path("/proc/self/task").exists()

RUN = Run(
    units=1000,
    nbytes=8000,
    seconds=1.0,
    write_seconds=0.8,
    cpu_s={"client": 0.2, "client io": 0.1, "ingest": 0.3, "codec": 1.0, "other": 0.0},
    total_cpu_s=1.6,
    others_cpu_s=0.0,
)


def test_the_limit_is_what_all_cores_could_do() -> None:
    assert limit_rate(RUN, CORES) == pytest.approx(2 * 1000 / 1.6)
    assert share_of_limit(RUN, CORES) == pytest.approx(0.8)
    assert limit_rate(replace(RUN, total_cpu_s=None), CORES) is None


def test_a_thread_that_never_waited_sets_a_limit_of_its_own() -> None:
    assert thread_limit(RUN, codec_threads=1) == pytest.approx(1000)
    assert thread_limit(RUN, codec_threads=4) == pytest.approx(1000 / 0.3), "then it is ingest"
    assert thread_limit(replace(RUN, total_cpu_s=None), codec_threads=1) is None
    assert thread_limit(replace(RUN, cpu_s={}), codec_threads=1) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seconds": 0.85}, "processor (94% busy), most of it codec (62%)"),
        ({"cpu_s": {"client": 0.95, "codec": 0.5}}, "the client thread (95% busy)"),
        ({"seconds": 4.0}, "waiting (20% busy); fullest is codec (12%)"),
        ({"seconds": 4.0, "others_cpu_s": 6.0}, "other programs, which took 75% of this machine"),
        ({"total_cpu_s": None}, "not measured on this system"),
    ],
)
def test_what_held_a_run_up_is_named(changes: dict[str, object], words: str) -> None:
    assert bottleneck(replace(RUN, **changes), CORES, codec_threads=2) == words


def test_medians_spread_and_percentiles() -> None:
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([1.0, None]) is None
    assert median([]) is None
    assert spread([1.0, 2.0, 4.0]) == 1.5
    assert percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.0
    assert percentile([4.0, 1.0, 3.0, 2.0], 99) == 4.0
    assert percentile([7.0], 1) == 7.0


def test_a_summary_has_the_medians_of_its_runs() -> None:
    runs = [replace(RUN, seconds=seconds, peak_bytes=peak) for seconds, peak in ((1, 5), (2, 9))]
    runs.append(replace(RUN, seconds=4, peak_bytes=7))
    summary = summarise(runs, CORES, 2)
    assert summary["rate_per_s"] == 500
    assert summary["bytes_per_s"] == 4000
    assert summary["spread"] == 1.5
    assert summary["cpu_us_per_unit"]["codec"] == pytest.approx(1000)
    assert summary["peak_bytes"] == 9
    assert summary["finish_seconds"] == pytest.approx(1.2)
    assert len(summary["runs"]) == 3
    assert median_run(runs) is runs[1]


# ---------------------------------------------------------------- targets


def _report(ours: float, loop: float, peak: int) -> dict[str, object]:
    found = {
        "usidstream": {
            "rate_per_s": ours,
            "share_of_limit": 0.9,
            "peak_bytes": peak,
        },
        "loop": {"rate_per_s": loop},
    }
    work = {"contestants": found, "data_bytes": 105, "reference_data_bytes": 100}
    sync = {"p50_s": 0.001, "p99_s": 0.01}
    return {
        "workloads": {"stem": work},
        "limits": {"sync": sync},
        "latency": {"half": {"p50_s": 0.03, "p99_s": 0.08}},
        "reading": {},
    }


def test_targets_are_met_or_missed_by_the_figures() -> None:
    told = {
        entry["what"]: (entry["measured"], entry["met"])
        for entry in targets.compare_with_targets(_report(690, 100, 160_000_000))
    }
    assert told == {
        "stem: times faster than loop": (6.9, True),
        "stem: part of cores / (sum of CPU per unit)": (0.9, True),
        "stem: daemon's peak memory, MB": (160.0, False),
        "stem: data larger than gzip 4 + shuffle by": (pytest.approx(0.05), True),
        "durable ack at half the rate, p99, s": (0.08, False),
    }


# ---------------------------------------------------------------- the kernel's texts


def test_a_stat_line_is_read_whatever_the_name_holds() -> None:
    fields = ["R", *["0"] * 10, "150", "50", *["0"] * 30]
    name, seconds = parse_stat(f"42 (a) b (c)) {' '.join(fields)}\n")
    assert name == "a) b (c)"
    assert seconds == pytest.approx(200 / os.sysconf("SC_CLK_TCK"))


def test_a_kernel_that_does_not_count_nanoseconds_is_known() -> None:
    assert parse_schedstat("995300503 1755031 31\n") == pytest.approx(0.995300503)
    assert parse_schedstat("0 0 1\n") is None


@pytest.mark.parametrize(
    ("name", "is_main", "stage"),
    [
        ("python3", True, "ingest"),
        ("codec_1", False, "codec"),
        ("storage-0123456", False, "storage"),
        ("journal-0123456", False, "sync"),
        ("ZMQbg/IO/0", False, "zmq"),
        ("python3", False, "other"),
    ],
)
def test_threads_belong_to_stages_by_their_names(name: str, is_main: bool, stage: str) -> None:
    assert stage_of(name, is_main=is_main) == stage


@pytest.mark.skipif(not HAS_PROC, reason="needs Linux's /proc")
def test_a_thread_is_followed_by_the_name_that_it_shows() -> None:
    tracker = CpuTracker(os.getpid())
    ended = threading.Event()

    def spin() -> None:
        show_thread_name()
        while not ended.is_set():
            time.thread_time()

    thread = threading.Thread(target=spin, name="codec_7")
    thread.start()
    try:
        wait_for(lambda: tracker.spent()["codec"] > 0.05, "CPU of the thread")
    finally:
        ended.set()
        thread.join()
    known = tracker.spent()
    assert known["codec"] >= 0.05, "what was seen of it stays when it ends"
    assert set(known) == {"ingest", "codec", "storage", "sync", "zmq", "other"}
    tracker.start()
    assert tracker.spent()["codec"] == 0


@pytest.mark.skipif(not HAS_PROC, reason="needs Linux's /proc")
def test_memory_and_machine_are_counted() -> None:
    assert (peak_memory_bytes(os.getpid()) or 0) > 1 << 20
    assert (machine_cpu_s() or 0) > time.process_time()


def test_where_nothing_is_counted_nothing_is_told() -> None:
    no_process = 1 << 30
    assert peak_memory_bytes(no_process) is None
    assert CpuTracker(no_process).spent() == {}
