"""The sender's state, pure: no socket, no thread, no clock.

`Delivery` is one scan's, `Link` the connection's, `Lane` gathers single pixels in blocks, `conform`
checks a caller's data, `Spool` says what is on the client's disk, `Coverage` and `Payload` are what
they speak of.
"""

from .conform import MainShape
from .coverage import Coverage, Rows
from .lane import DIRECT_ROW_BYTES, Lane
from .link import Link, LinkState, Step
from .payload import Payload, as_bytes, scattered
from .refusal import read_coverage, to_exception
from .retention import Entry, Segment
from .sample import prefers_shuffle
from .spool import SPOOL_LIMIT_MB, Spool
from .spooled import SpooledForm
from .state import RETAIN_LIMIT_BYTES, Delivery, Outbound
from .states import Goal, State

__all__ = [
    "DIRECT_ROW_BYTES",
    "RETAIN_LIMIT_BYTES",
    "SPOOL_LIMIT_MB",
    "Coverage",
    "Delivery",
    "Entry",
    "Goal",
    "Lane",
    "Link",
    "LinkState",
    "MainShape",
    "Outbound",
    "Payload",
    "Rows",
    "Segment",
    "Spool",
    "SpooledForm",
    "State",
    "Step",
    "as_bytes",
    "prefers_shuffle",
    "read_coverage",
    "scattered",
    "to_exception",
]
