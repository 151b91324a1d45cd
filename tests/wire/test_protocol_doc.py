"""docs/protocol.md says what the program does: its tables, numbers and examples are compared."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import MISSING
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.sessions import Stage
from support.wire_samples import public_fields
from usidstream import wire
from usidstream.errors import ERRORS, LayoutError
from usidstream.layout import MAX_ATTRS_BYTES, Dimension, MainLayout, PositionTable, ScanLayout
from usidstreamd import storage
from usidstreamd.config import Config
from usidstreamd.session import REFUSALS, State, state_diagram

ROOT = Path(__file__).resolve().parents[2]
DOC = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
DURABILITY = (ROOT / "docs" / "durability.md").read_text(encoding="utf-8")
MIB = 1 << 20


def section(title: str, text: str = DOC) -> str:
    """Return what stands below a heading, down to the next of its level or above."""
    level = title.partition(" ")[0]
    start = text.index(f"\n{title}\n") + len(title) + 2
    end = re.search(rf"^#{{1,{len(level)}}} ", text[start:], re.MULTILINE)
    return text[start : start + end.start()] if end else text[start:]


def prose(title: str) -> str:
    """Return a section without its line ends."""
    return " ".join(section(title).split())


def tables(text: str) -> Iterator[list[list[str]]]:
    """Yield each table as its rows of cells, the heading first."""
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        lines = block.replace("\\|", "\0").splitlines()
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        assert len({len(row) for row in rows}) == 1, rows
        yield [rows[0], *rows[2:]]


def table(heading: str, text: str = DOC) -> list[list[str]]:
    """Return the rows of the table whose first heading this is."""
    return next(rows[1:] for rows in tables(text) if rows[0][0] == heading)


def code(cell: str) -> str:
    assert re.fullmatch(r"`[^`]+`", cell), cell
    return cell.strip("`")


# ---------------------------------------------------------------- messages


def in_words(kind: wire.Kind | None) -> str:
    """Return a field's kind as the tables name it."""
    assert kind is not None
    name = {"str": "string", "list": "array", "dict": "map"}
    words = name.get(kind.python.__name__, kind.python.__name__)
    if kind.item is not None:
        words += f" of {in_words(kind.item)}"
    elif kind.python is list:
        words += " of map"
    return words + (" or nil" if kind.nullable else "")


def default_of(spec: Any) -> str:
    if spec.default is MISSING and spec.default_factory is MISSING:
        return "needed"
    value = spec.default_factory() if spec.default is MISSING else spec.default
    return f"`{json.dumps(value)}`"


MESSAGES = [
    *(("## Messages from the client", kind) for kind in wire.CLIENT_MESSAGES.values()),
    *(("## Messages from the daemon", kind) for kind in wire.DAEMON_MESSAGES.values()),
    *(("## Messages of telemetry", kind) for kind in wire.TELEMETRY_MESSAGES.values()),
]


@pytest.mark.parametrize(("part", "kind"), MESSAGES, ids=lambda value: getattr(value, "type", ""))
def test_a_messages_table_is_its_fields(part: str, kind: type[wire.Message]) -> None:
    rows = table("field", section(f"### `{kind.type}`", section(part)))
    assert [(code(row[0]), row[1], row[2]) for row in rows] == [
        (spec.name, in_words(wire.read_kind(spec.type)), default_of(spec))
        for spec in public_fields(kind)
    ]
    assert all(row[3] for row in rows)


@pytest.mark.parametrize("part", list(dict(MESSAGES)))
def test_no_other_message_is_described(part: str) -> None:
    described = re.findall(r"^### `(.*)`$", section(part), re.MULTILINE)
    assert described == [kind.type for where, kind in MESSAGES if where == part]


def test_the_features_are_listed() -> None:
    text = section("### `welcome`")
    assert re.findall(r"`([a-z-]+)`", text[text.index("Features of") :]) == list(wire.FEATURES)


# ---------------------------------------------------------------- errors


def test_the_table_of_errors_is_the_programs() -> None:
    rows = table("code", section("## Errors"))
    assert [tuple(row) for row in rows] == [
        (
            f"`{name}`",
            "yes" if spec.retryable else "no",
            "yes" if spec.fatal else "no",
            spec.meaning,
            spec.hint,
        )
        for name, spec in ERRORS.items()
    ]


