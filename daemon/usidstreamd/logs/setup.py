"""Where the log goes and how much of it, and the loggers that write it.

The loggers are structlog's, over the standard library's: an event with keys becomes an ordinary
record, so that whoever embeds a daemon configures logging as usual and gets the same facts. Only
`set_up` changes anything of the process.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from types import TracebackType
from typing import Literal, TextIO, TypeAlias, cast

import structlog

from .handler import LineHandler
from .rendering import console_formatter, json_formatter

LogFormat: TypeAlias = Literal["auto", "console", "json"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]

LOGGER_NAME = "usidstreamd"


def get_logger() -> structlog.stdlib.BoundLogger:
    """Return the daemon's logger: ``log.info("scan_opened", scan=scan_id)``."""
    logger = structlog.wrap_logger(
        logging.getLogger(LOGGER_NAME),
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
    )
    return cast(structlog.stdlib.BoundLogger, logger)


def set_up(form: LogFormat, level: LogLevel, stream: TextIO | None = None) -> LineHandler:
    """Write the process's log to a stream; what was set up before is closed.

    Parameters
    ----------
    form
        ``auto`` is ``console`` where the stream is a terminal and ``json`` elsewhere.
    level
        The least that is told of the daemon; other libraries are told of from ``warning`` on.
    stream
        Stderr, unless given.
    """
    stream = sys.stderr if stream is None else stream
    root = logging.getLogger()
    for former in [h for h in root.handlers if isinstance(h, LineHandler)]:
        root.removeHandler(former)
        former.close()
    handler = LineHandler(stream, _formatter(form, stream))
    root.addHandler(handler)
    logging.captureWarnings(True)
    set_level(level)
    return handler


def set_level(level: LogLevel) -> None:
    """Tell no less of the daemon than this, from now on."""
    logging.getLogger(LOGGER_NAME).setLevel(level.upper())


def tell_of_crashes() -> None:
    """Log what ends a thread, or the process, instead of printing it beside the log."""
    log = get_logger()

    def tell(
        kind: type[BaseException],
        error: BaseException | None,
        where: TracebackType | None,
        name: str,
    ) -> None:
        if error is not None and not issubclass(kind, KeyboardInterrupt):
            log.critical("thread_died", thread_name=name, exc_info=(kind, error, where))

    def of_thread(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread is not None else ""
        tell(args.exc_type, args.exc_value, args.exc_traceback, name)

    threading.excepthook = of_thread
    sys.excepthook = lambda kind, error, where: tell(kind, error, where, "main")


def _formatter(form: LogFormat, stream: TextIO) -> logging.Formatter:
    is_terminal = stream.isatty()
    if form == "json" or (form == "auto" and not is_terminal):
        return json_formatter()
    return console_formatter(colors=is_terminal and _takes_colours())


def _takes_colours() -> bool:
    is_dumb = os.environ.get("TERM") == "dumb"
    return os.name != "nt" and not is_dumb and not os.environ.get("NO_COLOR")
