"""Whatever a peer sends, it gets a stable code, and the daemon and its other scans go on."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import msgpack
import numpy as np
import pytest
import zmq

from support.daemon import Daemon, wait_for
from support.rawpeer import RawPeer, make_block
from usidstream import connect, wire
from usidstream.layout import Dimension, MainLayout, ScanLayout

N_ROWS, N_COLS = 20, 6
DATA = np.arange(N_ROWS * N_COLS, dtype="<f4").reshape(N_ROWS, N_COLS)


def small_layout(**more: Any) -> ScanLayout:
    main = MainLayout(
        name="Raw",
        quantity="Current",
        units="nA",
        dtype="float32",
        spectroscopic=[Dimension("Bias", "V", N_COLS)],
    )
    positions = [Dimension("X", "um", 5), Dimension("Y", "um", N_ROWS // 5)]
    return ScanLayout(positions=positions, mains=[main], **more)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(
        tmp_path_factory.mktemp("bad") / "data", credit_window_mb=1, max_block_mb=1, max_layout_mb=9
    ) as daemon:
        yield daemon


@pytest.fixture(autouse=True)
def _still_serves(daemon: Daemon) -> Iterator[None]:
    """After each test: no traceback in the log, and a whole scan goes through, bit for bit."""
    yield
    with RawPeer(daemon.endpoint) as peer:
        result = run_scan(peer)
    with h5py.File(result.file) as h5_file:
        np.testing.assert_array_equal(h5_file["Measurement_000/Raw"][...], DATA)
    assert "Traceback" not in daemon.log


@pytest.fixture
def peer(daemon: Daemon) -> Iterator[RawPeer]:
    with RawPeer(daemon.endpoint) as peer:
        yield peer


def run_scan(peer: RawPeer, scan: str = "", *, first_seq: int = 1) -> wire.Finished:
    if not scan:
        scan = peer.open(small_layout()).scan
    peer.block(scan, "Raw", first_seq, 0, DATA)
    peer.send(wire.Finish(scan=scan, seq=first_seq))
    result = peer.expect(wire.Finished, scan=scan)
    assert result.status == "complete"
    return result


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"rows": N_ROWS - 1}, "bad_shape"),
        ({"cols": N_COLS - 1}, "bad_shape"),
        ({"rows": 0}, "bad_shape"),
        ({"frames": (b"",)}, "bad_shape"),
        ({"frames": ()}, "bad_shape"),
        ({"frames": (b"x", b"y", b"z")}, "bad_shape"),
        ({"row": 1}, "out_of_bounds"),
        ({"row": 2**63 - 1}, "out_of_bounds"),
        ({"col": 1}, "out_of_bounds"),
        ({"crc": 12345}, "bad_checksum"),
        ({"main": "Nope"}, "unknown_main"),
    ],
)
def test_a_bad_block_is_refused_by_name_and_the_scan_goes_on(
    peer: RawPeer, fields: dict[str, Any], code: str
) -> None:
    scan = peer.open(small_layout()).scan
    peer.block(scan, "Raw", 1, 0, DATA, lies=fields)
    error = peer.expect(wire.Error, scan=scan)
    assert (error.code, error.seq, error.operation) == (code, 1, "block")
    assert error.hint
    ack = peer.expect(wire.Ack, scan=scan)
    assert ack.received == 1, "a refused block counts as settled"
    run_scan(peer, scan, first_seq=2)


def test_a_damaged_row_number_with_a_good_payload_is_a_bad_checksum(peer: RawPeer) -> None:
    scan = peer.open(small_layout()).scan
    crc = make_block(scan, "Raw", 1, 3, DATA[3:5]).crc
    peer.block(scan, "Raw", 1, 4, DATA[3:5], lies={"crc": crc})
    assert peer.expect(wire.Error, scan=scan).code == "bad_checksum"
    run_scan(peer, scan, first_seq=2)


def test_scattered_rows_are_checked_too(peer: RawPeer) -> None:
    scan = peer.open(small_layout()).scan
    wrong = [(2**40, 0), (3, 3), None]
    for seq, numbers in enumerate(wrong, start=1):
        named = struct.pack("<2Q", *numbers) if numbers else b"short"
        frames = (named, DATA[:2].tobytes())
        peer.block(scan, "Raw", seq, 0, DATA[:2], lies={"frames": frames})
    codes = [peer.expect(wire.Error, scan=scan, seq=seq).code for seq in (1, 2, 3)]
    assert codes == ["out_of_bounds", "bad_shape", "bad_shape"]
    run_scan(peer, scan, first_seq=4)


def test_covered_rows_are_refused_with_the_ranges_and_nothing_of_the_block_is_stored(
    peer: RawPeer,
) -> None:
    scan = peer.open(small_layout()).scan
    peer.block(scan, "Raw", 1, 4, DATA[4:6])
    peer.block(scan, "Raw", 2, 0, -DATA)
    error = peer.expect(wire.Error, scan=scan)
    assert (error.code, error.seq) == ("already_covered", 2)
    assert "4" in error.message + str(error.details)
    peer.block(scan, "Raw", 3, 0, DATA, again=True)
    peer.send(wire.Finish(scan=scan, seq=3))
    result = peer.expect(wire.Finished, scan=scan)
    with h5py.File(result.file) as h5_file:
        np.testing.assert_array_equal(h5_file["Measurement_000/Raw"][...], DATA)


def test_what_was_held_is_not_overwritten_by_a_resend(peer: RawPeer) -> None:
    scan = peer.open(small_layout()).scan
    peer.block(scan, "Raw", 1, 0, DATA)
    peer.block(scan, "Raw", 2, 0, -DATA, again=True)
    peer.send(wire.Finish(scan=scan, seq=2))
    result = peer.expect(wire.Finished, scan=scan)
    with h5py.File(result.file) as h5_file:
        np.testing.assert_array_equal(h5_file["Measurement_000/Raw"][...], DATA)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([b"\xc1 not msgpack"], "bad_message"),
        ([b""], "bad_message"),
        ([msgpack.packb([1, 2])], "bad_message"),
        ([msgpack.packb({"no": "type"})], "bad_message"),
        ([msgpack.packb({"type": "explode"})], "unknown_type"),
        ([msgpack.packb({"type": "block"})], "bad_message"),
        ([msgpack.packb({"type": "join", "scan": "not hex"})], "bad_message"),
        ([msgpack.packb({"type": "ping", "pad": "x" * (1 << 20)})], "message_too_large"),
        ([msgpack.packb({"type": "ping"}), *[b""] * 5000], "message_too_large"),
    ],
)
def test_what_cannot_be_read_costs_an_error(peer: RawPeer, frames: list[bytes], code: str) -> None:
    peer.send_frames(frames)
    assert peer.expect(wire.Error).code == code
    peer.send(wire.Ping())
    peer.expect(wire.Pong)


def test_nothing_is_answered_before_hello(daemon: Daemon) -> None:
    with RawPeer(daemon.endpoint, hello=False) as stranger:
        stranger.send(make_block("a" * 32, "Raw", 1, 0, DATA))
        assert stranger.expect(wire.Error).code == "no_session"
        stranger.send(wire.Hello(versions=[7]))
        assert stranger.expect(wire.Error).code == "unsupported_version"
        stranger.send(wire.Ping())
        assert stranger.expect(wire.Error).code == "no_session"


def test_a_frame_over_the_limit_cuts_the_connection_only(daemon: Daemon) -> None:
    with RawPeer(daemon.endpoint) as peer:
        monitor = peer._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        try:
            peer.send_frames([msgpack.packb({"type": "ping"}), b"x" * (10 << 20)])
            wait_for(lambda: monitor.poll(0), "the cut")
        finally:
            peer._socket.disable_monitor()


def test_a_block_over_the_credit_is_refused(peer: RawPeer) -> None:
    wide = ScanLayout(
        positions=[Dimension("X", "um", 4)],
        mains=[
            MainLayout(
                name="Raw",
                quantity="Current",
                units="nA",
                dtype="uint8",
                spectroscopic=[Dimension("Bias", "V", 1 << 20)],
            )
        ],
    )
    opened = peer.open(wide)
    block = np.zeros((2, 1 << 20), np.uint8)
    peer.block(opened.scan, "Raw", 1, 0, block)
    assert peer.expect(wire.Error, scan=opened.scan).code in (
        "credit_exceeded",
        "message_too_large",
    )
    peer.block(opened.scan, "Raw", 2, 0, block[:1])
    assert peer.expect(wire.Ack, received=2).credit > opened.credit


def test_an_unknown_scan_is_named(peer: RawPeer) -> None:
    ghost = secrets.token_hex(16)
    for message in (
        make_block(ghost, "Raw", 1, 0, DATA),
        wire.Join(scan=ghost),
        wire.Finish(scan=ghost, seq=0),
        wire.StatusRequest(scan=ghost, coverage=True),
    ):
        peer.send(message)
        error = peer.expect(wire.Error, scan=ghost)
        assert (error.code, error.operation) == ("unknown_scan", message.type)


def test_a_second_finish_gets_the_same_result_and_late_blocks_none(peer: RawPeer) -> None:
    scan = peer.open(small_layout()).scan
    first = run_scan(peer, scan)
    peer.send(wire.Finish(scan=scan, seq=1))
    assert peer.expect(wire.Finished, scan=scan) == first
    peer.block(scan, "Raw", 2, 0, DATA)
    assert peer.expect(wire.Error, scan=scan).code == "scan_finished"


def test_a_gap_in_the_sequence_is_asked_for_again(peer: RawPeer) -> None:
    scan = peer.open(small_layout()).scan
    peer.block(scan, "Raw", 2, 10, DATA[10:])
    assert peer.expect(wire.Resend, scan=scan).seq == 1
    peer.block(scan, "Raw", 1, 0, DATA[:10])
    peer.block(scan, "Raw", 2, 10, DATA[10:])
    peer.send(wire.Finish(scan=scan, seq=2))
    assert peer.expect(wire.Finished, scan=scan).status == "complete"


def _layout_dict() -> tuple[dict[str, Any], list[wire.Frame]]:
    frames: list[wire.Frame] = []
    return wire.pack_layout(small_layout().to_dict(), frames), frames


def _huge(layout: dict[str, Any]) -> None:
    layout["positions"] = [{"name": n, "units": "um", "size": 2**31} for n in "XYZ"]


def _duplicate_main(layout: dict[str, Any]) -> None:
    layout["mains"] = [layout["mains"][0], dict(layout["mains"][0])]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_huge, "bad_layout"),
        (_duplicate_main, "bad_layout"),
        (lambda layout: layout.update(mains=[]), "bad_layout"),
        (lambda layout: layout.update(positions=[]), "bad_layout"),
        (lambda layout: layout.update(colour="red"), "bad_layout"),
        (lambda layout: layout.update(open_ended=True), "unsupported_feature"),
        (lambda layout: layout["mains"][0].update(positions=[]), "unsupported_feature"),
        (lambda layout: layout["mains"][0].update(dtype="object"), "bad_layout"),
        (lambda layout: layout["mains"][0].update(compression="zip"), "bad_layout"),
        (lambda layout: layout.update(attrs={"acquisition_status": "mine"}), "bad_attribute"),
        (lambda layout: layout["mains"][0].update(attrs={"quantity": "x"}), "bad_attribute"),
        (lambda layout: layout.update(attrs={"nested": {"a": 1}}), "bad_attribute"),
        (lambda layout: layout.update(name="Mea-surement"), "bad_name"),
        (lambda layout: layout.update(name="../up"), "bad_name"),
        (lambda layout: layout["mains"][0].update(name="a\0b"), "bad_name"),
        (lambda layout: layout["mains"][0].update(name="x" * 300), "bad_name"),
        (lambda layout: layout["mains"][0].update(dataset=".."), "bad_name"),
        (lambda layout: layout["mains"][0].update(spectroscopic={"a": 1}), "bad_layout"),
    ],
)
def test_a_bad_layout_is_refused_and_leaves_nothing_behind(
    daemon: Daemon, peer: RawPeer, change: Any, code: str
) -> None:
    layout, frames = _layout_dict()
    change(layout)
    scan = secrets.token_hex(16)
    peer.send(wire.Open(scan=scan, layout=layout, file="refused", frames=frames))
    error = peer.expect(wire.Error, scan=scan)
    assert (error.code, error.operation) == (code, "open")
    assert not _files_named(daemon, "refused")


@pytest.mark.parametrize(
    "file", ["../evil", "a/b", "", "nul\0", "x" * 300, ".hidden", "con\n", "..", "a\\b"]
)
def test_a_file_name_is_a_name_and_never_a_path(daemon: Daemon, peer: RawPeer, file: str) -> None:
    before = _tree(daemon.data_dir.parent)
    layout, frames = _layout_dict()
    scan = secrets.token_hex(16)
    peer.send(wire.Open(scan=scan, layout=layout, file=file, frames=frames))
    assert peer.expect(wire.Error, scan=scan).code == "bad_name"
    assert _tree(daemon.data_dir.parent) <= before  # an earlier scan's journal may go


def test_a_layout_whose_tables_would_be_over_the_limit_is_refused(
    peer: RawPeer, daemon: Daemon
) -> None:
    before = _tree(daemon.data_dir.parent)
    for n_positions in (4 * 9 * 2**17 + 1, 2**28, 2**32 - 1):
        layout = ScanLayout(
            positions=[Dimension("X", "nm", n_positions)],
            mains=[MainLayout("Raw", "Current", "nA", "float32")],
        )
        scan = secrets.token_hex(16)
        peer.send(wire.Open(scan=scan, layout=wire.pack_layout(layout.to_dict(), []), frames=[]))
        error = peer.expect(wire.Error, scan=scan)
        assert error.code == "layout_too_large"
        assert "max_layout_mb" in error.hint
    assert _tree(daemon.data_dir.parent) <= before  # an earlier scan's journal may go


def test_layout_arrays_over_the_limit_are_refused(peer: RawPeer) -> None:
    layout, _ = _layout_dict()
    scan = secrets.token_hex(16)
    frames = [b"x" * (5 << 20)] * 2
    peer.send(wire.Open(scan=scan, layout=layout, frames=frames))
    assert peer.expect(wire.Error, scan=scan).code == "layout_too_large"


def test_another_layout_under_a_known_scan_id_is_refused(peer: RawPeer) -> None:
    scan = peer.open(small_layout()).scan
    frames: list[wire.Frame] = []
    other = wire.pack_layout(small_layout(attrs={"a": 1}).to_dict(), frames)
    peer.send(wire.Open(scan=scan, layout=other, frames=frames))
    assert peer.expect(wire.Error, scan=scan).code == "layout_differs"
    run_scan(peer, scan)


def test_two_clients_with_one_scan_id_the_later_takes_over(daemon: Daemon, peer: RawPeer) -> None:
    scan = peer.open(small_layout()).scan
    peer.block(scan, "Raw", 1, 0, DATA[:7])
    peer.expect(wire.Ack, received=1)
    with RawPeer(daemon.endpoint) as later:
        opened = later.open(small_layout(), scan)
        assert opened.resumed
        held = wire.unpack_ranges(opened.coverage["Raw"]["complete"], opened.frames, 2)
        assert held == [(0, 7)]
        assert peer.expect(wire.Error, scan=scan).code == "superseded"
        peer.block(scan, "Raw", 2, 7, DATA[7:])
        assert peer.expect(wire.Error, scan=scan).code == "superseded"
        later.block(scan, "Raw", 1, 0, DATA, again=True)
        later.send(wire.Finish(scan=scan, seq=1))
        assert later.expect(wire.Finished, scan=scan).status == "complete"


def test_a_client_that_vanishes_leaves_a_scan_that_can_be_resumed(daemon: Daemon) -> None:
    with RawPeer(daemon.endpoint) as gone:
        scan = gone.open(small_layout()).scan
        gone.block(scan, "Raw", 1, 0, DATA[:9])
        gone.expect(wire.Ack, received=1)
        gone.vanish()
    with RawPeer(daemon.endpoint) as later:
        opened = later.open(small_layout(), scan)
        assert wire.unpack_ranges(opened.coverage["Raw"]["complete"], opened.frames, 2) == [(0, 9)]
        later.block(scan, "Raw", 1, 9, DATA[9:])
        later.send(wire.Finish(scan=scan, seq=1))
        result = later.expect(wire.Finished, scan=scan)
    with h5py.File(result.file) as h5_file:
        np.testing.assert_array_equal(h5_file["Measurement_000/Raw"][...], DATA)


def test_a_peer_that_never_reads_its_acks_holds_nobody_up(daemon: Daemon) -> None:
    with RawPeer(daemon.endpoint) as deaf, RawPeer(daemon.endpoint) as other:
        scan = deaf.open(small_layout()).scan
        for _ in range(8000):
            deaf.send(wire.StatusRequest(scan=scan))
        run_scan(other)
        wait_for(lambda: _answers(other), "the daemon's answer to another peer")


def _answers(peer: RawPeer) -> bool:
    peer.send(wire.Ping())
    return peer.expect(wire.Pong) is not None


def _files_named(daemon: Daemon, prefix: str) -> list[Path]:
    return list(daemon.data_dir.glob(f"{prefix}*"))


def _tree(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_a_reason_that_no_file_can_hold_is_refused_and_the_scan_goes_on(peer: RawPeer) -> None:
    scan = secrets.token_hex(16)
    peer.open(small_layout(), scan)
    peer.send(wire.Abort(scan=scan, reason="a\0b"))
    assert peer.expect(wire.Error, scan=scan).code == "bad_attribute"
    peer.send(wire.Abort(scan=scan, reason="enough"))
    assert peer.expect(wire.Aborted, scan=scan).status == "aborted"


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b", "x" * (2 << 20)], ids=["nul", "half", "long"])
def test_a_client_aborts_whatever_an_exception_says(daemon: Daemon, text: str) -> None:
    with connect(daemon.endpoint) as client, pytest.raises(ArithmeticError):  # noqa: SIM117
        with client.open_scan(small_layout()) as scan:
            raise ArithmeticError(text)
    assert scan.result.status == "aborted"
    with h5py.File(scan.result.file) as h5_file:
        assert h5_file["Measurement_000"].attrs["abort_reason"].startswith("ArithmeticError: ")


@pytest.mark.parametrize("name", ["\n", " acquisition_status", "x ", "x" * 256])
def test_an_attribute_whose_name_no_file_can_hold_is_refused(peer: RawPeer, name: str) -> None:
    scan = secrets.token_hex(16)
    peer.open(small_layout(), scan)
    peer.send(wire.Annotate(scan=scan, seq=1, attrs={name: 1}))
    assert peer.expect(wire.Error, scan=scan).code == "bad_attribute"
    peer.send(wire.Finish(scan=scan, seq=1, attrs={name: 1}))
    assert peer.expect(wire.Error, scan=scan).code == "bad_attribute"
    peer.send(wire.Finish(scan=scan, seq=1))
    result = peer.expect(wire.Finished, scan=scan)
    with h5py.File(result.file) as h5_file:
        assert h5_file["Measurement_000"].attrs["acquisition_status"] == b"incomplete"
