"""A log record as a line: for people on a terminal, as JSON for everybody else.

Both say the same: time, level and event, the scan, then the other keys as they were given. What a
client may have chosen (names, addresses) can neither break a line nor command a terminal. Records
of other libraries are rendered alike, their text being the event. It knows no stream.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from structlog.dev import (
    Column,
    ConsoleRenderer,
    KeyValueColumnFormatter,
    plain_traceback,
)
from structlog.processors import JSONRenderer, format_exc_info
from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level
from structlog.typing import EventDict, Processor, WrappedLogger

MAX_VALUE_CHARS = 2000
"""Of one value; a client may be the author of it."""
SCAN_DIGITS = 8
"""Of a scan's id on a terminal, as in the names of files; JSON has all."""
LEVEL_COLUMNS = 8
EVENT_COLUMNS = 16

_FIRST_KEYS = ("time", "level", "event", "scan")
_COLOURS = {"warning": "\x1b[33m", "error": "\x1b[1;31m", "critical": "\x1b[1;31m"}
_DIM, _BOLD, _RESET = "\x1b[2m", "\x1b[1m", "\x1b[0m"


def json_formatter() -> logging.Formatter:
    """Return a formatter that makes one JSON object a line, its time in UTC."""
    return _formatter(_add_utc, format_exc_info, _arrange, JSONRenderer(default=str))


def console_formatter(*, colors: bool) -> logging.Formatter:
    """Return a formatter for a terminal, in local time; an exception takes lines of its own."""
    renderer = ConsoleRenderer(
        columns=_columns(colors=colors), sort_keys=False, exception_formatter=plain_traceback
    )
    colour = _colour_level if colors else _pad_level
    return _formatter(_add_local_time, _arrange, _shorten_scan, colour, renderer)


def _formatter(stamp: Processor, *processors: Processor) -> logging.Formatter:
    facts = (add_log_level, ExtraAdder(), _drop_derived, stamp)
    return ProcessorFormatter(
        processors=[*facts, ProcessorFormatter.remove_processors_meta, *processors]
    )


def _columns(*, colors: bool) -> list[Column]:
    dim, bold, reset = (_DIM, _BOLD, _RESET) if colors else ("", "", "")

    def bare(style: str, width: int = 0) -> KeyValueColumnFormatter:
        return KeyValueColumnFormatter(None, style, reset, _escape, width)

    return [
        Column("time", bare(dim)),
        Column("level", KeyValueColumnFormatter(None, "", "", str)),
        Column("event", bare(bold, EVENT_COLUMNS)),
        Column("", KeyValueColumnFormatter(dim, "", reset, _as_word)),
    ]


# ---------------------------------------------------------------- processors


def _drop_derived(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Leave out what formatters of other handlers have put into the record."""
    for key in ("message", "asctime"):
        event.pop(key, None)
    return event


def _add_utc(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    created = datetime.fromtimestamp(event["_record"].created, UTC)
    event["time"] = created.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return event


def _add_local_time(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    created = datetime.fromtimestamp(event["_record"].created)
    event["time"] = f"{created:%Y-%m-%d %H:%M:%S}"
    return event


def _arrange(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Put first what every line has, and bound what any value may take."""
    first = {key: event.pop(key) for key in _FIRST_KEYS if key in event}
    return {key: _bounded(value) for key, value in {**first, **event}.items()}


def _bounded(value: object) -> object:
    if isinstance(value, str) and len(value) > MAX_VALUE_CHARS:
        return value[:MAX_VALUE_CHARS] + "..."
    return value


def _shorten_scan(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    if "scan" in event:
        event["scan"] = str(event["scan"])[:SCAN_DIGITS]
    return event


def _pad_level(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event["level"] = f"{event['level']:{LEVEL_COLUMNS}}"
    return event


def _colour_level(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    colour = _COLOURS.get(event["level"], "")
    event["level"] = f"{colour}{event['level']:{LEVEL_COLUMNS}}{_RESET if colour else ''}"
    return event


def _escape(value: object) -> str:
    text = str(value)
    return text if text.isprintable() else repr(text)


def _as_word(value: object) -> str:
    if isinstance(value, dict):
        value = ",".join(f"{key}:{member}" for key, member in value.items())
    elif isinstance(value, list):
        value = ",".join(map(str, value))
    text = str(value)
    is_word = text and text.isprintable() and not set(text) & set(" \"'=")
    return text if is_word else repr(text)
