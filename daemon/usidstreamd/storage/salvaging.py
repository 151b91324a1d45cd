"""The child of `salvage`: ``python -m usidstreamd.storage.salvaging FILE TARGET SKIPPED``.

Copies groups, datasets and attributes one by one, chunked data as encoded chunks that were seen to
decode. Tells each object before it is touched, as a JSON line, so that the parent knows where a
crash or a hang was.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .coverage import COMPLETE
from .errors import is_no_space
from .ledger_records import STATUS_INTERRUPTED
from .live import LIBVER
from .seals import unseal
from .structure import COMPLETED
from .superblock_repair import RepairedView

MAX_UNREAD_COUNT = 100
"""Objects and chunks that are named; the rest is counted."""
STEP_EVERY_CHUNKS = 256
BITSHUFFLE_ID = 32008
BITSHUFFLE_OWN_COUNT = 3
"""Parameters that the filter puts before the caller's own when a dataset is made with it."""
_READ_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError)


class Salvage:
    """Copies one file into another.

    Attributes
    ----------
    chunks : int
        Chunks copied.
    unread : list of str
        What could not be.
    """

    def __init__(self, source: Any, target: Any, skipped: Iterable[str]) -> None:
        self._source = source
        self._target = target
        self._skipped = set(skipped)
        self._references: list[tuple[str, str, str]] = []
        self.chunks = 0
        self.unread: list[str] = []

    def run(self) -> None:
        """Copy everything; what cannot be read is noted and passed over."""
        _tell("object", "/")
        self._attributes(self._source, self._target)
        self._members(self._source, self._target)
        for holder, name, referred in self._references:
            if referred in self._target:
                self._target[holder].attrs[name] = self._target[referred].ref
        _mark(self._target)

    def _members(self, group: Any, copy: Any) -> None:
        names: list[str] = []
        with self._noting(group.name):
            names += group
        for name in names:
            path = f"{group.name.rstrip('/')}/{name}"
            if path in self._skipped:
                continue
            _tell("object", path)
            with self._noting(path):
                item = group[name]
                if isinstance(item, h5py.Group):
                    made = copy.create_group(name)
                    self._attributes(item, made)
                    self._members(item, made)
                else:
                    self._dataset(item, copy, name)

    def _dataset(self, dataset: Any, group: Any, name: str) -> None:
        ids = dataset.id
        creation = _creation_of(dataset)
        h5py.h5d.create(group.id, name.encode(), ids.get_type(), ids.get_space(), creation)
        made = group[name]
        self._attributes(dataset, made)
        if dataset.chunks is None:
            made[...] = dataset[...]
            return
        listed = self._listed_chunks(dataset)
        every = _every_chunk(dataset) if listed is None else listed
        failed = [offset for offset in every if not self._copy_chunk(dataset, made, offset)]
        if listed is None:
            self.unread.append(
                f"{dataset.name}: its chunk index is damaged; {len(failed)} chunks were never "
                "written or could not be read"
            )
        else:
            self.unread += [f"{dataset.name}: the chunk at {offset}" for offset in failed]

    def _listed_chunks(self, dataset: Any) -> list[tuple[int, ...]] | None:
        found: list[tuple[int, ...]] = []
        try:
            dataset.id.chunk_iter(lambda info: found.append(info.chunk_offset))
        except _READ_ERRORS:
            return None
        return found

    def _copy_chunk(self, dataset: Any, made: Any, offset: Sequence[int]) -> bool:
        """Copy a chunk that can be decoded; return whether it could."""
        if not self.chunks % STEP_EVERY_CHUNKS:
            _tell("step", self.chunks)
        window = tuple(slice(o, o + n) for o, n in zip(offset, dataset.chunks, strict=True))
        try:
            mask, payload = dataset.id.read_direct_chunk(offset)
            _ = dataset[window]
        except _READ_ERRORS:
            return False
        made.id.write_direct_chunk(offset, payload, filter_mask=mask)
        self.chunks += 1
        return True

    def _attributes(self, item: Any, made: Any) -> None:
        names: list[str] = []
        with self._noting(item.name):
            names += item.attrs
        for name in names:
            with self._noting(f"{item.name}@{name}"):
                value, kind = item.attrs[name], item.attrs.get_id(name)
                if isinstance(value, h5py.Reference):
                    self._references.append((item.name, name, self._source[value].name))
                else:
                    made.attrs.create(name, value, dtype=kind.dtype, shape=kind.shape)

    @contextlib.contextmanager
    def _noting(self, path: str) -> Iterator[None]:
        try:
            yield
        except _READ_ERRORS as error:
            if is_no_space(error):
                raise
            self.unread.append(f"{path}: {error}")


