"""The instrument's client: blocking, over a real socket with a thread of its own.

``client`` and ``scan`` are what a program sees. What it writes goes through ``intake``, and the
blocks that ``lanes`` keep open, to its scan's ``channel``, which stands between the calls and the
I/O thread; ``io_thread`` owns the socket that ``transport`` makes, ``spooler`` the spool's files.
"""

from .client import Client, connect
from .draining import Drained, drain
from .result import ScanResult
from .scan import Scan
from .spooler import Spooled

__all__ = ["Client", "Drained", "Scan", "ScanResult", "Spooled", "connect", "drain"]
