"""A scan's file made anew, from its empty template and the chunks that its ledger knows.

The damaged file is only read, as bytes at the ledger's addresses: whatever is wrong with its
metadata does not matter. A chunk whose bytes are not what they were when they became durable is
left out and told.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from . import structure
from .address import AddressedWriter, is_sealed
from .chunkbytes import PROGRESS_EVERY_CHUNKS, Progress, no_progress, read_chunk, reading
from .chunktable import ChunkTable, Entries
from .coverage import Coverage, CoverageUpdate
from .datasets import LiveMain
from .errors import StorageError, storage_error
from .files import remove, sync_file
from .held import held_coverage
from .ledger import LedgerState
from .live import LIBVER, close_firmly
from .record import OpenRecord
from .space import COMMITS_KEEP_FREE_BYTES
from .template import TEMPLATE_NAME

INDEX_BYTES_PER_CHUNK = 64
"""More than an entry of any chunk index takes."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a new file holds.

    Parameters
    ----------
    chunks
        With their addresses in the new file.
    lost
        Those that are not as they were written, and could not be taken over.
    """

    chunks: ChunkTable
    lost: Entries


def require_room_for_rebuild(directory: Path, journal: Path, chunks: ChunkTable) -> None:
    """Raise ``no_space_for_rebuild`` unless a directory's disk has room for a second file."""
    needed = int(chunks.entries["nbytes"].sum(dtype=np.int64)) + COMMITS_KEEP_FREE_BYTES
    needed += len(chunks) * INDEX_BYTES_PER_CHUNK
    try:
        needed += (journal / TEMPLATE_NAME).stat().st_size
        free = shutil.disk_usage(directory).free
    except OSError as error:
        raise storage_error("prepare to rebuild in", directory, error) from error
    if free < needed:
        raise StorageError(
            f"rebuilding the file of {journal.name} needs {needed >> 20} MiB in {directory}, where "
            f"{free >> 20} MiB are free",
            code="no_space_for_rebuild",
            hint="Nothing was changed. Free space, or use 'usidstreamd recover --into DIR'.",
            details={"journal": str(journal), "needed_bytes": needed, "free_bytes": free},
        )


def rebuild(
    source: Path,
    target: Path,
    record: OpenRecord,
    state: LedgerState,
    progress: Progress,
) -> Rebuilt:
    """Make a scan's file anew; on return it is closed and on the disk, under a name of its own.

    Parameters
    ----------
    source
        The damaged file.
    target
        Replaced, if it exists: what a rebuild that was interrupted left.
    record, state
        The scan, and what its ledger says.

    Raises
    ------
    StorageError
        It could not be made; ``target`` is not there.
    """
    try:
        shutil.copyfile(record.journal / TEMPLATE_NAME, target)
        rebuilt = write_chunks(source, target, record, state.chunks, progress)
        coverage = held_coverage(record.layout, record.plans, rebuilt.chunks, state.partial)
        with writing(target) as h5_file:
            describe(h5_file, record, coverage, state.recoveries + 1)
        sync_file(target)
    except BaseException as error:
        remove(target)
        if isinstance(error, OSError | RuntimeError):
            raise storage_error("rebuild", target, error) from error
        raise
    return rebuilt


def write_chunks(
    source: Path,
    target: Path,
    record: OpenRecord,
    chunks: ChunkTable,
    progress: Progress = no_progress,
) -> Rebuilt:
    """Write chunks into a file that is closed and whole, from the bytes of a file that may not be.

    Raises
    ------
    OSError, RuntimeError
        As h5py raises them.
    """
    with reading(source) as source_fd, reading(target) as fd, writing(target) as h5_file:
        mains = [
            (h5_file[main_path].id, is_sealed(record.plans[name]))
            for name, main_path in structure.main_paths(record.layout).items()
        ]
        return _copy_chunks(source_fd, AddressedWriter(h5_file.id, fd), mains, chunks, progress)


def describe(
    h5_file: Any, record: OpenRecord, coverage: Mapping[str, Coverage], recoveries: int
) -> None:
    """Write the coverage of all mains, that the scan goes on, and how often it was recovered."""
    h5_file.flush()
    for name, main_path in structure.main_paths(record.layout).items():
        held = coverage[name]
        main = LiveMain(h5_file, main_path)
        main.unseal()
        main.write_coverage(CoverageUpdate(0, held.states, held.partial))
    measurement = h5_file[structure.measurement_path(record.layout)]
    structure.say_acquiring(measurement)
    measurement.attrs.modify("recoveries", np.int64(recoveries))


@contextmanager
def writing(path: Path) -> Iterator[Any]:
    """Open an HDF5 file that is whole, to write it while nobody else does."""
    h5_file = h5py.File(path, "r+", libver=LIBVER, locking=False, rdcc_nbytes=0)
    try:
        yield h5_file
    except BaseException:
        with contextlib.suppress(OSError, RuntimeError):  # what is being raised is the cause
            close_firmly(h5_file)
        raise
    close_firmly(h5_file)


def _copy_chunks(
    source_fd: int,
    writer: AddressedWriter,
    mains: Sequence[tuple[Any, bool]],
    chunks: ChunkTable,
    progress: Progress,
) -> Rebuilt:
    entries = chunks.entries[np.argsort(chunks.entries["offset"], kind="stable")]
    is_lost = np.zeros(len(entries), np.bool_)
    for number, (main, nbytes, row, col, offset, crc, _flags) in enumerate(entries.tolist()):
        dataset_id, sealed = mains[main]
        payload = read_chunk(source_fd, offset, nbytes, crc)
        if payload is not None:
            address = writer.write(dataset_id, (row, col), payload, is_sealed=sealed)
            entries["offset"][number] = address
        else:
            is_lost[number] = True
        if not number % PROGRESS_EVERY_CHUNKS:
            progress(number, len(entries))
    progress(len(entries), len(entries))
    return Rebuilt(ChunkTable([entries[~is_lost]]), entries[is_lost])
