"""The numbers of protocol 1, and the error for messages that break it."""

from __future__ import annotations

from ..errors import UsidstreamError

VERSION = 1
FEATURES = ("rows", "columns", "scattered", "several-mains", "join", "annotate", "resume")

DEFAULT_DATA_PORT = 5755
MAX_HEADER_BYTES = 1 << 20
MAX_FRAMES_COUNT = 4096
MAX_LAYOUT_BYTES = 512 << 20
MAX_BLOCK_BYTES = 8 << 20
MAX_LAYOUT_DEPTH = 12
MAX_INT = (1 << 63) - 1


class WireError(UsidstreamError):
    """A message that this version cannot read. ``details['field']`` names the culprit."""


def bad_message(where: str, problem: str, **details: object) -> WireError:
    """Return the error for a message, or a part of one, that is not as it should be."""
    return WireError(f"{where}: {problem}", code="bad_message", details=details)
