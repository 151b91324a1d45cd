"""What a client names never becomes a path, and what is made is not for everybody."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import usidstream
from support.daemon import Daemon, command
from support.rawpeer import RawPeer
from usidstream import wire
from usidstream.layout import Dimension, MainLayout, ScanLayout
from usidstreamd.clients import Clients
from usidstreamd.config import Config

EVIL = [  # names, none is opened
    "../out",
    "..",
    "/etc/out",
    "a/../../out",
    "..\\out",
    "C:\\out",
    "a\0b",
    "\x1b[2Jout",
    "",
]
PLACES = ["file", "scan", "name", "main", "dataset", "attr", "main_attr"]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("names") / "data") as daemon:
        yield daemon


def opening(place: str, evil: str) -> wire.Open:
    """A layout that is fine but for one name."""
    main = {"name": "Raw", "quantity": "q", "units": "", "dtype": "float32"}
    layout: dict[str, Any] = {"positions": [{"name": "x", "units": "", "size": 2}]}
    open_fields: dict[str, Any] = {"scan": secrets.token_hex(16), "file": "plain"}
    if place in {"file", "scan"}:
        open_fields[place] = evil
    elif place == "name":
        layout["name"] = evil
    elif place in {"main", "dataset"}:
        main["name" if place == "main" else "dataset"] = evil
    elif place == "attr":
        layout["attrs"] = {evil: 1}
    else:
        main["attrs"] = {evil: 1}  # type: ignore[assignment]
    return wire.Open(layout=layout | {"mains": [main]}, **open_fields)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("evil", EVIL)
def test_no_name_leads_anywhere(daemon: Daemon, place: str, evil: str) -> None:
    if place in {"attr", "main_attr"} and "/" not in evil and "\0" not in evil and evil:
        pytest.skip("an attribute may be called so: it is no path in a file")
    if place in {"name", "main", "dataset"} and "\\" in evil:
        pytest.skip("a backslash means nothing in HDF5")
    outside = daemon.data_dir.parent
    before = sorted(path for path in outside.parent.rglob("*"))
    with RawPeer(daemon.endpoint) as peer:
        peer.send(opening(place, evil))
        error = peer.expect(wire.Error)
    assert error.code in {"bad_name", "bad_message", "bad_attribute"}, error
    assert sorted(path for path in outside.parent.rglob("*")) == before


def test_a_name_cannot_write_lines_into_the_log_or_steer_a_terminal() -> None:
    clients = Clients()
    hello = wire.Hello(versions=[1], client="afm\nERROR all is lost\x1b[2J" + "x" * 1000)
    clients.welcome(b"a", hello, 0.0, (9, 9))
    assert clients.names()[0].startswith("afm?ERROR all is lost?[2J")
    assert len(clients.names()[0]) == 64


@pytest.mark.skipif(os.name != "posix", reason="modes mean nothing on Windows")
@pytest.mark.parametrize(
    ("mode", "file_bits", "directory_bits"),
    [(None, 0o640, 0o750), ("0600", 0o600, 0o700), ("0664", 0o664, 0o775)],
)
def test_files_and_directories_are_for_whom_the_operator_says(
    tmp_path: Path, mode: str | None, file_bits: int, directory_bits: int
) -> None:
    main = MainLayout(name="Raw", quantity="q", units="", dtype="float32")
    layout = ScanLayout(positions=[Dimension("x", "", 4)], mains=[main])
    options = {} if mode is None else {"file_mode": mode}
    with (
        Daemon(tmp_path / "data", **options) as daemon,
        usidstream.connect(daemon.endpoint) as client,
    ):
        with client.open_scan(layout, "done") as scan:
            scan.write_block(0, np.zeros((4, 1), "f4"))
        running = client.open_scan(layout, "running")
        running.write_block(0, np.zeros((2, 1), "f4"))
        running.wait_durable(timeout_s=20)
        made = [daemon.data_dir, *daemon.data_dir.rglob("*")]
        assert len(made) > 5
        for path in made:
            wanted = directory_bits if path.is_dir() else file_bits
            bits = stat.S_IMODE(path.stat().st_mode)
            assert bits & ~wanted == 0, f"{path} has {bits:o}"
            assert bits == wanted or path.name == "lock", f"{path} has {bits:o}"
        running.abort()


@pytest.mark.parametrize("mode", ["0777", "640 ", "0040", "rw-r-----", "0641"])
def test_a_mode_that_is_none_or_makes_programs_of_data_is_refused(
    tmp_path: Path, mode: str
) -> None:
    with pytest.raises(ValueError, match="must be digits of chmod"):
        Config(file_mode=mode)
    (tmp_path / "c.toml").write_text(f'file_mode = "{mode}"\n')
    told = command("usidstreamd", "check-config", tmp_path / "c.toml")
    assert told.returncode == 1
    assert "must be digits of chmod" in told.stdout
