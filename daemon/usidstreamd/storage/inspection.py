"""A file held against what its ledger says. It is never changed.

`inspect` runs in a process of its own, for the file may be damaged, and HDF5 may crash or hang on
damaged metadata. The file is read through a view of it that is repaired, and without SWMR, which
would wait for the damage to heal. Everything is looked at that another writer of the file would
rely on: every object and attribute, every chunk index; and of chunks that the ledger does not know,
whether they can be read.

`inspect_indexes` is for a file that this process has just closed itself, where no crash lies
between. It reads only what HDF5 protects by checksums of its own, and so refuses rather than
follows when it is damaged: headers of mains and their chunk indexes. It leaves out the heap of
strings, which has none, and on which HDF5 can hang; and no chunk is decoded.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from usidstream.checksum import crc32

from . import structure
from .chunktable import ChunkTable, Entries
from .positioned import read_at
from .record import OpenRecord
from .superblock_repair import RepairedView

_Stored = npt.NDArray[Any]
_STORED_DTYPE = np.dtype(
    [("row", "<u8"), ("col", "<u8"), ("offset", "<u8"), ("nbytes", "<u8"), ("mask", "<u4")]
)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found.

    Parameters
    ----------
    problem
        The first damage; empty where the file can be written on.
    absent
        Chunks of the ledger that the file does not know, by their numbers in its table: written,
        but not flushed by HDF5 before its process died.
    moved
        Chunks that the file has elsewhere, whole: (number, offset). So are those that a recovery
        had put back when it was cut short.
    extra
        How many chunks the file has that the ledger does not know: they can be read, but were
        never promised.
    """

    problem: str
    absent: Sequence[int] = ()
    moved: Sequence[tuple[int, int]] = ()
    extra: int = 0

    @property
    def agrees(self) -> bool:
        """Whether every chunk of the ledger is in its place."""
        return not self.disagreement

    @property
    def disagreement(self) -> str:
        """What differs from the ledger, in words; empty where nothing does."""
        if self.problem or not (self.absent or self.moved):
            return self.problem
        return f"{len(self.absent)} chunks of the ledger are missing, {len(self.moved)} moved"


class DamageError(ValueError):
    """The file is not as a file is that its writer left."""


def inspect(path: Path, record: OpenRecord, chunks: ChunkTable) -> Inspection:
    """Compare a file with a ledger; any error that HDF5 raises is a problem of the file."""
    with contextlib.suppress(ImportError):
        importlib.import_module("hdf5plugin")
    try:
        with (
            path.open("rb") as file,
            RepairedView(path, chunks.end) as view,
            h5py.File(view, "r") as h5_file,
        ):
            structure.require_scan(h5_file, record.layout, record.scan_id)
            stored = {item.name: _stored(item) for item in _open_everything(h5_file)}
            found = _compare(h5_file, file.fileno(), stored, record, chunks)
            for main_path, extra in found.extra.items():
                _read(h5_file[main_path], extra)
        return found.inspection()
    except Exception as error:  # noqa: BLE001  # whatever it is, the file is not to be relied on
        return Inspection(f"{type(error).__name__}: {error}")


def inspect_indexes(path: Path, record: OpenRecord, chunks: ChunkTable) -> Inspection:
    """Compare the chunk indexes of a file that was just closed with a ledger."""
    try:
        with (
            path.open("rb") as file,
            h5py.File(path, "r", locking=False, rdcc_nbytes=0) as h5_file,
        ):
            structure.require_scan(h5_file, record.layout, record.scan_id)
            mains = [h5_file[name] for name in structure.main_paths(record.layout).values()]
            stored = {main.name: _stored(main) for main in mains}
            return _compare(h5_file, file.fileno(), stored, record, chunks).inspection()
    except Exception as error:  # noqa: BLE001  # as above
        return Inspection(f"{type(error).__name__}: {error}")


