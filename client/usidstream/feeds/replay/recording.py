"""A file's mains as one scan: which belong together, their names, and their way to a Scan."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Protocol

from ...layout import ScanLayout
from ...layout.fields import at
from . import nsid, usid
from .carry import STRUCTURAL, Luggage
from .errors import SourceError
from .model import Piece, SourceMain

BLOCK_BYTES = 2**20
"""Data read and sent at a time; a single chunk or row may be larger."""

Progress = Callable[[int, int], None]


class WritableScan(Protocol):
    """What a replay needs of a client's Scan."""

    def write_block(self, row: int, block: Any, *, col: int = 0, main: str | None = None) -> None:
        """Write a rectangle."""

    def write_at(self, rows: Any, block: Any, *, main: str | None = None) -> None:
        """Write scattered positions."""


@dataclass(frozen=True)
class Recording:
    """The scan that a file holds.

    Parameters
    ----------
    layout
        What the scan is, in our order of positions.
    notes
        What could not be carried as it stood, a sentence each. Attributes about the writing of the
        old file are carried as ``source_<name>``.
    """

    layout: ScanLayout
    notes: tuple[str, ...]
    mains: tuple[SourceMain, ...]

    def pieces(self, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[str, Piece]]:
        """Yield all data with the main's name, the mains in turns, so that positions fill together.

        Raises
        ------
        SourceError
            A part of the file cannot be read.
        """
        sources = [main.pieces(block_bytes) for main in self.mains]
        for turn in zip_longest(*sources):
            for main, piece in zip(self.mains, turn, strict=True):
                if piece is not None:
                    yield main.layout.name, piece

    def send(self, scan: WritableScan, *, progress: Progress | None = None) -> None:
        """Write everything into an open scan; ``progress`` gets elements (done, total)."""
        sizes = [self.layout.shape(main.name) for main in self.layout.mains]
        total = sum(n_rows * n_cols for n_rows, n_cols in sizes)
        done = 0
        for name, piece in self.pieces():
            if isinstance(piece.rows, int):
                scan.write_block(piece.rows, piece.data, col=piece.col, main=name)
            else:
                scan.write_at(piece.rows, piece.data, main=name)
            done += piece.data.size
            if progress:
                progress(done, total)


def make_recording(h5_file: Any, chosen: str | None) -> Recording:
    """Read what the mains of an open file are; see `open_replay`."""
    notes: list[str] = []
    objects = _walk(h5_file)
    all_mains = [found for found in objects if _is_main(found)]
    cache: dict[Any, Any] = {}
    mains = [_read_main(found, notes, cache) for found in _choose(h5_file, all_mains, chosen)]
    _check_shared(mains)
    mains = _named(mains)
    group = _measurement(mains[0].path)
    if chosen is None:
        notes += _left_behind(objects, mains)
    luggage = Luggage(notes)
    if group:
        luggage.take(h5_file[group], group)
    luggage.take(h5_file["/"], "file")
    layout = ScanLayout(
        name=_scan_name(group, mains),
        positions=mains[0].positions.layout,
        mains=[main.layout for main in mains],
        attrs=luggage.attrs,
    )
    return Recording(layout, tuple(notes), tuple(mains))


def _walk(h5_file: Any) -> list[Any]:
    found: list[Any] = []
    h5_file.visititems(lambda _, each: found.append(each))
    return found


def _is_main(found: Any) -> bool:
    return hasattr(found, "dtype") and (usid.is_main(found) or nsid.is_main(found))


def _left_behind(objects: Sequence[Any], mains: Sequence[SourceMain]) -> list[str]:
    """Tell which datasets, and which groups with attributes, have no place in the scan."""
    used = {main.path for main in mains}.union(*(main.used for main in mains))
    notes = []
    for found in objects:
        if hasattr(found, "dtype"):
            if found.name not in used:
                notes.append(f"dataset {found.name} is no main: not replayed")
        elif len(found.attrs) and not any(_carries(main, found) for main in mains):
            notes.append(f"the attributes of group {found.name} are not carried")
    return notes


