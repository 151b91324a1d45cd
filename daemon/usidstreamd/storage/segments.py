"""The row journal: blocks as they were placed, whose chunks are not in the file yet.

Numbered segments in the scan's journal directory, each a file of records: a head and one record a
block. A new process begins a new segment; old ones go, lowest number first, when all their blocks
lie in chunks with durable addresses. Numbers are never used again. This module knows blocks as
addresses and bytes; it never knows what elements mean, nor which segments are still needed.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from usidstream.framing import Buffer, Parts

from .errors import StorageError, storage_error
from .files import remove, sync_directory
from .records import RecordFile, RecordReader

log = logging.getLogger("usidstreamd")

SEGMENT_PREFIX = "rows-"
SEGMENT_TARGET_BYTES = 64 << 20
SEGMENT_VERSION = 1

_SEGMENT_HEAD = struct.Struct("<8sIQ")  # magic, version, number
_MAGIC = b"USIDROWS"
_BLOCK_HEAD = struct.Struct("<IIQQQQ")  # main, flags, row, rows, col, columns
_FLAG_SCATTERED = 1
_ROW_NUMBER_BYTES = 8


@dataclass(frozen=True, slots=True)
class JournalBlock:
    """A block of elements of a main.

    Parameters
    ----------
    main
        The main's number in the layout.
    row, rows, col, cols
        Its elements; ``row`` is 0 where there are ``numbers``.
    data
        C-contiguous, ``rows x cols`` elements, little-endian.
    numbers
        Of scattered rows: ``rows`` u64, little-endian.
    """

    main: int
    row: int
    rows: int
    col: int
    cols: int
    data: Buffer
    numbers: Buffer | None = None

    @property
    def nbytes(self) -> int:
        """The bytes it takes in the journal, nearly."""
        nbytes = memoryview(self.data).nbytes + _BLOCK_HEAD.size
        return nbytes if self.numbers is None else nbytes + memoryview(self.numbers).nbytes

    def parts(self) -> Parts:
        """Return the record's payload; the data is not copied."""
        flags = 0 if self.numbers is None else _FLAG_SCATTERED
        head = _BLOCK_HEAD.pack(self.main, flags, self.row, self.rows, self.col, self.cols)
        return (head + self._numbers(), self.data)

    def _numbers(self) -> bytes:
        return b"" if self.numbers is None else bytes(self.numbers)

    @classmethod
    def from_payload(cls, payload: bytes) -> JournalBlock:
        """Read a record; raise ValueError where it is too short for what it says."""
        if len(payload) < _BLOCK_HEAD.size:
            raise ValueError("a block's record is too short")
        main, flags, row, rows, col, cols = _BLOCK_HEAD.unpack_from(payload)
        view = memoryview(payload)[_BLOCK_HEAD.size :]
        if not flags & _FLAG_SCATTERED:
            return cls(main, row, rows, col, cols, view)
        split = rows * _ROW_NUMBER_BYTES
        if split > len(view):
            raise ValueError(f"a block of {rows} scattered rows lacks their numbers")
        return cls(main, row, rows, col, cols, view[split:], view[:split])


