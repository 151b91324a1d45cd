"""Every metric: its name, kind and labels, and what it tells. Names are stable.

Units stand last in the names, as Prometheus wants them. A label has few values by its nature
(states, codes), or is a scan's id: only of scans that are open, at most ``max_scans`` of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

PREFIX = "usidstream_"
SYNC_BUCKETS_S = (
    *(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 30.0),
)

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """What a metric is.

    Parameters
    ----------
    kind
        As Prometheus calls it.
    help
        What it tells, in a line.
    labels
        Their names.
    """

    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


METRICS: Mapping[str, MetricSpec] = MappingProxyType(
    {
        "build_info": MetricSpec("gauge", "1; the version stands in the label.", ("version",)),
        "uptime_seconds": MetricSpec("gauge", "Since the daemon's start."),
        "loop_idle_seconds": MetricSpec(
            "gauge", "Since the loop's last turn, 0.1 at most while it is well."
        ),
        "clients": MetricSpec("gauge", "Connections that have said hello."),
        "scans": MetricSpec("gauge", "Scans, by state; also those on the disk only.", ("state",)),
        "scans_ended_total": MetricSpec(
            "counter", "Scans that were let go, by how they ended.", ("status",)
        ),
        "pixels_total": MetricSpec("counter", "Positions made durable, in every main."),
        "received_bytes_total": MetricSpec("counter", "Raw data taken in, resends not counted."),
        "written_bytes_total": MetricSpec("counter", "Chunks written to files, compressed."),
        "blocks_refused_total": MetricSpec("counter", "Blocks and annotations refused."),
        "errors_total": MetricSpec("counter", "Errors told to clients, by code.", ("code",)),
        "recoveries_total": MetricSpec("counter", "Files put right when opened.", ("how",)),
        "warnings": MetricSpec("gauge", "Warnings in force, by code.", ("code",)),
        "codec_seconds_total": MetricSpec("counter", "Time of codec threads."),
        "codec_input_bytes_total": MetricSpec("counter", "Raw bytes that were encoded."),
        "sync_seconds": MetricSpec(
            "histogram",
            "Time of each sync of a journal, or of an HDF5 file.",
            ("file",),
        ),
        "durable_lag_seconds": MetricSpec(
            "gauge", "Age of the oldest data of any scan that is not durable."
        ),
        "credit_bytes": MetricSpec("gauge", "What clients may still send without asking."),
        "buffer_bytes": MetricSpec("gauge", "In open chunks of all scans."),
        "buffer_budget_bytes": MetricSpec("gauge", "The most that they may take."),
        "disk_free_bytes": MetricSpec("gauge", "On the disk of data_dir."),
        "disk_needed_bytes": MetricSpec("gauge", "With less than this free nothing more is taken."),
        "scan_info": MetricSpec(
            "gauge", "1 for each open scan.", ("scan", "name", "file", "state")
        ),
        "scan_positions": MetricSpec("gauge", "Positions of the scan.", ("scan",)),
        "scan_positions_received": MetricSpec("gauge", "Complete in every main.", ("scan",)),
        "scan_positions_durable": MetricSpec("gauge", "Of these, durable.", ("scan",)),
        "scan_durable_lag_seconds": MetricSpec(
            "gauge", "Age of the oldest data that is not durable.", ("scan",)
        ),
        "scan_credit_bytes": MetricSpec("gauge", "What its clients may still send.", ("scan",)),
        "scan_backlog_bytes": MetricSpec(
            "gauge", "Blocks that the next commit may have to journal.", ("scan",)
        ),
        "scan_underway_bytes": MetricSpec(
            "gauge", "Complete tiles that are being encoded or written.", ("scan",)
        ),
        "scan_clients": MetricSpec("gauge", "Connections that take part.", ("scan",)),
    }
)
"""Without the prefix; `docs/operating.md` has the same table."""


def markdown_table() -> str:
    """Return the metrics as a table for the docs."""
    rows = [
        f"| `{PREFIX}{name}` | {spec.kind} | {', '.join(spec.labels)} | {spec.help} |"
        for name, spec in METRICS.items()
    ]
    head = ["| metric | kind | labels | what it tells |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *rows]) + "\n"
