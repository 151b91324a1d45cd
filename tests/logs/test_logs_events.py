"""The table of events, the calls in the source and the table of the docs are one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import usidstreamd
from usidstreamd.conditions import CONDITIONS
from usidstreamd.logs.events import EVENTS, markdown_table

SOURCE = Path(usidstreamd.__file__).parent
DOCS = Path(__file__).resolve().parents[2] / "docs" / "operating.md"
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
TOLD_BY_THE_LOG_ITSELF = {"and_more", "lines_lost"}


def calls() -> Iterator[tuple[str, str, str]]:
    """Yield the event, level and place of every call of a logger."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=level), args=args):
                    if level in LEVELS:
                        assert isinstance(args[0], ast.Constant), f"{path}:{node.lineno}"
                        level = "error" if level == "exception" else level
                        yield args[0].value, level, f"{path}:{node.lineno}"


def test_every_call_names_an_event_at_its_level() -> None:
    found = list(calls())
    assert len(found) > 20
    for event, level, place in found:
        assert event in EVENTS, f"{place}: {event} is not in logs/events.py"
        assert level == EVENTS[event].level, f"{place}: {event}"


def test_every_event_is_logged_somewhere() -> None:
    assert {event for event, _, _ in calls()} | TOLD_BY_THE_LOG_ITSELF == set(EVENTS)


def test_every_warning_that_is_in_force_has_begun_in_the_log() -> None:
    for code in CONDITIONS:
        assert EVENTS[code].level in ("warning", "error"), code


def test_the_table_of_the_docs_is_current() -> None:
    text = DOCS.read_text("utf-8")
    (table,) = re.findall(r"<!-- events -->\n(.*?)<!-- end of events -->", text, re.S)
    assert table == markdown_table(), "run: python config/generate.py"