def _carries(main: SourceMain, group: Any) -> bool:
    """Tell whether a group is above a main, or holds metadata beside one of an NSID file."""
    parent = main.path.rsplit("/", 1)[0]
    if f"{parent}/".startswith(f"{group.name}/"):
        return True
    is_beside = main.is_nsid and parent and group.name.startswith(f"{parent}/")
    return bool(is_beside) and nsid.is_plain_group(group)


def _choose(h5_file: Any, mains: Sequence[Any], chosen: str | None) -> Sequence[Any]:
    if not mains:
        raise SourceError(
            f"{h5_file.filename} holds no main dataset.",
            hint="Give an h5USID or NSID file; a plain HDF5 file does not tell what its axes are.",
        )
    if chosen is None:
        return mains
    path = "/" + chosen.strip("/")
    found = [d for d in mains if d.name == path or d.name.startswith(path.rstrip("/") + "/")]
    if not found:
        raise SourceError(
            f"{h5_file.filename} has no main dataset at {path}.",
            hint="Its mains: " + ", ".join(d.name for d in mains),
        )
    return found


def _read_main(dataset: Any, notes: list[str], cache: dict[Any, Any]) -> SourceMain:
    luggage = Luggage(notes)
    with at(dataset.name):
        if usid.is_main(dataset):
            main = usid.read_main(dataset, luggage, notes, cache)
        else:
            main = nsid.read_main(dataset, luggage, notes)
    group = dataset.parent
    while group.name.strip("/").count("/") >= 1:
        luggage.take(group, group.name.rsplit("/", 1)[-1], skip=STRUCTURAL)
        group = group.parent
    return replace(main, layout=replace(main.layout, attrs=luggage.attrs))


def _check_shared(mains: Sequence[SourceMain]) -> None:
    """Check that all mains have the same positions and stand in the same measurement."""
    scans: list[list[SourceMain]] = []
    for main in mains:
        for scan in scans:
            if _is_same_scan(main, scan[0]):
                scan.append(main)
                break
        else:
            scans.append([main])
    if len(scans) > 1:
        held = "; ".join(", ".join(main.path for main in scan) for scan in scans)
        raise SourceError(
            f"The file holds {len(scans)} scans with positions of their own: {held}.",
            hint="Replay one at a time: give a main's path, or the group of one measurement.",
        )


def _is_same_scan(one: SourceMain, other: SourceMain) -> bool:
    same_group = _measurement(one.path) == _measurement(other.path)
    return same_group and one.positions.is_same(other.positions)


def _measurement(path: str) -> str:
    """Return the top group that a path stands in; empty for the file's root."""
    parts = path.strip("/").split("/")
    return parts[0] if len(parts) > 1 else ""


def _scan_name(group: str, mains: Sequence[SourceMain]) -> str:
    """Return the measurement group's name without its number, if that is what the group is."""
    name = _clean(re.sub(r"_\d+$", "", group))
    return name if name and not mains[0].is_nsid else "Measurement"


def _named(mains: Sequence[SourceMain]) -> list[SourceMain]:
    """Name the mains: by quantity where that tells them apart, else by dataset, else by path."""
    ways = (
        [_clean(main.layout.quantity) for main in mains],
        [_clean(main.path.rsplit("/", 1)[-1]) for main in mains],
        [_clean(main.path.strip("/")) for main in mains],
    )
    if len(mains) == 1:
        ways = (ways[1],) * 3
    names = next((way for way in ways if len(set(way)) == len(way)), ways[2])
    datasets = ways[1]
    return [
        replace(main, layout=replace(main.layout, name=name, dataset=dataset))
        for main, name, dataset in zip(mains, names, datasets, strict=True)
    ]


def _clean(name: str) -> str:
    """Return a name without the characters that names of groups and datasets must not have."""
    return re.sub(r"[/\-\x00-\x1f\x7f-\x9f]", "_", name)
