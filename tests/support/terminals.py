"""What a program wrote to a terminal, as whoever has the other side reads it."""

from __future__ import annotations

import contextlib
import os


def read_until_hang_up(descriptor: int) -> str:
    """Read until nobody has the terminal open any more, and close this side."""
    text = b""
    try:
        with contextlib.suppress(OSError):  # how Linux tells the end
            while more := os.read(descriptor, 65536):
                text += more
    finally:
        os.close(descriptor)
    return text.decode()
