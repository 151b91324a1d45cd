"""The daemon's log: one event a line, under a stable name, with its facts as keys.

Whatever is logged ends as a record of the standard library: an event of `EVENTS`, and keys. Most
modules write it with `get_logger`; storage, which knows nothing above it, with the library itself.
`events` names the events, `repeats` decides what is too much of one, `rendering` makes lines, and
`handler` writes them where no thread of the daemon waits. Nothing here knows what a scan is; which
one a thread works for stands in its context.
"""

from .events import EVENTS, EventSpec
from .handler import LineHandler
from .setup import LogFormat, LogLevel, get_logger, set_level, set_up, tell_of_crashes

__all__ = [
    "EVENTS",
    "EventSpec",
    "LineHandler",
    "LogFormat",
    "LogLevel",
    "get_logger",
    "set_level",
    "set_up",
    "tell_of_crashes",
]
