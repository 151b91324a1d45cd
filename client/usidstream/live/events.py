"""What a viewer is told, with layouts and arrays where the wire has frames.

`Heartbeat`, `ScanOpened`, `Progress`, `WarningTold` and `ScanClosed` are the wire's own messages;
their fields are described in ``docs/protocol.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .. import wire
from ..layout import ScanLayout
from ..wire import Heartbeat, Progress, ScanClosed, ScanOpened, WarningTold


@dataclass(frozen=True, slots=True)
class Connected:
    """A daemon is heard from now on.

    Parameters
    ----------
    instance
        Changes with each start of the daemon.
    daemon
        Program and version.
    """

    instance: str
    daemon: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """No daemon is heard; it is looked for again all the time.

    Parameters
    ----------
    reason
        Why, for people.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class LayoutTold:
    """A scan's layout; None if it was too large to be told and must be read from the file."""

    scan: str
    file: str
    layout: ScanLayout | None


@dataclass(frozen=True, slots=True)
class PreviewRows:
    """A value for each of some rows of a main. See `LiveMap`, which puts them together.

    Parameters
    ----------
    scan, main, name
        The scan's id, the main's number in its layout, and its name.
    reduction
        ``mean``, ``max``, ``at:<column>`` or ``latest``.
    seq
        Counts the messages of this preview: a gap is a loss.
    rows, values
        int64 and float32 arrays of one length.
    cols, n_cols
        Of how many of the main's columns each value was made.
    skipped
        Rows that the daemon left out since the last message, for lack of time.
    column
        The one that values of ``latest`` are of; None for other reductions.
    """

    scan: str
    main: int
    name: str
    reduction: str
    seq: int
    rows: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]
    cols: int
    n_cols: int
    skipped: int
    column: int | None = None


@dataclass(frozen=True, slots=True)
class PreviewNewest:
    """The row that came last.

    Parameters
    ----------
    scan, main, name
        As in `PreviewRows`.
    row
        Its number.
    values
        float32, one axis for each spectroscopic dimension, slowest first; NaN where nothing came.
    steps
        For each axis, every how-manyth element of the main's is there.
    """

    scan: str
    main: int
    name: str
    row: int
    values: npt.NDArray[np.float32]
    steps: tuple[int, ...]


Event: TypeAlias = (
    Connected
    | Disconnected
    | Heartbeat
    | ScanOpened
    | Progress
    | WarningTold
    | ScanClosed
    | LayoutTold
    | PreviewRows
    | PreviewNewest
)


def read_event(message: wire.Message) -> Event:
    """Turn a message of the telemetry socket into an event.

    Raises
    ------
    WireError, LayoutError
        Its frames do not fit, or its layout is none.
    """
    match message:
        case wire.LayoutTold(scan=scan, file=file, layout=packed):
            layout = wire.unpack_layout(packed, message.frames) if packed else None
            return LayoutTold(scan, file, ScanLayout.from_dict(layout) if layout else None)
        case wire.Increment():
            return _read_increment(message)
        case wire.Newest():
            return PreviewNewest(
                scan=message.scan,
                main=message.main,
                name=message.name,
                row=message.row,
                values=wire.unpack_newest(message),
                steps=tuple(reversed(message.steps)),
            )
        case Heartbeat() | ScanOpened() | Progress() | WarningTold() | ScanClosed():
            return message
    raise TypeError(f"{message.type} is no message of telemetry")


def _read_increment(message: wire.Increment) -> PreviewRows:
    rows, values = wire.unpack_increment(message)
    return PreviewRows(
        scan=message.scan,
        main=message.main,
        name=message.name,
        reduction=message.reduction,
        seq=message.seq,
        rows=rows,
        values=values,
        cols=message.cols,
        n_cols=message.n_cols,
        skipped=message.skipped,
        column=message.column,
    )
