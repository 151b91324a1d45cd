"""The data directory's disk as the daemon sees it: looked at now and then, told when it runs short.

What is too little is decided by `storage.SpaceWatch`; here are the clock, the operator's log, and
the error that clients are told. Whoever asks gives the time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from usidstream.errors import UsidstreamError

from . import storage
from .logs import get_logger

log = get_logger()

SPACE_POLL_INTERVAL_S = 0.02
"""Credit that is granted between two looks is not counted by the first: 20 MiB at 1 GiB/s."""
LONGEST_POLL_INTERVAL_S = 0.1
"""A disk is looked at less often while it has room for longer than that at `FILL_BYTES_PER_S`."""
FILL_BYTES_PER_S = 1 << 30


class Disk:
    """The disk of one data directory.

    Parameters
    ----------
    data_dir
        Any directory on it.
    reserve_bytes
        The operator's reserve.

    Attributes
    ----------
    shortage
        What clients are told while it is short; else None.
    """

    def __init__(self, data_dir: Path, reserve_bytes: int) -> None:
        self._data_dir = data_dir
        self._watch = storage.SpaceWatch(data_dir, reserve_bytes)
        self._due_s = 0.0
        self.shortage: UsidstreamError | None = None

    @property
    def free_bytes(self) -> int:
        """What was free at the last look."""
        return self._watch.free_bytes

    def change_reserve(self, reserve_bytes: int) -> None:
        """Keep another reserve from the next look on."""
        self._watch.reserve_bytes = reserve_bytes

    def is_due(self, now: float) -> bool:
        """Whether it is time to look again."""
        return now >= self._due_s

    def look(self, now: float, promised_bytes: int) -> bool:
        """Look at what is free; return whether it has become short, or is short no more.

        Parameters
        ----------
        promised_bytes
            What may still be written without asking.
        """
        unseen = ""
        try:
            free = storage.free_bytes(self._data_dir)
        except storage.StorageError as error:  # taken away, say: as good as full
            free, unseen = 0, error.message
        has_changed = self._watch.look(free, promised_bytes)
        self._due_s = now + self._until_next_s()
        if not has_changed:
            return False
        self.shortage = self._watch.error(unseen) if self._watch.is_short else None
        if self.shortage is not None:
            log.warning("disk_short", code=self.shortage.code, problem=self.shortage.message)
        else:
            log.info("disk_has_room", free_bytes=free)
        return True

    @property
    def _spare_bytes(self) -> int:
        return self._watch.free_bytes - self._watch.needed_bytes

    def _until_next_s(self) -> float:
        filled_s = self._spare_bytes / FILL_BYTES_PER_S
        return min(LONGEST_POLL_INTERVAL_S, max(SPACE_POLL_INTERVAL_S, filled_s))

    def left_s(self, bytes_per_s: float) -> float | None:
        """Return the seconds until it is short, at a rate; None while nothing is written."""
        if bytes_per_s <= 0.0:
            return None
        return max(0, self._spare_bytes) / bytes_per_s

    def describe(self) -> dict[str, Any]:
        """Tell its standing as plain values, for status."""
        return {
            "disk_free_bytes": self._watch.free_bytes,
            "disk_needed_bytes": self._watch.needed_bytes,
            "shortage": "" if self.shortage is None else self.shortage.message,
        }
