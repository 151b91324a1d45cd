"""What the page says in words, as HTML. Pure; everything that a client named is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from urllib.parse import quote

from usidstream import wire

from .standing import ScanStanding, Standing

MAX_SHOWN_WARNINGS_COUNT = 5
MAX_TITLE_CHARACTERS = 60
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

_GOOD, _BAD = {"complete"}, {"failed", "incomplete", "aborted", "interrupted"}


def seconds(value: float | None) -> str:
    """Say a duration as people do: two figures, one unit."""
    if value is None:
        return "unknown"
    if value <= 0:
        return "0 s"
    for limit, divisor, unit in (
        (1e-3, 1e-6, "µs"), (1.0, 1e-3, "ms"), (120.0, 1.0, "s"),
        (7200.0, 60.0, "min"), (172_800.0, 3600.0, "h"),
    ):  # fmt: skip
        if value < limit:
            return f"{figure(value / divisor)} {unit}"
    days = value / 86_400.0
    return f"{figure(days)} days" if days < 1000 else "years"


def figure(value: float) -> str:
    """Write a number with as many decimals as it deserves."""
    return f"{value:.1f}" if 0 < abs(value) < 10 and value != round(value) else f"{value:,.0f}"


def size(nbytes: float) -> str:
    """Say a number of bytes."""
    unit, name = (GIB, "GiB") if nbytes >= GIB else (MIB, "MiB") if nbytes >= MIB else (KIB, "KiB")
    return f"{figure(nbytes / unit)} {name}"


def shortened(text: str) -> str:
    """Cut a name that would fill the page."""
    return text if len(text) <= MAX_TITLE_CHARACTERS else text[: MAX_TITLE_CHARACTERS - 1] + "…"


def status_pill(standing: Standing, now_s: float, endpoint: str, why: str = "") -> str:
    """Say whether the daemon is there; if not, why, where that is known."""
    if standing.is_connected(now_s):
        return '<span class="pill live" role="status"><i></i>live</span>'
    if standing.heard_s is None:
        return (
            '<span class="pill gone" role="status"><i></i>not connected</span>'
            f'<span class="why">{escape(why or f"no daemon answers at {endpoint}")}</span>'
        )
    ago = seconds(round(now_s - standing.heard_s))
    return (
        '<span class="pill gone" role="status"><i></i>not connected</span>'
        f'<span class="why">nothing heard from {escape(endpoint)} for {ago}'
        f"{escape(f' ({why})' if why else '')}; "
        "what stands below is what was known then</span>"
    )


def scan_cards(scans: Iterable[ScanStanding], chosen: str, *, is_connected: bool) -> str:
    """Return a card for each scan, the chosen one marked; each is a link to itself."""
    cards = [_card(scan, scan.scan == chosen, is_connected) for scan in scans]
    if not cards:
        cards = [
            '<p class="empty">No scan is open. It will appear here when an instrument opens one; '
            "finished ones can be opened below.</p>"
        ]
    return f'<nav class="cards" aria-label="Scans">{"".join(cards)}</nav>'


def _card(scan: ScanStanding, is_chosen: bool, is_connected: bool) -> str:
    kind = "good" if scan.words in _GOOD else "bad" if scan.words in _BAD else "busy"
    facts = [f"{_percent(scan)} %"]
    if not scan.is_over:
        if is_connected:
            is_moving = scan.left_s is not None and scan.bytes_per_s > 0
            if is_moving:
                facts += [f"{seconds(scan.left_s)} left", _pace(scan)]
            else:
                facts.append("no data now")
            facts.append(f"{seconds(scan.lag_s)} lag")
        else:
            facts.append("as last heard")
    facts.append(f"{scan.missing:,} missing")
    trouble = scan.failure or scan.shortage
    return (
        f'<a class="card{" chosen" if is_chosen else ""}" href="?scan={quote(scan.scan)}" '
        f'data-scan="{escape(scan.scan)}"{_current(is_chosen)}>'
        f'<span class="row"><b title="{escape(scan.file)}">{escape(shortened(scan.title))}</b>'
        f'<em class="{kind}">{escape(scan.words)}</em></span>'
        f'<span class="bar"><i class="{kind}" style="width:{100 * scan.fraction:.1f}%"></i></span>'
        f'<span class="facts">{" · ".join(facts)}</span>'
        f"{_trouble(trouble)}</a>"
    )


def _current(is_chosen: bool) -> str:
    return ' aria-current="true"' if is_chosen else ""


def _pace(scan: ScanStanding) -> str:
    is_told = scan.rate_per_s > 0  # positions of a stack are complete with its last image only
    return f"{figure(scan.rate_per_s)} pos/s" if is_told else f"{size(scan.bytes_per_s)}/s"


def _percent(scan: ScanStanding) -> int:
    return int(100 * scan.fraction)  # 100 % is said of nothing less


def _trouble(text: str) -> str:
    return f'<span class="trouble">{escape(text)}</span>' if text else ""


def health(standing: Standing, now_s: float, notes: Iterable[str] = ()) -> str:
    """Return the strip of health: the disk, the sync, memory, and what needs an operator."""
    beat = standing.heartbeat
    facts = _facts(beat) if beat and standing.is_connected(now_s) else []
    warnings = [*_warnings(standing), *notes] if facts else list(notes)
    shown = "".join(
        f'<p class="warning">{escape(text)}</p>' for text in warnings[:MAX_SHOWN_WARNINGS_COUNT]
    )
    if len(warnings) > MAX_SHOWN_WARNINGS_COUNT:
        shown += f"<p>and {len(warnings) - MAX_SHOWN_WARNINGS_COUNT} more</p>"
    facts.append(("Warnings", str(len(warnings)), "bad" if warnings else ""))
    items = "".join(
        f'<div><dt>{name}</dt><dd class="{kind}">{text}</dd></div>' for name, text, kind in facts
    )
    where = f'<p class="where">{escape(_where(beat))}</p>' if beat else ""
    return f'<section class="health"><dl>{items}</dl>{shown}{where}</section>'


def _warnings(standing: Standing) -> Iterator[str]:
    for (_code, scan), text in standing.warnings.items():
        known = standing.scans.get(scan) or ScanStanding(scan)
        yield f"{shortened(known.title)}: {text}" if scan else text


def _facts(beat: wire.Heartbeat) -> list[tuple[str, str, str]]:
    room = beat.disk_free_bytes - beat.disk_needed_bytes
    left = "steady" if beat.disk_left_s is None else seconds(beat.disk_left_s)
    return [
        ("Disk time left", left, "bad" if room <= 0 else ""),
        ("Disk free", size(max(room, 0)), "bad" if room <= 0 else ""),
        ("Sync latency", f"{seconds(beat.sync_p50_s)} / {seconds(beat.sync_p99_s)}", ""),
        ("Written", f"{figure(beat.write_bytes_per_s / MIB)} MiB/s", ""),
        ("Memory", f"{_part(beat.memory_in_use_bytes, beat.memory_budget_bytes)} %", ""),
        ("Clients", f"{beat.clients}", ""),
    ]


def _part(used: int, whole: int) -> int:
    return round(100 * used / whole) if whole else 0


def _where(beat: wire.Heartbeat) -> str:
    return f"{beat.daemon} at {beat.endpoint}, writing in {beat.data_dir}"


def heading(title: str, place: str) -> str:
    """Return the line above the pictures: what is shown, and where the selection is."""
    if not title:
        return ""
    where = f"<span>{escape(place)}</span>" if place else ""
    return f'<div class="heading"><h2>{escape(shortened(title))}</h2>{where}</div>'


def note(text: str) -> str:
    """Return a line that tells what can be done, or is awaited."""
    return f'<p class="note">{escape(text)}</p>' if text else ""


def page_title(scan: ScanStanding | None, title: str, is_connected: bool) -> str:
    """Return what stands on the browser's tab."""
    if not is_connected:
        return "not connected · usidstream"
    if scan is None:
        return f"{shortened(title)} · usidstream" if title else "usidstream"
    return f"{_percent(scan)} % {shortened(scan.title)} · usidstream"
