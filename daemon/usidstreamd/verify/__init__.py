"""Reads an h5USID file as a sceptic and says everything that is wrong with it.

``structure`` asks whether mains and ancillaries are what h5USID demands, ``measurements`` and
``coverage`` whether what is said to be complete can be, ``chunks`` whether every stored byte can be
had. The file is read chunk by chunk and never written; memory does not grow with it. Coverage is
checked where there is any: files of other writers need none.

HDF5 may crash or never come back on damaged metadata, so it reads in a process of its own, whose
end for any reason is one more fault.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from usidstream.errors import UsidstreamError

from ..storage.superblock import consistency_flags
from .report import MainReport, Report

__all__ = ["MainReport", "Report", "verify_file"]

STALL_TIMEOUT_S = 120
"""Reading that makes no step for so long is taken for a hang of HDF5."""


def verify_file(file: Path | str, progress: Callable[[int, int], None] | None = None) -> Report:
    """Check a file from end to end.

    Parameters
    ----------
    file
        Any HDF5 file with h5USID main datasets, of any age and writer.
    progress
        Called now and then with the chunks read and their number.

    Returns
    -------
    Report
        What was found; ``faults`` is empty where nothing is wrong. Nothing is raised for a file
        that is missing, damaged or no HDF5 file: that is a fault like others.
    """
    report = Report(str(file))
    if _is_closed_hdf5(Path(file), report):
        _read_in_a_process(Path(file), report, progress)
    return report


def _is_closed_hdf5(path: Path, report: Report) -> bool:
    try:
        flags = consistency_flags(path)
    except UsidstreamError as error:
        report.fault("", error.message)
        return False
    if flags is None:
        report.fault("", "is not an HDF5 file")
    elif flags:
        report.fault(
            "", f"was not closed (flags {flags}): it is being written, or its writer was killed"
        )
    return flags == 0


def _read_in_a_process(
    path: Path, report: Report, progress: Callable[[int, int], None] | None
) -> None:
    command = [sys.executable, "-m", "usidstreamd.verify.child", str(path), str(STALL_TIMEOUT_S)]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as last_words:
        with subprocess.Popen(  # noqa: S603  # our own module, and a path as one argument
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=last_words, text=True
        ) as child:
            try:
                is_whole = _take(child.stdout or (), report, progress)
            finally:
                child.kill()
        if not is_whole:
            report.fault("", _how_it_ended(child.returncode, last_words))


def _take(
    lines: Iterable[str], report: Report, progress: Callable[[int, int], None] | None
) -> bool:
    """Put what the child tells in the report; return whether it came to its end."""
    for line in lines:
        kind, told = json.loads(line)
        if kind == "fault":
            report.faults.append(told)
        elif kind == "progress" and progress is not None:
            progress(*told)
        elif kind == "end":
            report.fill(told)
            return True
    return False


def _how_it_ended(returncode: int, last_words: IO[str]) -> str:
    last_words.seek(0)
    words = last_words.read().strip()
    if words.startswith("Timeout"):
        return f"HDF5 does not come back from reading it (no step in {STALL_TIMEOUT_S} s)"
    if returncode < 0:
        return f"HDF5 crashed while reading it (signal {-returncode})"
    return f"reading it ended early (exit code {returncode}): {words[-500:]}"
