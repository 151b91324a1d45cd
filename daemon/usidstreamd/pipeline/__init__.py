"""One scan's data between the socket and its file: placed, made durable, encoded, stored.

``tiles`` carries complete tiles into the file, ``backlog`` knows which blocks the journal must hold
meanwhile, ``committing`` makes both durable, ``positions`` counts, ``flow`` tells it in numbers,
``scan_pipeline`` orders it all.
Runs in the socket thread and never waits: every outcome comes back through the mailbox.
"""

from .attributes import read_attrs, read_reason
from .flow import Flow
from .scan_pipeline import UNDERWAY_BYTES_PER_ENCODER, Measures, Restored, ScanPipeline, as_failure
from .tiles import EncodeFailed, MainParts

__all__ = [
    "UNDERWAY_BYTES_PER_ENCODER",
    "EncodeFailed",
    "Flow",
    "MainParts",
    "Measures",
    "Restored",
    "ScanPipeline",
    "as_failure",
    "read_attrs",
    "read_reason",
]
