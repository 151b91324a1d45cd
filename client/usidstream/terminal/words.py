"""Numbers as people read them: times, bytes, rates. Pure."""

from __future__ import annotations

from datetime import datetime

_BYTE_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_DAY_S, _HOUR_S, _MINUTE_S = 86_400, 3600, 60
MANY_DAYS = 1000


def in_time(seconds: float | None) -> str:
    """Say how long: two units at most, ``?`` where nobody knows."""
    if seconds is None:
        return "?"
    if seconds < 1.0:
        return "0 s" if seconds == 0.0 else f"{max(1, round(seconds * 1000))} ms"
    if seconds < _MINUTE_S - 0.5:
        return f"{seconds:.0f} s"
    for unit, name, smaller, smaller_name in (
        (_DAY_S, "d", _HOUR_S, "h"),
        (_HOUR_S, "h", _MINUTE_S, "min"),
        (_MINUTE_S, "min", 1, "s"),
    ):
        # Rounded first, lest 59.7 s become 60.
        whole, rest = divmod(round(seconds / smaller), unit // smaller)
        if whole >= MANY_DAYS and name == "d":
            return f"over {MANY_DAYS} d"
        if whole:
            return f"{whole} {name} {rest} {smaller_name}" if rest else f"{whole} {name}"
    raise ValueError(f"{seconds} s are no time")


def in_bytes(count: float) -> str:
    """Say how many bytes, in powers of 1024."""
    for unit in _BYTE_UNITS:
        if abs(count) < 1024 or unit == _BYTE_UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    raise ValueError(f"{count} bytes cannot be told")


def in_rate(per_s: float) -> str:
    """Say how many a second, with three digits."""
    if per_s >= 1000:
        return f"{per_s:,.0f}/s".replace(",", " ")
    return f"{per_s:.0f}/s" if per_s >= 100 or per_s == 0 else f"{per_s:.3g}/s"


def in_percent(part: float, whole: float) -> str:
    """Say the share; only all of it is 100 %."""
    if not whole:
        return "100 %"
    percent = 100.0 * part / whole
    return "100 %" if part >= whole else f"{min(percent, 99.9):.1f} %"


def at_clock(seconds: float) -> str:
    """Say when, on this machine's clock: the time of today, with the date if it was before."""
    then = datetime.fromtimestamp(seconds).astimezone()
    today = datetime.now().astimezone().date()
    return then.strftime("%H:%M:%S" if then.date() == today else "%Y-%m-%d %H:%M")


def in_line(text: str) -> str:
    """Return a text that others chose as one line, without control characters."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
