"""Whether a disk image keeps what a recorded scan was promised: by recovery, and by a daemon.

Both ask the same of the file: every acknowledged row is there bit for bit, what its coverage
claims is so, and ``verify`` finds no fault. Recovery without a daemon leaves rows in the journal;
they are read from there. HDF5 opens nothing in this process but what recovery, which looks in a
process of its own, has called sound.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from support.daemon import Daemon
from support.journalled import files_of
from support.rawpeer import RawPeer
from support.recorded_scan import SCAN_ID, Promise, Rows, Script, open_scan, values
from support.recording import Operation, environment, read_log
from usidstream import wire
from usidstreamd.storage import (
    FinishedScans,
    OpenRecord,
    RecoveryReport,
    find_journals,
    recover_path,
    structure,
)
from usidstreamd.storage.files import journal_dir
from usidstreamd.storage.ledger import LEDGER_NAME, replay
from usidstreamd.storage.segments import RowReplay
from usidstreamd.verify import Report
from usidstreamd.verify.reading import read_file

ABSENT = "nothing promised, nothing there"
FINISHED = "finished, left as it was"
REDO = ", end to be redone"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found.

    Parameters
    ----------
    outcome
        What recovery did, as it reports it; or one of the module's words.
    compared
        How many acknowledged rows were compared.
    """

    outcome: str
    compared: int


def judge(directory: Path, script: Script, promise: Promise | None) -> Verdict:
    """Recover an image and judge it; a second recovery must find nothing to do.

    Raises
    ------
    AssertionError
        It does not keep the promise.
    """
    file = _only_file(directory)
    reports = _recovered(directory)
    if file is not None and _has_ended(directory, file):
        assert all(report.how == "nothing to do" for report in reports), reports
        return Verdict(FINISHED, _judge_finished(file, script, promise))
    if not reports:
        assert promise is None, "an open scan is gone"
        return Verdict(ABSENT, 0)
    (report,) = reports
    assert report.how != "salvaged", report
    assert report.uncertain == [], report.uncertain
    assert Path(report.file) == _only_file(directory)
    before = files_of(directory)
    assert [again.how for again in _recovered(directory)] == ["nothing to do"]
    assert files_of(directory) == before, "a second recovery changed something"
    (record,) = find_journals(directory)
    assert isinstance(record, OpenRecord), record
    _judge_file(record.path, script, _acked(script, promise), record)
    ends = replay(record.journal / LEDGER_NAME).decision is not None
    assert ends or not (promise and promise.status), "the end of the scan is forgotten"
    return Verdict(report.how + (REDO if ends else ""), len(_acked(script, promise)))


def _recovered(directory: Path) -> list[RecoveryReport]:
    found = list(recover_path(directory))
    for report in found:
        assert isinstance(report, RecoveryReport), f"{report.code}: {report.message}"
    return [report for report in found if isinstance(report, RecoveryReport)]


def _has_ended(directory: Path, file: Path) -> bool:
    return bool(FinishedScans(directory).get(SCAN_ID)) or not journal_dir(file).exists()


def _only_file(directory: Path) -> Path | None:
    files = sorted(directory.glob("*.h5"))
    assert len(files) <= 1, files
    return files[0] if files else None


def _acked(script: Script, promise: Promise | None) -> Rows:
    return script.rows()[: promise.rows if promise else 0]


# ---------------------------------------------------------------- the file


def _judge_file(file: Path, script: Script, acked: Rows, record: OpenRecord | None = None) -> None:
    report = Report(str(file))
    read_file(file, report, _Unwatched())  # as verify does, without its process for each file
    assert report.faults == [], report.faults
    with h5py.File(file, "r") as h5_file:
        paths = structure.main_paths(script.layout())
        for number, name in enumerate(script.mains):
            dataset = h5_file[paths[name]]
            data = dataset[...]
            _judge_claims(number, data, dataset.parent)
            if record is not None:
                _put_journalled_rows(data, number, record)
            wrong = acked[(data[acked] != values(number, acked)).any(axis=1)]
            assert len(wrong) == 0, f"{len(wrong)} rows of {name} are lost: {wrong[:10]}"


