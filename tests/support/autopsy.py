"""What a dead daemon left on the disk: when it died, and how the next one went on.

It reads ledgers and logs, and changes nothing.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

from support.daemon import Daemon
from usidstreamd.storage.chunktable import Entries, unpack_entries
from usidstreamd.storage.errors import StorageError
from usidstreamd.storage.ledger import LEDGER_NAME, replay
from usidstreamd.storage.ledger_records import packed_entries
from usidstreamd.storage.record import OpenRecord, find_journals
from usidstreamd.storage.records import RecordReader
from usidstreamd.storage.superblock import consistency_flags

_RECOVERED = re.compile(r'"event": "file_recovered", .*?"how": "(in place|rebuilt)"')
INDEX_SIGNATURE = b"FADB"
GARBAGE_BYTES = 512
COMPARISON_TIMEOUT_S = 1.0
POLL_INTERVAL_S = 0.005


@dataclass(frozen=True)
class Corpse:
    """A scan as its daemon left it.

    Parameters
    ----------
    record
        None where the journal was gone, or going: the scan had ended.
    ends
        Whether the end had been decided.
    recoveries
        How often it had been recovered, to the end.
    is_open
        Whether a daemon had it open; one that died while it recovered had not, yet.
    """

    record: OpenRecord | None
    ends: bool = False
    recoveries: int = 0
    is_open: bool = False

    @property
    def moment(self) -> str:
        """When its daemon died, unless that was recovering."""
        if self.record is None:
            return "ended"
        return "finalise" if self.ends else "acquiring"


def examine(data_dir: Path, scan_id: str) -> Corpse:
    """Look at what a daemon that was killed has left of a scan."""
    for found in find_journals(data_dir):
        if isinstance(found, OpenRecord) and found.scan_id == scan_id:
            try:
                state = replay(found.journal / LEDGER_NAME)
            except StorageError:
                if (found.journal / LEDGER_NAME).exists():
                    raise
                break  # the journal was being removed: its record goes last
            # There is none for a moment while a file made anew takes its place.
            is_there = found.path.exists()
            is_open = is_there and not state.is_closed and consistency_flags(found.path) != 0
            return Corpse(found, state.finalise is not None, state.recoveries, is_open)
    return Corpse(None)


def recoveries_told(log: str) -> Counter[str]:
    """Count the recoveries that a daemon has told of, by their kind."""
    return Counter(_RECOVERED.findall(log))


def damage_index(path: Path) -> int:
    """Overwrite part of each data block of a chunk index with garbage; return how many it hit."""
    content = path.read_bytes()
    hits, at = 0, content.find(INDEX_SIGNATURE)
    with path.open("r+b") as file:
        while at >= 0:
            file.seek(at + len(INDEX_SIGNATURE) + 2)  # past signature, version and client
            file.write(b"\xa5" * GARBAGE_BYTES)
            hits, at = hits + 1, content.find(INDEX_SIGNATURE, at + 1)
    return hits


def wait_for_comparisons(daemon: Daemon, count: int) -> None:
    """Wait until a daemon has had files compared with their ledgers: it now puts them right.

    A rebuilt file is compared, too; where there is nothing to compare, the wait is short.
    """
    process = psutil.Process(daemon.pid)
    deadline = time.monotonic() + COMPARISON_TIMEOUT_S
    for _ in range(count):
        for begins in (True, False):
            while bool(process.children()) != begins and time.monotonic() < deadline:
                time.sleep(POLL_INTERVAL_S)


def recorded_chunks(journal: Path) -> Entries:
    """Return every address that a ledger holds, also those that a later one replaced."""
    packed = map(packed_entries, RecordReader(journal / LEDGER_NAME))
    return unpack_entries(b"".join(entries for entries in packed if entries is not None))
