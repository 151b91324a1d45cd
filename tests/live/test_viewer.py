"""A viewer's knowledge: who is there, what was meant for it, what was told before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.telemetry_samples import BEAT, CLOSED
from support.wire_samples import SCAN
from usidstream import live, wire
from usidstream.layout import Dimension, MainLayout, PositionTable, ScanLayout

LAYOUT = ScanLayout(
    positions=PositionTable(["x"], ["um"], np.array([[0.0], [1.5]])),
    mains=[MainLayout("Raw", "Current", "nA", "float32", [Dimension("Bias", "V", 3)])],
)


def heartbeat(instance: str) -> wire.Heartbeat:
    return BEAT if instance == "a" else replace(BEAT, instance=instance)


class Stage:
    def __init__(self, *topics: str) -> None:
        self.viewer = live.Viewer(silence_timeout_s=3.0)
        self.viewer.topics = dict.fromkeys(topics)
        self.viewer.begin(0.0)

    def hear(self, topic: str, message: wire.Message, now: float = 1.0) -> list[live.Event]:
        return list(self.viewer.receive(wire.encode_telemetry(topic, message), now))


def test_the_first_heartbeat_connects() -> None:
    stage = Stage("daemon")
    assert stage.viewer.instance == ""
    assert stage.hear("daemon", BEAT) == [live.Connected("a", "usidstreamd 1"), BEAT]
    assert stage.hear("daemon", BEAT) == [BEAT]
    assert stage.viewer.instance == "a"


def test_another_instance_is_a_restarted_daemon() -> None:
    stage = Stage("daemon")
    stage.hear("daemon", BEAT)
    told = stage.hear("daemon", heartbeat("b"))
    assert told[:2] == [
        live.Disconnected("the daemon was restarted"),
        live.Connected("b", "usidstreamd 1"),
    ]


def test_only_heartbeats_end_the_silence() -> None:
    stage = Stage("daemon", "scan/")
    stage.hear("daemon", BEAT, now=1.0)
    stage.hear(f"scan/{SCAN}", CLOSED, now=3.9)
    assert not stage.viewer.is_silent(3.9)
    assert stage.viewer.is_silent(4.0)


def test_the_same_loss_is_told_once() -> None:
    stage = Stage("daemon")
    assert list(stage.viewer.lose("silent")) == [live.Disconnected("silent")]
    assert list(stage.viewer.lose("silent")) == []
    assert list(stage.viewer.lose("refused")) == [live.Disconnected("refused")]
    stage.hear("daemon", BEAT)
    assert list(stage.viewer.lose("refused")) == [live.Disconnected("refused")]


def test_an_end_that_is_told_again_for_others_is_told_once() -> None:
    stage = Stage("scan/")
    assert stage.hear(f"scan/{SCAN}", CLOSED) == [CLOSED]
    assert stage.hear(f"scan/{SCAN}", CLOSED) == []
    later = replace(CLOSED, time_s=9.0)  # it was resumed, and ended again
    assert stage.hear(f"scan/{SCAN}", later) == [later]


def increment(reduction: str, rows: Any, values: Any, **changed: Any) -> wire.Increment:
    form, packed = wire.pack_rows(np.asarray(rows))
    fields = {"seq": 1, "cols": 3, "n_cols": 3, "skipped": 0} | changed
    return wire.Increment(
        scan=SCAN,
        main=0,
        name="Raw",
        reduction=reduction,
        rows=form,
        frames=(packed, np.asarray(values, "<f4").tobytes()),
        **fields,
    )


def test_a_topic_that_only_begins_like_ones_own_is_not_ones_own() -> None:
    one, ten = (wire.preview_topic(SCAN, 0, f"at:{column}") for column in (1, 10))
    stage = Stage(one)
    assert stage.hear(ten, increment("at:10", [0], [1.0])) == []
    (event,) = stage.hear(one, increment("at:1", [0], [1.0]))
    assert isinstance(event, live.PreviewRows)
    assert Stage("preview/").hear(ten, increment("at:10", [0], [1.0])) != []


def test_a_layout_comes_with_its_arrays() -> None:
    frames: list[wire.Frame] = []
    packed = wire.pack_layout(LAYOUT.to_dict(), frames)
    message = wire.LayoutTold(scan=SCAN, file="/f.h5", layout=packed, frames=frames)
    assert Stage("layout/").hear(f"layout/{SCAN}", message) == [
        live.LayoutTold(SCAN, "/f.h5", LAYOUT)
    ]
    too_large = wire.LayoutTold(scan=SCAN, file="/f.h5", layout={})
    assert Stage("layout/").hear("layout/", too_large) == [live.LayoutTold(SCAN, "/f.h5", None)]


@pytest.mark.parametrize(
    "message",
    [
        wire.LayoutTold(scan=SCAN, file="", layout={"name": "M"}),
        replace(increment("mean", [0, 1], [1.0, 2.0]), frames=()),
        wire.Newest(scan=SCAN, main=0, name="", row=0, shape=[2], steps=[1], frames=(b"",)),
    ],
    ids=lambda message: message.type,
)
def test_what_cannot_be_read_is_passed_over_with_a_word(
    message: wire.Message, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage("x")
    assert stage.hear("x", message) == []
    assert "cannot be read" in caplog.text
    assert stage.hear("x", CLOSED) == [CLOSED]


def test_a_newer_daemons_message_is_passed_over_in_silence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    frames = [b"daemon", *wire.encode(wire.Bye())]
    assert list(Stage("daemon").viewer.receive(frames, 1.0)) == []
    assert not caplog.text


# ---------------------------------------------------------------- maps


def rows_of(message: wire.Increment) -> live.PreviewRows:
    event = live.read_event(message)
    assert isinstance(event, live.PreviewRows)
    return event


@given(st.permutations(range(6)), st.sampled_from(["mean", "max"]), st.integers(1, 5))
def test_parts_of_columns_in_any_order_make_the_whole(
    order: list[int], reduction: str, width: int
) -> None:
    data = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
    found = live.LiveMap(5)
    for seq, start in enumerate(range(0, 6, width), 1):
        columns = order[start : start + width]
        values = getattr(data[:, columns], reduction)(axis=1)
        message = increment(reduction, range(4), values, cols=len(columns), n_cols=6, seq=seq)
        found.add(rows_of(message))
    np.testing.assert_allclose(found.values[:4], getattr(data, reduction)(axis=1), rtol=1e-5)
    assert found.cols.tolist() == [6, 6, 6, 6, 0]
    assert np.isnan(found.values[4])
    assert found.is_exact


def test_whole_rows_and_single_columns_replace() -> None:
    for reduction, cols in (("mean", 3), ("at:2", 1)):
        found = live.LiveMap(2)
        for seq, value in enumerate((1.0, 2.0), 1):
            message = increment(reduction, [1], [value], cols=cols, n_cols=3, seq=seq)
            found.add(rows_of(message))
        assert found.values[1] == 2.0


@pytest.mark.parametrize("changed", [{"seq": 3}, {"seq": 2, "skipped": 4}])
def test_a_loss_is_known(changed: dict[str, int]) -> None:
    found = live.LiveMap(3)
    found.add(rows_of(increment("mean", [0], [1.0], seq=1)))
    assert found.is_exact
    found.add(rows_of(increment("mean", [1], [1.0], **changed)))
    assert not found.is_exact


def test_what_was_read_from_the_file_is_not_added_to() -> None:
    found = live.LiveMap(2)
    found.fill(np.array([0]), np.array([7.0], np.float32))
    found.add(rows_of(increment("mean", [0], [1.0], cols=3, n_cols=3)))
    assert found.values[0] == 1.0
