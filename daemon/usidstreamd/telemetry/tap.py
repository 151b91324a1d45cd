"""Blocks that were just placed, kept for a moment for whoever makes previews of them.

The socket thread offers, the telemetry thread takes, some times a second. What is kept is bounded
in bytes and number, whatever comes: beyond that, and where the last taking found that there is no
time for more, only every so manyth block is kept, so that what is left out is spread evenly.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

from ..storage import JournalBlock

MAX_HELD_BYTES = 8 << 20
MAX_HELD_BLOCKS_COUNT = 4096
MAX_STRIDE_COUNT = 1024


@dataclass(slots=True)
class Taken:
    """What came since the last taking.

    Parameters
    ----------
    blocks
        Those that were kept, in order.
    skipped
        Rows of the others, by the main's number.
    offered_bytes
        Of all of them.
    """

    blocks: list[JournalBlock] = field(default_factory=list)
    skipped: Counter[int] = field(default_factory=Counter)
    offered_bytes: int = 0


class Tap:
    """The blocks of one scan, of the mains that are watched."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mains: frozenset[int] = frozenset()
        self._taken = Taken()
        self._held_bytes = 0
        self._stride = 1
        self._turn = 0

    def watch(self, mains: frozenset[int]) -> None:
        """Keep blocks of these mains from now on."""
        self._mains = mains

    def offer(self, block: JournalBlock, is_new: bool) -> None:
        """Take a block that was placed.

        Parameters
        ----------
        is_new
            Whether none of its elements was there before.
        """
        if block.main not in self._mains:
            return
        nbytes = len(block.data)
        with self._lock:
            taken = self._taken
            taken.offered_bytes += nbytes
            self._turn += 1
            if is_new and self._has_room(nbytes):
                taken.blocks.append(block)
                self._held_bytes += nbytes
            else:
                taken.skipped[block.main] += block.rows

    def _has_room(self, nbytes: int) -> bool:
        n_held = len(self._taken.blocks)
        return (
            self._turn % self._stride == 0
            and n_held < MAX_HELD_BLOCKS_COUNT
            # One is always kept: a block may be larger than all of it.
            and (not n_held or self._held_bytes + nbytes <= MAX_HELD_BYTES)
        )

    def take(self) -> Taken:
        """Take what came since the last call."""
        with self._lock:
            taken, self._taken, self._held_bytes = self._taken, Taken(), 0
        return taken

    def thin_out(self, offered_bytes: int, affordable_bytes: float) -> None:
        """Keep as many of the blocks to come as can be afforded, if they come as these did."""
        most = max(1.0, min(affordable_bytes, MAX_HELD_BYTES))
        self._stride = min(MAX_STRIDE_COUNT, max(1, -(-offered_bytes // int(most))))
