"""What ``usidstream status`` prints: a daemon's report as plain lines. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .. import wire
from ..ranges import ranges_in_words
from .words import at_clock, in_bytes, in_line, in_percent, in_rate, in_time

SHORT_ID_CHARS = 8
MAX_RANGES_COUNT = 20
MIN_AHEAD_PART = 0.01
"""What has come is told instead of what is durable where it is so much more of the scan."""
Facts = Mapping[str, Any]


def report_lines(report: Facts) -> Iterator[str]:
    """Yield a report's lines: the daemon, its scans as a table, what needs an operator."""
    daemon, scans = report["daemon"], report["scans"]
    yield f"{daemon['daemon']} at {daemon['endpoint']}, files in {daemon['data_dir']}"
    yield from (f"  {line}" for line in daemon_lines(daemon))
    if daemon.get("shortage"):
        yield f"nothing more is taken: {in_line(daemon['shortage'])}"
    yield from warning_lines(daemon.get("warnings", ()))
    yield ""
    yield from _table([_HEADINGS, *map(_row, scans)]) if scans else ("no open scans",)
    for scan in scans:
        trouble = scan.get("failure") or scan.get("shortage")
        if trouble:
            yield f"{scan['scan']}: {in_line(trouble)}"
    yield from _ended_lines(daemon.get("ended", ()))


def daemon_lines(daemon: Facts) -> Iterator[str]:
    """Yield what there is to say of a daemon, from status or a heartbeat alike."""
    up = f"up {in_time(daemon['uptime_s'])}, " if "uptime_s" in daemon else ""
    yield f"{up}{_count(daemon['clients'], 'client')}, {_memory(daemon)}"
    yield ", ".join(_disk(daemon))
    if daemon.get("sync_p50_s") is not None:
        yield (
            f"commits take {in_time(daemon['sync_p50_s'])}, 1 in 100 over "
            f"{in_time(daemon['sync_p99_s'])}"
        )


def warning_lines(warnings: Sequence[Facts]) -> Iterator[str]:
    """Yield a line for each warning in force."""
    for warning in warnings:
        scan = f" of scan {warning['scan'][:SHORT_ID_CHARS]}" if warning["scan"] else ""
        since = at_clock(warning["since_s"])
        yield f"! {warning['code']}{scan} since {since}: {in_line(warning['text'])}"


def part_told(scan: Facts, durable: int) -> float:
    """Return the part of a scan that is durable or, of incomplete positions, has come."""
    told = scan.get("received_bytes", 0), scan.get("total_bytes", 0)
    return wire.received_part(durable, scan["n_positions"], *told)


def share(scan: Facts, durable: int) -> str:
    """Say how much of a scan is durable; where far more has come, how much that is."""
    part = part_told(scan, durable)
    if part > durable / scan["n_positions"] + MIN_AHEAD_PART:
        return f"{in_percent(part, 1.0)} received"
    return in_percent(durable, scan["n_positions"])


def pace(scan: Facts) -> str:
    """Say how quickly a scan goes on."""
    words = f"{in_rate(scan['rate_per_s'])}, {in_bytes(scan['bytes_per_s'])}/s"
    if scan["positions_received"] < scan["n_positions"]:
        words += f", {in_time(scan['left_s'])} left"
    return words


def lag(scan: Facts) -> str:
    """Say what of a scan has come and is not durable."""
    if not scan["lag_s"] and not scan["lag_rows"]:
        return "all durable"
    return f"not durable: {scan['lag_rows']} positions, {in_time(scan['lag_s'])}"


def gaps(scan: Facts) -> str:
    """Say how many positions were left out so far, by main; empty for none."""
    return ", ".join(f"{in_line(name)} {count}" for name, count in scan["missing"].items())


def _memory(daemon: Facts) -> str:
    used, budget = daemon["memory_in_use_bytes"], daemon["memory_budget_bytes"]
    return f"{in_bytes(used)} of {in_bytes(budget)} in open chunks"


def _disk(daemon: Facts) -> Iterator[str]:
    yield f"{in_bytes(daemon['disk_free_bytes'])} free on the disk"
    if daemon.get("disk_left_s") is not None:
        per_s = in_bytes(daemon["write_bytes_per_s"])
        yield f"{in_time(daemon['disk_left_s'])} left at {per_s}/s"


def _ended_lines(ends: Sequence[Facts]) -> Iterator[str]:
    """Yield a line for each scan that has ended lately, with the positions that it lacks."""
    if ends:
        yield ""
        yield "ended lately:"
    for end in ends:
        lacks = [
            f"{in_line(main)} lacks {ranges_in_words(ranges, MAX_RANGES_COUNT)}"
            for main, ranges in end["missing"].items()
        ]
        told = sum(map(len, end["missing"].values()))
        if told < end["missing_ranges"]:
            lacks.append(f"and {end['missing_ranges'] - told} more ranges, see verify")
        yield f"{end['scan']}  {'; '.join([end['status'], *lacks])}  {_file(end)}"


_HEADINGS = ("scan", "state", "durable", "", "rate", "left", "not durable", "missing", "file")


def _row(scan: Facts) -> tuple[str, ...]:
    total = scan["n_positions"]
    if "positions" not in scan:  # it waits on the disk, so nobody knows yet what it holds
        return (scan["scan"], scan["state"], f"? of {total}", "", "", "", "", "", _file(scan))
    durable = scan["positions"]
    known = ("", "", "", "")
    if "rate_per_s" in scan:
        late = "" if not scan["lag_s"] else f"{scan['lag_rows']}, {in_time(scan['lag_s'])}"
        known = (in_rate(scan["rate_per_s"]), in_time(scan["left_s"]), late, gaps(scan))
    told = (f"{durable} of {total}", share(scan, durable))
    return (scan["scan"], scan["state"], *told, *known, _file(scan))


def _file(scan: Facts) -> str:
    return in_line(scan["file"])


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield lines with aligned columns; those that nobody fills are left out."""
    columns = [c for c in range(len(rows[0])) if any(row[c] for row in rows[1:])]
    widths = {c: max(len(row[c]) for row in rows) for c in columns}
    for row in rows:
        yield "  ".join(row[c].ljust(widths[c]) for c in columns).rstrip()


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
