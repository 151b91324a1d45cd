"""What a disk may hold after the power failed: images, made from a log of operations.

The model, for a cut anywhere in the log:

- **A sync** that had ended well before the cut covers what was done to that file before the sync
  began: it is on the disk. ``fsync`` and ``fdatasync`` count alike: data and size. A sync of a file
  says nothing of its name, one of a directory nothing of what its files hold.
- **Bytes** written later: each sector holds what the file's cache held of it at some moment between
  the last sync and the cut, each sector by itself. So any subset of writes survives, in any
  order, and a write may be torn between sectors of 512 bytes or 4 KiB. What was never written reads
  as zeros.
- **Sizes** likewise: a write that extends a file, or a truncation, may be on the disk or not,
  whether its bytes are or not.
- **Names** of a directory: each creation, link, removal or rename since its last sync happened
  or did not, a rename as a whole. Either all up to one of them did, as on file systems that write
  a journal of them (ext4, XFS), or any subset, which is all that POSIX promises.

An image is decided by a seed, and the same seed makes it again. How much survives is drawn for each
file anew, from nothing to everything, so that one file may be far ahead of another.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from support.recording import Kind, Operation

SECTOR_BYTES = (512, 4096)
SURVIVING_SHARES = (0.0, 0.1, 0.5, 0.9, 1.0)
TORN_SHARE = 0.25
"""Of the writes; each sector of a torn one survives or not by itself."""

Image: TypeAlias = dict[str, bytes | None]
"""Files by their names, relative to the directory, parents first; None for a directory."""


@dataclass(slots=True)
class File:
    """A file: what it held at the beginning, and what was done to it since, numbered."""

    initial: bytes = b""
    changes: list[tuple[int, Operation]] = field(default_factory=list)
    covered: int = 0
    """Changes with lower numbers are on the disk."""


@dataclass(slots=True)
class Directory:
    """A directory: its names at the beginning, and what was done to them since, numbered."""

    initial: dict[str, Node] = field(default_factory=dict)
    changes: list[tuple[int, dict[str, Node | None]]] = field(default_factory=list)
    covered: int = 0
    live: dict[str, Node] = field(default_factory=dict)
    """Its names as every process sees them."""


Node: TypeAlias = File | Directory


class Disk:
    """Takes operations in their order.

    Parameters
    ----------
    initial
        What was in the directory before, all of it on the disk. None for an empty one.
    inodes
        Of the files and directories of ``initial``, by their names; "" is the directory itself.
    """

    def __init__(self, initial: Image | None = None, inodes: dict[str, int] | None = None) -> None:
        self.root = Directory()
        self._nodes: dict[int, Node] = {}
        self._syncs: dict[int, int] = {}
        self._count = 0
        for name, content in (initial or {}).items():
            parent, leaf = self._locate(name)
            node: Node = Directory() if content is None else File(content)
            parent.initial[leaf] = parent.live[leaf] = node
        for name, inode in (inodes or {}).items():
            self._nodes[inode] = self._find(name)

    def take_all(self, operations: Iterable[Operation]) -> Disk:
        for operation in operations:
            self._take(operation)
        return self

    def _take(self, operation: Operation) -> None:
        number, self._count = self._count, self._count + 1
        match operation.kind:
            case Kind.WRITE | Kind.TRUNCATE | Kind.EXTEND:
                file = self._nodes[operation.inode]
                assert isinstance(file, File)
                file.changes.append((number, operation))
            case Kind.SYNC_BEGIN:
                self._syncs[operation.number] = number
            case Kind.SYNC_END:
                begun = self._syncs.pop(operation.number)
                node = self._node(operation.inode)
                if not operation.failed:
                    node.covered = max(node.covered, begun)
            case Kind.CREATE:
                self._make(number, operation, File())
            case Kind.MKDIR:
                self._make(number, operation, Directory())
            case _:
                self._rename(number, operation)

    def _make(self, number: int, operation: Operation, node: Node) -> None:
        self._nodes[operation.inode] = node
        parent, leaf = self._locate(operation.name)
        self._change(number, parent, {leaf: node})

    def _rename(self, number: int, operation: Operation) -> None:
        parent, leaf = self._locate(operation.name)
        if operation.kind in (Kind.UNLINK, Kind.RMDIR):
            self._change(number, parent, {leaf: None})
            return
        node = parent.live[leaf]
        into, new_leaf = self._locate(operation.other)
        if operation.kind is Kind.LINK:
            self._change(number, into, {new_leaf: node})
            return
        assert into is parent, "the model knows renames within one directory only"
        self._change(number, parent, {leaf: None, new_leaf: node})

    def _change(self, number: int, parent: Directory, change: dict[str, Node | None]) -> None:
        parent.changes.append((number, change))
        _apply(parent.live, change)

    def _node(self, inode: int) -> Node:
        # The directory itself was there before anything was recorded.
        return self._nodes.get(inode, self.root)

    def _find(self, name: str) -> Node:
        node: Node = self.root
        for part in PurePosixPath(name).parts:
            assert isinstance(node, Directory)
            node = node.live[part]
        return node

    def _locate(self, name: str) -> tuple[Directory, str]:
        path = PurePosixPath(name)
        parent = self._find(str(path.parent) if path.parent.parts else "")
        assert isinstance(parent, Directory)
        return parent, path.name


def everything(disk: Disk) -> Image:
    """Return what every process sees: all operations, none lost."""
    return _gathered(disk.root, lambda node: node.live, lambda file: _survivors(file, _All()))


def after_power_cut(disk: Disk, seed: object) -> Image:
    """Return one of the things that the disk may hold if the power fails now."""
    chance = random.Random(str(seed))
    sector_bytes = chance.choice(SECTOR_BYTES)
    in_order = chance.random() < 0.5
    return _gathered(
        disk.root,
        lambda directory: _names(directory, chance, in_order=in_order),
        lambda file: _survivors(file, _Some(chance, sector_bytes)),
    )


def _gathered(
    root: Directory,
    names_of: Callable[[Directory], dict[str, Node]],
    content_of: Callable[[File], bytes],
) -> Image:
    image: Image = {}
    contents: dict[int, bytes] = {}  # a file with two names holds the same under both

    def visit(directory: Directory, prefix: str) -> None:
        for leaf, node in sorted(names_of(directory).items()):
            if isinstance(node, Directory):
                image[prefix + leaf] = None
                visit(node, f"{prefix}{leaf}/")
                continue
            if id(node) not in contents:
                contents[id(node)] = content_of(node)
            image[prefix + leaf] = contents[id(node)]

    visit(root, "")
    return image


# ---------------------------------------------------------------- names


def _apply(names: dict[str, Node], change: dict[str, Node | None]) -> None:
    for leaf, node in change.items():
        if node is None:
            names.pop(leaf, None)
        else:
            names[leaf] = node


def _names(directory: Directory, chance: random.Random, *, in_order: bool) -> dict[str, Node]:
    names = dict(directory.initial)
    open_changes = [c for n, c in directory.changes if n >= directory.covered]
    for number, change in directory.changes:
        if number < directory.covered:
            _apply(names, change)
    if in_order:
        surviving = open_changes[: chance.randint(0, len(open_changes))]
    else:
        share = chance.choice(SURVIVING_SHARES)
        surviving = [change for change in open_changes if chance.random() < share]
    for change in surviving:
        _apply(names, change)
    return names


# ---------------------------------------------------------------- bytes


class _All:
    """Everything survives."""

    sector_bytes = 4096

    def size_survives(self) -> bool:
        return True

    def sectors(self, first: int, stop: int) -> Sequence[range]:
        return [range(first, stop)]


class _Some:
    """Some writes survive, some in part."""

    def __init__(self, chance: random.Random, sector_bytes: int) -> None:
        self.sector_bytes = sector_bytes
        self._chance = chance
        self._share = chance.choice(SURVIVING_SHARES)

    def size_survives(self) -> bool:
        return self._chance.random() < self._share

    def sectors(self, first: int, stop: int) -> Sequence[range]:
        """Return the runs of sectors that survive of a write."""
        if 0 < self._share < 1 and self._chance.random() < TORN_SHARE:
            kept = [n for n in range(first, stop) if self._chance.random() < 0.5]
            return [range(n, n + 1) for n in kept]
        return [range(first, stop)] if self._chance.random() < self._share else []


def _survivors(file: File, draw: _All | _Some) -> bytes:
    live = bytearray(file.initial)  # what the cache holds
    split = bisect_left(file.changes, file.covered, key=itemgetter(0))
    for _number, operation in file.changes[:split]:
        _write(live, operation)
    disk, size = bytearray(live), len(live)
    for _number, operation in file.changes[split:]:
        size_before = len(live)
        _write(live, operation)
        if operation.kind is Kind.WRITE:
            first, stop = operation.number, operation.number + len(operation.data)
            _spread(live, disk, draw, first, stop)
        if len(live) != size_before and draw.size_survives():
            size = len(live)
            if len(live) < size_before:
                disk[size:] = bytes(max(0, len(disk) - size))
    return bytes(disk[:size].ljust(size, b"\0"))


def _write(content: bytearray, operation: Operation) -> None:
    """Do an operation to what a file holds."""
    if operation.kind is Kind.WRITE:
        if operation.number > len(content):
            content.extend(bytes(operation.number - len(content)))
        content[operation.number : operation.number + len(operation.data)] = operation.data
    elif operation.kind is Kind.TRUNCATE and operation.number < len(content):
        del content[operation.number :]
    elif operation.number > len(content):
        content.extend(bytes(operation.number - len(content)))


def _spread(live: bytearray, disk: bytearray, draw: _All | _Some, first: int, stop: int) -> None:
    """Let sectors that a write touched reach the disk as they are now."""
    unit = draw.sector_bytes
    for run in draw.sectors(first // unit, -(-stop // unit)):
        lo, hi = run.start * unit, min(run.stop * unit, len(live))
        if lo > len(disk):
            disk.extend(bytes(lo - len(disk)))
        disk[lo:hi] = live[lo:hi]


# ---------------------------------------------------------------- images as files


def write_image(image: Image, directory: Path) -> None:
    """Make a directory that holds an image."""
    directory.mkdir()
    for name, content in image.items():
        if content is None:
            (directory / name).mkdir()
        else:
            (directory / name).write_bytes(content)


def read_image(directory: Path) -> tuple[Image, dict[str, int]]:
    """Return what a directory holds, and the inodes."""
    image: Image = {}
    inodes = {"": directory.stat().st_ino}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        image[name] = None if path.is_dir() else path.read_bytes()
        inodes[name] = path.stat().st_ino
    return image, inodes
