"""A report's figures in words and tables, for a terminal or a pipe. It measures nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .contestants import CONTESTANTS
from .figures import STAGES

MB = 1e6
BUSY_ELSEWHERE = 0.05
"""Above this part of the machine other programs spoil a figure."""
NOT_MEASURED = "not measured on this system"

Table = Sequence[Sequence[str]]


def report_in_words(report: Mapping[str, Any]) -> str:
    """Return the report as plain lines."""
    parts = [
        _machine_lines(report),
        _table(rate_table(report)),
        _table(cpu_table(report)),
        _bottleneck_lines(report),
        sentences(report),
        _table(target_table(report)) if report["options"]["compare"] else [],
    ]
    return "\n\n".join("\n".join(lines) for part in parts if (lines := list(part)))


def rate_table(report: Mapping[str, Any]) -> Table:
    """Return each contestant's rate, and how many times faster the daemon is."""
    rows = [("workload", "written by", "per second", "MB/s", "spread", "usidstream is")]
    for name, work in report["workloads"].items():
        ours = work["contestants"]["usidstream"]["rate_per_s"]
        for key, found in work["contestants"].items():
            mark = "" if found["is_whole"] else " *"
            title = CONTESTANTS[key].title if key in CONTESTANTS else "codec threads alone"
            rows.append(
                (
                    name,
                    title + mark,
                    f"{found['rate_per_s']:,.0f} {work['unit']}",
                    f"{found['bytes_per_s'] / MB:.1f}" if found["bytes_per_s"] else "",
                    f"{found['spread']:.0%}" if len(found["runs"]) > 1 else "",
                    "" if key == "usidstream" else f"{ours / found['rate_per_s']:.2f} x",
                )
            )
    return rows


def cpu_table(report: Mapping[str, Any]) -> Table:
    """Return the CPU per unit by stage, the limits that it sets, and the part reached."""
    rows = [("CPU, us each", *STAGES, "cores allow", "reached", "a thread allows")]
    for name, work in report["workloads"].items():
        ours = work["contestants"]["usidstream"]
        if ours["limit_per_s"] is None:
            continue
        cpu = ours["cpu_us_per_unit"]
        rows.append(
            (
                name,
                *(f"{cpu[stage]:.3g}" for stage in STAGES),
                f"{ours['limit_per_s']:,.0f}",
                f"{ours['share_of_limit']:.0%}",
                f"{ours['thread_limit_per_s']:,.0f}",
            )
        )
    return rows if len(rows) > 1 else [("CPU by stage", NOT_MEASURED)]


def target_table(report: Mapping[str, Any]) -> Table:
    """Return each target beside what was measured."""
    rows = [("target", "wanted", "measured", "met")]
    for target in report["targets"]:
        met = "yes" if target["met"] else "NO"
        rows.append((target["what"], target["wanted"], f"{target['measured']:.3g}", met))
    return rows


def _machine_lines(report: Mapping[str, Any]) -> Iterator[str]:
    machine, limits, options = report["machine"], report["limits"], report["options"]
    yield (
        f"{machine['processor']}, {machine['cores']} cores, {machine['codec_threads']} codec"
        f" threads, gzip by {machine['gzip_backend']}, files in {options['data_dir']}"
    )
    yield (
        f"disk {limits['disk_bytes_per_s'] / MB:,.0f} MB/s written and synced; a sync takes"
        f" {_ms(limits['sync']['p50_s'])}, 99 % at most {_ms(limits['sync']['p99_s'])};"
        f" memory copies at {limits['memory_bytes_per_s'] / MB:,.0f} MB/s"
    )
    yield f"medians of {options['rounds']} interleaved rounds, sizes x {options['scale']:g}"
    others = max((found["others_share"] or 0.0) for found in _all_contestants(report))
    if others > BUSY_ELSEWHERE:
        yield f"other programs took up to {others:.0%} of this machine: figures are too low"
    if any(not found["is_whole"] for found in _all_contestants(report)):
        yield "* only a first part of the scan was sent, for it is slow; the rate is of that part"


def _all_contestants(report: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for work in report["workloads"].values():
        yield from work["contestants"].values()


def _bottleneck_lines(report: Mapping[str, Any]) -> Iterator[str]:
    for name, work in report["workloads"].items():
        ours = work["contestants"]["usidstream"]
        peak = ours["peak_bytes"]
        memory = f"daemon's peak memory {peak / MB:.0f} MB" if peak else f"memory {NOT_MEASURED}"
        seconds = work["units"] / ours["rate_per_s"]
        took = f"{seconds:.2f} s, {ours['finish_seconds']:.2f} s of it to finish"
        yield f"{name}: {took}; limited by {work['bottleneck']}; {memory}"


def sentences(report: Mapping[str, Any]) -> Iterator[str]:
    """Say what the figures mean for an instrument and for a reader, a line each."""
    paced = report.get("paced")
    if paced and paced["machine_idle_share"] is not None:
        yield (
            f"A 256 x 256 spectrum map at {paced['rate_per_s'] / 1000:.2g} kHz leaves"
            f" {paced['machine_idle_share']:.0%} of this machine idle"
            f" (the daemon takes {paced['daemon_core_share']:.1%} of a core)."
        )
    for name, found in report.get("latency", {}).items():
        yield (
            f"Rows are durable {_ms(found['p50_s'])} after their write, 99 % within"
            f" {_ms(found['p99_s'])}, at {found['rate_per_s']:,.0f} pixels/s ({name} rate)."
        )
    for name, files in report["reading"].items():
        yield from _reading_lines(name, files)


def _reading_lines(name: str, files: Mapping[str, Any]) -> Iterator[str]:
    for title, key in (("this file's", "split"), ("full-width", "full_width")):
        found = files[key]
        rows, cols = found["chunks"]
        state = "cold" if found["is_cold"] else "cached"
        yield (
            f"{name}, {title} chunks ({rows}, {cols}): a map takes {_ms(found['map_s'])},"
            f" 64 spectra {_ms(found['spectra_s'])}, {state}"
        )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"


def _table(rows: Table) -> list[str]:
    """Return rows as columns of equal width; numbers to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if place < 2 and len(row) != len(STAGES) + 4 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