def _creation_of(dataset: Any) -> Any:
    """Return the property list for a dataset that holds the same encoded chunks.

    Bitshuffle would put its parameters in front of those that it has put there already, and the
    copy could not be decoded.
    """
    creation = dataset.id.get_create_plist()
    bitshuffle = creation.get_filter_by_id(BITSHUFFLE_ID)
    if bitshuffle is not None:
        flags, values = bitshuffle[:2]
        creation.remove_filter(BITSHUFFLE_ID)
        creation.set_filter(BITSHUFFLE_ID, flags, values[BITSHUFFLE_OWN_COUNT:])
    return creation


def _every_chunk(dataset: Any) -> Iterator[tuple[int, ...]]:
    steps = zip(dataset.shape, dataset.chunks, strict=True)
    return itertools.product(*(range(0, n, step) for n, step in steps))


def _mark(h5_file: Any) -> None:
    """Say of each scan that it was interrupted, and in its coverage what is not there."""
    found: list[Any] = []
    h5_file.visititems(lambda _name, item: found.append(item))
    groups = [item for item in found if isinstance(item, h5py.Group)]
    for group in groups:
        if COMPLETED in group:
            _clear_what_is_missing(group)
    for group in groups:
        if "acquisition_status" in group.attrs:
            states = [c[:] for c in found if _is_coverage_of(group, c)]
            n_complete = np.count_nonzero(np.all(np.equal(states, COMPLETE), axis=0))
            group.attrs.modify("acquisition_status", np.bytes_(STATUS_INTERRUPTED))
            group.attrs.modify("positions_complete", np.int64(n_complete if states else 0))


def _is_coverage_of(group: Any, item: Any) -> bool:
    return str(item.name).startswith(group.name + "/") and item.name.endswith("/" + COMPLETED)


def _clear_what_is_missing(group: Any) -> None:
    completed = group[COMPLETED]
    main = group.get(completed.attrs.get("main", ""))
    if main is None or main.chunks is None:
        return
    held = np.zeros(-(-main.shape[0] // main.chunks[0]), np.int64)

    def count(info: Any) -> None:
        held[info.chunk_offset[0] // main.chunks[0]] += 1

    main.id.chunk_iter(count)
    unseal(completed)
    is_whole = held == -(-main.shape[1] // main.chunks[1])
    completed[...] = np.where(np.repeat(is_whole, main.chunks[0])[: main.shape[0]], completed[:], 0)


def main(source: str, target: str, skipped: str) -> None:
    """Copy a file."""
    with contextlib.suppress(ImportError):
        importlib.import_module("hdf5plugin")
    try:
        with (
            RepairedView(Path(source)) as view,
            h5py.File(view, "r") as h5_source,
            h5py.File(target, "x", libver=LIBVER) as h5_target,
        ):
            work = Salvage(h5_source, h5_target, json.loads(skipped))
            work.run()
    except (OSError, RuntimeError) as error:
        if not is_no_space(error):
            raise
        _tell("full", str(error))
        return
    unread = work.unread[:MAX_UNREAD_COUNT]
    if len(work.unread) > len(unread):
        unread.append(f"and {len(work.unread) - len(unread)} more")
    _tell("end", {"chunks": work.chunks, "unread": unread})


def _tell(kind: str, told: Any) -> None:
    sys.stdout.write(json.dumps([kind, told]) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
