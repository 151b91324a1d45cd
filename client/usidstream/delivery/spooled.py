"""A block, or attributes, as a record of the spool; and back.

Pure. The head of a record tells how long the record has to be, a second time: so a record that was
being written when a process died is known from one whose length was damaged later.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..framing import Buffer, FramingError, Parts, pack, unpack
from .conform import MainShape
from .payload import NUMBER_NBYTES, Payload

# kind and flags, main's number, row, rows, column, columns, spans of rows written in one call
HEAD = struct.Struct("<IIQQQQQ")

_BLOCK, _ATTRIBUTES = 0x424C, 0x4154
_SCATTERED, _SINGLE = 1 << 16, 1 << 17
_SPAN_NBYTES = 16

Content = Payload | Mapping[str, Any]


class SpooledForm:
    """The form in which a scan's blocks stand in its spool.

    Parameters
    ----------
    mains
        In the order of the layout, which numbers them.
    """

    def __init__(self, mains: Sequence[MainShape]) -> None:
        self._mains = list(mains)
        self._numbers = {main.name: number for number, main in enumerate(mains)}

    def encode(self, content: Content) -> Parts:
        """Return the payload of a record, in pieces; data is not copied."""
        if not isinstance(content, Payload):
            attrs = pack(dict(content))
            return HEAD.pack(_ATTRIBUTES, 0, 0, len(attrs), 0, 0, 0), attrs
        kind = _BLOCK | (_SINGLE if content.single else 0)
        kind |= 0 if content.numbers is None else _SCATTERED
        head = HEAD.pack(
            kind,
            self._numbers[content.main],
            content.row,
            content.rows,
            content.col,
            content.cols,
            len(content.wholes),
        )
        spans = np.array(content.wholes, dtype="<u8").tobytes()
        return head, content.numbers or b"", spans, content.data

    def decode(self, record: bytes) -> Content:
        """Return what `encode` was given; raise `FramingError` where it is none."""
        if len(record) < HEAD.size or self.nbytes(record[: HEAD.size]) != len(record):
            raise FramingError("is no block of this scan")
        kind, number, row, rows, col, cols, n_spans = HEAD.unpack_from(record)
        view = memoryview(record)[HEAD.size :]
        if kind == _ATTRIBUTES:
            attrs: Mapping[str, Any] = unpack(bytes(view))
            return attrs
        numbers = None
        if kind & _SCATTERED:
            numbers, view = view[: rows * NUMBER_NBYTES], view[rows * NUMBER_NBYTES :]
        spans = np.frombuffer(view[: n_spans * _SPAN_NBYTES], dtype="<u8").reshape(-1, 2)
        return Payload(
            self._mains[number].name,
            row,
            rows,
            col,
            cols,
            view[n_spans * _SPAN_NBYTES :],
            numbers,
            single=bool(kind & _SINGLE),
            wholes=tuple((start, stop) for start, stop in spans.tolist()),
        )

    def nbytes(self, head: Buffer) -> int | None:
        """Return how long a record with this head is; None if there is no such record."""
        kind, number, row, rows, col, cols, n_spans = HEAD.unpack(head)
        if kind == _ATTRIBUTES:
            return HEAD.size + int(rows)
        if kind & 0xFFFF != _BLOCK or number >= len(self._mains):
            return None
        main = self._mains[number]
        if not (0 < rows <= main.n_rows and row < main.n_rows and 0 < cols <= main.n_cols - col):
            return None
        numbers = NUMBER_NBYTES * int(rows) if kind & _SCATTERED else 0
        data = int(rows * cols * main.dtype.itemsize)
        return HEAD.size + numbers + int(n_spans) * _SPAN_NBYTES + data
