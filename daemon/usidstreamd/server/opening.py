"""What layouts the daemon takes: read from an ``open``, and refused before they cost much. Pure."""

from __future__ import annotations

from usidstream import wire
from usidstream.errors import UsidstreamError
from usidstream.layout import ScanLayout

from .. import storage

TABLE_BYTES_PER_LAYOUT_BYTE = 4
"""Tables are made of few values, in pieces, and shrink to a hundredth: a grid of 4096 x 4096 has
256 MiB of them, and opens in a second."""


def read_layout(message: wire.Open, limit_bytes: int) -> ScanLayout:
    """Return the layout that a client asks for.

    Raises
    ------
    UsidstreamError
        It is none, or its arrays or tables are too large.
    """
    nbytes = sum(len(frame) for frame in message.frames)
    if nbytes > limit_bytes:
        raise UsidstreamError(
            f"the layout's arrays take {nbytes} bytes, over {limit_bytes}", code="layout_too_large"
        )
    layout = ScanLayout.from_dict(wire.unpack_layout(message.layout, message.frames))
    storage.refuse_reserved_in(layout)
    nbytes, limit = storage.ancillary_nbytes(layout), TABLE_BYTES_PER_LAYOUT_BYTE * limit_bytes
    if nbytes > limit:
        raise UsidstreamError(
            f"the tables of its {layout.n_positions} positions and of its spectroscopic points "
            f"would take {nbytes} bytes, over {limit}",
            code="layout_too_large",
            hint="Divide the scan into smaller ones, or raise the daemon's max_layout_mb.",
        )
    return layout
