"""Every code that the daemon can raise stands in the operator's table, and no other."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import usidstreamd
from usidstream import wire
from usidstream.errors import ERRORS

OPERATING = Path(__file__).resolve().parents[2] / "docs" / "operating.md"
SOURCES = (Path(usidstreamd.__file__).parent, Path(wire.__file__).parent)
NOT_FOR_OPERATORS = {
    *("timeout", "closed", "delivery_failed", "not_finished"),  # of a client
    *("spool_full", "spool_busy", "spool_damaged", "spool_failed"),
    *("bad_source", "not_mergeable"),  # of a command
}


def documented() -> Counter[str]:
    text = OPERATING.read_text("utf-8")
    (table,) = re.findall(r"<!-- errors -->\n(.*?)<!-- end of errors -->", text, re.S)
    rows = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    return Counter(code for row in rows for code in re.findall(r"`(\w+)`", row))


def raised() -> set[str]:
    """Return the codes that stand as texts in what a daemon is made of."""
    paths = [path for source in SOURCES for path in source.rglob("*.py")]
    trees = (ast.parse(path.read_text("utf-8")) for path in paths)
    texts = (node.value for tree in trees for node in ast.walk(tree) if _is_text(node))
    return set(texts) & set(ERRORS)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_every_code_is_explained_once() -> None:
    assert set(documented()) == set(ERRORS) - NOT_FOR_OPERATORS
    assert set(documented().values()) == {1}


def test_no_code_that_a_daemon_raises_is_left_out() -> None:
    found = raised() - NOT_FOR_OPERATORS
    assert found > {"storage_failed", "no_space", "bad_checksum"}
    assert found <= set(documented())
