"""Copies the measurements of one file into another: every chunk with the bytes that are stored.

Objects that are linked twice stay one object. Datasets that a measurement refers to but that stand
elsewhere in its file are copied into it. Knows HDF5's objects and links, and where a measurement
goes; never what its data mean.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import h5py

from ..h5usid import assign_group_index, get_all_main
from ..h5usid.copying import copied_attributes
from ..verify.chunks import holds_all
from .references import copy_reference_data, copy_references, holds_references
from .report import Merged, MergeReport
from .sources import Measurement, SourceFile

MERGED_FROM_FILE, MERGED_FROM_GROUP = "merged_from_file", "merged_from_group"
_PLAIN_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}


class SourceCopy:
    """Copies the measurements of a file.

    Parameters
    ----------
    source
    h5_target : h5py.File
    report
        Gets what was done.
    step
        Is called after each chunk.
    """

    def __init__(
        self, source: SourceFile, h5_target: Any, report: MergeReport, step: Callable[[], None]
    ) -> None:
        self._source = source
        self._h5_source = source.h5_file
        self._h5_target = h5_target
        self._report = report
        self._step = step
        self._copies: dict[int, Any] = {}  # by the address of an object, its copy
        self._referring: deque[tuple[Any, Any, Any]] = deque()  # object, copy, its measurement
        self._soft_links: list[tuple[Any, str, str]] = []
        self._new_names: dict[str, str] = {}

    def run(self) -> None:
        """Copy all; what refers to what is put right when all copies are there."""
        made = []
        for measurement in self._source.measurements:
            name = assign_group_index(self._h5_target, measurement.series)
            self._new_names[measurement.name] = name
            old = self._h5_source[measurement.name]
            made.append((measurement, self._copy_group(old, self._h5_target, name, None)))
        while self._referring:
            self._link(*self._referring.popleft())
        for group, name, path in self._soft_links:
            group[name] = h5py.SoftLink(self._new_path(path))
        for measurement, group in made:
            self._add_file_attributes(group)
            self._tell(measurement, group)

    def _add_file_attributes(self, group: Any) -> None:
        """Keep what a file says of itself: its writer put it there for each measurement."""
        copied = copied_attributes(self._h5_source, group, keep_refs=False)
        own = set(group.attrs)
        for name in copied.keys() - own:
            copied[name](name)
        if left_out := [name for name in self._h5_source.attrs if name not in copied.keys() - own]:
            names = ", ".join(left_out)
            self._note(f"attributes of the file that {group.name} has no place for: {names}")

    def _copy_group(self, item: Any, parent: Any, name: str, top: Any) -> Any:
        made = parent.create_group(name)
        self._register(item, made, made if top is None else top)
        for child in item:
            self._copy_link(item, child, made, made if top is None else top)
        return made

    def _copy_link(self, group: Any, name: str, made: Any, top: Any) -> None:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.SoftLink):
            self._soft_links.append((made, name, link.path))
        elif isinstance(link, h5py.ExternalLink):
            self._note(f"{group.name}/{name}: leads to another file, {link.filename}; not merged")
        else:
            self._copy_object(group[name], made, name, top)

    def _copy_object(self, item: Any, made: Any, name: str, top: Any) -> None:
        known = self._copies.get(address_of(item))
        if known is not None:
            made[name] = known
        elif isinstance(item, h5py.Group):
            self._copy_group(item, made, name, top)
        elif isinstance(item, h5py.Dataset):
            self._copy_dataset(item, made, name, top)
        else:  # a type with a name
            made.copy(item, made, name)

    def _copy_dataset(self, item: Any, parent: Any, name: str, top: Any) -> Any:
        if item.chunks is not None and _can_be_made_alike(item):
            made = self._copy_chunks(item, parent, name)
        else:
            made = self._copy_whole(item, parent, name)
        self._register(item, made, top)
        return made

    def _copy_chunks(self, item: Any, parent: Any, name: str) -> Any:
        ids = item.id
        kind, space, layout = ids.get_type().copy(), ids.get_space(), ids.get_create_plist()
        made = h5py.h5d.create(parent.id, name.encode(), kind, space, layout)
        chunks: list[tuple[int, tuple[int, ...]]] = []
        ids.chunk_iter(lambda info: chunks.append((info.byte_offset or 0, info.chunk_offset)))
        for _address, offset in sorted(chunks):  # as they lie on the disk
            mask, payload = ids.read_direct_chunk(offset)
            made.write_direct_chunk(offset, payload, filter_mask=mask)
            self._count(1, len(payload))
        return parent[name]

    def _copy_whole(self, item: Any, parent: Any, name: str) -> Any:
        """Let HDF5 copy a dataset in one step: it takes chunks as they are, too."""
        parent.copy(item, parent, name, without_attrs=True)
        if item.chunks is not None:
            self._count(int(item.id.get_num_chunks()), int(item.id.get_storage_size()))
        return parent[name]

    def _count(self, n_chunks: int, nbytes: int) -> None:
        self._report.chunks += n_chunks
        self._report.nbytes += nbytes
        self._step()

    def _register(self, item: Any, made: Any, top: Any) -> None:
        self._copies[address_of(item)] = made
        for name, create in copied_attributes(item, made, keep_refs=False).items():
            create(name)
        self._referring.append((item, made, top))

    def _link(self, item: Any, made: Any, top: Any) -> None:
        def copy_of(target: Any) -> Any:
            return self._copy_of(target, item, top)

        copy_references(item, made, copy_of)
        if isinstance(item, h5py.Dataset) and holds_references(item.id.get_type()):
            copy_reference_data(item, made, copy_of)

    def _copy_of(self, target: Any, item: Any, top: Any) -> Any:
        """Return the copy of an object that another refers to; None if it has none."""
        known = self._copies.get(address_of(target))
        if known is not None:
            return known
        if not isinstance(target, h5py.Dataset):
            self._note(f"{item.name}: refers to {target.name}, which is in no measurement")
            return None
        base = name = str(target.name or "dataset").rpartition("/")[2]
        number = 0
        while name in top:
            number += 1
            name = f"{base}_{number}"
        return self._copy_dataset(target, top, name, top)

    def _new_path(self, path: str) -> str:
        if not path.startswith("/"):
            return path
        first, slash, rest = path[1:].partition("/")
        if first not in self._new_names:
            self._note(f"a link to {path} leads nowhere now")
        return f"/{self._new_names.get(first, first)}{slash}{rest}"

    def _tell(self, measurement: Measurement, group: Any) -> None:
        if MERGED_FROM_FILE not in group.attrs:  # else it comes from a session, and says whence
            group.attrs[MERGED_FROM_FILE] = self._source.path.name
            group.attrs[MERGED_FROM_GROUP] = f"/{measurement.name}"
        mains = tuple(str(main.name) for main in get_all_main(group))
        self._report.merged.append(
            Merged(
                str(self._source.path),
                f"/{measurement.name}",
                group.name,
                measurement.scan_id,
                mains,
            )
        )

    def _note(self, text: str) -> None:
        self._report.notes.append(f"{self._source.path}: {text}")


def address_of(item: Any) -> int:
    """Return where an object's header stands in its file: the same for all links to it."""
    return int(h5py.h5o.get_info(item.id).addr)


def _can_be_made_alike(dataset: Any) -> bool:
    """Whether an empty dataset of the same kind takes the chunks of a dataset.

    Not where chunks refer to what is stored elsewhere. And not with the filters of plugins: told to
    make a dataset like another, some (bitshuffle) change their parameters a second time.
    """
    kind = dataset.id.get_type()
    if holds_references(kind) or not holds_all(kind):
        return False
    plist = dataset.id.get_create_plist()
    return all(plist.get_filter(n)[0] in _PLAIN_FILTERS for n in range(plist.get_nfilters()))
