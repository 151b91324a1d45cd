"""The ledger: what of a scan is durable, and what was decided about it. Append-only records.

Addresses of chunks are added only when their bytes are on the disk, so the ledger and the bytes it
points to are all that a rebuild needs, besides an empty copy of the file. It knows records and
their file; it never knows HDF5, threads, or whether what it is told is true.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from usidstream.framing import frame

from .chunktable import FLAG_INCOMPLETE, ChunkTable, unpack_entries
from .coverage import PartialRanges
from .errors import StorageError, damaged_error, storage_error
from .files import publish
from .ledger_records import (
    STATUS_INTERRUPTED,
    Annotated,
    Checkpoint,
    Chunks,
    Closed,
    Done,
    Finalise,
    Held,
    Opened,
    Record,
    Recovered,
    check_head,
    decode,
    encode,
    encode_head,
    packed_entries,
)
from .records import RecordFile, RecordReader

LEDGER_NAME = "ledger"
MAX_NOTES_BYTES = 64 << 20
"""Records of annotations, besides twice those that count, before a ledger is written anew."""


@dataclass(slots=True)
class LedgerState:
    """What a ledger says.

    Parameters
    ----------
    chunks
        The durable chunks; of those that are not complete, the ones written since `Opened`.
    first_segment
        The first row segment that is needed.
    annotations
        Attributes learnt so far.
    finalise
        How the scan ends, if that was decided; an interruption until the scan goes on.
    partial
        For each main, (k, 4): elements held when the scan was last finalised. They are in chunks
        that are not complete.
    is_done
        Whether the scan is interrupted, and has not gone on since.
    is_closed
        Whether file and ledger agree, for nothing was written since `Closed`.
    recoveries
        How often the file was recovered.
    notes_bytes
        Payload of all records of annotations.
    good_bytes, cut_bytes
        Whole records, and what stands behind them.
    """

    chunks: ChunkTable = field(default_factory=ChunkTable)
    first_segment: int = 1
    annotations: dict[str, Any] = field(default_factory=dict)
    finalise: Finalise | None = None
    partial: dict[str, PartialRanges] = field(default_factory=dict)
    is_done: bool = False
    is_closed: bool = False
    recoveries: int = 0
    notes_bytes: int = 0
    good_bytes: int = 0
    cut_bytes: int = 0

    @property
    def decision(self) -> Finalise | None:
        """How the scan ends for good, if that was decided."""
        if self.finalise is None or self.finalise.status == STATUS_INTERRUPTED:
            return None
        return self.finalise

    def take(self, record: Record) -> None:
        """Go on by one record; chunks are gathered elsewhere."""
        match record:
            case Closed():
                self.is_closed = True
            case Checkpoint():
                self.first_segment = max(self.first_segment, record.first_segment)
            case Annotated():
                self.annotations |= record.attrs
            case Finalise():
                self.finalise = record
                self.partial = dict(record.partial)
                self.is_closed = False
            case Opened():
                self.finalise, self.is_done, self.is_closed = self.decision, False, False
            case Recovered():
                self.recoveries, self.is_done, self.is_closed = record.count, False, False
            case Held():
                self.partial = dict(record.partial)
            case Done():
                self.is_done = True


class Ledger:
    """A ledger that is open to append to. Used by one thread.

    Parameters
    ----------
    path
        Of a ledger that `create` made.
    good_bytes
        As a `replay` found them; what stands behind is cut off.
    notes_bytes
        Likewise.
    """

    def __init__(self, path: Path, good_bytes: int, notes_bytes: int = 0) -> None:
        self._file = RecordFile(path, good_bytes)
        self._notes_bytes = notes_bytes
        self._max_notes_bytes = MAX_NOTES_BYTES

    @classmethod
    def create(cls, path: Path, records: Iterable[Record] = ()) -> Ledger:
        """Publish a ledger with the records in it, durably, in place of any older one."""
        parts = _parts(records)
        publish(path, parts)
        return cls(path, sum(map(len, parts)))

    @classmethod
    def open(cls, path: Path) -> tuple[Ledger, LedgerState]:
        """Open a ledger of an earlier process, and tell what it says."""
        state = replay(path)
        return cls(path, state.good_bytes, state.notes_bytes), state

    def append(self, records: Sequence[Record]) -> None:
        """Write records; they count when `sync` has returned.

        Raises
        ------
        StorageError
            None of them is in the ledger.
        """
        payloads = [encode(record) for record in records]
        self._file.append([(payload,) for payload in payloads])
        for record, payload in zip(records, payloads, strict=True):
            if isinstance(record, Annotated):
                self._notes_bytes += len(payload)

    def shorten(self) -> None:
        """Write the ledger of a scan that goes on anew, durably, if too many annotations are old.

        Raises
        ------
        StorageError
            ``no_space``: it is as it was. Any other: nothing more can be appended.
        """
        if self._notes_bytes <= self._max_notes_bytes:
            return
        path = self._file.path
        self.close()  # a system may not replace a file that is open
        state = replay(path)
        parts = _parts(_records_of(state))
        try:
            publish(path, parts)
        except StorageError as error:
            if error.code == "no_space":
                self._file = RecordFile(path, state.good_bytes)
            raise
        self._file = RecordFile(path, sum(map(len, parts)))
        self._notes_bytes = len(encode(Annotated(state.annotations)))
        self._max_notes_bytes = MAX_NOTES_BYTES + 2 * self._notes_bytes

    def sync(self) -> None:
        """Make the records durable.

        Raises
        ------
        SyncError
            They are not, and nothing more can be appended: only a new process may read what the
            disk has.
        """
        self._file.sync()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def replay(path: Path) -> LedgerState:
    """Read a ledger up to its first bad record; the file stays as it is.

    Raises
    ------
    StorageError
        ``file_damaged``: its first record is not whole, or a newer version's; a record that is
        whole says nothing sensible. ``storage_failed``: it cannot be read.
    """
    state, pieces = LedgerState(), list[bytes]()
    reader = RecordReader(path)
    try:
        records = iter(reader)
        check_head(next(records, b""))
        for payload in records:
            if (packed := packed_entries(payload)) is not None:
                pieces.append(packed)  # by the million: nothing is made of each
                state.is_closed = False
            else:
                record = decode(payload)
                if isinstance(record, Opened):
                    pieces = [_without_incomplete(b"".join(pieces))]
                state.take(record)
                state.notes_bytes += len(payload) if isinstance(record, Annotated) else 0
        state.chunks = ChunkTable([unpack_entries(b"".join(pieces))])
    except (KeyError, TypeError, ValueError) as error:  # FramingError is a ValueError
        raise damaged_error(
            path,
            f"is damaged: {error}",
            "Keep the scan's file and journal; 'usidstreamd recover' on a copy of the file alone "
            "saves what HDF5 can read.",
        ) from error
    state.good_bytes, state.cut_bytes = reader.good_bytes, reader.cut_bytes
    return state


def is_interrupted(path: Path) -> bool:
    """Tell whether a ledger's last record is `Done`, from its last bytes alone.

    A data directory may hold many interrupted scans with millions of chunks, and none of them is
    to be read before its client comes.

    Raises
    ------
    StorageError
        It cannot be read.
    """
    done = frame(encode(Done()))
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - len(done)))
            return file.read() == done
    except OSError as error:
        raise storage_error("read", path, error) from error


def _parts(records: Iterable[Record]) -> list[bytes]:
    """Return a whole ledger in pieces."""
    return [frame(encode_head()), *(frame(encode(record)) for record in records)]


def _records_of(state: LedgerState) -> list[Record]:
    """Return the fewest records that say what a ledger says of a scan that goes on."""
    records: list[Record] = [Chunks(state.chunks), Checkpoint(state.first_segment)]
    records += [Annotated(state.annotations)]
    records += [] if state.decision is None else [state.decision]
    records += [Held(state.partial)]
    return [*records, Recovered(state.recoveries)] if state.recoveries else records


def _without_incomplete(packed: bytes) -> bytes:
    entries = unpack_entries(packed)
    if not (entries["flags"] & FLAG_INCOMPLETE).any():
        return packed  # as nearly always, and there may be millions
    return ChunkTable([entries]).whole().entries.tobytes()
