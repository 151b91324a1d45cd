"""Runs the code of guide.md beside a daemon, compares what it prints and draws its pictures again.

``python docs/run_guide.py [FOLDER]``: pictures go to FOLDER, by default beside the guide. Each
``python`` block of the guide is run after the one before; a ``text`` block right after it is what
it prints. The daemon is a process of its own on a free port, and ends with the guide.
"""

import contextlib
import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

GUIDE = Path(__file__).with_name("guide.md")
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STOP_TIMEOUT_S = 20.0


def run(guide: Path, folder: Path) -> None:
    """Run a guide in a folder of its own; raise where it prints something else than it says."""
    import matplotlib as mpl

    mpl.use("Agg")
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        with serving(Path("data")) as endpoint:
            _run_blocks(BLOCK.findall(guide.read_text(encoding="utf-8")), {"endpoint": endpoint})
        for picture in Path().glob("*.png"):
            (folder / picture.name).write_bytes(picture.read_bytes())


@contextlib.contextmanager
def serving(data_dir: Path) -> Iterator[str]:
    """Run ``usidstreamd serve`` on a free port during the ``with`` block; yield its address."""
    program = shutil.which("usidstreamd", path=str(Path(sys.executable).parent))
    if program is None:
        raise FileNotFoundError(f"usidstreamd is not installed beside {sys.executable}")
    command = [program, "serve", "--data-dir", str(data_dir), "--bind", "tcp://127.0.0.1:0"]
    with (
        Path("daemon.log").open("w", encoding="utf-8") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as daemon,  # noqa: S603 - our own
    ):
        try:
            ready = daemon.stdout.readline().split() if daemon.stdout else []
            if not ready:
                raise RuntimeError(f"no daemon:\n{Path(log.name).read_text(encoding='utf-8')}")
            yield ready[-1]
        finally:
            daemon.terminate()
            try:
                daemon.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                daemon.kill()
                raise


def _run_blocks(blocks: list[tuple[str, str]], names: dict[str, object]) -> None:
    for (kind, code), (next_kind, text) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if kind == "python":
            printed = _printed_by(code, names)
            expected = text if next_kind == "text" else ""
            if printed != expected:
                raise AssertionError(f"{code}\nprints\n{printed}\ninstead of\n{expected}")


def _printed_by(code: str, names: dict[str, object]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, GUIDE.name, "exec"), names)  # noqa: S102 - the project's own guide
    return out.getvalue()


if __name__ == "__main__":
    run(GUIDE, Path(sys.argv[1]) if len(sys.argv) > 1 else GUIDE.parent)
