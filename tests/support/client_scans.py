"""A small scan and what tests of the client do with it."""

from __future__ import annotations

import numpy as np

from support.daemon import wait_for
from usidstream import Dimension, MainLayout, Scan, ScanLayout

N, M = 400, 16
SCAN = "0f" * 16
DATA = np.arange(N * M, dtype="f4").reshape(N, M)
ALL = {row: DATA[row].tolist() for row in range(N)}


def make_layout(*names: str, m: int = M) -> ScanLayout:
    """Return a layout of N positions and mains of ``m`` float32 each."""
    spectroscopic = [Dimension("Bias", "V", m)]
    mains = [
        MainLayout(name, "Current", "nA", "float32", spectroscopic) for name in names or ("Raw",)
    ]
    return ScanLayout(positions=[Dimension("X", "um", N)], mains=mains)


def write_all(scan: Scan) -> None:
    """Write every pixel, one by one, in a ``with`` block of the scan."""
    with scan:
        for row in range(N):
            scan.write(row, DATA[row])


def write_and_fail(scan: Scan, row: int) -> None:
    """Write a pixel in a ``with`` block of the scan, and fail as a program may."""
    with scan:
        scan.write(row, DATA[row])
        raise ZeroDivisionError("no tip")


def wait_for_error(scan: Scan) -> None:
    """Wait until the next call has something to raise."""
    wait_for(lambda: scan._channel.delivery.troubled, "the error to arrive")


def wait_until_cut(scan: Scan) -> None:
    """Wait until the client has noticed that the daemon is away."""
    wait_for(lambda: not scan._channel.delivery.is_open, "the client to notice")
