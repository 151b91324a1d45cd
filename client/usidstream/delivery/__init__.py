"""The sender's state, pure: no socket, no thread, no clock; only `Lane` knows of several callers.

`Delivery` is one scan's, `Link` the connection's, `Lane` gathers single pixels in blocks, `conform`
checks a caller's data, `Slabs` has memory for it, `Spool` says what is on the client's disk,
`Coverage` and `Payload` are what they speak of.
"""

from .conform import MainShape
from .coverage import Coverage, Rows
from .lane import DIRECT_ROW_BYTES, ENDED, REFUSED, Lane
from .link import Link, LinkState, Step
from .payload import NUMBER_NBYTES, Payload, as_bytes, scattered
from .refusal import read_coverage, to_exception
from .retention import Entry, Segment
from .sample import prefers_shuffle
from .slabs import SlabRing, Slabs
from .spool import SPOOL_LIMIT_MB, Spool
from .spooled import SpooledForm
from .state import RETAIN_LIMIT_BYTES, Delivery, Outbound
from .states import Goal, State

__all__ = [
    "DIRECT_ROW_BYTES",
    "ENDED",
    "NUMBER_NBYTES",
    "REFUSED",
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
    "SlabRing",
    "Slabs",
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
