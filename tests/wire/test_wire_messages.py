"""Every message goes to frames and comes back; whatever is none gets a stable code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.wire_samples import ALL, SCAN, messages_of, public_fields
from usidstream import wire

Decoder = Callable[[Any], wire.Message]

HELLO = {"type": "hello", "versions": [1]}
BLOCK = {
    "type": "block",
    "scan": SCAN,
    "main": "Raw",
    "seq": 1,
    "row": 0,
    "rows": 1,
    "col": 0,
    "cols": 1,
    "crc": 0,
}


def decoder_of(message: type[wire.Message]) -> Decoder:
    is_clients = message in wire.CLIENT_MESSAGES.values()
    return wire.decode_client if is_clients else wire.decode_daemon


def refused(decode: Decoder, *frames: Any) -> wire.WireError:
    with pytest.raises(wire.WireError) as caught:
        decode(frames)
    assert caught.value.hint
    assert len(caught.value.message) < 500
    return caught.value


def packed(header: Any, **changes: Any) -> bytes:
    return bytes(msgpack.packb(header | changes if changes else header))


# ---------------------------------------------------------------- what goes round


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_message_comes_back_as_it_went(kind: type[wire.Message]) -> None:
    @given(messages_of(kind))
    def round_trip(message: wire.Message) -> None:
        assert decoder_of(kind)(wire.encode(message)) == message

    round_trip()


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_unknown_keys_are_ignored_and_optional_ones_have_their_defaults(
    kind: type[wire.Message],
) -> None:
    header = needed(kind) | {"tomorrow": {"a": [1, 2]}}
    message = decoder_of(kind)([msgpack.packb(header)])
    assert type(message) is kind
    again = wire.encode(message)
    assert decoder_of(kind)(again) == message


def needed(kind: type[wire.Message]) -> dict[str, Any]:
    """Return the least that a message of this class must say."""
    plain = {"str": "x", "int": 1, "bool": False, "list": [], "dict": {}}
    header: dict[str, Any] = {"type": kind.type}
    for name in required(kind):
        spec = next(spec for spec in public_fields(kind) if spec.name == name)
        header[name] = SCAN if name == "scan" else plain[spec.type.partition("[")[0]]
    return header


def required(kind: type[wire.Message]) -> list[str]:
    """Return the fields without a default, as Python itself sees them."""
    names = []
    for spec in public_fields(kind):
        arguments = {other.name: None for other in public_fields(kind) if other is not spec}
        try:
            kind(**arguments)
        except TypeError:
            names.append(spec.name)
    return names


def test_the_two_directions_do_not_mix() -> None:
    for message in (wire.Ack, wire.Opened, wire.Error):
        error = refused(wire.decode_client, packed(needed(message)))
        assert (error.code, error.details) == ("unknown_type", {"field": "type"})
    for message in (wire.Block, wire.Hello):
        assert refused(wire.decode_daemon, packed(needed(message))).code == "unknown_type"


# ---------------------------------------------------------------- what is no message


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        b"\xc0",
        b"hello",
        packed(HELLO)[:-1],
        packed(HELLO) + b"\x00",
        packed([1, 2]),
        packed("hello"),
        packed({1: 2}),
        packed({b"type": "hello", "versions": [1]}),
        packed({"type": b"hello", "versions": [1]}),
        packed({"versions": [1]}),
        packed({"type": None}),
        packed({"type": [["hello"]]}),
        b"\x81\xa4type\xa2\xff\xfe",
        packed({"type": "hello", "versions": [1], "x": msgpack.ExtType(7, b"abc")}),
        packed({"type": "ping", "deep": 1})[:-1] + b"\x91" * 2000 + b"\xc0",
        b"\x91" * 5000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ],
)
def test_what_is_no_map_with_a_type_is_a_bad_message(frame: bytes) -> None:
    assert refused(wire.decode_client, frame).code == "bad_message"


def test_a_message_has_at_least_one_frame() -> None:
    assert refused(wire.decode_client).code == "bad_message"


@pytest.mark.parametrize("name", ["", "Hello", "HELLO", "ack", "x" * 100_000])
def test_a_type_that_does_not_exist_is_named_in_short(name: str) -> None:
    error = refused(wire.decode_client, packed({"type": name}))
    assert (error.code, error.details) == ("unknown_type", {"field": "type"})


def test_too_many_frames_and_too_long_a_header_are_too_large() -> None:
    frames = [b""] * (wire.MAX_FRAMES_COUNT - 1)
    wire.decode_client([packed(HELLO), *frames])
    assert refused(wire.decode_client, packed(HELLO), *frames, b"").code == "message_too_large"
    free = wire.MAX_HEADER_BYTES - len(packed(HELLO, pad="x" * 70_000)) + 70_000
    wire.decode_client([packed(HELLO, pad="x" * free)])
    error = refused(wire.decode_client, packed(HELLO, pad="x" * (free + 1)))
    assert error.code == "message_too_large"


def test_a_header_that_is_too_long_is_not_sent_either() -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.encode(wire.Abort(scan=SCAN, reason="x" * wire.MAX_HEADER_BYTES))
    assert caught.value.code == "message_too_large"


@pytest.mark.parametrize("value", [{1, 2}, object(), 1 << 64, -(1 << 64)])
def test_what_msgpack_cannot_hold_is_not_sent(value: Any) -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.encode(wire.Annotate(scan=SCAN, seq=1, attrs={"a": value}))
    assert caught.value.code == "bad_message"


# ---------------------------------------------------------------- fields


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_a_missing_field_is_named(kind: type[wire.Message]) -> None:
    for name in required(kind):
        header = needed(kind)
        del header[name]
        error = refused(decoder_of(kind), packed(header))
        assert (error.code, error.details) == ("bad_message", {"field": name})


WRONG: dict[str, list[Any]] = {
    "str": [None, 1, True, b"x", ["x"], {"x": 1}],
    "int": [None, -1, 1 << 63, 1.0, True, "1", b"1", [1], {}],
    "bool": [None, 0, 1, "true"],
    "list": [None, {}, "x", 1],
    "dict": [None, [], "x", 1],
}


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_a_field_of_the_wrong_kind_is_named(kind: type[wire.Message]) -> None:
    for spec in public_fields(kind):
        for wrong in WRONG[spec.type.partition("[")[0]]:
            error = refused(decoder_of(kind), packed(needed(kind), **{spec.name: wrong}))
            assert (error.code, error.details) == ("bad_message", {"field": spec.name})


@pytest.mark.parametrize(
    ("kind", "field", "wrong"),
    [
        (wire.Hello, "versions", ["1"]),
        (wire.Hello, "versions", [True]),
        (wire.Hello, "versions", [-1]),
        (wire.Welcome, "features", [1]),
        (wire.Welcome, "limits", {"a": "1"}),
        (wire.Welcome, "limits", {"a": None}),
        (wire.Welcome, "ports", {"data": "5755"}),
        (wire.Opened, "coverage", {"Raw": 1}),
        (wire.Opened, "coverage", {"Raw": {"complete": -1}}),
        (wire.Opened, "coverage", {"Raw": {"complete": "0"}}),
        (wire.Finished, "missing", {"Raw": True}),
        (wire.StatusReport, "scans", ["x"]),
        (wire.StatusReport, "scans", [{b"x": 1}]),
        (wire.Open, "layout", {b"name": 1}),
        (wire.Open, "layout", {"name": b"x"}),
        (wire.Annotate, "attrs", {"when": msgpack.Timestamp(1)}),
        (wire.Annotate, "attrs", {"a": [[{"b": msgpack.Timestamp(1)}]]}),
        (wire.Finish, "attrs", {"a": b"bytes"}),
    ],
)
def test_what_a_list_or_map_holds_is_checked_too(
    kind: type[wire.Message], field: str, wrong: Any
) -> None:
    error = refused(decoder_of(kind), msgpack.packb(needed(kind) | {field: wrong}))
    assert (error.code, error.details) == ("bad_message", {"field": field})


def test_a_port_may_be_nil_where_the_service_is_off() -> None:
    header = needed(wire.Welcome) | {"ports": {"data": 5755, "metrics": None}}
    assert wire.decode_daemon([packed(header)])


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_plain_data_is_nested_so_deep_and_no_deeper() -> None:
    header = needed(wire.Annotate)
    wire.decode_client([packed(header, attrs={"a": nested(wire.MAX_LAYOUT_DEPTH)})])
    error = refused(
        wire.decode_client, packed(header, attrs={"a": nested(wire.MAX_LAYOUT_DEPTH + 1)})
    )
    assert error.details == {"field": "attrs"}


@pytest.mark.parametrize("scan", ["", "0" * 31, "0" * 33, "A" * 32, "g" * 32, "0" * 32 + "\n"])
def test_a_scan_id_is_32_lower_case_hexadecimal_digits(scan: str) -> None:
    for kind in ALL:
        if "scan" in required(kind):
            error = refused(decoder_of(kind), packed(needed(kind), scan=scan))
            assert (error.code, error.details) == ("bad_message", {"field": "scan"})
    if scan:
        for kind in (wire.Ping, wire.StatusRequest, wire.Error):
            error = refused(decoder_of(kind), packed(needed(kind), scan=scan))
            assert error.details == {"field": "scan"}


def test_the_edges_of_an_integer() -> None:
    block = wire.decode_client([packed(BLOCK, row=wire.MAX_INT, rows=0)])
    assert isinstance(block, wire.Block)
    assert (block.row, block.rows) == (wire.MAX_INT, 0)


@given(st.binary(max_size=40))
def test_frames_may_be_any_buffer(data: bytes) -> None:
    header = wire.encode(wire.Ping(scan=SCAN))[0]
    for buffer in (bytes, bytearray, memoryview):
        assert wire.decode_client([buffer(header), buffer(data)]).frames[0] == data
