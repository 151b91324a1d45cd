"""What a scan is: dimensions, main datasets, and the positions that they share.

A layout is a value: validated when it is made, frozen, equal by content. It knows plain dicts (for
the wire) and TOML (for files); it must never know sockets, HDF5, chunk rules or how data travels.
"""

from .attributes import MAX_ATTRS_BYTES, AttributeValue, check_attrs
from .dimension import Dimension, PositionTable
from .main import SINGLE_STEP, MainLayout
from .scan import ScanLayout

__all__ = [
    "MAX_ATTRS_BYTES",
    "SINGLE_STEP",
    "AttributeValue",
    "Dimension",
    "MainLayout",
    "PositionTable",
    "ScanLayout",
    "check_attrs",
]
