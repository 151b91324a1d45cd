"""A scan's spool on the disk: a folder, its lock, its header, and segments of records.

``<spool_dir>/<scan id>/`` holds ``lock``, ``scan`` (what the scan is, so that another process can
go on with it) and ``blocks-<number>-<serial>``. It knows files and records; which blocks are
needed, and when, is for `delivery.spool` to say.

A record counts when it is synced; what could not be written whole is cut off again, or the segment
is given up. A last record that is cut short was being written when its process died, and is nothing
that anybody was told was on the disk. All else that does not fit its checksum is damage, and is
told.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ..delivery import Segment, SpooledForm
from ..delivery.spooled import HEAD
from ..disk import sync_data, sync_names, write_all
from ..errors import UsidstreamError, error_for
from ..framing import (
    HEADER,
    Buffer,
    FramingError,
    Parts,
    frame,
    pack,
    read_records,
    record_header,
    unframe,
    unpack,
)
from ..layout import ScanLayout
from ..wire import Frame, is_scan_id, pack_layout, unpack_layout

HEADER_NAME = "scan"
LOCK_NAME = "lock"
SEGMENT_PREFIX = "blocks-"
DAMAGED_SUFFIX = ".damaged"
TEMPORARY_SUFFIX = ".tmp"
VERSION = 1
READ_BUFFER_BYTES = 1 << 20

_SEGMENT_HEAD = frame(b"USIDSPOOL" + VERSION.to_bytes(2, "little"))


@dataclass(frozen=True)
class SpooledScan:
    """What is known of a spool's scan.

    Parameters
    ----------
    scan_id, layout, file
        As the scan was opened.
    endpoint
        The daemon's.
    role
        ``opener`` or ``joiner``.
    """

    scan_id: str
    layout: ScanLayout
    file: str
    endpoint: str
    role: str = "opener"


@dataclass
class Leftovers:
    """What an earlier process left in a spool.

    Parameters
    ----------
    segments
        With their blocks, by name.
    torn
        What stands at the end of files and is no whole block, in words.
    damage
        What could not be read, one error each.
    """

    segments: list[Segment] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    damage: list[UsidstreamError] = field(default_factory=list)


class SpoolFolder:
    """The folder of one scan's spool, locked until `close`.

    Parameters
    ----------
    folder
        Made if it is not there.

    Raises
    ------
    UsidstreamError
        ``spool_busy``: another process holds it; ``spool_failed``: it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._fd = -1
        self._current: Segment | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock: int | None = _lock(folder / LOCK_NAME)
        except BlockingIOError as error:
            raise error_for("spool_busy", f"the spool {folder} is in use") from error
        except OSError as error:
            raise spool_failed("make", folder, error) from error

    # ------------------------------------------------------------ the header

    @property
    def is_new(self) -> bool:
        """Whether no scan was opened here yet."""
        return not (self.folder / HEADER_NAME).exists()

    def describe(self, scan: SpooledScan) -> None:
        """Keep what the scan is, durably."""
        frames: list[Frame] = []
        head = {
            "version": VERSION,
            "scan": scan.scan_id,
            "file": scan.file,
            "endpoint": scan.endpoint,
            "role": scan.role,
            "layout": pack_layout(scan.layout.to_dict(), frames),
        }
        path = self.folder / HEADER_NAME
        temporary = path.with_name(HEADER_NAME + TEMPORARY_SUFFIX)
        try:
            with temporary.open("wb") as file:
                file.write(frame(pack(head)))
                file.writelines(frame(bytes(part)) for part in frames)
                file.flush()
                sync_data(file.fileno())
            temporary.replace(path)
            sync_names(self.folder)
            sync_names(self.folder.parent)
        except OSError as error:
            raise spool_failed("write", path, error) from error

    # ------------------------------------------------------------ writing

    def append(self, segment: Segment, records: Sequence[Parts]) -> tuple[int, int]:
        """Write records to a segment, and sync it.

        Returns
        -------
        tuple
            Where the first one stands, and what the segment takes now.

        Raises
        ------
        OSError
            None of them counts, and the segment takes nothing more.
        """
        self._turn_to(segment)
        start = segment.nbytes or len(_SEGMENT_HEAD)
        buffers: list[Buffer] = [] if segment.nbytes else [_SEGMENT_HEAD]
        for parts in records:
            buffers += record_header(parts), *parts
        try:
            nbytes = segment.nbytes + write_all(self._fd, buffers)
            sync_data(self._fd)
            if not segment.nbytes:
                sync_names(self.folder)
        except OSError:
            self._give_up(segment)
            raise
        return start, nbytes

    def _turn_to(self, segment: Segment) -> None:
        if self._current is segment:
            return
        self.end_segment()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._fd = os.open(self.path(segment), flags, 0o666)
        self._current = segment

    def _give_up(self, segment: Segment) -> None:
        """Cut off what does not count; were it to stay, it would only be sent twice."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, segment.nbytes)
        self.end_segment()
        if not segment.nbytes:
            with contextlib.suppress(OSError):
                self.path(segment).unlink()

    def end_segment(self) -> None:
        """Close the segment that is being written."""
        if self._fd >= 0:
            fd, self._fd, self._current = self._fd, -1, None
            os.close(fd)

    def remove(self, segment: Segment) -> None:
        """Remove a segment; one that is damaged stays, under another name."""
        if segment is self._current:
            self.end_segment()
        path = self.path(segment)
        try:
            if segment.is_damaged:
                path.replace(damaged_path(path))
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise spool_failed("remove", path, error) from error

    def path(self, segment: Segment) -> Path:
        """Return a segment's path."""
        return self.folder / f"{SEGMENT_PREFIX}{segment.number:016d}-{segment.serial:06d}"

    # ------------------------------------------------------------ reading

    def read(
        self, segment: Segment, offset: int, count: int, limit_bytes: int
    ) -> Iterator[tuple[int, int, bytes | None]]:
        """Yield where a record stands, its bytes, and its payload, None for one that is damaged.

        Parameters
        ----------
        count, limit_bytes
            How many at most, and how many bytes, but for the last one.
        """
        with self.path(segment).open("rb", buffering=READ_BUFFER_BYTES) as file:
            end = min(offset + limit_bytes, segment.nbytes)
            while count and offset < end:
                file.seek(offset)
                record, nbytes = _read_one(file, segment.nbytes - offset)
                yield offset, nbytes, record
                offset += nbytes
                count -= 1

    def leftovers(self, form: SpooledForm) -> Leftovers:
        """Find what an earlier process left; remove what holds nothing."""
        found = Leftovers()
        try:
            (self.folder / (HEADER_NAME + TEMPORARY_SUFFIX)).unlink(missing_ok=True)
            for path in sorted(self.folder.glob(SEGMENT_PREFIX + "*")):
                if not path.name.endswith(DAMAGED_SUFFIX):
                    self._take(path, form, found)
        except OSError as error:
            raise spool_failed("read", self.folder, error) from error
        return found

    def _take(self, path: Path, form: SpooledForm, found: Leftovers) -> None:
        number, serial = path.name.removeprefix(SEGMENT_PREFIX).split("-")
        segment = Segment(int(number), int(serial), is_inherited=True)
        size = path.stat().st_size
        with path.open("rb", buffering=READ_BUFFER_BYTES) as file:
            head = file.read(len(_SEGMENT_HEAD))
            if head == _SEGMENT_HEAD:
                segment.waiting, segment.nbytes, is_whole = _walk(file, size, form)
            else:
                is_whole = _SEGMENT_HEAD.startswith(head)
        segment.waiting_at = len(_SEGMENT_HEAD)
        rest = size - segment.nbytes
        if not is_whole:
            segment.is_damaged = True
            found.damage.append(damage(path, segment.nbytes, rest))
        elif rest:
            found.torn.append(f"{path}: the last {rest} bytes are no whole block")
        if segment.waiting:
            found.segments.append(segment)
        else:
            self.remove(segment)

    # ------------------------------------------------------------ the end

    def close(self, *, remove: bool) -> None:
        """Let go of the folder, removing it if it is to go; a damaged segment stays."""
        self.end_segment()
        if remove:
            (self.folder / HEADER_NAME).unlink(missing_ok=True)
            (self.folder / (HEADER_NAME + TEMPORARY_SUFFIX)).unlink(missing_ok=True)
        lock, self._lock = self._lock, None
        if lock is not None:
            _unlock(self.folder / LOCK_NAME, lock, remove=remove)
        if remove:
            with contextlib.suppress(OSError):  # not empty: what is damaged is for a person to see
                self.folder.rmdir()
                sync_names(self.folder.parent)

    def abandon(self) -> None:
        """In a forked child: the files are the parent's."""
        for fd in (self._lock, self._fd):
            if fd is not None and fd >= 0:
                os.close(fd)
        self._lock, self._fd = None, -1


