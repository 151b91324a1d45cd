"""What watching costs: ingest with watchers and previews attached against ingest alone.

Run as a script: ``python tests/benchmarks/bench_watchers.py [--json] [--rounds 3] [WORKLOAD ...]``.
Each run has a daemon and a feed of its own; with and without watchers in turn. Watchers live in one
process: some follow all scans as ``usidstream watch`` does, some also take what a dashboard takes,
the mean, the maximum and the newest row of every main. Told are the ratio of throughputs, and of
the CPU that client and daemon took for a unit, which others on the machine disturb less; both are
medians. Not part of the tests.
"""

# ruff: noqa: T201 - a script prints

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from usidstream import live
from usidstreamd.bench.contestants import run_scan
from usidstreamd.bench.processes import serving

REPEATS = {"spectra-blocks": 16, "stem": 16, "afm-one-call": 4}
"""How often a workload's data is sent, so that a run lasts some seconds."""
N_WATCHERS = 5
N_DASHBOARDS = 2
TOPICS = (live.SCAN_TOPICS, "layout/")
REDUCTIONS = ("mean", "max", "newest")


def view(endpoint, has_previews, seen, attached):
    """Follow a daemon until this process is ended; count what comes."""
    with live.watch(endpoint, topics=TOPICS) as events:
        for event in events:
            seen[type(event).__name__] = seen.get(type(event).__name__, 0) + 1
            if isinstance(event, live.Connected):
                attached.release()
            if has_previews and isinstance(event, live.Progress | live.ScanOpened):
                for main in range(len(event.mains)):
                    for reduction in REDUCTIONS:
                        events.subscribe(live.preview_topic(event.scan, main, reduction))


def run_viewers(endpoint, n_watchers, n_dashboards):
    """Watch in this process; tell when all are attached, and at the end what was seen."""
    attached = threading.Semaphore(0)
    seen = [{} for _ in range(n_watchers + n_dashboards)]
    for number, counts in enumerate(seen):
        arguments = (endpoint, number < n_dashboards, counts, attached)
        threading.Thread(target=view, args=arguments, daemon=True).start()
    for _ in seen:
        attached.acquire()
    print("attached", flush=True)
    before = time.process_time()
    sys.stdin.readline()
    print(json.dumps({"cpu_s": time.process_time() - before, "seen": seen[0]}), flush=True)


@contextmanager
def viewers(endpoint, n_watchers, n_dashboards, told):
    """Run viewers in a process of their own; ``told`` gets what they said."""
    command = [sys.executable, __file__, "--view", endpoint, str(n_watchers), str(n_dashboards)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "attached\n"
            yield
            process.stdin.write("\n")
            process.stdin.flush()
            told.update(json.loads(process.stdout.readline()))
        finally:
            process.kill()


def measure(workload, is_watched):
    """Run a workload once; return its figures."""
    order = {"workload": workload, "scale": 1.0, "repeats": REPEATS[workload]}
    told = {}
    with (
        tempfile.TemporaryDirectory() as directory,
        serving(Path(directory) / "data", {}) as (daemon, endpoint),
    ):
        if is_watched:
            with viewers(endpoint, N_WATCHERS, N_DASHBOARDS, told):
                run = run_scan(daemon, endpoint, order).run
        else:
            run = run_scan(daemon, endpoint, order).run
    return {
        "rate_per_s": run.rate,
        "seconds": run.seconds,
        "cpu_us": run.total_cpu_s / run.units * 1e6,
        "ingest_us": run.cpu_s.get("ingest", 0.0) / run.units * 1e6,
        "others_share": run.cpu_s.get("other", 0.0) / run.seconds,
        "viewers_share": told.get("cpu_s", 0.0) / run.seconds,
        "peak_mb": (run.peak_bytes or 0) / 1e6,
        "seen": told.get("seen", {}),
    }


def compare(workload, rounds):
    """Measure with and without, in turn; return the medians and their ratios."""
    runs = {False: [], True: []}
    for number in range(rounds):
        for is_watched in (False, True) if number % 2 else (True, False):
            runs[is_watched].append(measure(workload, is_watched))
    numbers = [key for key, value in runs[True][0].items() if key != "seen"]
    medians = {
        name: {key: statistics.median(run[key] for run in runs[is_watched]) for key in numbers}
        for name, is_watched in (("alone", False), ("watched", True))
    }
    alone, watched = medians["alone"], medians["watched"]
    return medians | {
        "throughput_ratio": watched["rate_per_s"] / alone["rate_per_s"],
        "cpu_ratio": watched["cpu_us"] / alone["cpu_us"],
        "seen": runs[True][-1]["seen"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", default=list(REPEATS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report = {name: compare(name, options.rounds) for name in options.workloads}
    if options.json:
        print(json.dumps(report, indent=2))
        return
    print(f"{N_WATCHERS} watchers and {N_DASHBOARDS} takers of previews, medians of each")
    for name, found in report.items():
        watched = found["watched"]
        print(
            f"{name}: {found['alone']['rate_per_s']:.0f} -> {watched['rate_per_s']:.0f} a second "
            f"({found['throughput_ratio']:.3f}), CPU a unit x {found['cpu_ratio']:.3f}; the "
            f"telemetry thread and other small ones took {watched['others_share']:.1%} of a core, "
            f"the viewers {watched['viewers_share']:.1%}; {found['seen']}"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--view"]:
        run_viewers(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
