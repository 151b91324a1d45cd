"""Whatever comes, decoding ends with a message or a `WireError`, in little memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import msgpack
import pytest
from hypothesis import given

from support.wire_samples import ALL, messages_of
from usidstream import wire

DECODERS = (wire.decode_client, wire.decode_daemon)
MOST_PER_HEADER_BYTE = 100
"""What an object of one byte of msgpack, such as an empty map, takes in Python, with room."""

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=4)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=9) | st.binary(max_size=3), inner, max_size=4)
    ),
    max_leaves=15,
)
field_names = sorted({name for kind in ALL for name in kind.__dataclass_fields__} - {"frames"})
headers = st.builds(
    lambda name, rest: {"type": name} | rest,
    st.sampled_from([kind.type for kind in ALL]),
    st.dictionaries(st.sampled_from(field_names), anything, max_size=6),
)


def attempt(act: Callable[..., Any], *arguments: Any) -> Any:
    """Return what ``act`` returns, or the code of the `WireError` that it raises."""
    try:
        return act(*arguments)
    except wire.WireError as error:
        return error.code


def decode(frames: list[Any]) -> None:
    for decoder in DECODERS:
        message = attempt(decoder, frames)
        if isinstance(message, wire.Message):
            wire.encode(message)
            follow(message)
        else:
            assert message in ("bad_message", "unknown_type", "message_too_large")


def follow(message: wire.Message) -> None:
    """Read what refers to raw frames, as a receiver does."""
    for field in ("layout", "attrs"):
        part = attempt(wire.unpack_layout, getattr(message, field, {}), message.frames)
        assert isinstance(part, dict) or part == "bad_message"
    if isinstance(message, wire.Opened | wire.StatusReport):
        for indices in message.coverage.values():
            ranges = attempt(wire.unpack_ranges, indices.get("complete"), message.frames, 2)
            assert isinstance(ranges, list) or ranges == "bad_message"


@given(st.lists(st.binary(max_size=60), max_size=3))
def test_any_bytes(frames: list[bytes]) -> None:
    decode(frames)


@given(anything, st.lists(st.binary(max_size=20), max_size=2))
def test_any_msgpack(value: Any, frames: list[bytes]) -> None:
    decode([msgpack.packb(value), *frames])


@given(headers, st.lists(st.binary(max_size=20), max_size=2))
def test_any_values_in_the_known_fields(header: dict[str, Any], frames: list[bytes]) -> None:
    decode([msgpack.packb(header), *frames])


@given(st.one_of([messages_of(kind) for kind in ALL]), st.data())
def test_a_damaged_message(message: wire.Message, data: st.DataObject) -> None:
    frames = [bytearray(frame) for frame in wire.encode(message)]
    for _ in range(data.draw(st.integers(1, 4))):
        frame = data.draw(st.sampled_from(frames))
        if frame:
            frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    decode([bytes(frame) for frame in frames])


@given(
    st.recursive(
        anything
        | st.fixed_dictionaries(
            {
                "__array__": st.integers(-1, 2) | anything,
                "dtype": st.sampled_from(wire.ARRAY_DTYPES) | anything,
                "shape": st.lists(st.integers(-1, 3), max_size=3) | anything,
            }
        ),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    ),
    st.lists(st.binary(max_size=24), max_size=2),
)
def test_any_layout(layout: Any, frames: list[bytes]) -> None:
    attempt(wire.unpack_layout, layout, frames)


def claims(nbytes: int) -> list[bytes]:
    """Return headers that claim far more than they hold, or hold as many objects as they can."""
    long_array = b"\xdd" + (nbytes - 10).to_bytes(4, "big")
    long_map = b"\xdf" + (nbytes // 2).to_bytes(4, "big")
    empty_maps = b"\xdd" + (nbytes - 5).to_bytes(4, "big") + b"\x80" * (nbytes - 5)
    return [
        (long_array * 1000)[:nbytes].ljust(nbytes, b"\x90"),
        (long_map * 1000)[:nbytes].ljust(nbytes, b"\xa1"),
        (b"\xdc\xff\xff" * 1000)[:nbytes].ljust(nbytes, b"\x90"),
        b"\xdd\xff\xff\xff\xff".ljust(nbytes, b"\x00"),
        b"\x92" * nbytes,
        empty_maps,
    ]


@pytest.mark.parametrize("nbytes", [900, 60_000, wire.MAX_HEADER_BYTES])
def test_memory_stays_in_proportion_to_the_header(nbytes: int) -> None:
    for frame in claims(nbytes):
        assert len(frame) == nbytes
        tracemalloc.start()
        try:
            decode([frame])
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # At most 1024 levels of at most 1024 claimed elements pass without being walked first.
        assert peak < MOST_PER_HEADER_BYTE * nbytes + (4 << 20)
