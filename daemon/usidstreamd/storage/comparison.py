"""Has a scan's file compared with its ledger, by a process of its own and under a time-out.

HDF5 may crash or hang on damaged metadata. A child that dies or stops after it has begun has met
damage; one that never began has not looked at the file at all, which is no verdict on it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from .errors import StorageError
from .inspection import Inspection

COMPARE_TIMEOUT_S = 60.0
COMPARE_TIMEOUT_PER_CHUNK_S = 1e-3
"""Added for each chunk: some hundred times what a sound file takes."""
ORPHAN_GRACE_S = 5.0
MAX_LAST_WORDS_CHARS = 400

CHILD = "usidstreamd.storage.compare"
BEGIN = "begin"


def compare(
    path: Path, journal: Path, ledger: Path, n_chunks: int, timeout_s: float = COMPARE_TIMEOUT_S
) -> Inspection:
    """Compare a file, which may be damaged, with a ledger.

    Parameters
    ----------
    path
        The file; it is not changed.
    journal
        Where the scan's record stands.
    ledger
        The ledger to compare with.
    n_chunks, timeout_s
        What the process is given: `timeout_s`, and `COMPARE_TIMEOUT_PER_CHUNK_S` for each chunk.

    Raises
    ------
    StorageError
        ``internal_error``: the comparison did not take place.
    """
    limit_s = timeout_s + n_chunks * COMPARE_TIMEOUT_PER_CHUNK_S
    # Should this process be killed meanwhile, the child ends itself.
    alone_s = limit_s + ORPHAN_GRACE_S
    command = [sys.executable, "-m", CHILD, *map(str, (path, journal, ledger, alone_s))]
    try:
        child = subprocess.run(  # noqa: S603  # our own module; paths as single arguments
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s, check=False
        )
        told, last_words, ending = child.stdout, child.stderr, f"ended with {child.returncode}"
    except subprocess.TimeoutExpired as expired:
        told, last_words = expired.stdout or b"", expired.stderr or b""
        ending = f"took longer than {limit_s:.0f} s"
    lines = told.decode("utf-8", "replace").splitlines()
    if not lines or lines[0] != BEGIN:
        raise StorageError(
            f"the process that compares {path} with its ledger {ending} before it began: "
            f"{last_words.decode('utf-8', 'replace')[-MAX_LAST_WORDS_CHARS:]}",
            code="internal_error",
            details={"file": str(path)},
        )
    if len(lines) < 2:
        return Inspection(f"reading it {ending}")
    return Inspection(**json.loads(lines[1]))
