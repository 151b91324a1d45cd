"""Every recipe of docs/recipes.md fills its scan against a real daemon."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.daemon import Daemon

RECIPES = Path(__file__).resolve().parents[2] / "docs" / "recipes.md"
FOUND = re.findall(r"^## (.*?)\n.*?^```python\n(.*?)^```", RECIPES.read_text("utf-8"), re.M | re.S)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("recipes") / "data") as daemon:
        yield daemon
    assert "Traceback" not in daemon.log


@pytest.mark.parametrize(("title", "code"), FOUND, ids=[title for title, _ in FOUND])
def test_recipe(daemon: Daemon, title: str, code: str) -> None:
    assert code.count('"tcp://127.0.0.1:5755"') == 1
    code = code.replace("tcp://127.0.0.1:5755", daemon.endpoint)
    names: dict[str, Any] = {}
    exec(compile(code, title, "exec"), names)  # noqa: S102 - the recipe as a reader would run it
    assert names["scan"].result.status == "complete"
