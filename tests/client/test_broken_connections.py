"""Daemons that die, hang, forget or babble: the caller notices nothing but time."""

from __future__ import annotations

import pytest

from support.client_scans import (
    ALL,
    DATA,
    SCAN,
    M,
    N,
    make_layout,
    wait_until_cut,
)
from support.daemon import wait_for
from support.fake_daemon import FakeDaemon
from usidstream import (
    BlockError,
    Client,
    DeliveryTimeoutError,
    ScanError,
    connect,
    wire,
)


@pytest.mark.parametrize("forgets", [True, False])
def test_a_restart_in_mid_scan_costs_only_time(
    daemon: FakeDaemon, client: Client, forgets: bool
) -> None:
    with client.open_scan(make_layout()) as scan:
        for row in range(N):
            if row == 100:
                scan.wait_durable()
                daemon.makes_durable = False
            if row in (150, 250):
                daemon.wait_for(wire.Block, row=row - 50)
                daemon.restart(forgets=forgets)
            if row % 50 == 0:
                wait_for(lambda: not scan._channel.lanes.lingering, "the block to leave")
            scan.write(row, DATA[row])
        daemon.makes_durable = True
    got = daemon.data(scan.scan_id, "Raw", "f4")
    assert list(got) == list(range(N))
    assert {row: values[:M] for row, values in got.items()} == ALL
    assert daemon.connections == 3
    assert [open_.scan for open_ in daemon.seen(wire.Open)] == [scan.scan_id] * 3
    again = [block for block in daemon.seen(wire.Block) if block.again]
    assert again
    assert all(block.row >= 100 for block in again), "what is durable is not sent again"


def test_a_daemon_that_is_away_for_a_while(daemon: FakeDaemon, client: Client) -> None:
    with client.open_scan(make_layout()) as scan:
        scan.write(0, DATA[0])
        scan.wait_durable()
        daemon.stop()
        wait_until_cut(scan)
        for row in range(1, N):
            scan.write(row, DATA[row])
        with pytest.raises(DeliveryTimeoutError, match="no connection: "):
            scan.wait_durable(timeout_s=0.3)
        daemon.start()
    assert daemon.data(scan.scan_id, "Raw", "f4") == ALL


def test_a_daemon_that_forgot_the_client_is_dialled_again(
    daemon: FakeDaemon, client: Client
) -> None:
    with client.open_scan(make_layout()) as scan:
        daemon.say(wire.Error(code="no_session", message="who are you?", retryable=True))
        wait_for(lambda: daemon.connections == 2, "a second connection")
        scan.write_block(0, DATA)
    assert daemon.data(scan.scan_id, "Raw", "f4") == ALL


def test_what_is_durable_is_skipped_and_counted(daemon: FakeDaemon) -> None:
    with connect(daemon.endpoint) as client:
        scan = client.open_scan(make_layout(), scan_id=SCAN)
        scan.write_block(0, DATA[:100])
        scan.write_block(200, DATA[200:250])
        scan.wait_durable()
    sent_before = len(daemon.seen(wire.Block))
    with connect(daemon.endpoint) as client, client.open_scan(make_layout(), scan_id=SCAN) as scan:
        for row in range(N // 2):
            scan.write(row, DATA[row])
        scan.write_at(range(200, 300), DATA[200:300])
        scan.write_block(240, DATA[240:250])
        scan.write_block(300, DATA[300:])
        assert scan.skipped == 160
    assert daemon.data(SCAN, "Raw", "f4") == ALL
    later = daemon.seen(wire.Block)[sent_before:]
    assert all(block.again for block in later)


def test_a_scan_that_had_ended_takes_all_it_holds(daemon: FakeDaemon, client: Client) -> None:
    frames: list[wire.Frame] = []
    missing = {"Raw": wire.pack_ranges([(5, 7)], frames)}
    result = wire.Finished(
        scan=SCAN, file="/data/a.h5", status="incomplete", missing=missing, frames=frames
    )
    daemon.instead[wire.Open] = lambda _: [result]
    with client.open_scan(make_layout(), scan_id=SCAN) as scan:
        assert scan.result.missing == {"Raw": [(5, 7)]}
        scan.write(0, DATA[0])
        scan.write(1, {"Raw": DATA[1]})
        scan.write_block(7, DATA[7:20])
        scan.write_at([3, 2], DATA[[3, 2]])
        scan.wait_durable()
        assert scan.skipped == 17
        assert scan.durable == N - 2
        assert scan.durable_ranges() == [(0, 5), (7, N)]
        for call in (
            lambda: scan.write(5, DATA[5]),
            lambda: scan.write_block(4, DATA[4:6]),
            lambda: scan.write_at([1, 6], DATA[[1, 6]]),
        ):
            with pytest.raises(ScanError, match="ended without row") as caught:
                call()
            assert caught.value.code == "scan_finished"
        with pytest.raises(BlockError):
            scan.write(N, DATA[0])
    assert scan.finish().status == "incomplete"
    assert not daemon.seen(wire.Block)


def test_a_daemon_that_makes_nothing_durable_is_asked_to(daemon: FakeDaemon) -> None:
    daemon.makes_durable = False
    daemon.commits_when_asked = True
    client = connect(daemon.endpoint, write_timeout_s=20, retain_limit_bytes=8192)
    with client, client.open_scan(make_layout()) as scan:
        for row in range(N):
            scan.write(row, DATA[row])
    assert daemon.data(scan.scan_id, "Raw", "f4") == ALL
    assert daemon.seen(wire.Ping, commit=True)
