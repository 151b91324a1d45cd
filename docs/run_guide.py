"""Runs the code of guide.md, compares what it prints and draws its pictures again.

``python docs/run_guide.py [FOLDER]``: pictures go to FOLDER, by default beside the guide. Each
``python`` block of the guide is run after the one before; a ``text`` block right after it is what
it prints.
"""

import contextlib
import io
import re
import sys
import tempfile
from pathlib import Path

GUIDE = Path(__file__).with_name("guide.md")
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(guide: Path, folder: Path) -> None:
    """Run a guide in a folder of its own; raise where it prints something else than it says."""
    import matplotlib as mpl

    mpl.use("Agg")
    names: dict[str, object] = {}
    blocks = BLOCK.findall(guide.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        for (kind, code), (next_kind, text) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
            if kind == "python":
                printed = _printed_by(code, names)
                expected = text if next_kind == "text" else ""
                if printed != expected:
                    raise AssertionError(f"{code}\nprints\n{printed}\ninstead of\n{expected}")
        for picture in Path(scratch).glob("*.png"):
            (folder / picture.name).write_bytes(picture.read_bytes())


def _printed_by(code: str, names: dict[str, object]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, GUIDE.name, "exec"), names)  # noqa: S102 - the project's own guide
    return out.getvalue()


if __name__ == "__main__":
    run(GUIDE, Path(sys.argv[1]) if len(sys.argv) > 1 else GUIDE.parent)
