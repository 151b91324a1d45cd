"""What the ledger's records say, and how they stand in it: plain data and bytes, no file.

A record is a frame whose first byte tells its kind: ``c`` chunk addresses as packed entries, ``m``
a msgpack map whose ``t`` is a key of one table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

import numpy as np

from usidstream.framing import FramingError, pack, unpack
from usidstream.wire import Frame, WireError, pack_layout, unpack_layout

from .chunktable import ChunkAddress, ChunkTable, pack_addresses
from .coverage import PartialRanges, Ranges

LEDGER_VERSION = 1
STATUS_INTERRUPTED = "interrupted"
"""How a scan ends that can still be resumed."""
STATUSES = ("complete", "incomplete", "aborted", STATUS_INTERRUPTED)
_CHUNKS, _MAP = b"c", b"m"


@dataclass(frozen=True, slots=True)
class Chunks:
    """Chunks whose bytes are on the disk."""

    addresses: Sequence[ChunkAddress] | ChunkTable


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

    An interruption is no such decision: one that did not reach `Done` counts for nothing, because
    the scan's client may be there again.

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
class Held:
    """For each main, (k, 4): elements held in chunks that are not complete. See `Coverage`."""

    partial: Mapping[str, PartialRanges]


@dataclass(frozen=True, slots=True)
class Done:
    """What `Finalise` says is carried out, in a file that is closed: the scan is interrupted."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The file is about to be opened for writing; an interrupted scan goes on, a decided end too.

    Chunks that are not complete count no more: they may be written over in their places, and the
    row segments hold what is in them.
    """


@dataclass(frozen=True, slots=True)
class Closed:
    """The file was closed and synced: it and the ledger agree."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """The file was repaired or rebuilt; ``count`` is how often by now."""

    count: int


Record: TypeAlias = (
    Chunks | Checkpoint | Annotated | Finalise | Held | Done | Opened | Closed | Recovered
)


def encode(record: Record) -> bytes:
    """Return a record's payload; raise `FramingError` for attributes that cannot be recorded."""
    if isinstance(record, Chunks):
        return _CHUNKS + pack_addresses(record.addresses)
    kind, to_plain = next(
        (kind, to_plain) for kind, (cls, to_plain, _) in _KINDS.items() if isinstance(record, cls)
    )
    return _MAP + pack({"t": kind, **to_plain(record)})


def encode_head() -> bytes:
    """Return the payload of a ledger's first record."""
    return _MAP + pack({"t": "ledger", "version": LEDGER_VERSION})


def packed_entries(payload: bytes) -> bytes | None:
    """Return the entries of a record of chunks as they stand in it, ``None`` for any other."""
    return payload[1:] if payload.startswith(_CHUNKS) else None


def decode(payload: bytes) -> Record:
    """Return any other record; raise ValueError, KeyError or TypeError if it is none."""
    told = unpack(payload[1:]) if payload[:1] == _MAP else None
    if not isinstance(told, dict) or told.get("t") not in _KINDS:
        raise FramingError(f"a record of kind {payload[:1]!r} is not known")
    return _KINDS[told["t"]][2](told)


def check_head(payload: bytes) -> None:
    """Raise `FramingError` unless a payload is the first record of a ledger that can be read."""
    head = unpack(payload[1:]) if payload[:1] == _MAP else None
    if not isinstance(head, dict) or head.get("t") != "ledger":
        raise FramingError("it does not begin as a ledger")
    if _count(head["version"]) > LEDGER_VERSION:
        raise FramingError(f"it is of version {head['version']}, written by a newer daemon")


def _pack_attrs(attrs: Mapping[str, Any]) -> dict[str, Any]:
    frames: list[Frame] = []
    head = pack_layout(dict(attrs), frames)
    return {"attrs": head, "frames": [bytes(part) for part in frames]}


def _unpack_attrs(told: Any) -> dict[str, Any]:
    frames = told["frames"]
    if not isinstance(frames, list) or not all(isinstance(part, bytes) for part in frames):
        raise FramingError("the arrays of attributes are not bytes")
    try:
        return _names(unpack_layout(told["attrs"], frames))
    except WireError as error:
        raise FramingError(error.message) from error


def _pack_partial(partial: Mapping[str, PartialRanges]) -> dict[str, bytes]:
    return {name: np.ascontiguousarray(ranges, "<i8").tobytes() for name, ranges in partial.items()}


def _unpack_partial(told: Any) -> dict[str, PartialRanges]:
    return {name: _table(packed, 4) for name, packed in _names(told).items()}


def _pack_finalise(record: Finalise) -> dict[str, Any]:
    told: dict[str, Any] = {"status": record.status, "ended": record.ended}
    told["partial"] = _pack_partial(record.partial)
    missing = {name: np.array(ranges, "<i8").tobytes() for name, ranges in record.missing.items()}
    return told | {"missing": missing} | _pack_attrs(record.attrs)


def _unpack_finalise(told: Any) -> Finalise:
    missing = {
        name: [(start, stop) for start, stop in _table(packed, 2).tolist()]
        for name, packed in _names(told["missing"]).items()
    }
    if told["status"] not in STATUSES:
        raise FramingError(f"a scan does not end as {told['status']!r}")
    datetime.fromisoformat(told["ended"])
    return Finalise(
        status=told["status"],
        ended=told["ended"],
        attrs=_unpack_attrs(told),
        missing=missing,
        partial=_unpack_partial(told["partial"]),
    )


def _names(told: Any) -> dict[str, Any]:
    """Return a map by names; raise `FramingError` where it is none."""
    if not isinstance(told, dict) or not all(isinstance(name, str) for name in told):
        raise FramingError("what should go by names does not")
    return told


def _count(told: Any) -> int:
    """Return an integer from 0; raise `FramingError` where it is none."""
    if type(told) is not int or told < 0:
        raise FramingError(f"{told!r:.40} is no count")
    return told


def _table(packed: bytes, columns: int) -> PartialRanges:
    return np.frombuffer(packed, "<i8").astype(np.int64).reshape(-1, columns)


def _nothing(_record: Any) -> Mapping[str, Any]:
    return {}


_Kind: TypeAlias = tuple[type[Any], Callable[[Any], Mapping[str, Any]], Callable[[Any], Record]]
_KINDS: Mapping[str, _Kind] = {
    "k": (
        Checkpoint,
        lambda record: {"first_segment": record.first_segment},
        lambda told: Checkpoint(_count(told["first_segment"])),
    ),
    "a": (
        Annotated,
        lambda record: _pack_attrs(record.attrs),
        lambda told: Annotated(_unpack_attrs(told)),
    ),
    "f": (Finalise, _pack_finalise, _unpack_finalise),
    "h": (
        Held,
        lambda record: {"partial": _pack_partial(record.partial)},
        lambda told: Held(_unpack_partial(told["partial"])),
    ),
    "r": (
        Recovered,
        lambda record: {"count": record.count},
        lambda told: Recovered(_count(told["count"])),
    ),
    "d": (Done, _nothing, lambda _told: Done()),
    "o": (Opened, _nothing, lambda _told: Opened()),
    "x": (Closed, _nothing, lambda _told: Closed()),
}
