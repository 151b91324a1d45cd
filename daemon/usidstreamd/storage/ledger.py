"""The ledger: what of a scan is durable, and what was decided about it. Append-only records.

Addresses of chunks are added only when their bytes are on the disk, so the ledger and the bytes it
points to are all that a rebuild needs, besides an empty copy of the file. It knows records and
their file; it never knows HDF5, threads, or whether what it is told is true.

A record is a frame whose first byte tells its kind: ``c`` chunk addresses as packed entries, ``m``
a msgpack map. The first record tells the version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from usidstream.wire import Frame, pack_layout, unpack_layout

from .chunktable import ChunkAddress, ChunkTable, Entries, pack_addresses, unpack_entries
from .coverage import PartialRanges, Ranges
from .errors import damaged_error
from .files import publish
from .framing import FramingError, frame, pack, unpack
from .records import RecordFile, RecordReader

LEDGER_NAME = "ledger"
LEDGER_VERSION = 1
_CHUNKS, _MAP = b"c", b"m"


@dataclass(frozen=True, slots=True)
class Chunks:
    """Chunks whose bytes are on the disk."""

    addresses: Sequence[ChunkAddress]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Row segments before this one are not needed any more."""

    first_segment: int


@dataclass(frozen=True, slots=True)
class Annotated:
    """Attributes learnt; the last value of a name counts."""

    attrs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finalise:
    """The scan ends so; from here on only that is to be done, again after every crash.

    Parameters
    ----------
    status
        The final ``acquisition_status``.
    ended
        When it ended: ISO 8601 with time zone.
    attrs
        Final attributes; they win over annotations.
    missing
        For each main that has any: half-open ranges of positions that are not complete.
    partial
        For each main that has any, (k, 4): what is held of those positions. See `Coverage`.
    """

    status: str
    ended: str
    attrs: Mapping[str, Any] = field(default_factory=dict)
    missing: Mapping[str, Ranges] = field(default_factory=dict)
    partial: Mapping[str, PartialRanges] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """The scan's result is remembered elsewhere; the journal can go."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The file is about to be opened for writing; a finalised scan goes on."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The file was closed and synced: it and the ledger agree."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """The file was repaired or rebuilt; ``count`` is how often by now."""

    count: int


Record: TypeAlias = Chunks | Checkpoint | Annotated | Finalise | Done | Opened | Closed | Recovered


@dataclass(slots=True)
class LedgerState:
    """What a ledger says.

    Parameters
    ----------
    chunks
        The durable chunks.
    first_segment
        The first row segment that is needed.
    annotations
        Attributes learnt so far.
    finalise
        How the scan ends, if that was decided.
    partial
        For each main, (k, 4): elements held when the scan was last finalised. They are in chunks
        that are not complete.
    is_done, is_closed
        Whether `Done`, or `Closed`, is the last word.
    recoveries
        How often the file was recovered.
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
    good_bytes: int = 0
    cut_bytes: int = 0

    def take(self, record: Record) -> None:
        """Go on by one record; chunks are gathered elsewhere."""
        self.is_closed = isinstance(record, Closed)
        match record:
            case Checkpoint():
                self.first_segment = max(self.first_segment, record.first_segment)
            case Annotated():
                self.annotations |= record.attrs
            case Finalise():
                self.finalise = record
                self.partial = dict(record.partial)
            case Opened():
                self.finalise = None
            case Recovered():
                self.recoveries = record.count
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
    """

    def __init__(self, path: Path, good_bytes: int) -> None:
        self._file = RecordFile(path, good_bytes)

    @classmethod
    def create(cls, path: Path, records: Iterable[Record] = ()) -> Ledger:
        """Publish a ledger with the records in it, durably, in place of any older one."""
        parts = [frame(_map({"t": "ledger", "version": LEDGER_VERSION}))]
        parts += [frame(_encode(record)) for record in records]
        publish(path, parts)
        return cls(path, sum(map(len, parts)))

    @classmethod
    def open(cls, path: Path) -> tuple[Ledger, LedgerState]:
        """Open a ledger of an earlier process, and tell what it says."""
        state = replay(path)
        return cls(path, state.good_bytes), state

    def append(self, records: Sequence[Record]) -> None:
        """Write records; they count when `sync` has returned.

        Raises
        ------
        StorageError
            None of them is in the ledger.
        """
        self._file.append([(_encode(record),) for record in records])

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
    state, pieces = LedgerState(), list[Entries]()
    reader = RecordReader(path)
    try:
        records = iter(reader)
        _check_head(next(records, b""))
        for payload in records:
            if payload[:1] == _CHUNKS:
                pieces.append(unpack_entries(memoryview(payload)[1:]))
                state.is_closed = False
            else:
                state.take(_decode(payload))
    except (KeyError, TypeError, ValueError) as error:  # FramingError is a ValueError
        raise damaged_error(
            path,
            f"is damaged: {error}",
            "Keep the scan's file and journal; 'usidstreamd recover' on a copy of the file alone "
            "saves what HDF5 can read.",
        ) from error
    state.chunks = ChunkTable(pieces)
    state.good_bytes, state.cut_bytes = reader.good_bytes, reader.cut_bytes
    return state


def _check_head(payload: bytes) -> None:
    head = unpack(payload[1:]) if payload[:1] == _MAP else {}
    if head.get("t") != "ledger":
        raise FramingError("it does not begin as a ledger")
    if head["version"] > LEDGER_VERSION:
        raise FramingError(f"it is of version {head['version']}, written by a newer daemon")


# ---------------------------------------------------------------- records as bytes


def _map(value: Mapping[str, Any]) -> bytes:
    return _MAP + pack(value)


def _encode(record: Record) -> bytes:
    match record:
        case Chunks():
            return _CHUNKS + pack_addresses(record.addresses)
        case Checkpoint():
            return _map({"t": "k", "first_segment": record.first_segment})
        case Annotated():
            return _map({"t": "a", **_pack_attrs(record.attrs)})
        case Finalise():
            return _map(_pack_finalise(record))
        case Recovered():
            return _map({"t": "r", "count": record.count})
        case Done():
            return _map({"t": "d"})
        case Opened():
            return _map({"t": "o"})
        case Closed():
            return _map({"t": "x"})


def _decode(payload: bytes) -> Record:
    told = unpack(payload[1:])
    match payload[:1], told["t"]:
        case b"m", "k":
            return Checkpoint(told["first_segment"])
        case b"m", "a":
            return Annotated(_unpack_attrs(told))
        case b"m", "f":
            return _unpack_finalise(told)
        case b"m", "r":
            return Recovered(told["count"])
        case b"m", "d":
            return Done()
        case b"m", "o":
            return Opened()
        case b"m", "x":
            return Closed()
    raise FramingError(f"a record of kind {payload[:1]!r} {told['t']!r} is not known")


def _pack_attrs(attrs: Mapping[str, Any]) -> dict[str, Any]:
    frames: list[Frame] = []
    head = pack_layout(dict(attrs), frames)
    return {"attrs": head, "frames": [bytes(part) for part in frames]}


def _unpack_attrs(told: Any) -> dict[str, Any]:
    attrs: dict[str, Any] = unpack_layout(told["attrs"], told["frames"])
    return attrs


def _pack_finalise(record: Finalise) -> dict[str, Any]:
    partial = {
        name: np.ascontiguousarray(ranges, "<i8").tobytes()
        for name, ranges in record.partial.items()
    }
    told = {"t": "f", "status": record.status, "ended": record.ended, "partial": partial}
    missing = {
        name: np.array(ranges, "<i8").tobytes() for name, ranges in record.missing.items()
    }
    return told | {"missing": missing} | _pack_attrs(record.attrs)


def _unpack_finalise(told: Any) -> Finalise:
    missing = {
        name: [(start, stop) for start, stop in _table(packed, 2).tolist()]
        for name, packed in told["missing"].items()
    }
    return Finalise(
        status=told["status"],
        ended=told["ended"],
        attrs=_unpack_attrs(told),
        missing=missing,
        partial={name: _table(packed, 4) for name, packed in told["partial"].items()},
    )


def _table(packed: bytes, columns: int) -> PartialRanges:
    return np.frombuffer(packed, "<i8").astype(np.int64).reshape(-1, columns)