def read_header(folder: Path) -> SpooledScan:
    """Return what a spool's scan is.

    Raises
    ------
    UsidstreamError
        ``spool_damaged``, or ``spool_failed`` if there is none to read.
    """
    path = folder / HEADER_NAME
    try:
        head, *frames = unframe(path.read_bytes())
        told = unpack(head)
        words = [told[key] for key in ("scan", "file", "endpoint", "role")]
        if not is_scan_id(told["scan"]) or not all(isinstance(word, str) for word in words):
            raise TypeError("scan, file, endpoint and role are not words")
        layout = ScanLayout.from_dict(unpack_layout(told["layout"], frames))
        return SpooledScan(words[0], layout, *words[1:])
    except OSError as error:
        raise spool_failed("read", path, error) from error
    except (ValueError, KeyError, TypeError, UsidstreamError) as error:
        raise error_for("spool_damaged", f"{path} is damaged: {error}") from error


def damage(path: Path, offset: int, nbytes: int) -> UsidstreamError:
    """Make the error about what cannot be read in a segment."""
    return error_for(
        "spool_damaged",
        f"{nbytes} bytes at byte {offset} of the spool's {path} are damaged, and were not sent",
        hint="The scan's result names the rows it lacks; write these again. "
        f"The file stays as {damaged_path(path).name} until you remove it.",
        details={"file": str(path), "offset": offset, "nbytes": nbytes},
    )


