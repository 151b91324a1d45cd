"""Every recipe of docs/recipes.md runs as it stands and fills its scan."""

import re
from contextlib import contextmanager
from pathlib import Path

import pytest

import usidstream
from support.scan_double import ScanDouble
from usidstream import layout as layouts

RECIPES = Path(__file__).resolve().parents[2] / "docs" / "recipes.md"
FOUND = re.findall(r"^## (.*?)\n.*?^```python\n(.*?)^```", RECIPES.read_text("utf-8"), re.M | re.S)


class ClientDouble:
    def __init__(self):
        self.scans = []

    @contextmanager
    def open_scan(self, layout, file, scan_id=None):
        assert file
        assert scan_id is None or len(scan_id) == 32
        self.scans.append(ScanDouble(layout))
        yield self.scans[-1]


@pytest.mark.parametrize(("title", "code"), FOUND, ids=[title for title, _ in FOUND])
def test_recipe(title, code, monkeypatch):
    client = ClientDouble()

    @contextmanager
    def connect(endpoint, spool_dir=None):
        assert endpoint == "tcp://127.0.0.1:5755"
        yield client

    monkeypatch.setattr(usidstream, "connect", connect, raising=False)
    for name in ("Dimension", "MainLayout", "PositionTable", "ScanLayout"):
        monkeypatch.setattr(usidstream, name, getattr(layouts, name), raising=False)
    exec(compile(code, title, "exec"), {})  # noqa: S102 - the recipe as a reader would run it
    assert client.scans[0].is_complete


def test_all_recipes_are_found():
    assert len(FOUND) == 7
