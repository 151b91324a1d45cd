"""The vectors that other programs are tested with: fixed bytes, read and written as they stand."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import pytest
import zmq

from support.daemon import Daemon
from support.wire_samples import ALL
from usidstream import wire

VECTORS = Path(__file__).parent / "vectors"
ANSWER_TIMEOUT_MS = 20_000


def load(name: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    return entries


def frames_of(entry: dict[str, Any]) -> list[bytes]:
    return [bytes.fromhex(frame) for frame in entry["frames"]]


MESSAGES = {entry["name"]: entry for entry in load("messages.json")}
CHECKSUMS = load("checksums.json")
REFUSED = load("refused.json")


def message_of(entry: dict[str, Any]) -> wire.Message:
    is_clients = entry["from"] == "client"
    kinds = wire.CLIENT_MESSAGES if is_clients else wire.DAEMON_MESSAGES
    return kinds[entry["type"]](**entry["fields"], frames=tuple(frames_of(entry)[1:]))


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_written_to_exactly_these_frames_and_read_from_them(name: str) -> None:
    entry = MESSAGES[name]
    decode = wire.decode_client if entry["from"] == "client" else wire.decode_daemon
    message = message_of(entry)
    assert [bytes(frame) for frame in wire.encode(message)] == frames_of(entry)
    assert decode(frames_of(entry)) == message


def test_every_message_has_a_vector() -> None:
    assert {type(message_of(entry)) for entry in MESSAGES.values()} == set(ALL)


@pytest.mark.parametrize("entry", CHECKSUMS, ids=lambda entry: f"{entry['crc']:#010x}")
def test_a_checksum(entry: dict[str, Any]) -> None:
    address = [entry[key] for key in ("row", "rows", "col", "cols")]
    frames = frames_of(entry)
    assert wire.block_crc(*address, frames) == entry["crc"]
    plain = b"".join(number.to_bytes(8, "little") for number in address) + b"".join(frames)
    assert zlib.crc32(plain) == entry["crc"]


@pytest.mark.parametrize("name", [n for n in MESSAGES if n.startswith("block")])
def test_the_blocks_have_their_own_checksums(name: str) -> None:
    block = message_of(MESSAGES[name])
    assert isinstance(block, wire.Block)
    assert wire.block_crc(block.row, block.rows, block.col, block.cols, block.frames) == block.crc


@pytest.mark.parametrize("entry", REFUSED, ids=lambda entry: entry["name"])
def test_what_is_no_message_is_refused_with_this_code(entry: dict[str, Any]) -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.decode_client(frames_of(entry))
    assert caught.value.code == entry["code"]
    assert caught.value.details.get("field", "") == entry["field"]


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[zmq.Socket[bytes]]:
    with Daemon(tmp_path / "data") as daemon, zmq.Context() as context:
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, ANSWER_TIMEOUT_MS)
        socket.connect(daemon.endpoint)
        yield socket
        socket.close()


def test_a_daemon_takes_the_bytes_of_the_example_as_they_stand(
    socket: zmq.Socket[bytes],
) -> None:
    """What the documentation shows is what a program in any language can send."""

    def say(name: str) -> None:
        socket.send_multipart(frames_of(MESSAGES[name]))

    def hear(kind: type[wire.Message]) -> Any:
        while type(message := wire.decode_daemon(socket.recv_multipart())) is not kind:
            assert not isinstance(message, wire.Error), message
        return message

    say("hello")
    welcome = hear(wire.Welcome)
    shown = message_of(MESSAGES["welcome"])
    assert isinstance(shown, wire.Welcome)
    assert (welcome.features, welcome.limits) == (shown.features, shown.limits)
    say("open")
    assert hear(wire.Opened).credit == shown.limits["credit_window_bytes"]
    for name in ("block", "block-scattered", "annotate", "ping"):
        say(name)
    hear(wire.Pong)
    while (ack := hear(wire.Ack)).durable < 3:
        assert ack.received <= 3
    assert ack == message_of(MESSAGES["ack-durable"])
    say("finish")
    result = hear(wire.Finished)
    assert (result.status, result.missing) == ("complete", {})
    say("bye")
    with h5py.File(result.file) as h5_file:
        group = h5_file["Measurement_000"]
        assert group["Raw"][...].tolist() == [
            [10, 11, 12],
            [20, 21, 22],
            [30, 31, 32],
            [40, 41, 42],
        ]
        assert (group.attrs["drift_nm"], group.attrs["remark"]) == (1.3, "good")
