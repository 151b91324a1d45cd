"""The document's code runs beside a daemon, prints what it says and draws its pictures."""

import runpy
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_guide_runs_as_it_stands(tmp_path):
    run_guide = runpy.run_path(str(DOCS / "run_guide.py"))
    run_guide["run"](DOCS / "guide.md", tmp_path)
    pictures = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(pictures) == {"guide-map.png", "guide-spectrum.png", "guide-result.png"}
    assert all((DOCS / name).exists() and size > 5_000 for name, size in pictures.items())
