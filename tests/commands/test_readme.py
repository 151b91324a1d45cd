"""What the README promises runs as it stands there."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import typer.main

import usidstream.commands
import usidstreamd.commands
from support.daemon import Daemon

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
DEFAULT_ENDPOINT = usidstream.commands.DEFAULT_ENDPOINT
APPS = {"usidstream": usidstream.commands.app, "usidstreamd": usidstreamd.commands.app}
ROWS = re.findall(r"^\| `(usidstreamd?) (.*?)` \|", README, re.M)


def block(mark: str) -> str:
    """Return the code block behind an HTML comment."""
    found = re.search(rf"^<!-- {mark} -->\n```\w+\n(.*?)^```$", README, re.M | re.S)
    assert found, mark
    return found[1]


def is_free(endpoint: str) -> bool:
    host, port = endpoint.removeprefix("tcp://").split(":")
    with socket.socket() as trial:
        try:
            trial.bind((host, int(port)))
        except OSError:
            return False
    return True


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Serve at the default endpoint where nobody else does."""
    daemon = Daemon(tmp_path / "data")
    if is_free(DEFAULT_ENDPOINT):
        daemon.endpoint = DEFAULT_ENDPOINT
    with daemon:
        yield daemon


def test_the_example_runs_as_it_stands(daemon: Daemon) -> None:
    code = block("example")
    assert code.count(DEFAULT_ENDPOINT) == 1
    assert len([line for line in code.splitlines() if line.strip()]) <= 10, "ten lines, as told"
    told = subprocess.run(
        [sys.executable, "-c", code.replace(DEFAULT_ENDPOINT, daemon.endpoint)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (told.returncode, told.stderr) == (0, "")
    status, file = told.stdout.split()
    assert status == "complete"
    assert Path(file).name.startswith("sample_A_")
    bias = np.linspace(-1, 1, 64)
    wanted = np.sin(bias * np.arange(1024)[:, np.newaxis]).astype("f4")
    with h5py.File(file) as h5_file:
        np.testing.assert_array_equal(h5_file["Measurement_000/Raw_Data"][...], wanted)


@pytest.mark.parametrize(
    ("number", "ends_in"), [(1, ".venv/bin/usidstreamd demo"), (2, ".venv/bin/python -m pytest -q")]
)
def test_the_two_commands(number: int, ends_in: str) -> None:
    (line,) = block(f"command {number}").splitlines()
    venv, install, last = line.split(" && ")
    assert venv == "python3 -m venv .venv"
    assert last == ends_in
    found = re.fullmatch(r"\.venv/bin/pip install -q (?:-e )?'\.\[(.*)\]'", install)
    assert found
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(found[1].split(",")) <= set(project["optional-dependencies"])
    program = Path(last.split()[0]).name
    assert program == "python" or program in project["scripts"]


def commands_of(name: str) -> dict[str, Any]:
    group: Any = typer.main.get_command(APPS[name])
    return dict(group.commands)


@pytest.mark.parametrize(("name", "words"), ROWS, ids=[" ".join(row) for row in ROWS])
def test_every_command_of_the_table_exists_with_its_options(name: str, words: str) -> None:
    verb = words.split(maxsplit=1)[0]
    options = {option for parameter in commands_of(name)[verb].params for option in parameter.opts}
    assert set(re.findall(r"--[\w-]+", words)) <= options


def test_the_table_tells_of_every_command() -> None:
    documented = {(name, words.split()[0]) for name, words in ROWS}
    there = {(name, verb) for name in APPS for verb in commands_of(name)}
    assert there - documented == {("usidstreamd", "version")}
    assert len(documented) == len(ROWS)


def test_the_presets_of_the_table_exist() -> None:
    (words,) = [words for _, words in ROWS if words.startswith("simulate")]
    named = words.removeprefix("simulate ").split("\\|")
    assert named == [*usidstream.feeds.PRESETS, "LAYOUT.toml"]


def test_files_that_the_readme_points_to_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
