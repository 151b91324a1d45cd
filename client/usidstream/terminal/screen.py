"""``usidstream watch`` on a terminal: the model drawn with rich, in any width."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .lines import closing
from .model import Model
from .report import SHORT_ID_CHARS, daemon_lines, gaps, lag, pace, part_told, share, warning_lines
from .words import in_line

MAX_SCANS_SHOWN_COUNT = 8
MAX_WARNINGS_SHOWN_COUNT = 8


def draw(model: Model, endpoint: str) -> RenderableType:
    """Return what a terminal shows of a model."""
    return Group(*_parts(model, endpoint))


def _parts(model: Model, endpoint: str) -> Iterator[RenderableType]:
    if model.reason or model.daemon is None:
        yield _line(endpoint, "bold")
        yield Text(f"NOT CONNECTED: {in_line(model.reason or 'no heartbeat yet')}", "bold red")
    else:
        yield _line(f"{model.daemon['daemon']} at {endpoint}", "bold")
        yield from (_line(line, "dim") for line in daemon_lines(model.daemon))
    for line in list(warning_lines(model.warnings))[:MAX_WARNINGS_SHOWN_COUNT]:
        yield Text(line, "bold yellow")
    yield from _scans(model)
    if model.ends:
        yield Text()
    yield from (Text(closing(end), _END_STYLES.get(end.status, "yellow")) for end in model.ends)


_END_STYLES = {"complete": "green"}


def _scans(model: Model) -> Iterator[RenderableType]:
    scans = list(model.scans.values())
    for scan in scans[:MAX_SCANS_SHOWN_COUNT]:
        yield Text()
        yield from _scan(scan)
    if len(scans) > MAX_SCANS_SHOWN_COUNT:
        yield _line(f"and {len(scans) - MAX_SCANS_SHOWN_COUNT} more scans", "dim")
    if not scans and not model.reason:
        yield Text()
        yield _line("no open scans", "dim")


def _scan(scan: Mapping[str, Any]) -> Iterator[RenderableType]:
    title = f"{in_line(scan['name'])} {scan['scan'][:SHORT_ID_CHARS]}  {scan['state']}"
    yield _line(f"{title}  {in_line(scan['file'])}", "bold")
    yield _bar(scan)
    yield _line(f"{pace(scan)}; {lag(scan)}")
    missing = gaps(scan)
    if missing:
        yield Text(f"missing so far: {missing}", "yellow")
    trouble = scan["failure"] or scan["shortage"]
    if trouble:
        yield Text(in_line(trouble), "yellow")


def _bar(scan: Mapping[str, Any]) -> RenderableType:
    done, total = scan["positions_durable"], scan["n_positions"]
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True, justify="right")
    row.add_row(
        ProgressBar(total=1.0, completed=part_told(scan, done)),
        Text(f"{share(scan, done)}  {done} of {total}"),
    )
    return row


def _line(text: str, style: str = "") -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")
