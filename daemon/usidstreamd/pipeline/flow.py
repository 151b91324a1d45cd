"""What has flowed through one scan's data path, in numbers that any thread may read at any time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flow:
    """Counts since the scan was opened here, and what is under way.

    Parameters
    ----------
    positions
        Complete in every main, as of the last commit that was begun.
    held_bytes
        Raw bytes of distinct elements that are held, also from before it was opened here.
    written_bytes
        Of chunks, as they lie in the file.
    encoded_bytes, encode_s
        Raw bytes that were encoded, and the seconds that codec threads took.
    underway_bytes
        Raw bytes of tiles that are being encoded or written.
    backlog_bytes
        Of blocks that the next commit may have to journal.
    """

    positions: int = 0
    held_bytes: int = 0
    written_bytes: int = 0
    encoded_bytes: int = 0
    encode_s: float = 0.0
    underway_bytes: int = 0
    backlog_bytes: int = 0