def test_the_answers_to_bad_input_are_codes_and_messages() -> None:
    known = set(ERRORS) | {"resend", "ack"}
    rows = table("input")
    for answer in (row[1] for row in rows):
        named = [word for word in re.findall(r"`([a-z_.]+)`", answer) if "details" not in word]
        assert set(named) - {"read", "again"} <= known, answer


# ---------------------------------------------------------------- numbers


def test_the_limits_of_the_protocol() -> None:
    fixed, told = [rows[1:] for rows in tables(section("### Limits")) if rows[0][0] == "limit"]
    assert {code(row[0]): int(row[1]) for row in fixed} == {
        name: getattr(wire, name)
        for name in (
            "MAX_HEADER_BYTES",
            "MAX_FRAMES_COUNT",
            "MAX_INT",
            "MAX_LAYOUT_DEPTH",
            "MAX_ARRAY_DIMENSIONS",
        )
    }
    config = Config()
    assert {code(row[0]): int(row[1]) for row in told} == {
        "max_header_bytes": wire.MAX_HEADER_BYTES,
        "max_frames_count": wire.MAX_FRAMES_COUNT,
        "max_layout_bytes": config.max_layout_mb * MIB,
        "max_block_bytes": config.max_block_mb * MIB,
        "credit_window_bytes": config.credit_window_mb * MIB,
        "peer_silence_s": config.peer_silence_s,
    }


def test_the_limits_of_telemetry() -> None:
    rows = table("limit", section("## Telemetry"))
    assert {code(row[0]): float(row[1]) for row in rows} == {
        name: getattr(wire, name)
        for name in (
            "MAX_TOPIC_BYTES",
            "HEARTBEAT_INTERVAL_S",
            "PROGRESS_INTERVAL_S",
            "PREVIEW_INTERVAL_S",
            "SILENCE_TIMEOUT_S",
            "MAX_INCREMENT_ROWS_COUNT",
            "MAX_NEWEST_POINTS_COUNT",
            "MAX_NEWEST_DIMENSIONS",
            "MAX_REDUCTIONS_COUNT",
            "MAX_SUBSCRIPTIONS_COUNT",
            "MAX_TOLD_LAYOUT_BYTES",
            "MAX_TOLD_RANGES_COUNT",
        )
    }


def test_the_topics_of_telemetry() -> None:
    rows = table("topic", section("## Telemetry"))
    assert [code(row[0]) for row in rows] == [
        wire.DAEMON_TOPIC,
        wire.scan_topic("<scan>"),
        wire.layout_topic("<scan>"),
        wire.preview_topic("<scan>", "<main>", "<reduction>"),
        wire.preview_topic("<scan>", "<main>", "newest"),
    ]
    told = {word for row in rows for word in re.findall(r"`([a-z_]+)`", row[1])}
    assert told == set(wire.TELEMETRY_MESSAGES)


def test_the_times_and_the_port() -> None:
    config = Config()
    text = section("### Time")
    assert f"`peer_silence_s` ({config.peer_silence_s:g} s)" in text
    assert f"`commit_interval_s` of the daemon ({config.commit_interval_s:g} s)" in text
    assert f"`join_timeout_s` of the daemon ({config.join_timeout_s:g} s)" in text
    assert f"the default port is {wire.DEFAULT_DATA_PORT}" in DOC


def test_the_element_types_of_arrays() -> None:
    assert re.findall(r"`([|<][a-z]\d+)`", section("### Arrays")) == list(wire.ARRAY_DTYPES)


# ---------------------------------------------------------------- layouts

DIMENSION = {"name": "X", "units": "um", "size": 3}
MAIN = {"name": "Raw", "quantity": "Height", "units": "nm", "dtype": "uint8"}
SCAN = {"positions": [DIMENSION], "mains": [MAIN]}
TABLE = {"labels": ["x"], "units": ["um"], "values": [[1.0], [2.0]]}

LAYOUTS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "scan key": (
        ScanLayout.from_dict,
        SCAN,
        {"name": "M", "attrs": {}, "pixel_time_s": 0.1},
    ),
    "position table key": (PositionTable.from_dict, TABLE, {"dtype": "float32"}),
    "main key": (
        MainLayout.from_dict,
        MAIN,
        {
            "spectroscopic": [DIMENSION],
            "dataset": "D",
            "order": "columns",
            "chunks": [1, 1],
            "compression": "none",
            "shuffle": False,
            "attrs": {},
        },
    ),
}