def _compare(
    h5_file: Any, fd: int, stored: dict[str, _Stored], record: OpenRecord, chunks: ChunkTable
) -> _Differences:
    """Compare listed chunks with a ledger; raise where they cannot be true."""
    _require_room(stored, os.fstat(fd).st_size)
    found = _Differences(fd)
    for number, main_path in enumerate(structure.main_paths(record.layout).values()):
        first = int(np.searchsorted(chunks.entries["main"], number))
        found.add(h5_file[main_path], stored[main_path], chunks.of_main(number), first)
    return found


def _open_everything(h5_file: Any) -> list[Any]:
    """Read every object's header and attributes; return the datasets that have chunks."""
    found = [h5_file]
    h5_file.visititems(lambda _name, item: found.append(item))
    for item in found:
        dict(item.attrs)
    return [item for item in found if getattr(item, "chunks", None) is not None]


def _stored(dataset: Any) -> _Stored:
    table = np.zeros(dataset.id.get_num_chunks(), _STORED_DTYPE)
    rows = iter(range(len(table)))

    def keep(info: Any) -> None:
        row, *rest = info.chunk_offset
        col = rest[0] if rest else 0
        table[next(rows)] = (row, col, info.byte_offset, info.size, info.filter_mask)

    dataset.id.chunk_iter(keep)
    return np.sort(table, order=("row", "col"))


def _require_room(stored: dict[str, _Stored], nbytes: int) -> None:
    """Raise unless every chunk lies in the file, and none in another."""
    if not stored:
        return
    every = np.concatenate(list(stored.values()))
    every = every[np.argsort(every["offset"])]
    ends = every["offset"] + every["nbytes"]
    if len(every) and ends.max() > nbytes:
        raise DamageError(f"a chunk ends at byte {ends.max()} of {nbytes}")
    if (ends[:-1] > every["offset"][1:]).any():
        raise DamageError("two chunks overlap")
    if every["mask"].any():
        raise DamageError("a chunk lacks a filter")


class _Differences:
    """Gathers how the chunk indexes of a file differ from a ledger."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.absent: list[int] = []
        self.moved: list[tuple[int, int]] = []
        self.extra: dict[str, _Stored] = {}

    def inspection(self) -> Inspection:
        """Return what was found."""
        return Inspection("", self.absent, self.moved, sum(map(len, self.extra.values())))

    def add(self, dataset: Any, stored: _Stored, entries: Entries, first: int) -> None:
        """Compare a main; its first entry has the number ``first``."""
        wanted, keys = _keys(entries, dataset), _keys(stored, dataset)
        at = np.searchsorted(keys, wanted)
        is_there = at < len(keys)
        is_there[is_there] = keys[at[is_there]] == wanted[is_there]
        there = stored[at[is_there]]
        differs = is_there.copy()
        differs[is_there] = (there["offset"] != entries["offset"][is_there]) | (
            there["nbytes"] != entries["nbytes"][is_there]
        )
        for number in np.flatnonzero(differs).tolist():
            self._compare(first + number, stored[at[number]], entries[number])
        self.absent += (first + np.flatnonzero(~is_there)).tolist()
        is_extra = np.ones(len(stored), np.bool_)
        is_extra[at[is_there]] = False
        self.extra[dataset.name] = stored[is_extra]

    def _compare(self, number: int, stored: Any, entry: Any) -> None:
        payload = read_at(self._fd, int(stored["nbytes"]), int(stored["offset"]))
        if len(payload) == entry["nbytes"] and crc32(payload) == entry["crc32"]:
            self.moved.append((number, int(stored["offset"])))
        else:  # the file has another version of it, which was never promised
            self.absent.append(number)


def _keys(table: _Stored | Entries, dataset: Any) -> npt.NDArray[np.uint64]:
    n_across = -(-dataset.shape[1] // dataset.chunks[1])
    keys: npt.NDArray[np.uint64] = (
        table["row"] // dataset.chunks[0] * n_across + table["col"] // dataset.chunks[1]
    )
    return keys


def _read(dataset: Any, extra: _Stored) -> None:
    rows, cols = dataset.chunks
    for row, col in zip(extra["row"].tolist(), extra["col"].tolist(), strict=True):
        dataset[row : row + rows, col : col + cols]
