"""usidstream: the instrument's side of a streaming acquisition daemon.

Describe a scan with `ScanLayout`, `connect` to a daemon, open the scan and `write` its pixels.
"""

__version__ = "0.1.0"

from .client import Client, Scan, ScanResult, connect
from .errors import (
    BlockError,
    DeliveryError,
    DeliveryTimeoutError,
    LayoutError,
    ScanError,
    UsidstreamError,
)
from .layout import Dimension, MainLayout, PositionTable, ScanLayout

__all__ = [
    "BlockError",
    "Client",
    "DeliveryError",
    "DeliveryTimeoutError",
    "Dimension",
    "LayoutError",
    "MainLayout",
    "PositionTable",
    "Scan",
    "ScanError",
    "ScanLayout",
    "ScanResult",
    "UsidstreamError",
    "__version__",
    "connect",
]
