"""What watching costs: ingest with watchers, a dashboard and browsers against ingest alone.

Not collected by pytest:

    python tests/benchmarks/bench_watchers.py [--json] [--rounds 3] [--browsers 2] [--as-equals]
        [WORKLOAD ...]

Each run has a daemon and a feed of its own; with and without an audience in turn, all figures are
medians. The audience is five watchers that follow all scans as ``usidstream watch`` does, in one
process, and one dashboard with headless browsers on it, which start before the clock and live from
run to run. Where there are no browsers, two watchers take the previews that a dashboard takes.

All of them share the machine's cores with ingest, though browsers belong to other machines. So they
are scheduled as idle, and take what ingest leaves; ``--as-equals`` shows what they take otherwise.
Two things are asked. *Paced*, at a third of the rate that was reached alone: is the rate kept, and
what does a unit cost client and daemon? *Saturated*: what is left of the rate?
"""

# ruff: noqa: T201 - a script prints

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.browser import WHY_NOT, Dashboard, chromium
from support.daemon import wait_for
from usidstream import live
from usidstreamd.bench.contestants import run_scan
from usidstreamd.bench.processes import serving

REPEATS = {"spectra-blocks": 16, "stem": 16, "afm-one-call": 4}
"""How often a workload's data is sent, so that a run lasts some seconds."""
N_WATCHERS = 5
N_PREVIEWERS = 2
N_BROWSERS = 2
PACE = 1 / 3
PACED_S = 6.0
TOPICS = (live.SCAN_TOPICS, "layout/")
REDUCTIONS = ("mean", "max", "newest")
COUNT_POINTS = (
    "const column = doc.get_model_by_name('maps');"
    "if (!column || !column.children.length) return 0;"
    "const sources = column.children[0].renderers.map((r) => r.data_source.data);"
    "const values = sources.map((d) => d.value ?? d.image?.[0]).find((v) => v);"
    "return values ? Array.from(values).filter(Number.isFinite).length : 0"
)
"""How many measured values the first map or line of a page holds."""


# ---------------------------------------------------------------- watchers


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


def run_viewers(endpoint, n_watchers, n_previewers):
    """Watch in this process; tell when all are attached, and at the end what was seen."""
    attached = threading.Semaphore(0)
    seen = [{} for _ in range(n_watchers + n_previewers)]
    for number, counts in enumerate(seen):
        arguments = (endpoint, number < n_previewers, counts, attached)
        threading.Thread(target=view, args=arguments, daemon=True).start()
    for _ in seen:
        attached.acquire()
    print("attached", flush=True)
    before = time.process_time()
    sys.stdin.readline()
    print(json.dumps({"viewers_s": time.process_time() - before, "seen": seen[0]}), flush=True)


@contextmanager
def viewers(endpoint, n_previewers, told):
    """Run viewers in a process of their own; ``told`` gets what they said."""
    command = [sys.executable, __file__, "--view", endpoint, str(N_WATCHERS), str(n_previewers)]
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


# ---------------------------------------------------------------- browsers


def tree_cpu_s(pid):
    """Return the CPU seconds of a process and all its descendants, those that ended included."""
    root, total = psutil.Process(pid), 0.0
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            spent = process.cpu_times()
            total += spent.user + spent.system + spent.children_user + spent.children_system
    return total


def shown_points(page):
    """Return how many measured values a page shows."""
    return int(page.run(COUNT_POINTS))


def shows_scan(page):
    """Tell whether a page has made the figures of a scan."""
    return page.is_ready() and bool(page.titles())


@contextmanager
def dashboard(endpoint, pages, told):
    """Run a dashboard and look at it with browsers; ``told`` gets their CPU seconds.

    Yields what is to be called when the scan is open: all pages then show it, still empty.
    ``points`` is what the browser that is most behind showed when the scan ended.
    """
    with Dashboard(endpoint) as served:
        pids = {"browsers_s": [page.driver_pid for page in pages], "dashboard_s": [served.pid]}
        before = {}

        def begin():
            for page in pages:
                wait_for(partial(shows_scan, page), "the scan in the browser")
            before.update({name: sum(map(tree_cpu_s, found)) for name, found in pids.items()})

        for page in pages:
            page.open(served.url)
        yield begin
        for name, found in pids.items():
            told[name] = sum(map(tree_cpu_s, found)) - before[name]
        told["points"] = min(map(shown_points, pages))
        for page in pages:  # a run that no browser watched says nothing
            wait_for(partial(shown_points, page), "what was measured, in the browser")
            page.leave()


# ---------------------------------------------------------------- runs


def measure(order, pages, is_watched):
    """Run a feed once, as ordered; return its figures."""
    told = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # the only dashboard is the audience's: alone is alone
        serves = serving(directory / "data", {"dashboard": "off"})
        daemon, endpoint = stack.enter_context(serves)
        with ExitStack() as audience:
            if is_watched:
                n_previewers = 0 if pages else N_PREVIEWERS
                audience.enter_context(viewers(endpoint, n_previewers, told))
            if is_watched and pages:
                begin = audience.enter_context(dashboard(endpoint, pages, told))
                run = run_scan(daemon, endpoint, order, begin).run
            else:
                run = run_scan(daemon, endpoint, order).run
    shares = ("viewers", "dashboard", "browsers")
    return {
        "rate_per_s": run.rate,
        "write_rate_per_s": run.units / run.write_seconds,
        "seconds": run.seconds,
        "cpu_us": run.total_cpu_s / run.units * 1e6,
        "client_us": run.cpu_s["client"] / run.units * 1e6,
        "ingest_us": run.cpu_s.get("ingest", 0.0) / run.units * 1e6,
        "small_threads_cores": run.cpu_s.get("other", 0.0) / run.seconds,
        "others_cores": (run.others_cpu_s or 0.0) / run.seconds,
        **{f"{name}_cores": told.get(f"{name}_s", 0.0) / run.seconds for name in shares},
        "points": told.get("points", 0),
        "peak_mb": (run.peak_bytes or 0) / 1e6,
        "seen": told.get("seen", {}),
    }


