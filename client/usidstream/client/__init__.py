"""The instrument's client: blocking, over a real socket with a thread of its own.

``client`` and ``scan`` are what a program sees, ``channel`` what stands between its calls and the
I/O thread, ``io_thread`` owns the socket that ``transport`` makes.
"""

from .client import Client, connect
from .result import ScanResult
from .scan import Scan

__all__ = ["Client", "Scan", "ScanResult", "connect"]
