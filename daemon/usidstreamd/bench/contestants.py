"""Who is measured, and how one run of each is made.

A contestant is the daemon in some configuration, a reference, or the codec by itself. Each run has
processes of its own, so that no run inherits memory, threads or a warm file from another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .figures import Run
from .kernel import CpuTracker, machine_cpu_s, peak_memory_bytes
from .processes import ANSWER_TIMEOUT_S, Worker, serving, working
from .workloads import Workload

LOOK_INTERVAL_S = 0.025
"""How often a daemon's threads are looked at."""
RARE_COMMITS_S = 60.0
"""Longer than any run: rows become durable once, at the end."""


@dataclass(frozen=True)
class Contestant:
    """How a workload is written.

    Parameters
    ----------
    title
        In words.
    reference
        A key of `sink.REFERENCES`; empty for the daemon.
    compression
        The layout's.
    config
        Options of the daemon that differ from their defaults.
    """

    title: str
    reference: str = ""
    compression: str = "gzip"
    config: Mapping[str, Any] = field(default_factory=dict)


CONTESTANTS: Mapping[str, Contestant] = MappingProxyType(
    {
        "usidstream": Contestant("gzip, durable"),
        "commits-rare": Contestant(
            "gzip, commits rare", config={"commit_interval_s": RARE_COMMITS_S}
        ),
        "none": Contestant("uncompressed, durable", compression="none"),
        "bitshuffle-lz4": Contestant("bitshuffle-lz4, durable", compression="bitshuffle-lz4"),
        "loop": Contestant("the guide's loop", reference="loop"),
        "blocks": Contestant("h5py blocks", reference="blocks"),
        "receive": Contestant("receive only", reference="receive"),
    }
)


@dataclass(frozen=True)
class Measured:
    """A run, and what else its processes told.

    Parameters
    ----------
    run
        The figures.
    file
        What was written.
    written_cpu_s
        The daemon's CPU seconds by stage up to the last write, finishing not included.
    latency
        See `feed`.
    """

    run: Run
    file: Path
    written_cpu_s: Mapping[str, float]
    latency: Mapping[str, float] | None


def run_daemon(directory: Path, name: str, config: Mapping[str, Any], **order: Any) -> Measured:
    """Run a scan through a daemon of its own, in ``directory / name``, which must not exist."""
    with serving(directory / name, config) as (daemon, endpoint):
        return run_scan(daemon, endpoint, order)


def run_reference(directory: Path, name: str, reference: str, **order: Any) -> Measured:
    """Run a scan through a reference that writes ``directory / name``.h5."""
    file = directory / f"{name}.h5"
    with working("sink", reference=reference, file=str(file)) as sink:
        return run_scan(sink, sink.expect("ready")["endpoint"], order)


def run_codec(work: Workload, scale: float, threads: int) -> Run:
    """Let the codec threads alone encode a workload's chunks."""
    spec = {"workload": work.name, "scale": scale, "threads": threads, "compression": "gzip"}
    with working("codec", **spec) as worker:
        worker.expect("ready")
        worker.tell()
        told = worker.expect("done")
    return Run(
        units=told["units"],
        nbytes=told["nbytes"],
        seconds=told["seconds"],
        write_seconds=told["seconds"],
        cpu_s={"codec": told["cpu_s"]},
        total_cpu_s=told["cpu_s"],
    )


def run_scan(
    writer: Worker,
    endpoint: str,
    order: Mapping[str, Any],
    when_open: Callable[[], None] = lambda: None,
) -> Measured:
    """Run a scan through a process that takes it at an endpoint; ``order`` is `feed.Order`'s.

    ``when_open`` is called when the scan is open, before the clocks start.
    """
    with working("feed", endpoint=endpoint, **order) as feed:
        file = Path(feed.expect("ready")["file"])
        when_open()
        tracker, machine_s = CpuTracker(writer.pid), machine_cpu_s()
        feed.tell()
        _follow(feed, tracker, "written")
        written_cpu_s = tracker.spent()
        told = _follow(feed, tracker, "finished")
        daemon_cpu_s = tracker.spent()
        now_s = machine_cpu_s()
        machine_s = None if now_s is None or machine_s is None else now_s - machine_s
        peak_bytes = peak_memory_bytes(writer.pid)
    run = replace(
        _as_run(told, daemon_cpu_s, machine_s),
        peak_bytes=peak_bytes,
        file_bytes=file.stat().st_size if file.exists() else None,
    )
    return Measured(run, file, written_cpu_s, told["latency"])


def _follow(feed: Worker, tracker: CpuTracker, event: str) -> dict[str, Any]:
    """Look at the daemon's threads until the feed tells an event."""
    for _ in range(int(ANSWER_TIMEOUT_S / LOOK_INTERVAL_S)):
        line = feed.next_line(LOOK_INTERVAL_S)
        if line is not None:
            return feed.read(line, event)
        tracker.look()
    return feed.expect(event, 0.0)


def _as_run(
    told: Mapping[str, Any], daemon_cpu_s: Mapping[str, float], machine_s: float | None
) -> Run:
    client = {"client": told["client_cpu_s"], "client io": told["client_io_cpu_s"]}
    cpu_s = {**client, **daemon_cpu_s}
    total_cpu_s = sum(cpu_s.values())
    return Run(
        units=told["units"],
        nbytes=told["nbytes"],
        seconds=told["seconds"],
        write_seconds=told["write_seconds"],
        cpu_s=cpu_s,
        total_cpu_s=total_cpu_s if daemon_cpu_s else None,
        others_cpu_s=None if machine_s is None else max(0.0, machine_s - total_cpu_s),
        is_whole=told["is_whole"],
    )
