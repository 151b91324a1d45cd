"""Finishing, leaving, aborting, detaching."""

from __future__ import annotations

import threading

import pytest

from support.client_scans import (
    ALL,
    DATA,
    SCAN,
    N,
    make_layout,
    wait_until_cut,
    write_all,
    write_and_fail,
)
from support.daemon import wait_for
from support.fake_daemon import FakeDaemon
from usidstream import (
    Client,
    DeliveryError,
    DeliveryTimeoutError,
    ScanError,
    connect,
    wire,
)


def test_a_joiner_learns_the_layout_and_leaves(daemon: FakeDaemon, client: Client) -> None:
    layout = make_layout("Height", "Phase")
    first = client.open_scan(layout, scan_id=SCAN)
    daemon.makes_durable = False
    with connect(daemon.endpoint) as helper:
        scan = helper.join_scan(SCAN)
        assert scan.layout == layout
        scan.write(0, DATA[0], "Phase")
        leaving = threading.Thread(target=scan.leave)
        leaving.start()
        daemon.wait_for(wire.Ping, commit=True)
        assert not daemon.seen(wire.Leave), "not all of its own is durable"
        daemon.makes_durable = True
        leaving.join(20)
        assert scan.result.status == "acquiring"
        with pytest.raises(ScanError, match="has ended"):
            scan.write(1, DATA[1], "Phase")
    assert daemon.seen(wire.Leave)[0].seq == 1
    first.finish()


def test_a_joiner_cannot_abort_and_leaves_when_its_program_fails(
    daemon: FakeDaemon, client: Client
) -> None:
    client.open_scan(make_layout(), scan_id=SCAN)
    with connect(daemon.endpoint) as helper:
        scan = helper.join_scan(SCAN)
        with pytest.raises(ScanError) as caught:
            scan.abort()
        assert caught.value.code == "not_opener"
        with pytest.raises(ZeroDivisionError):
            write_and_fail(scan, 0)
        assert scan.result.status == "acquiring"
    assert daemon.data(SCAN, "Raw", "f4") == {0: ALL[0]}
    assert not daemon.seen(wire.Abort)


def test_a_joiner_joins_again_after_a_restart(daemon: FakeDaemon, client: Client) -> None:
    client.open_scan(make_layout(), scan_id=SCAN)
    with connect(daemon.endpoint) as helper, helper.join_scan(SCAN) as scan:
        scan.write_block(0, DATA[:200])
        daemon.restart(forgets=False)
        scan.write_block(200, DATA[200:])
    assert len(daemon.seen(wire.Join)) == 2
    assert list(daemon.data(SCAN, "Raw", "f4")) == list(range(N))


def test_an_exception_aborts_and_what_was_written_arrives(
    daemon: FakeDaemon, client: Client
) -> None:
    scan = client.open_scan(make_layout())
    with pytest.raises(ZeroDivisionError):
        write_and_fail(scan, 3)
    assert scan.result.status == "aborted"
    assert daemon.seen(wire.Abort)[0].reason == "ZeroDivisionError: no tip"
    assert daemon.data(scan.scan_id, "Raw", "f4") == {3: ALL[3]}


def test_a_delivery_error_detaches(daemon: FakeDaemon) -> None:
    daemon.acks = False
    with connect(
        daemon.endpoint, timeout_s=5, write_timeout_s=0.2, retain_limit_bytes=4096
    ) as client:
        scan = client.open_scan(make_layout(), scan_id=SCAN)
        with pytest.raises(DeliveryTimeoutError):
            write_all(scan)
        daemon.acks = True
        with pytest.raises(DeliveryError, match="let go of scan") as caught:
            scan.write(0, DATA[0])
        assert caught.value.code == "closed"
        assert not daemon.seen(wire.Abort)
        with client.open_scan(make_layout(), scan_id=SCAN) as scan:
            scan.write_block(0, DATA)
    assert sorted(daemon.data(SCAN, "Raw", "f4")) == list(range(N))


def test_an_abort_that_does_not_get_through_is_added_to_the_programs_error(
    daemon: FakeDaemon,
) -> None:
    client = connect(daemon.endpoint, timeout_s=0.5)
    with client:
        scan = client.open_scan(make_layout())
        daemon.stop()
        wait_until_cut(scan)
        with pytest.raises(ZeroDivisionError) as caught, scan:
            raise ZeroDivisionError
        assert any("could not be ended" in note for note in caught.value.__notes__)
        daemon.start()


def test_a_declined_finish_can_be_repeated(daemon: FakeDaemon, client: Client) -> None:
    busy = wire.Error(
        code="joiners_busy", message="bob is here", scan=SCAN, operation="finish", retryable=True
    )
    daemon.instead[wire.Finish] = lambda _: [busy]
    scan = client.open_scan(make_layout(), scan_id=SCAN)
    with pytest.raises(ScanError, match="bob is here"):
        scan.finish()
    scan.write(0, DATA[0])
    del daemon.instead[wire.Finish]
    assert scan.finish().status == "complete"
    assert scan.finish().status == "complete", "a second finish tells the same"
    assert daemon.data(SCAN, "Raw", "f4") == {0: ALL[0]}


def test_a_finish_that_is_not_answered_times_out_and_can_be_repeated(
    daemon: FakeDaemon, client: Client
) -> None:
    daemon.instead[wire.Finish] = lambda _: []
    scan = client.open_scan(make_layout(), scan_id=SCAN)
    with pytest.raises(DeliveryTimeoutError, match="the scan was not ended"):
        scan.finish(timeout_s=0.2)
    answer = threading.Thread(
        target=lambda: daemon.say(wire.Finished(scan=SCAN, file="/f", status="complete"))
    )
    answer.start()
    assert scan.finish().status == "complete"
    answer.join()
    assert len(daemon.seen(wire.Finish)) == 1


def test_a_lost_answer_to_finish_comes_after_the_restart(
    daemon: FakeDaemon, client: Client
) -> None:
    def finish_and_die(message: wire.Finish) -> list[wire.Message]:
        daemon.end(message)
        return []

    daemon.instead[wire.Finish] = finish_and_die
    scan = client.open_scan(make_layout())
    scan.write_block(0, DATA)
    finishing = threading.Thread(target=scan.finish)
    finishing.start()
    daemon.wait_for(wire.Finish)
    daemon.restart()
    finishing.join(20)
    assert scan.result.status == "complete"


def test_a_scan_that_is_ended_takes_nothing_more(client: Client) -> None:
    scan = client.open_scan(make_layout())
    with pytest.raises(ScanError, match="has not ended"):
        _ = scan.result
    scan.write(0, DATA[0])
    scan.finish()
    for row in (0, 1, 2):
        with pytest.raises(ScanError) as caught:
            scan.write(row, DATA[row])
        assert caught.value.code == "scan_finished"


def test_an_end_that_nobody_asked_for_stops_the_writer(daemon: FakeDaemon, client: Client) -> None:
    scan = client.open_scan(make_layout())
    scan.write(0, DATA[0])
    daemon.say(wire.Finished(scan=scan.scan_id, file="/f", status="interrupted"))
    wait_for(lambda: scan._channel.delivery.ended, "the end")
    with pytest.raises(ScanError, match="has ended"):
        scan.write(1, DATA[1])
    assert scan.result.status == "interrupted"