class RowJournal:
    """The segments of one scan, open to append to. Used by one thread.

    Parameters
    ----------
    directory
        The scan's journal directory.
    first_segment
        The lowest number that may be used: that of the ledger's last checkpoint.
    target_bytes
        A segment that has grown so large is followed by another.

    Raises
    ------
    StorageError
        The directory cannot be read, or a torn segment cannot be cut.
    """

    def __init__(
        self,
        directory: Path,
        first_segment: int = 1,
        target_bytes: int = SEGMENT_TARGET_BYTES,
    ) -> None:
        self._directory = directory
        self._target_bytes = target_bytes
        self._file: RecordFile | None = None
        numbers = sorted(_segments(directory))
        if numbers:
            _cut(_segment_path(directory, numbers[-1]))
        self._kept = numbers
        self._next = max([first_segment, *(number + 1 for number in numbers)])
        self._names_unsynced = False

    def append(self, blocks: Sequence[JournalBlock]) -> int:
        """Write blocks, all in one segment; return its number. `sync` makes them durable.

        Raises
        ------
        StorageError
            None of them is in the journal.
        """
        if self._file is not None and self._file.nbytes >= self._target_bytes:
            self._end_segment()
        if self._file is None:
            self._file = self._begin_segment()
        self._file.append([block.parts() for block in blocks])
        return self._kept[-1]

    def sync(self) -> None:
        """Make everything appended durable.

        Raises
        ------
        SyncError
            It is not, and nothing more can be appended.
        """
        if self._file is not None:
            self._file.sync()
        if self._names_unsynced:
            sync_directory(self._directory)
            self._names_unsynced = False

    def drop_before(self, number: int) -> None:
        """Remove all segments below a number, the open one too if it is.

        Raises
        ------
        StorageError
            One could not be removed; it can be tried again.
        """
        if self._file is not None and self._kept[-1] < number:
            self._end_segment()
        while self._kept and self._kept[0] < number:
            path = _segment_path(self._directory, self._kept[0])
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise storage_error("remove", path, error) from error
            del self._kept[0]
        self._next = max(self._next, number)

    def close(self) -> None:
        """Close the open segment; nothing is synced."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin_segment(self) -> RecordFile:
        number = self._next
        file = RecordFile(_segment_path(self._directory, number))
        try:
            file.append([(_SEGMENT_HEAD.pack(_MAGIC, SEGMENT_VERSION, number),)])
        except StorageError:
            file.close()
            remove(file.path)
            raise
        self._kept.append(number)
        self._next = number + 1
        self._names_unsynced = True
        return file

    def _end_segment(self) -> None:
        # Synced before another takes its place: only the last segment may have a torn tail.
        self.sync()
        self.close()


@dataclass(slots=True)
class RowReplay:
    """Iterates over the blocks of a scan's segments, in the order in which they were written.

    Parameters
    ----------
    directory
        The scan's journal directory.
    first_segment
        The first that is needed.

    Attributes
    ----------
    faults : list of str
        What was found damaged although it had been synced, or is not there; complete when the
        iteration has ended.
    """

    directory: Path
    first_segment: int
    faults: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[JournalBlock]:
        """Yield the blocks; see `numbered`."""
        return (block for _segment, block in self.numbered())

    def numbered(self) -> Iterator[tuple[int, JournalBlock]]:
        """Yield each block with its segment's number; each holds memory of its own.

        Raises
        ------
        StorageError
            A segment cannot be read.
        """
        self.faults.clear()
        numbers = sorted(n for n in _segments(self.directory) if n >= self.first_segment)
        expected = numbers[0] if numbers else 0
        for number in numbers:
            if number != expected:
                self._fault(f"segments {expected} to {number - 1} of the rows are missing")
            for block in self._segment(number, is_last=number == numbers[-1]):
                yield number, block
            expected = number + 1

    def _segment(self, number: int, *, is_last: bool) -> Iterator[JournalBlock]:
        path = _segment_path(self.directory, number)
        reader = RecordReader(path)
        records = iter(reader)
        try:
            head = next(records, b"")
            if head:
                _check_head(head, number)
            for payload in records:
                yield JournalBlock.from_payload(payload)
        except ValueError as error:
            self._fault(f"{path.name}: {error}")
            return
        if reader.cut_bytes and not is_last:
            self._fault(
                f"{path.name} is damaged at byte {reader.good_bytes}; "
                f"{reader.cut_bytes} bytes of rows are lost"
            )

    def _fault(self, text: str) -> None:
        # Told here, too: a daemon that places the rows again reads them once, and asks nobody.
        log.error("journal_damaged", extra={"directory": str(self.directory), "problem": text})
        self.faults.append(text)


def _check_head(head: bytes, number: int) -> None:
    if len(head) != _SEGMENT_HEAD.size:
        raise ValueError("it does not begin as a segment")
    magic, version, found = _SEGMENT_HEAD.unpack(head)
    if magic != _MAGIC or found != number:
        raise ValueError(f"it does not begin as segment {number}")
    if version > SEGMENT_VERSION:
        raise ValueError(f"it is of version {version}, written by a newer daemon")


def _segment_path(directory: Path, number: int) -> Path:
    return directory / f"{SEGMENT_PREFIX}{number:08d}"


def segment_files(directory: Path, first_segment: int) -> list[Path]:
    """Return the segments that are needed, in order."""
    numbers = sorted(number for number in _segments(directory) if number >= first_segment)
    return [_segment_path(directory, number) for number in numbers]


def _segments(directory: Path) -> list[int]:
    try:
        names = [entry.name for entry in directory.iterdir()]
    except OSError as error:
        raise storage_error("read", directory, error) from error
    tails = [name.removeprefix(SEGMENT_PREFIX) for name in names if name.startswith(SEGMENT_PREFIX)]
    return [int(tail) for tail in tails if tail.isascii() and tail.isdigit()]


def _cut(path: Path) -> None:
    """Cut a segment behind its last whole record."""
    reader = RecordReader(path)
    for _payload in reader:
        pass
    RecordFile(path, reader.good_bytes).close()