def damaged_path(path: Path) -> Path:
    """Return the name under which a damaged segment stays."""
    return path.with_name(path.name + DAMAGED_SUFFIX)


def spool_failed(operation: str, path: Path, error: OSError) -> UsidstreamError:
    """Make the error for an operation that the operating system refused."""
    return error_for(
        "spool_failed", f"could not {operation} {path}: {error}", details={"file": str(path)}
    )


def _read_one(file: BinaryIO, nbytes: int) -> tuple[bytes | None, int]:
    """Return the next record, None if it is damaged, and how many bytes it takes."""
    start = file.tell()
    try:
        record = next(read_records(file, nbytes))
    except FramingError:
        file.seek(start)
        length = int.from_bytes(file.read(4), "little")
        return None, min(HEADER.size + length, nbytes)
    return record, HEADER.size + len(record)


def _walk(file: BinaryIO, size: int, form: SpooledForm) -> tuple[int, int, bool]:
    """Count a segment's records by their lengths; checksums are for who reads them.

    Returns
    -------
    tuple
        How many there are, where the last one ends, and whether what follows was merely cut short.
    """
    count, offset = 0, file.tell()
    while offset < size:
        head = file.read(HEADER.size + HEAD.size)
        if len(head) < HEADER.size + HEAD.size:
            return count, offset, True
        length, _ = HEADER.unpack_from(head)
        if form.nbytes(head[HEADER.size :]) != length:
            return count, offset, False
        if offset + HEADER.size + length > size:
            return count, offset, True
        count, offset = count + 1, offset + HEADER.size + length
        file.seek(offset)
    return count, offset, True


def _lock(path: Path) -> int:
    """Lock a file that nobody else has locked; raise BlockingIOError if someone has."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock_fd(fd)
            # Whoever had it may have removed it between these two calls.
            if _is_file_of(path, fd):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _lock_fd(fd: int) -> None:
    if os.name == "nt":
        import msvcrt

        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]  # Windows only
        except PermissionError as error:
            raise BlockingIOError(*error.args) from error
    else:
        import fcntl

        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_file_of(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def _unlock(path: Path, fd: int, *, remove: bool) -> None:
    """Release a lock; where an open file can be removed, it goes before somebody has it."""
    if remove and os.name != "nt":
        path.unlink(missing_ok=True)
    os.close(fd)
    if remove and os.name == "nt":
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
