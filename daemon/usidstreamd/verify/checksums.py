"""Whether the stored bytes of a main's chunks are those that were written.

Two may know their checksums: ``chunk_checksums`` beside the main, once the scan has ended, and the
ledger, while the scan's journal stands. Both are believed only when they are whole themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from usidstream.checksum import crc32

from ..storage.chunktable import ChunkTable
from ..storage.errors import StorageError
from ..storage.files import journal_dir
from ..storage.ledger import LEDGER_NAME, replay
from ..storage.plausible import require_plausible
from ..storage.record import OpenRecord
from ..storage.seals import (
    Checksums,
    checksums_beside,
    checksums_of,
    content_crc,
    sealed_crc,
)
from ..storage.structure import (
    CHECKSUM_COLUMNS,
    COMPLETED,
    PARTIAL_RANGES,
    chunk_grid,
    covered_main,
    main_paths,
)
from .chunks import StoredChunks
from .report import READ_ERRORS, MainReport, Report


@dataclass(frozen=True, slots=True)
class _Source:
    """Who says what the chunks of a main should be."""

    name: str
    table: Checksums


class MainChecksums:
    """The checksums of one main's chunks.

    Parameters
    ----------
    main
        Counts what is compared.
    shape, chunks
        Of the dataset.
    sources
        At least one.
    """

    def __init__(
        self,
        main: MainReport,
        shape: tuple[int, int],
        chunks: tuple[int, int],
        sources: Sequence[_Source],
    ) -> None:
        self._main = main
        self._shape = shape
        self._chunks = chunks
        self._sources = sources

    def missing(self, stored: StoredChunks) -> Iterator[str]:
        """Yield what is wrong with which chunks are stored."""
        is_stored = np.zeros(chunk_grid(self._shape, self._chunks), np.bool_)
        places = stored.offsets // np.array(self._chunks)
        is_stored[places[:, 0], places[:, 1]] = True
        for source in self._sources:
            for band, across in np.argwhere((source.table[..., 1] > 0) & ~is_stored).tolist():
                where = self._where(band * self._chunks[0], across * self._chunks[1])
                yield f"{where} is missing, though {source.name} has it"

    def faults(self, offset: tuple[int, ...], address: int, stored: bytes) -> Iterator[str]:
        """Yield what is wrong with a chunk's stored bytes; ``address`` is where they lie."""
        place = (offset[0] // self._chunks[0], offset[1] // self._chunks[1])
        known = [source for source in self._sources if source.table[(*place, 1)]]
        if not known:
            return
        self._main.checksums = (self._main.checksums or 0) + 1
        crc = crc32(stored)
        for source in known:
            wanted, nbytes = source.table[place].tolist()
            if (wanted, nbytes) != (crc, len(stored)):
                yield (
                    f"{self._where(*offset)} is damaged: its {len(stored)} bytes from byte "
                    f"{address} of the file on do not match {source.name}"
                )

    def _where(self, row: int, col: int) -> str:
        row_end, col_end = row + self._chunks[0], col + self._chunks[1]
        rows = f"rows {row} to {min(row_end, self._shape[0])}"
        cols = f"columns {col} to {min(col_end, self._shape[1])}"
        return f"the chunk at row {row}, column {col} ({rows}, {cols})"


def load_checksums(h5_file: Any, path: Path, report: Report) -> Mapping[str, MainChecksums]:
    """Return, by the paths of mains, the checksums of those that have any."""
    ledger = _ledger(path, report)
    found: dict[str, MainChecksums] = {}
    for main in report.mains:
        dataset = h5_file[main.path]
        if dataset.chunks is None:
            continue
        try:
            sources = [*_beside(dataset, report), *_in_ledger(dataset, ledger)]
        except READ_ERRORS as error:
            report.fault(main.path, f"its checksums cannot be read: {error}")
            continue
        if sources:
            main.checksums = 0
            found[main.path] = MainChecksums(main, dataset.shape, dataset.chunks, sources)
        else:
            report.note(main.path, "no checksums of its chunks are held")
    return found


def _beside(dataset: Any, report: Report) -> Iterator[_Source]:
    """Check what is sealed beside a main, and yield its table of checksums if it is whole."""
    group = dataset.parent
    if not covered_main(group, dataset):
        return
    for name in (COMPLETED, PARTIAL_RANGES):
        if name in group:
            _is_whole(group[name], report)
    table = checksums_beside(group)
    if table is None or sealed_crc(table) is None or not _is_whole(table, report):
        return
    shape = (*chunk_grid(dataset.shape, dataset.chunks), len(CHECKSUM_COLUMNS))
    if table.shape != shape:
        report.fault(table.name, f"has shape {table.shape} instead of {shape}")
        return
    yield _Source(table.name, table[:])


def _is_whole(dataset: Any, report: Report) -> bool:
    wanted = sealed_crc(dataset)
    if wanted is None or content_crc(dataset) == wanted:
        return True
    report.fault(dataset.name, "is damaged: its content does not match its content_crc32")
    return False


def _ledger(path: Path, report: Report) -> tuple[OpenRecord, ChunkTable] | None:
    journal = journal_dir(path)
    if not (journal / LEDGER_NAME).exists():
        return None
    try:
        record, state = OpenRecord.read(journal), replay(journal / LEDGER_NAME)
        require_plausible(record, state, journal / LEDGER_NAME)
        return record, state.chunks
    except StorageError as error:
        report.note(str(journal), f"the ledger is not compared: {error.message}")
        return None


def _in_ledger(dataset: Any, ledger: tuple[OpenRecord, ChunkTable] | None) -> Iterator[_Source]:
    if ledger is None:
        return
    record, chunks = ledger
    paths = list(main_paths(record.layout).values())
    if dataset.name in paths:
        entries = chunks.of_main(paths.index(dataset.name))
        yield _Source("the ledger", checksums_of(entries, dataset.shape, dataset.chunks))
