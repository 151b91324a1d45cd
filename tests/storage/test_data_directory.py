import subprocess
import sys

import pytest

from usidstream.errors import UsidstreamError
from usidstreamd.storage import DataDirectory


def test_one_daemon_at_a_time(tmp_path):
    first = DataDirectory(tmp_path / "data")
    with pytest.raises(UsidstreamError, match="in use by another daemon"):
        DataDirectory(tmp_path / "data")
    first.close()
    DataDirectory(tmp_path / "data").close()


def test_a_daemon_that_died_holds_nothing(tmp_path):
    script = "import os, sys; from pathlib import Path; from usidstreamd.storage import *\n"
    script += "held = DataDirectory(Path(sys.argv[1])); os._exit(3)"
    died = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=60)
    assert died.returncode == 3
    DataDirectory(tmp_path).close()


def test_what_an_opening_that_never_ended_left_is_removed(tmp_path):
    (tmp_path / "scan.h5.journal").mkdir()
    directory = DataDirectory(tmp_path)
    assert list(directory.waiting()) == []
    directory.close()
    assert [path.name for path in tmp_path.iterdir()] == [".usidstream"]


def test_a_directory_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"in the way")
    with pytest.raises(UsidstreamError, match="could not lock"):
        DataDirectory(tmp_path / "file" / "data")
