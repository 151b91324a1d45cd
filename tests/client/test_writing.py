"""Pixels and blocks over a real socket: everything arrives where it belongs."""

from __future__ import annotations

from collections import OrderedDict
from types import MappingProxyType

import numpy as np
import pytest

from support.client_scans import (
    ALL,
    DATA,
    M,
    N,
    make_layout,
)
from support.daemon import wait_for
from support.fake_daemon import FakeDaemon
from usidstream import (
    BlockError,
    Client,
    UsidstreamError,
    wire,
)


def test_a_pixel_leaves_although_no_other_follows(daemon: FakeDaemon, client: Client) -> None:
    with client.open_scan(make_layout()) as scan:
        scan.write(7, DATA[7])
        daemon.wait_for(wire.Block, row=7)
        wait_for(lambda: scan.durable == 1, "the ack")


def test_the_caller_may_reuse_its_array(daemon: FakeDaemon, client: Client) -> None:
    buffer = np.empty(M, "f4")
    block = np.empty((3, M), "f4")
    with client.open_scan(make_layout()) as scan:
        for row in range(20):
            buffer[:] = DATA[row]
            scan.write(row, buffer)
        for row in range(20, 32, 3):
            block[:] = DATA[row : row + 3]
            scan.write_block(row, block)
        buffer[:] = block[:] = -1
    assert daemon.data(scan.scan_id, "Raw", "f4") == {row: ALL[row] for row in range(32)}


def test_blocks_scattered_rows_and_columns(daemon: FakeDaemon, client: Client) -> None:
    with client.open_scan(make_layout()) as scan:
        scan.write_block(0, DATA[:10, :4])
        scan.write_block(0, DATA[:10, 4:], 4)
        scan.write_at([30, 12, 13], DATA[[30, 12, 13]])
    rows = [*range(10), 12, 13, 30]
    assert daemon.data(scan.scan_id, "Raw", "f4") == {row: ALL[row] for row in rows}
    assert daemon.seen(wire.Block)[1].col == 4


def test_a_large_block_travels_in_pieces_that_the_daemon_takes(
    daemon: FakeDaemon, client: Client
) -> None:
    daemon.max_block_bytes = 1000
    daemon.restart()
    wait_for(lambda: daemon.connections == 2, "the client to come back")
    with client.open_scan(make_layout()) as scan:
        scan.write_block(0, DATA)
    assert daemon.data(scan.scan_id, "Raw", "f4") == ALL
    assert all(len(block.frames[0]) <= 1000 for block in daemon.seen(wire.Block))


def test_several_mains_at_once_and_each_by_its_name(daemon: FakeDaemon, client: Client) -> None:
    with client.open_scan(make_layout("Height", "Phase", m=1)) as scan:
        for row in range(0, 50):
            scan.write(row, {"Height": row + 0.5, "Phase": np.float32(-row)})
        for row in range(50, 100):
            scan.write(row, row + 0.5, "Height")
            scan.write(row, [-row], main="Phase")
        scan.write(100, {"Phase": -100.0})
    height, phase = (daemon.data(scan.scan_id, name, "f4") for name in ("Height", "Phase"))
    assert height == {row: [row + 0.5] for row in range(100)}
    assert phase == {row: [-row] for row in range(101)}


@pytest.mark.parametrize("kind", [dict, OrderedDict, MappingProxyType])
def test_a_dict_of_any_kind_may_name_the_only_main(
    daemon: FakeDaemon, client: Client, kind: type
) -> None:
    with client.open_scan(make_layout()) as scan:
        for row in [*range(0, 20, 2), 60, 40, 50]:
            scan.write(row, DATA[row])
            scan.write(row + 1, kind({"Raw": DATA[row + 1]}))
    rows = [*range(20), 40, 41, 50, 51, 60, 61]
    assert daemon.data(scan.scan_id, "Raw", "f4") == {row: ALL[row] for row in rows}


def test_a_dict_of_mains_and_a_main_are_too_much(client: Client) -> None:
    with client.open_scan(make_layout("Height", "Phase", m=1)) as scan:
        for row in range(3):
            scan.write(row, {"Height": 1.0, "Phase": 2.0})
            scan.write(row + 10, 1.0, "Height")
            with pytest.raises(BlockError, match="either main or a dict"):
                scan.write(row + 11, {"Height": 1.0, "Phase": 2.0}, "Height")
            with pytest.raises(BlockError, match="either main or a dict"):
                scan.write(99 - row, {"Height": 1.0, "Phase": 2.0}, "Height")
            with pytest.raises(BlockError, match="no main 'Depth'"):
                scan.write(row + 1, 1.0, "Depth")


def test_the_end_of_the_main_ends_the_fast_path(client: Client) -> None:
    with client.open_scan(make_layout()) as scan:
        for row in range(N):
            scan.write(row, DATA[row])
        with pytest.raises(BlockError, match=f"rows {N} to {N}"):
            scan.write(N, DATA[0])


def test_annotations_travel_in_order_with_blocks(daemon: FakeDaemon, client: Client) -> None:
    with client.open_scan(make_layout()) as scan:
        scan.annotate({"drift_nm": np.float32(1.5), "bins": np.arange(3), "who": "me"})
        scan.write(0, DATA[0])
        scan.finish(attrs={"end": True})
    [note] = daemon.seen(wire.Annotate)
    assert note.attrs == {"drift_nm": 1.5, "bins": [0, 1, 2], "who": "me"}
    assert daemon.seen(wire.Finish)[0].attrs == {"end": True}
    with pytest.raises(UsidstreamError, match="bad_attribute"):
        scan.annotate({"x": object()})


def test_a_client_keeps_what_is_not_durable_and_nothing_else(
    daemon: FakeDaemon, client: Client
) -> None:
    daemon.makes_durable = False
    scan = client.open_scan(make_layout())
    scan.write_block(0, DATA)
    daemon.wait_for(wire.Block)
    assert scan.retained_bytes == DATA.nbytes
    daemon.makes_durable = True
    scan.wait_durable()
    assert scan.retained_bytes == 0
    scan.detach()
