"""Several threads that write one scan, and switch as often as the interpreter lets them."""

from __future__ import annotations

from collections.abc import Iterator

from support.crowd import in_threads
from support.fake_daemon import FakeDaemon
from usidstream import Dimension, MainLayout, Scan, ScanLayout, connect

N = 12_000
LINGER_S = 0.001


def write_rows(scan: Scan, rows: Iterator[int]) -> None:
    for row in rows:
        scan.write(row, row + 0.5, "Height")
        scan.write(row, {"Phase": -row, "Current": 2 * row})


def test_rows_that_threads_deal_out_among_each_other_all_arrive_once(daemon: FakeDaemon) -> None:
    mains = [MainLayout(name, name, "V", "float32") for name in ("Height", "Phase", "Current")]
    layout = ScanLayout(positions=[Dimension("X", "um", N)], mains=mains)
    rows = iter(range(N))
    with connect(daemon.endpoint, linger_s=LINGER_S) as client, client.open_scan(layout) as scan:
        in_threads(lambda _number: write_rows(scan, rows))
        scan.wait_durable()
    expected = {"Height": (1, 0.5), "Phase": (-1, 0), "Current": (2, 0)}
    for name, (slope, offset) in expected.items():
        arrived = daemon.data(scan.scan_id, name, "f4")
        assert arrived == {row: [slope * row + offset] for row in range(N)}