def compare(run, rounds):
    """Measure with and without, in turn; return the medians and their ratios."""
    runs = {False: [], True: []}
    for number in range(rounds):
        for is_watched in (False, True) if number % 2 else (True, False):
            runs[is_watched].append(run(is_watched))
    numbers = [key for key in runs[True][0] if key != "seen"]
    medians = {
        name: {key: statistics.median(run[key] for run in runs[is_watched]) for key in numbers}
        for name, is_watched in (("alone", False), ("watched", True))
    }
    alone, watched = medians["alone"], medians["watched"]
    names = ("rate_per_s", "write_rate_per_s", "cpu_us", "client_us", "ingest_us")
    return medians | {
        "ratios": {name: watched[name] / alone[name] for name in names if alone[name]},
        "seen": runs[True][-1]["seen"],
    }


def measure_workload(name, options, pages):
    """Return what one workload told, saturated and then paced."""
    order = {"workload": name, "scale": options.scale, "repeats": REPEATS[name]}
    saturated = compare(partial(measure, order, pages), options.rounds)
    watched, cores = saturated["watched"], os.cpu_count()
    taken = sum(watched[f"{who}_cores"] for who in ("viewers", "dashboard", "browsers"))
    saturated["processors_left"] = 1 - taken / cores
    asked = saturated["alone"]["rate_per_s"] * PACE
    order |= {"rate_per_s": asked, "stretch_s": options.paced_s}
    paced = compare(partial(measure, order, pages), options.rounds)
    paced["asked_per_s"] = asked
    for who in ("alone", "watched"):
        paced[f"{who}_kept"] = paced[who]["write_rate_per_s"] / asked
    return {"saturated": saturated, "paced": paced}


def in_words(report):
    """Yield lines for a person."""
    yield (
        f"{N_WATCHERS} watchers, and {report['browsers']} browsers on a dashboard"
        f"{' as equals' if report['as_equals'] else ''}"
        f"{'' if report['browsers'] else f' ({N_PREVIEWERS} take previews instead)'};"
        f" {report['cores']} cores; medians of {report['rounds']}, alone -> watched"
    )
    for name, found in report["workloads"].items():
        paced, saturated = found["paced"], found["saturated"]
        yield (
            f"{name}, paced: of {paced['asked_per_s']:.0f} a second asked, "
            f"{paced['alone_kept']:.1%} -> {paced['watched_kept']:.1%} were reached; {cost(paced)}"
        )
        yield f"  {takers(paced)}"
        yield (
            f"{name}, saturated: {saturated['alone']['rate_per_s']:.0f} -> "
            f"{saturated['watched']['rate_per_s']:.0f} a second "
            f"({saturated['ratios']['rate_per_s']:.3f}), where the audience left "
            f"{saturated['processors_left']:.3f} of the processors; {cost(saturated)}"
        )
        yield f"  {takers(saturated)}"


def cost(found):
    alone, watched = found["alone"], found["watched"]
    return (
        f"client and daemon {alone['cpu_us']:.2f} -> {watched['cpu_us']:.2f} us of CPU a unit "
        f"({found['ratios']['cpu_us']:.3f})"
    )


def takers(found):
    """Tell what parts of a core others took."""
    watched = found["watched"]
    return (
        f"of a core took the telemetry and other small threads {watched['small_threads_cores']:.1%}"
        f", watchers {watched['viewers_cores']:.1%}, dashboard {watched['dashboard_cores']:.1%}, "
        f"browsers {watched['browsers_cores']:.1%}; all other programs together "
        f"{found['alone']['others_cores']:.1%} -> {watched['others_cores']:.1%}; at the end "
        f"{watched['points']:.0f} points were shown; a watcher saw {found['seen']}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", default=list(REPEATS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--browsers", type=int, default=0 if WHY_NOT else N_BROWSERS)
    parser.add_argument("--as-equals", action="store_true", help="browsers do not give way")
    parser.add_argument("--scale", type=float, default=1.0, help="of what a run sends")
    parser.add_argument("--paced-s", type=float, default=PACED_S, help="length of a paced run")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if unknown := set(options.workloads) - set(REPEATS):
        parser.error(f"no workload {', '.join(sorted(unknown))}: there are {', '.join(REPEATS)}")
    if WHY_NOT:
        print(f"No browser is measured: {WHY_NOT}", file=sys.stderr)
        if options.browsers:
            parser.error(f"--browsers {options.browsers} {WHY_NOT}")
    with ExitStack() as stack:
        browsers = range(options.browsers)
        manner = {"keeps_log": False, "gives_way": not options.as_equals}
        pages = [stack.enter_context(chromium(**manner)) for _ in browsers]
        workloads = {name: measure_workload(name, options, pages) for name in options.workloads}
    report = {
        "cores": os.cpu_count(),
        "rounds": options.rounds,
        "browsers": options.browsers,
        "as_equals": options.as_equals,
        "workloads": workloads,
    }
    print(json.dumps(report, indent=2) if options.json else "\n".join(in_words(report)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--view"]:
        run_viewers(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
