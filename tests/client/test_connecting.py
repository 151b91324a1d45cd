"""Connecting, asking and closing."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from support.client_scans import (
    ALL,
    DATA,
    SCAN,
    make_layout,
    wait_for_error,
)
from support.daemon import wait_for
from support.fake_daemon import FakeDaemon
from usidstream import (
    Client,
    DeliveryError,
    DeliveryTimeoutError,
    Dimension,
    MainLayout,
    ScanError,
    ScanLayout,
    UsidstreamError,
    connect,
    wire,
)


def test_an_open_that_is_not_answered_times_out(daemon: FakeDaemon) -> None:
    with connect(daemon.endpoint, timeout_s=0.3) as client:
        daemon.answers_open = False
        with pytest.raises(DeliveryTimeoutError, match=f"scan {SCAN} was not opened"):
            client.open_scan(make_layout(), scan_id=SCAN)
        daemon.answers_open = True
        assert client.open_scan(make_layout(), scan_id=SCAN).finish().status == "complete"


@pytest.mark.parametrize("scan_id", ["", "abc", "G" * 32, "A" * 32, "a" * 33, 7, b"a" * 32])
def test_what_is_no_scan_id(daemon: FakeDaemon, client: Client, scan_id: Any) -> None:
    for call in (
        lambda: client.open_scan(make_layout(), scan_id=scan_id),
        lambda: client.join_scan(scan_id),
    ):
        with pytest.raises(ScanError, match="32 lower-case hexadecimal digits") as caught:
            call()
        assert caught.value.code == "bad_name"
    with pytest.raises(ScanError, match="file must be a str, not int"):
        client.open_scan(make_layout(), file=7)  # type: ignore[arg-type]
    assert not daemon.seen(wire.Open)


def test_a_layout_over_the_limit_is_refused_before_it_is_sent(
    daemon: FakeDaemon, client: Client
) -> None:
    layout = ScanLayout(
        positions=[Dimension("X", "um", np.arange(200_000.0))],
        mains=[MainLayout(name="Raw", quantity="q", units="", dtype="float32")],
    )
    with pytest.raises(ScanError) as caught:
        client.open_scan(layout)
    assert caught.value.code == "layout_too_large"
    assert not daemon.seen(wire.Open)


def test_status_is_asked_again_on_a_new_connection(daemon: FakeDaemon, client: Client) -> None:
    client.open_scan(make_layout(), scan_id=SCAN)
    daemon.instead[wire.StatusRequest] = lambda _: []
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(client.status()))
    asking.start()
    daemon.wait_for(wire.StatusRequest)
    del daemon.instead[wire.StatusRequest]
    daemon.restart()
    asking.join(20)
    assert answers[0]["scans"] == [{"scan": SCAN}]


def test_a_late_answer_is_not_taken_for_the_next_one(daemon: FakeDaemon) -> None:
    def report(name: str) -> wire.StatusReport:
        return wire.StatusReport(daemon={"name": name}, scans=[])

    with connect(daemon.endpoint, timeout_s=0.4) as client:
        daemon.instead[wire.StatusRequest] = lambda _: []
        with pytest.raises(DeliveryTimeoutError, match="the daemon did not answer"):
            client.status()
        daemon.instead[wire.StatusRequest] = lambda _: [report("late"), report("right")]
        assert client.status()["daemon"] == {"name": "right"}


def test_a_refused_question_is_told(daemon: FakeDaemon, client: Client) -> None:
    scan = client.open_scan(make_layout())
    daemon.instead[wire.StatusRequest] = lambda request: [
        wire.Error(code="unknown_scan", message="none", scan=request.scan, operation="status")
    ]
    with pytest.raises(ScanError, match="none"):
        scan.durable_ranges()
    scan.write(0, DATA[0])
    assert scan.finish().status == "complete", "a question ends no scan"


def refusal(request: wire.StatusRequest, code: str) -> wire.Error:
    return wire.Error(
        code=code, message="not yet", retryable=True, scan=request.scan, operation="status"
    )


def test_a_question_waits_while_the_scan_is_recovered(daemon: FakeDaemon, client: Client) -> None:
    scan = client.open_scan(make_layout())
    scan.write(3, DATA[3])
    scan.wait_durable()
    refusals = ["recovering", "not_joined"]

    def refuse(request: wire.StatusRequest) -> list[wire.Message]:
        if len(refusals) == 1:
            del daemon.instead[wire.StatusRequest]
        code = refusals.pop(0)
        return [refusal(request, code)]

    daemon.instead[wire.StatusRequest] = refuse
    assert scan.durable_ranges() == [(3, 4)]
    assert not refusals


def test_a_scan_that_is_recovered_for_too_long_is_told(daemon: FakeDaemon) -> None:
    with connect(daemon.endpoint, timeout_s=0.5) as client:
        scan = client.open_scan(make_layout())
        daemon.instead[wire.StatusRequest] = lambda request: [refusal(request, "recovering")]
        with pytest.raises(UsidstreamError) as caught:
            scan.durable_ranges()
        assert caught.value.code == "recovering"
        scan.detach()


def test_closing_delivers_what_was_written(daemon: FakeDaemon) -> None:
    client = connect(daemon.endpoint)
    scan = client.open_scan(make_layout())
    scan.write(9, DATA[9])
    client.close()
    assert daemon.data(scan.scan_id, "Raw", "f4") == {9: ALL[9]}
    daemon.wait_for(wire.Bye)
    for call in (lambda: scan.write(1, DATA[1]), client.status, scan.finish):
        with pytest.raises(DeliveryError) as caught:
            call()
        assert caught.value.code == "closed"
    client.close()


def test_closing_tells_what_no_call_has_told(daemon: FakeDaemon) -> None:
    client = connect(daemon.endpoint)
    told, untold = (client.open_scan(make_layout()) for _ in range(2))
    for scan in (told, untold):
        scan.write(0, DATA[0])
        message = f"the disk of {scan.scan_id} burns"
        daemon.say(wire.Error(code="storage_failed", message=message, scan=scan.scan_id))
        wait_for_error(scan)
    with pytest.raises(DeliveryError, match="burns"):
        told.write(1, DATA[1])
    with pytest.raises(DeliveryError, match=f"closed with the disk of {untold.scan_id}") as caught:
        client.close()
    assert told.scan_id not in str(caught.value)
    client.close()


def test_a_programs_own_error_is_not_hidden_by_closing(daemon: FakeDaemon) -> None:
    daemon.makes_durable = False
    client = connect(daemon.endpoint)

    def write_and_fail_in_client() -> None:
        with client:
            client.open_scan(make_layout()).write(9, DATA[9])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        write_and_fail_in_client()
    assert any("closed with 64 bytes" in note for note in caught.value.__notes__)


def test_no_thread_outlives_its_client(daemon: FakeDaemon) -> None:
    def count() -> int:
        return sum(thread.name == "usidstream-io" for thread in threading.enumerate())

    before = count()
    client = connect(daemon.endpoint)
    scan = client.open_scan(make_layout())
    assert count() == before + 1
    del client
    assert count() == before + 1, "the scan holds its client"
    scan.write(0, DATA[0])
    del scan
    wait_for(lambda: count() == before, "the thread to end")
    assert daemon.seen(wire.Block), "what was written went out"
