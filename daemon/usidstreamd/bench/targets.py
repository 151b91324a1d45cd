"""What the project wants to reach, and whether a report reaches it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

MB = 1e6


class Ratio(NamedTuple):
    """How many times faster than a reference a workload should be."""

    workload: str
    reference: str
    at_least: float


RATIOS = (
    Ratio("spectra", "loop", 55),
    Ratio("spectra", "blocks", 9),
    Ratio("spectra-blocks", "loop", 75),
    Ratio("spectra-blocks", "blocks", 12),
    Ratio("stem", "loop", 6.9),
    Ratio("stem", "blocks", 7),
    Ratio("afm", "loop", 140),
    Ratio("afm-one-call", "loop", 300),
    Ratio("timeseries", "loop", 10),
)
SHARE_OF_LIMIT = 0.85
DURABILITY_COST = 0.15
PEAK_BYTES = 150e6
PEAK_GROWTH = 0.05
PACED_CORE_SHARE = 0.05
FILE_GROWTH = 0.10
MAP_GAIN = 4.0
SPECTRA_COST = 5.0
COMMIT_INTERVAL_S = 0.05


class Target(NamedTuple):
    """One target beside its figure."""

    what: str
    wanted: str
    measured: float
    met: bool

    @classmethod
    def least(cls, what: str, bound: float, measured: float) -> Target:
        """Return a target that is a lower bound."""
        return cls(what, f">= {bound:g}", measured, measured >= bound)

    @classmethod
    def most(cls, what: str, bound: float, measured: float) -> Target:
        """Return a target that is an upper bound."""
        return cls(what, f"<= {bound:g}", measured, measured <= bound)


def compare_with_targets(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each target for which the report has figures."""
    return [target._asdict() for part in _PARTS for target in part(report)]


def _ratios(report: Mapping[str, Any]) -> Iterator[Target]:
    for ratio in RATIOS:
        found = _contestants(report, ratio.workload)
        if ratio.reference in found:
            measured = found["usidstream"]["rate_per_s"] / found[ratio.reference]["rate_per_s"]
            what = f"{ratio.workload}: times faster than {ratio.reference}"
            yield Target.least(what, ratio.at_least, measured)


def _of_the_machine(report: Mapping[str, Any]) -> Iterator[Target]:
    for name in report["workloads"]:
        ours = _contestants(report, name)["usidstream"]
        if ours["share_of_limit"] is not None:
            what = f"{name}: part of cores / (sum of CPU per unit)"
            yield Target.least(what, SHARE_OF_LIMIT, ours["share_of_limit"])


def _durability(report: Mapping[str, Any]) -> Iterator[Target]:
    for name in report["workloads"]:
        found = _contestants(report, name)
        if "commits-rare" in found:
            cost = 1 - found["usidstream"]["rate_per_s"] / found["commits-rare"]["rate_per_s"]
            yield Target.most(f"{name}: cost of durability", DURABILITY_COST, cost)


def _memory(report: Mapping[str, Any]) -> Iterator[Target]:
    for name in report["workloads"]:
        peak = _contestants(report, name)["usidstream"]["peak_bytes"]
        if peak is not None:
            yield Target.most(f"{name}: daemon's peak memory, MB", PEAK_BYTES / MB, peak / MB)
    long = report.get("long")
    if long and long["peak_bytes"] is not None:
        short = _contestants(report, long["workload"])["usidstream"]["peak_bytes"]
        what = f"{long['workload']}: growth of peak memory, scan {long['repeats']} times as long"
        yield Target.most(what, PEAK_GROWTH, long["peak_bytes"] / short - 1)


def _paced(report: Mapping[str, Any]) -> Iterator[Target]:
    paced = report.get("paced")
    if paced and paced["daemon_core_share"] is not None:
        what = "1 kHz of 1 KiB pixels: daemon's part of a core"
        yield Target.most(what, PACED_CORE_SHARE, paced["daemon_core_share"])


def _latency(report: Mapping[str, Any]) -> Iterator[Target]:
    half = report.get("latency", {}).get("half")
    if half:
        bound = round(COMMIT_INTERVAL_S + 2 * report["limits"]["sync"]["p99_s"], 4)
        yield Target.most("durable ack at half the rate, p99, s", bound, half["p99_s"])


def _files(report: Mapping[str, Any]) -> Iterator[Target]:
    for name, work in report["workloads"].items():
        if work["reference_data_bytes"]:
            growth = work["data_bytes"] / work["reference_data_bytes"] - 1
            yield Target.most(f"{name}: data larger than gzip 4 + shuffle by", FILE_GROWTH, growth)


def _reading(report: Mapping[str, Any]) -> Iterator[Target]:
    for name, files in report["reading"].items():
        split, full = files["split"], files["full_width"]
        what = f"{name}: map read, times faster than full-width chunks"
        yield Target.least(what, MAP_GAIN, full["map_s"] / split["map_s"])
        what = f"{name}: 64 cold spectra, times slower than full-width chunks"
        yield Target.most(what, SPECTRA_COST, split["spectra_s"] / full["spectra_s"])


def _contestants(report: Mapping[str, Any], workload: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = report["workloads"].get(workload, {}).get("contestants", {})
    return found


_PARTS: tuple[Callable[[Mapping[str, Any]], Iterator[Target]], ...] = (
    _ratios,
    _of_the_machine,
    _durability,
    _memory,
    _paced,
    _latency,
    _files,
    _reading,
)
