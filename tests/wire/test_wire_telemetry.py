"""Telemetry to frames and back, and whatever else may come from the socket."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from support.wire_samples import SCAN, messages_of
from usidstream import wire

TELEMETRY = list(wire.TELEMETRY_MESSAGES.values())
MOST_ROWS = wire.MAX_INCREMENT_ROWS_COUNT


def increment(rows: Any, values: Any) -> wire.Increment:
    form, packed = wire.pack_rows(np.asarray(rows))
    return wire.Increment(
        scan=SCAN,
        main=0,
        name="Raw",
        reduction="mean",
        seq=1,
        rows=form,
        cols=1,
        n_cols=1,
        skipped=0,
        frames=(packed, np.asarray(values, "<f4").tobytes()),
    )


def newest(shape: list[int], frame: bytes, steps: list[int] | None = None) -> wire.Newest:
    steps = [1] * len(shape) if steps is None else steps
    return wire.Newest(
        scan=SCAN, main=0, name="Raw", row=3, shape=shape, steps=steps, frames=(frame,)
    )


@pytest.mark.parametrize("kind", TELEMETRY, ids=lambda kind: kind.type)
@given(st.data())
def test_each_message_is_read_as_it_was_written(kind: type[wire.Message], data: Any) -> None:
    message = data.draw(messages_of(kind))
    topic = data.draw(st.text(max_size=20))
    frames = [bytes(frame) for frame in wire.encode_telemetry(topic, message)]
    assert wire.decode_telemetry(frames) == (topic, message)


@given(st.lists(st.binary(max_size=80), max_size=4))
def test_any_bytes_are_a_message_or_an_error(frames: list[bytes]) -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.decode_telemetry(frames)
    assert caught.value.code in ("bad_message", "unknown_type", "message_too_large")


@given(st.data())
def test_a_message_with_bytes_changed_is_a_message_or_an_error(data: Any) -> None:
    message = data.draw(st.sampled_from(TELEMETRY).flatmap(messages_of))
    frames = [bytearray(frame) for frame in wire.encode_telemetry("daemon", message)]
    for _ in range(data.draw(st.integers(1, 4))):
        frame = data.draw(st.sampled_from([frame for frame in frames if frame]))
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    assert attempt(frames) in ("", "bad_message", "unknown_type", "message_too_large")


def attempt(frames: list[Any]) -> str:
    """Read frames as a viewer does; return the code of the error, empty for none."""
    try:
        _, read = wire.decode_telemetry(frames)
        if isinstance(read, wire.Increment):
            wire.unpack_increment(read)
        if isinstance(read, wire.Newest):
            wire.unpack_newest(read)
    except wire.WireError as error:
        return error.code
    return ""


@pytest.mark.parametrize("topic", [b"\xff\xfe", b"x" * (wire.MAX_TOPIC_BYTES + 1)])
def test_a_topic_that_is_none_is_refused(topic: bytes) -> None:
    header = wire.encode(wire.LayoutTold(scan=SCAN, file="", layout={}))
    with pytest.raises(wire.WireError, match="topic"):
        wire.decode_telemetry([topic, *header])


def test_an_instruments_message_is_no_telemetry() -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.decode_telemetry([b"daemon", *wire.encode(wire.Bye())])
    assert caught.value.code == "unknown_type"


# ---------------------------------------------------------------- previews

row_sets = st.one_of(
    st.lists(st.integers(0, 2**62), max_size=40, unique=True),
    st.lists(st.integers(0, 60), max_size=40, unique=True).map(sorted),
)


@given(row_sets)
def test_rows_and_values_come_back(rows: list[int]) -> None:
    values = np.arange(len(rows), dtype=np.float32)
    got_rows, got_values = wire.unpack_increment(increment(np.array(rows, np.int64), values))
    assert got_rows.tolist() == rows
    assert got_values.tolist() == values.tolist()


def test_rows_one_after_the_other_take_one_pair() -> None:
    message = increment(np.arange(1000, 3000), np.zeros(2000))
    assert message.rows == "ranges"
    assert len(message.frames[0]) == 16


U64 = 2**64 - 1
PAIR = np.array([[0, 2]], "<u8").tobytes()
TWO = np.zeros(2, "<f4").tobytes()


@pytest.mark.parametrize(
    "changed",
    [
        {"frames": ()},
        {"frames": (PAIR,)},
        {"frames": (PAIR, TWO, b"")},
        {"frames": (PAIR[:-1], TWO)},
        {"frames": (PAIR, TWO[:-1])},
        {"frames": (PAIR, b"")},
        {"rows": "columns"},
        {"rows": "numbers", "frames": (PAIR, TWO[:4])},
        {"frames": (np.array([[2, 0]], "<u8").tobytes(), TWO)},
        {"frames": (np.array([[0, 1], [5, 5], [7, 8]], "<u8").tobytes(), TWO)},
        {"frames": (np.array([[0, 2**63 - 1], [0, 3]], "<u8").tobytes(), TWO)},
        {"frames": (np.array([[U64 - 2, U64]], "<u8").tobytes(), TWO)},
        {
            "rows": "numbers",
            "frames": (bytes(8 * (MOST_ROWS + 1)), bytes(4 * (MOST_ROWS + 1))),
        },
    ],
    ids=str,
)
def test_an_increment_whose_frames_do_not_fit_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.unpack_increment(
            replace(increment([0, 1], [1.0, 2.0]), **({"rows": "ranges"} | changed))
        )
    assert caught.value.code == "bad_message"


def test_the_newest_row_has_an_axis_a_dimension_slowest_first() -> None:
    frame = np.arange(6, dtype="<f4").tobytes()
    image = wire.unpack_newest(newest([3, 2], frame))
    assert image.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


@pytest.mark.parametrize(
    "message",
    [
        newest([2], b""),
        newest([0], b""),
        newest([2**63 - 1, 0], b""),
        newest([2], bytes(8), steps=[1, 1]),
        newest([1] * 33, bytes(4)),
        newest([MOST_ROWS + 1], bytes(4 * (MOST_ROWS + 1))),
        wire.Newest(scan=SCAN, main=0, name="", row=0, shape=[1], steps=[1]),
    ],
    ids=lambda message: str(message.shape)[:20],
)
def test_a_newest_row_that_does_not_fit_is_refused(message: wire.Newest) -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.unpack_newest(message)
    assert caught.value.code == "bad_message"
