"""A process that dies with the file open: the file is recognised and never harmed."""

import signal
import subprocess
import sys

import pytest

from support.storing import layout_of, main_of
from usidstreamd.storage import LiveFile, OpenRecord, StorageError, find_journals, superblock
from usidstreamd.storage.scan import OpenScan, ended_before

_WRITER = """
import sys
from pathlib import Path
from support.storing import *
from usidstreamd.storage.scan import OpenScan

layout = layout_of(main_of())
plans = plans_for(layout)
scan = OpenScan.create(
    Path(sys.argv[1]), "scan", layout, plans, scan_id=SCAN_ID, created=CREATED
)
scan.write("Raw_Data", chunks_of(random_data(layout, "Raw_Data"), plans["Raw_Data"]))
scan.commit({"Raw_Data": complete(0, 64)}, {})
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def killed(tmp_path):
    """Return the open record of a scan whose writer was killed."""
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(filter(None, sys.path))},
    ) as process:
        try:
            assert process.stdout.readline() == "written\n"
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    (record,) = find_journals(tmp_path)
    assert isinstance(record, OpenRecord)
    return record


def test_a_file_left_by_a_killed_daemon_is_refused_and_stays_as_it_is(killed):
    before = killed.path.read_bytes()
    assert superblock.consistency_flags(killed.path) == 5
    for attempt in (
        lambda: OpenScan.resume(killed),
        lambda: ended_before(killed),
        lambda: LiveFile.resume(killed.path, layout_of(main_of()), killed.scan_id),
    ):
        with pytest.raises(StorageError, match="not closed by its writer") as caught:
            attempt()
        assert caught.value.code == "file_damaged"
        assert "Nothing was changed" in caught.value.hint
    assert killed.path.read_bytes() == before
    assert killed.journal.is_dir()
