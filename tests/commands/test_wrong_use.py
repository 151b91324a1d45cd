"""Wrong use costs one clear line and exit code 2, a fault exit code 1, and never a traceback.

The table runs in this process, through the same entry points; the other tests start processes.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import usidstream.cli
import usidstreamd.cli
from support.daemon import Daemon, command

MAINS: dict[str, Callable[[], None]] = {
    "usidstream": usidstream.cli.main,
    "usidstreamd": usidstreamd.cli.main,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("text.h5").write_text("no HDF5")
    Path("bad.toml").write_text("name = 3\n")
    Path("broken.toml").write_text("name = \n")
    Path("bind.toml").write_text('bnid = "tcp://127.0.0.1:0"\n')
    return tmp_path


def run(words: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    name, *arguments = words.split()
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit) as caught:
        MAINS[name]()
    return caught.value.code


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("usidstream simulate", "Missing argument"),
        ("usidstream simulat be", "No such command 'simulat'"),
        ("usidstream simulate nope", "afm, be, raman, 4dstem, timeseries"),
        ("usidstream simulate ramen", "Did you mean 'raman'?"),
        ("usidstream simulate be --speed 3", "No such option: --speed"),
        ("usidstream simulate be --rate 0", "--rate"),
        ("usidstream simulate be --rate fast", "--rate"),
        ("usidstream simulate be --order zigzag", "'raster', 'serpentine', 'random'"),
        ("usidstream simulate be --size 4xq", "Give numbers such as 64x64"),
        ("usidstream simulate be --size 0x4", "positive integers"),
        ("usidstream simulate be --size 4x4x4", "Give up to 2"),
        ("usidstream simulate be --fault dorp=0.1", "did you mean 'drop'?"),
        ("usidstream simulate be --fault drop=2", "drop=0.01"),
        ("usidstream simulate be --fault crash", "crash=500"),
        ("usidstream simulate be --scan-id 12", "32 digits"),
        ("usidstream simulate be --to localhost:5755", "tcp://127.0.0.1:5755"),
        ("usidstream simulate bad.toml", "positions: is missing"),
        ("usidstream simulate broken.toml", "broken.toml"),
        ("usidstream simulate missing.toml", "neither a preset nor a file"),
        ("usidstream simulate bad.toml --size 4x4", "Leave size"),
        ("usidstream replay missing.h5", "no such file"),
        ("usidstream replay text.h5", "not an HDF5 file"),
        ("usidstream replay .", "no such file"),
        ("usidstream status --to 127.0.0.1", "tcp://127.0.0.1:5755"),
        ("usidstreamd serv", "No such command 'serv'"),
        ("usidstreamd serve --config missing.toml", "missing.toml"),
        ("usidstreamd serve --config bind.toml", "did you mean 'bind'?"),
        ("usidstreamd serve --config broken.toml", "broken.toml is not TOML"),
        ("usidstreamd serve --bind 5755", "must look like tcp://127.0.0.1:5755"),
        ("usidstreamd serve --bind tcp://0.0.0.0:0", "allow_insecure"),
        ("usidstreamd demo --preset ramen", "Did you mean 'raman'?"),
        ("usidstreamd tree missing.h5", "does not exist"),
        ("usidstreamd tree text.h5", "is not an HDF5 file"),
        ("usidstreamd tree .", "is a directory"),
        ("usidstreamd verify missing.h5", "does not exist"),
        ("usidstreamd version 2", "unexpected extra argument"),
    ],
)
def test_wrong_use(
    folder: Path,
    words: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = set(folder.rglob("*"))
    assert run(words, monkeypatch) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err.splitlines()[-1]
    assert len([line for line in err.splitlines() if line]) <= 3, "usage, help, and what is wrong"
    assert set(folder.rglob("*")) == before, "nothing is left behind"


def test_no_command_prints_the_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in MAINS:
        assert run(name, monkeypatch) == 2
        assert "Commands:" in "".join(capsys.readouterr())


def test_a_file_that_is_no_file_of_ours_is_a_fault(folder: Path) -> None:
    told = command("usidstreamd", "verify", "text.h5")
    assert told.returncode == 1
    assert "is not an HDF5 file" in told.stdout


def test_a_taken_port_is_a_fault(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data") as daemon:
        words = ["serve", "--data-dir", tmp_path / "other", "--bind", daemon.endpoint]
        told = command("usidstreamd", *words)
    assert (told.returncode, told.stdout) == (1, "")
    (line,) = told.stderr.splitlines()
    assert line.startswith(f"usidstreamd: {daemon.endpoint} cannot be bound")


def test_what_a_daemon_refuses_because_of_the_user_is_wrong_use(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data") as daemon:
        words = ["raman", "--size", "2x2", "--file", "a/b", "--to", daemon.endpoint]
        told = command("usidstream", "simulate", *words)
    assert (told.returncode, told.stdout) == (2, "")
    (line,) = told.stderr.splitlines()
    assert "'a/b'" in line


@pytest.mark.parametrize(
    ("name", "package"),
    [("usidstream", "typer"), ("usidstream", "rich"), ("usidstreamd", "h5py")],
)
def test_a_missing_extra_is_named(name: str, package: str) -> None:
    code = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
sys.argv = [{name!r}, "--help"]
from {name}.cli import main
main()
"""
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert told.returncode == 2
    (line,) = told.stderr.splitlines()
    assert line == f"{name} needs {package}: pip install 'usidstream[daemon]'"


def test_replay_without_h5py_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert run("usidstream replay text.h5", monkeypatch) == 2
    assert "pip install 'usidstream[daemon]'" in capsys.readouterr().err
