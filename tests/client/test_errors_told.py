"""Which call raises what the daemon refused, and how often."""

from __future__ import annotations

import threading

import pytest

from support.client_scans import (
    ALL,
    DATA,
    SCAN,
    N,
    make_layout,
)
from support.fake_daemon import FakeDaemon
from usidstream import (
    BlockError,
    Client,
    DeliveryError,
    wire,
)


def refuse_first_block(daemon: FakeDaemon, code: str) -> None:
    """Refuse the first block that comes, take it nevertheless as settled, and go on normally."""

    def refuse(block: wire.Block) -> list[wire.Message]:
        del daemon.instead[wire.Block]
        daemon.scans[block.scan].last = block.seq
        error = wire.Error(
            code=code, message="no", scan=block.scan, seq=block.seq, operation="block"
        )
        return [error, *daemon.ack(daemon.scans[block.scan])]

    daemon.instead[wire.Block] = refuse


def test_leaving_the_block_finishes_and_then_tells_what_was_refused(
    daemon: FakeDaemon, client: Client
) -> None:
    refuse_first_block(daemon, "bad_shape")
    scan = client.open_scan(make_layout())
    with pytest.raises(BlockError, match="row 3"), scan:
        scan.write(3, DATA[3])
    assert scan.result.status == "complete"


def test_finish_raises_first_and_can_be_called_again(daemon: FakeDaemon, client: Client) -> None:
    refuse_first_block(daemon, "bad_shape")
    scan = client.open_scan(make_layout())
    scan.write(3, DATA[3])
    with pytest.raises(BlockError, match="row 3"):
        scan.finish()
    assert not daemon.seen(wire.Finish)
    scan.write(3, DATA[3])
    assert scan.finish().status == "complete"
    assert daemon.data(scan.scan_id, "Raw", "f4") == {3: ALL[3]}


def test_a_damaged_block_is_sent_again_and_nobody_hears_of_it(
    daemon: FakeDaemon, client: Client
) -> None:
    def check(block: wire.Block) -> list[wire.Message]:
        scan = daemon.scans[block.scan]
        address = (block.row, block.rows, block.col, block.cols)
        if block.crc == wire.block_crc(*address, block.frames):
            return daemon.take(block)
        scan.last = block.seq
        error = wire.Error(
            code="bad_checksum", message="no", scan=block.scan, seq=block.seq, retryable=True
        )
        return [error, *daemon.ack(scan)]

    daemon.instead[wire.Block] = check
    with client.open_scan(make_layout()) as scan:
        scan.corrupt_next_block()
        scan.write_block(0, DATA[:50])
        scan.wait_durable()
        scan.write_block(50, DATA[50:])
        scan.wait_durable()
        assert scan.durable == N
    assert daemon.data(scan.scan_id, "Raw", "f4") == ALL
    assert len(daemon.seen(wire.Block)) == 3


def test_a_fatal_error_wakes_who_waits(daemon: FakeDaemon, client: Client) -> None:
    daemon.makes_durable = False
    scan = client.open_scan(make_layout())
    scan.write(0, DATA[0])
    timer = threading.Thread(
        target=lambda: (
            daemon.wait_for(wire.Block),
            daemon.say(wire.Error(code="superseded", message="taken over", scan=scan.scan_id)),
        )
    )
    timer.start()
    with pytest.raises(DeliveryError, match="taken over"):
        scan.wait_durable(timeout_s=20)
    timer.join()


def test_two_scans_of_one_id_in_one_client_the_later_takes_over(client: Client) -> None:
    first = client.open_scan(make_layout(), scan_id=SCAN)
    second = client.open_scan(make_layout(), scan_id=SCAN)
    with pytest.raises(DeliveryError) as caught:
        first.write(0, DATA[0])
    assert caught.value.code == "superseded"
    second.write(0, DATA[0])
    assert second.finish().status == "complete"
