"""A spool's folder: what is read back of segments that were cut or damaged; the lock; failures."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from usidstream import Dimension, MainLayout, ScanLayout, UsidstreamError
from usidstream.client import spool_files
from usidstream.client.mains import Mains
from usidstream.client.spool_files import Leftovers, SpooledScan, SpoolFolder, read_header
from usidstream.delivery import Payload, Segment, SpooledForm, as_bytes, scattered

SCAN = "5a" * 16
LAYOUT = ScanLayout(
    positions=[Dimension("X", "um", 40)],
    mains=[MainLayout("Raw", "Current", "nA", "<u2", [Dimension("Bias", "V", [0.0, 0.5, 2.0])])],
    attrs={"Instrument": "AFM"},
)
FORM = SpooledForm(list(Mains.of(LAYOUT)))
CONTENTS = [
    Payload("Raw", 0, 2, 0, 3, as_bytes(np.arange(6, dtype="<u2"))),
    {"drift_nm": 1.3},
    scattered("Raw", [9, 4], 0, 3, np.arange(10, 16, dtype="<u2"), single=True),
    Payload("Raw", 30, 1, 1, 2, as_bytes(np.arange(2, dtype="<u2"))),
]


def write(folder: Path) -> Path:
    """Write all contents to one segment, and let go of the folder; return the segment's path."""
    spool = SpoolFolder(folder)
    segment = Segment(1, 1)
    spool.append(segment, [FORM.encode(content) for content in CONTENTS])
    path = spool.path(segment)
    spool.close(remove=False)
    return path


def read(folder: Path) -> tuple[list[object], Leftovers]:
    """Return what a new process can send (None for what it finds damaged), and what it is told."""
    spool = SpoolFolder(folder)
    found = spool.leftovers(FORM)
    contents: list[object] = []
    for segment in found.segments:
        records = spool.read(segment, segment.waiting_at, segment.waiting, segment.nbytes)
        contents += [None if record is None else FORM.decode(record) for _, _, record in records]
    spool.close(remove=False)
    return contents, found


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    write(tmp_path / SCAN)
    contents, found = read(tmp_path / SCAN)
    assert contents == CONTENTS
    assert found.segments[0].is_inherited
    assert not found.torn
    assert not found.damage


def test_a_segment_cut_at_any_byte_gives_the_blocks_before_the_cut(tmp_path: Path) -> None:
    path = write(tmp_path / SCAN)
    whole = path.read_bytes()
    seen = set()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        contents, found = read(tmp_path / SCAN)
        assert contents == CONTENTS[: len(contents)]
        assert not found.damage, "a cut is no damage: its writer was killed"
        if found.segments:
            is_between = found.segments[0].nbytes == size
            assert bool(found.torn) != is_between
        seen.add(len(contents))
    assert seen == set(range(len(CONTENTS)))


def test_a_flipped_bit_is_told_and_never_sent(tmp_path: Path) -> None:
    path = write(tmp_path / SCAN)
    whole = path.read_bytes()
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << (at % 8)
        path.write_bytes(damaged)
        contents, found = read(tmp_path / SCAN)
        good = [content for content in contents if content is not None]
        assert all(content in CONTENTS for content in good), at
        assert len(good) < len(CONTENTS), at
        assert found.damage or None in contents, at
        for error in found.damage:
            assert error.code == "spool_damaged"
            assert str(path) in str(error)
        path.with_name(path.name + ".damaged").unlink(missing_ok=True)


def test_a_header_tells_what_the_scan_is(tmp_path: Path) -> None:
    scan = SpooledScan(SCAN, LAYOUT, "sample_A", "tcp://127.0.0.1:5755", "joiner")
    spool = SpoolFolder(tmp_path / SCAN)
    assert spool.is_new
    spool.describe(scan)
    assert not spool.is_new
    spool.close(remove=False)
    found = read_header(tmp_path / SCAN)
    assert found.layout == LAYOUT
    assert (found.scan_id, found.file, found.endpoint, found.role) == (
        scan.scan_id,
        scan.file,
        scan.endpoint,
        scan.role,
    )


def test_a_damaged_header_is_told(tmp_path: Path) -> None:
    spool = SpoolFolder(tmp_path / SCAN)
    spool.describe(SpooledScan(SCAN, LAYOUT, "a", "tcp://127.0.0.1:5755"))
    spool.close(remove=False)
    path = tmp_path / SCAN / "scan"
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(UsidstreamError) as caught:
            read_header(tmp_path / SCAN)
        assert caught.value.code == "spool_damaged"
        assert str(path) in str(caught.value)


def test_a_folder_is_of_one_client(tmp_path: Path) -> None:
    spool = SpoolFolder(tmp_path / SCAN)
    with pytest.raises(UsidstreamError) as caught:
        SpoolFolder(tmp_path / SCAN)
    assert caught.value.code == "spool_busy"
    spool.close(remove=True)
    assert not (tmp_path / SCAN).exists()
    SpoolFolder(tmp_path / SCAN).close(remove=True)


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsidstreamError) as caught:
        SpoolFolder(tmp_path / "file" / SCAN)
    assert caught.value.code == "spool_failed"


@pytest.mark.parametrize("call", ["write_all", "sync_data"])
def test_what_could_not_be_written_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    spool = SpoolFolder(tmp_path / SCAN)
    segment = Segment(1, 1)
    _, segment.nbytes = spool.append(segment, [FORM.encode(CONTENTS[0])])

    def fail(fd: int, *_: object) -> None:
        os.write(fd, b"half")
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(spool_files, call, fail)
        with pytest.raises(OSError, match="full"):
            spool.append(segment, [FORM.encode(CONTENTS[1])])
        with pytest.raises(OSError, match="full"):
            spool.append(Segment(2, 2), [FORM.encode(CONTENTS[1])])
    spool.append(Segment(2, 3), [FORM.encode(CONTENTS[2])])
    spool.close(remove=False)
    contents, found = read(tmp_path / SCAN)
    assert contents == [CONTENTS[0], CONTENTS[2]]
    assert not found.torn
    assert not found.damage