class _Unwatched:
    """Nobody wants to know how far the reading is; the test has a time-out."""

    def expect(self, total: int) -> None:
        """Do nothing."""

    def step(self) -> None:
        """Do nothing."""

    def advance(self) -> None:
        """Do nothing."""


def _judge_claims(number: int, data: npt.NDArray[Any], group: Any) -> None:
    """Require that what the coverage calls held is held."""
    complete = np.flatnonzero(group["completed_positions"][:] == 1)
    wrong = complete[(data[complete] != values(number, complete)).any(axis=1)]
    assert len(wrong) == 0, f"rows that are called complete are not: {wrong[:10]}"
    for row, row_end, col, col_end in group["partial_ranges"][:].tolist():
        part = values(number, np.arange(row, row_end))[:, col:col_end]
        assert (data[row:row_end, col:col_end] == part).all(), f"rows {row} to {row_end}, partly"


def _put_journalled_rows(data: npt.NDArray[Any], number: int, record: OpenRecord) -> None:
    state = replay(record.journal / LEDGER_NAME)
    for block in RowReplay(record.journal, state.first_segment):
        if block.main != number:
            continue
        rows: npt.ArrayLike = range(block.row, block.row + block.rows)
        if block.numbers is not None:
            rows = np.frombuffer(block.numbers, "<u8")
        elements = np.frombuffer(block.data, "<f4").reshape(block.rows, block.cols)
        data[rows, block.col : block.col + block.cols] = elements


def _judge_finished(file: Path, script: Script, promise: Promise | None) -> int:
    """Judge a file whose journal is gone, or going: it must say how the scan ended."""
    acked = _acked(script, promise)
    _judge_file(file, script, acked)
    with h5py.File(file, "r") as h5_file:
        measurement = h5_file[structure.measurement_path(script.layout())]
        status = structure.get_text(measurement, "acquisition_status")
    assert status == ((promise and promise.status) or status)
    assert status in ("complete", "incomplete"), status
    return len(acked)


# ---------------------------------------------------------------- by a daemon


@dataclass(frozen=True, slots=True)
class Served:
    """What a daemon did with an image: it recovered, resumed and ended the scan.

    Parameters
    ----------
    operations
        All that it did to the files.
    finished_bytes
        How long the log was when it had told the end.
    status
        What it told.
    """

    operations: list[Operation]
    finished_bytes: int
    status: str


def judge_by_daemon(directory: Path, log: Path, script: Script, promise: Promise | None) -> Served:
    """Start a daemon on an image, ask for the scan, end it, and judge the file.

    Raises
    ------
    AssertionError
        It does not keep the promise.
    """
    daemon = Daemon(directory, memory_budget_mb=1)
    daemon.environment = environment(directory, log)
    acked = _acked(script, promise)
    with daemon, RawPeer(daemon.endpoint) as peer:
        opened = open_scan(peer, script.layout(), SCAN_ID)
        if isinstance(opened, wire.Opened):
            assert opened.resumed or promise is None, "an open scan is forgotten"
            assert not (promise and promise.status), "the end of the scan is forgotten"
            _require_durable(opened, script, acked)
            peer.send(wire.Finish(scan=SCAN_ID, seq=0))
            finished = peer.expect(wire.Finished)
        else:
            finished = opened
        nbytes = log.stat().st_size
    assert "Traceback" not in daemon.log, daemon.log
    if promise and promise.status:
        assert finished.status == promise.status
    _judge_file(Path(finished.file), script, acked)
    return Served(read_log(log), nbytes, finished.status)


def _require_durable(opened: wire.Opened, script: Script, acked: Rows) -> None:
    for name in script.mains:
        ranges = wire.unpack_ranges(opened.coverage[name]["complete"], opened.frames, 2)
        held = np.zeros(script.layout().n_positions, np.bool_)
        for start, stop in ranges:
            held[start:stop] = True
        lost = acked[~held[acked]]
        assert len(lost) == 0, f"the daemon does not know rows {lost[:10]} of {name} any more"
