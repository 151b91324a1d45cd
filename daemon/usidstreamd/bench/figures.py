"""What the measured numbers say: medians, limits, shares and bottlenecks. Pure arithmetic."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from usidstream.errors import UsidstreamError

CLIENT_STAGES = ("client", "client io")
DAEMON_STAGES = ("ingest", "codec", "storage", "sync", "zmq", "other")
"""Of the daemon's threads: the socket thread, the codec pool, the one that writes the file, the one
that syncs the journal, and libzmq's own."""
STAGES = (*CLIENT_STAGES, *DAEMON_STAGES)

_THREADS = tuple(stage for stage in STAGES if stage != "other")
"""Stages that are a thread each, but for the codec's, which are several."""

FULL_THREAD = 0.9
"""A single thread that is busy for this part of a run is what holds it up."""
FULL_MACHINE = 0.85
"""So are the cores together, above this part of their time."""


class BenchError(UsidstreamError):
    """A measurement could not be made; says which and why."""


class BenchOptionError(BenchError, ValueError):
    """What was asked for cannot be measured."""


@dataclass(frozen=True)
class Run:
    """One contestant's run of one workload.

    Parameters
    ----------
    units, nbytes
        What was sent.
    seconds
        From the first write to the result, the file closed.
    write_seconds
        From the first write to the return of the last.
    cpu_s
        CPU seconds by stage; only those that were measured.
    total_cpu_s
        Of both processes; None where it could not be measured.
    others_cpu_s
        Of all other programs on the machine meanwhile; None where it could not be measured.
    peak_bytes
        The largest resident memory of the process that wrote the file.
    file_bytes
        Size of the file.
    is_whole
        False where only a first part of the scan was sent.
    """

    units: int
    nbytes: int
    seconds: float
    write_seconds: float
    cpu_s: Mapping[str, float] = field(default_factory=dict)
    total_cpu_s: float | None = None
    others_cpu_s: float | None = None
    peak_bytes: int | None = None
    file_bytes: int | None = None
    is_whole: bool = True

    @property
    def rate(self) -> float:
        """Units per second."""
        return self.units / self.seconds


def limit_rate(run: Run, cores: int) -> float | None:
    """Return the units per second if all cores did nothing but what was measured.

    cores / (sum of CPU seconds per unit over all stages of both processes).
    """
    if not run.total_cpu_s:
        return None
    return cores * run.units / run.total_cpu_s


def share_of_limit(run: Run, cores: int) -> float | None:
    """Return which part of `limit_rate` was reached; above 1 only by the clock's grain."""
    limit = limit_rate(run, cores)
    return None if limit is None else run.rate / limit


def thread_limit(run: Run, codec_threads: int) -> float | None:
    """Return the units per second if the fullest single thread never waited.

    What no number of cores can raise: most often the caller's own thread, for a program that
    writes has one.
    """
    fullest = max(
        (busy(run, stage, codec_threads if stage == "codec" else 1) for stage in _THREADS),
        default=0.0,
    )
    return run.rate / fullest if fullest and run.total_cpu_s else None


def busy(run: Run, stage: str, threads: int = 1) -> float:
    """Return the part of a run for which a stage's threads were on a processor."""
    return run.cpu_s.get(stage, 0.0) / (run.seconds * threads)


def others_share(run: Run, cores: int) -> float | None:
    """Return which part of the machine other programs took during a run."""
    return None if run.others_cpu_s is None else run.others_cpu_s / (run.seconds * cores)


def bottleneck(run: Run, cores: int, codec_threads: int) -> str:
    """Say what held a run up, from the CPU seconds of its stages."""
    if run.total_cpu_s is None or not run.cpu_s:
        return "not measured on this system"
    shares = {
        stage: busy(run, stage, codec_threads if stage == "codec" else 1)
        for stage in _THREADS
        if stage in run.cpu_s
    }
    fullest = max(shares, key=lambda stage: shares[stage])
    if shares[fullest] >= FULL_THREAD and codec_threads > 1 and fullest != "codec":
        return f"the {fullest} thread ({shares[fullest]:.0%} busy)"
    used = run.total_cpu_s / (run.seconds * cores)
    costliest = max(run.cpu_s, key=lambda stage: run.cpu_s[stage])
    part = run.cpu_s[costliest] / run.total_cpu_s
    if used >= FULL_MACHINE:
        return f"processor ({used:.0%} busy), most of it {costliest} ({part:.0%})"
    others = others_share(run, cores) or 0.0
    if used + others >= FULL_MACHINE:
        return f"other programs, which took {others:.0%} of this machine"
    return f"waiting ({used:.0%} busy); fullest is {fullest} ({shares[fullest]:.0%})"


def median(values: Iterable[float | None]) -> float | None:
    """Return the median; None if any value is missing or there are none."""
    known = list(values)
    if not known or any(value is None for value in known):
        return None
    return float(statistics.median(value for value in known if value is not None))


def spread(values: Sequence[float]) -> float:
    """Return (largest - smallest) / median; 0 for a single value."""
    return (max(values) - min(values)) / statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile of at least one value."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def summarise(runs: Sequence[Run], cores: int, codec_threads: int) -> dict[str, Any]:
    """Return the medians over the runs of one contestant, and the runs."""
    rates = [run.rate for run in runs]
    stages = [stage for stage in STAGES if all(stage in run.cpu_s for run in runs)]
    return {
        "rate_per_s": statistics.median(rates),
        "bytes_per_s": statistics.median(run.nbytes / run.seconds for run in runs),
        "spread": spread(rates),
        "cpu_us_per_unit": {
            stage: statistics.median(run.cpu_s[stage] / run.units * 1e6 for run in runs)
            for stage in stages
        },
        "limit_per_s": median(limit_rate(run, cores) for run in runs),
        "thread_limit_per_s": median(thread_limit(run, codec_threads) for run in runs),
        "share_of_limit": median(share_of_limit(run, cores) for run in runs),
        "others_share": median(others_share(run, cores) for run in runs),
        "finish_seconds": statistics.median(run.seconds - run.write_seconds for run in runs),
        "peak_bytes": _largest(run.peak_bytes for run in runs),
        "file_bytes": runs[-1].file_bytes,
        "is_whole": all(run.is_whole for run in runs),
        "runs": [asdict(run) for run in runs],
    }


def _largest(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return max(known, default=None)


def median_run(runs: Sequence[Run]) -> Run:
    """Return the run with the median rate (the slower of two in the middle)."""
    return sorted(runs, key=lambda run: run.rate)[(len(runs) - 1) // 2]
