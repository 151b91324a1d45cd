"""What tests of journal and recovery share: a scan on the disk without a daemon, and its death."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from support.storing import CREATED, SCAN_ID, chunks_of
from usidstream.checksum import crc32
from usidstream.layout import ScanLayout
from usidstreamd.storage import MainPlan, OpenRecord, structure
from usidstreamd.storage.address import AddressedWriter, is_sealed
from usidstreamd.storage.chunktable import ChunkAddress
from usidstreamd.storage.files import sync_file
from usidstreamd.storage.live import LIBVER
from usidstreamd.storage.scan_journal import ScanJournal
from usidstreamd.storage.template import save_template


class JournalledScan:
    """A scan's file with ledger and template, written as the daemon would."""

    def __init__(self, data_dir: Path, layout: ScanLayout, plans: Mapping[str, MainPlan]) -> None:
        self.record = OpenRecord(SCAN_ID, data_dir / "scan.h5", layout, plans, CREATED)
        self.path, self.directory = self.record.path, self.record.journal
        self.directory.mkdir()
        self.record.write()
        ScanJournal.create(self.directory)
        with h5py.File(self.path, "x", libver=LIBVER) as h5_file:
            structure.build(h5_file, layout, plans, scan_id=SCAN_ID, created=CREATED)
        sync_file(self.path)
        save_template(self.path, self.directory)

    def open(self) -> None:
        self.journal = ScanJournal(self.directory, self.path, 0)
        self.h5_file = h5py.File(self.path, "r+", libver=LIBVER, locking=False, rdcc_nbytes=0)
        self.h5_file.swmr_mode = True
        self.fd = os.open(self.path, os.O_RDONLY)
        self.writer = AddressedWriter(self.h5_file.id, self.fd)

    def write(
        self, main: str, data: npt.NDArray[Any], start: int = 0, stop: int | None = None
    ) -> list[ChunkAddress]:
        """Write the chunks of rows start to stop; nothing of it is durable."""
        number = [m.name for m in self.record.layout.mains].index(main)
        plan = self.record.plans[main]
        dataset_id = self.h5_file[structure.main_paths(self.record.layout)[main]].id
        addresses = []
        for row, col, payload in chunks_of(data, plan, start, stop):
            offset = self.writer.write(dataset_id, (row, col), payload, is_sealed=is_sealed(plan))
            addresses.append(ChunkAddress(number, row, col, offset, len(payload), crc32(payload)))
        return addresses

    def store(self, main: str, data: npt.NDArray[Any], *rows: int) -> list[ChunkAddress]:
        """Write chunks and make them durable."""
        addresses = self.write(main, data, *rows)
        self.journal.commit(addresses, [], {})
        return addresses

    def close(self) -> None:
        """Close everything as a daemon that stops does."""
        self.h5_file.close()
        os.close(self.fd)
        self.journal.close(is_clean=True)


def read_main(path: Path, layout: ScanLayout, main: str) -> npt.NDArray[Any]:
    with h5py.File(path, "r") as h5_file:
        return h5_file[structure.main_paths(layout)[main]][:]


def read_states(path: Path, layout: ScanLayout, main: str) -> npt.NDArray[np.uint8]:
    with h5py.File(path, "r") as h5_file:
        group = h5_file[structure.main_paths(layout)[main]].parent
        return group["completed_positions"][:]


def damage_index(path: Path) -> int:
    """Overwrite what stands behind each signature of a chunk index; return how many there were."""
    content = bytearray(path.read_bytes())
    hits = 0
    for signature in (b"FADB", b"EADB", b"FAHD", b"EAHD"):
        at = content.find(signature)
        while at >= 0:
            content[at + 6 : at + 14] = b"\xa5" * 8
            hits += 1
            at = content.find(signature, at + 4)
    path.write_bytes(content)
    return hits


def files_of(directory: Path) -> dict[str, bytes]:
    """Return all files below a directory by their names, locks left out."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


# ---------------------------------------------------------------- dying


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_a_child(work: Callable[[], object]) -> bool:
    """Run something in a forked process; return whether it came to its end."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    _pid, ended = os.waitpid(pid, 0)
    if os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGKILL:
        return False
    assert ended == 0, f"the child ended with {ended}"
    return True


_OPERATIONS = (
    "fdatasync", "fsync", "ftruncate", "link", "mkdir", "rename", "replace", "rmdir", "sendfile",
    "unlink", "write", "writev",
)  # fmt: skip


def die_before(number: int, others: Iterable[tuple[Any, str]] = ()) -> None:
    """Let this process die before its file operation of a number, counted from 1.

    ``others`` are further functions that count as one: ``(owner, name)``.
    """
    left = [number]

    def counted(function: Any) -> Any:
        def call(*args: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                die()
            return function(*args, **more)

        return call

    for owner, name in [*((os, name) for name in _OPERATIONS), *others]:
        with suppress(AttributeError):
            setattr(owner, name, counted(getattr(owner, name)))