@pytest.mark.parametrize("heading", LAYOUTS)
def test_a_layouts_keys(heading: str) -> None:
    read, needed, more = LAYOUTS[heading]
    rows = {code(row[0]): row[2] for row in table(heading)}
    assert {name for name, is_needed in rows.items() if is_needed == "yes"} == set(needed)
    assert {name for name, is_needed in rows.items() if is_needed == "no"} == set(more)
    whole = read(needed | more)
    for name in needed:
        with pytest.raises(LayoutError):
            read({key: value for key, value in (needed | more).items() if key != name})
    assert set(whole.to_dict()) <= set(rows)


def test_a_dimensions_keys() -> None:
    rows = {code(row[0]) for row in table("dimension key")}
    steps = {"name": "X", "units": "", "start": 0, "step": 1, "size": 3}
    values = {"name": "X", "units": "", "values": [0, 1, 2], "dtype": "float64"}
    assert rows == set(steps) | set(values)
    assert Dimension.from_dict(steps) == Dimension.from_dict(values)


def test_the_element_types_of_mains() -> None:
    text = prose("### The layout")
    listed = text[text.index("A *type* is one of") : text.index("A compound has")]
    names = re.findall(r"`(\w+)`", listed)
    assert len(names) == 13
    for name in names:
        main = MainLayout.from_dict(MAIN | {"dtype": name})
        assert (main.dtype, main.np_dtype) == (name, np.dtype(name))


def test_the_names_and_sizes_of_attributes() -> None:
    text = prose("### The layout")
    listed = text[text.index("These names are the daemon's own") : text.index("- N x M x bytes")]
    assert re.findall(r"`(\w+)`", listed) == sorted(storage.reserved_names)
    assert f"at most {MAX_ATTRS_BYTES} bytes" in text


# ---------------------------------------------------------------- states and status


def test_the_diagram_is_the_table_of_transitions() -> None:
    for text in (DOC, DURABILITY):
        shown = text.split("<!-- state diagram -->\n```mermaid\n")[1].split("```")[0]
        assert shown == state_diagram()


def test_the_refusals_of_each_state() -> None:
    text = prose("## States").split("<!--")[0]
    for state in State:
        code_of_state = REFUSALS.get(state)
        told = [part for part in text.split(";") if f"`{state.value}`" in part]
        if state is State.FAILED:
            assert "the error that made it fail" in told[0]
        elif code_of_state:
            assert f"`{code_of_state}`" in told[0]
        else:
            assert not told


def test_the_keys_of_status() -> None:
    rows = table("`scans` key", section("## Status"))
    assert [code(row[0]) for row in rows] == list(Stage().session.describe())


# ---------------------------------------------------------------- the example


def test_the_example_is_made_of_the_vectors() -> None:
    text = (ROOT / "tests" / "wire" / "vectors" / "messages.json").read_text(encoding="utf-8")
    vectors = {entry["name"]: entry for entry in json.loads(text)}
    shown = re.findall(r"^([<>]) ([a-z-]+)\n((?:  .*\n)+)", section("## An example"), re.MULTILINE)
    assert len(shown) > 10
    for direction, name, lines in shown:
        frames = [frame.replace(" ", "").replace("\n", "") for frame in lines.split("  -")[1:]]
        assert frames == vectors[name]["frames"], name
        assert vectors[name]["from"] == ("client" if direction == ">" else "daemon")


def test_the_checksum_worked_out() -> None:
    text = section("## An example")
    plain = next(line for line in text.splitlines() if re.fullmatch(r"`[0-9a-f ]+`", line))
    address_and_frame = bytes.fromhex(plain.strip("`"))
    crc = wire.block_crc(0, 2, 0, 3, [address_and_frame[32:]])
    assert f"CRC-32 {crc:#010x}, which is msgpack `ce{crc:08x}`" in text


def test_every_link_within_the_page_has_its_heading() -> None:
    headings = re.findall(r"^#+ (.*)$", DOC, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}
    assert set(re.findall(r"\]\(#([^)]*)\)", DOC)) <= anchors
