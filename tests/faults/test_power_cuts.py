"""Power cuts: what a disk may hold is made from a real scan's operations, recovered and judged.

The operations are recorded below libhdf5 (`recording`), the images are made by `disk_model`, and
what each must keep are the acks that this process had in hand (`recorded_scan`). Some images have
bytes of the file's chunk index damaged besides, which a rebuild has to answer. Of some, a daemon
takes care instead of ``recover``; what it does is recorded too, and cut by a second power failure.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pytest

from support.daemon import SCRIPTS as SCRIPTS_FOLDER
from support.disk_model import Disk, Image, after_power_cut, everything, read_image, write_image
from support.image_judge import Verdict, judge, judge_by_daemon
from support.journalled import damage_index
from support.outcome_table import OutcomeTable
from support.recorded_scan import Promise, Recording, Script, record
from support.recording import Kind, Operation, environment, read_log
from usidstreamd.storage.superblock import consistency_flags

SCRIPTS = {
    script.name: script
    for script in (
        Script("raster"),
        Script("random", is_random=True, skips=5, breaks=(None, signal.SIGTERM)),
        Script("three-mains", ("Height", "Phase", "Current"), breaks=(signal.SIGKILL,)),
    )
}
CUTS = (
    "anywhere", "at an ack", "in a sync", "at the end", "behind the end", "at the opening",
    "anywhere",
)  # fmt: skip
DEFAULT_IMAGES = 15
SWAP_OPERATIONS = 40
"""The last ones of a rebuild, in which the new file takes the place of the old."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    images = metafunc.config.getoption("--images", DEFAULT_IMAGES)
    if "number" in metafunc.fixturenames:
        metafunc.parametrize("number", range(-(-images // len(SCRIPTS))))
    if "cut_number" in metafunc.fixturenames:
        metafunc.parametrize("cut_number", range(1 + images // (10 * len(SCRIPTS))))


@pytest.fixture(scope="module", params=SCRIPTS)
def scan(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp(f"power-{request.param}")
    recording = record(SCRIPTS[request.param], folder / "data", folder / "log")
    return Recorded(recording, folder)


@dataclass(frozen=True)
class Recorded:
    """A recorded scan, and the folder of its log."""

    recording: Recording
    folder: Path


@dataclass(frozen=True)
class RecordedRecovery:
    """What ``recover`` did to a scan that died in the middle, and what it had to keep.

    Parameters
    ----------
    before, inodes
        What the disk held.
    promise
    operations
    """

    before: Image
    inodes: dict[str, int]
    promise: Promise
    operations: list[Operation]


@pytest.fixture(scope="module", params=["in place", "rebuilt"])
def recovery(request: pytest.FixtureRequest, scan: Recorded) -> RecordedRecovery:
    folder = scan.folder / request.param.replace(" ", "-")
    promises = scan.recording.promises
    promise = promises[len(promises) * 2 // 3]
    cut = _reaching(scan.recording.operations, promise.log_bytes)
    write_image(everything(Disk().take_all(scan.recording.operations[:cut])), folder)
    assert request.param == "in place" or _damage_index(folder)
    before, inodes = read_image(folder)
    log = folder.with_suffix(".log")
    done = subprocess.run(
        [SCRIPTS_FOLDER / "usidstreamd", "recover", folder, "--json"],
        env=os.environ | environment(folder, log),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert [report["how"] for report in json.loads(done.stdout)] == [request.param]
    return RecordedRecovery(before, inodes, promise, read_log(log))


@dataclass(frozen=True)
class Trial:
    """One image of a recorded scan: where it is cut, and what is done with it."""

    recording: Recording
    number: int

    @property
    def seed(self) -> str:
        return f"{self.recording.script.name} {self.number}"

    @property
    def is_damaged(self) -> bool:
        return self.number % 3 == 1 or self.number % 20 == 2

    @property
    def is_served(self) -> bool:
        return self.number % 10 == 2

    @cached_property
    def cut(self) -> int:
        """How many operations had begun when the power failed."""
        chance, operations = random.Random(self.seed), self.recording.operations
        match CUTS[self.number % len(CUTS)]:
            case "at an ack":
                return _reaching(operations, chance.choice(self.recording.promises).log_bytes)
            case "in a sync":
                syncs = [n for n, o in enumerate(operations) if o.kind is Kind.SYNC_BEGIN]
                return chance.choice(syncs) + 1
            case "at the end":
                first = _reaching(operations, self.recording.finish_bytes)
                return chance.randint(first, len(operations))
            case "behind the end":
                return len(operations)
            case "at the opening":
                return chance.randint(
                    0, _reaching(operations, self.recording.promises[0].log_bytes)
                )
            case _:
                return chance.randint(0, len(operations))


def _reaching(operations: list[Operation], log_bytes: int) -> int:
    """Return the fewest operations whose records reach to a place of the log."""
    return next(n for n, o in enumerate(operations, 1) if o.end >= log_bytes)


# ---------------------------------------------------------------- the images


@pytest.fixture(scope="module")
def counts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Counter[str]:
    """Outcomes of the module's images, to be told when the run is over."""
    table = OutcomeTable("power cuts", tmp_path_factory.getbasetemp())
    request.config.pluginmanager.register(table)
    return table.counts


@pytest.mark.timeout(300)
def test_the_record_is_whole(scan: Recorded) -> None:
    """All operations, done again in an empty directory, give the same files: nothing escaped."""
    real, _inodes = read_image(scan.folder / "data")
    assert everything(Disk().take_all(scan.recording.operations)) == real


@pytest.mark.timeout(300)
def test_an_image_keeps_the_promise(
    scan: Recorded, number: int, counts: Counter[str], tmp_path: Path
) -> None:
    trial = Trial(scan.recording, number)
    directory = tmp_path / "data"
    disk = Disk().take_all(scan.recording.operations[: trial.cut])
    write_image(after_power_cut(disk, trial.seed), directory)
    if trial.is_damaged and _damage_index(directory):
        counts["index damaged besides"] += 1
    promise = scan.recording.promised(trial.cut)
    try:
        if trial.is_served:
            _serve_and_cut_again(directory, trial, promise, counts)
        else:
            _count(counts, judge(directory, scan.recording.script, promise))
    except AssertionError as error:
        log = scan.folder / "log"
        error.add_note(f"{log} cut behind operation {trial.cut}, seed {trial.seed!r}: {promise}")
        raise
    shutil.rmtree(directory)


@pytest.mark.timeout(300)
def test_a_recovery_that_is_cut_is_done_again(
    scan: Recorded,
    recovery: RecordedRecovery,
    cut_number: int,
    counts: Counter[str],
    tmp_path: Path,
) -> None:
    chance = random.Random(cut_number)
    # Late more often than early: that is where a new file takes the place of the old.
    n = len(recovery.operations)
    cut = chance.choice([chance.randint(0, n), chance.randint(max(0, n - SWAP_OPERATIONS), n)])
    disk = Disk(recovery.before, recovery.inodes).take_all(recovery.operations[:cut])
    write_image(after_power_cut(disk, cut_number), tmp_path / "data")
    verdict = judge(tmp_path / "data", scan.recording.script, recovery.promise)
    _count(counts, replace(verdict, outcome=f"recovery cut: {verdict.outcome}"))
    shutil.rmtree(tmp_path / "data")


def test_a_manifest_on_the_disk_never_lacks_the_new_file(recovery: RecordedRecovery) -> None:
    n = len(recovery.operations)
    done = everything(Disk(recovery.before, recovery.inodes).take_all(recovery.operations))
    (name,) = (name for name in done if name.endswith(".h5") and "/" not in name)
    for cut in range(max(0, n - SWAP_OPERATIONS), n):
        disk = Disk(recovery.before, recovery.inodes).take_all(recovery.operations[:cut])
        for seed in range(10):
            image = after_power_cut(disk, seed)
            if f"{name}.journal/manifest" in image:
                assert done[name] in (image.get(name), image.get(f"{name}.rebuilding"))


def _damage_index(directory: Path) -> bool:
    """Damage the chunk index of a file that was not closed; return whether there was one."""
    files = [file for file in directory.glob("*.h5") if consistency_flags(file)]
    return any(damage_index(file) for file in files)


def _serve_and_cut_again(
    directory: Path, trial: Trial, promise: Promise | None, counts: Counter[str]
) -> None:
    """Let a daemon recover, resume and end the scan; then cut what it did, and judge that."""
    script = trial.recording.script
    before, inodes = read_image(directory)
    served = judge_by_daemon(directory, directory.with_name("log"), script, promise)
    counts["taken care of by a daemon"] += 1
    chance = random.Random(trial.seed)
    cut = chance.randint(0, len(served.operations))
    again = directory.with_name("again")
    disk = Disk(before, inodes).take_all(served.operations[:cut])
    write_image(after_power_cut(disk, trial.seed), again)
    if promise and cut and served.operations[cut - 1].end >= served.finished_bytes:
        promise = replace(promise, status=served.status)
    verdict = judge(again, script, promise)
    _count(counts, replace(verdict, outcome=f"cut a second time: {verdict.outcome}"))
    shutil.rmtree(again)


def _count(counts: Counter[str], verdict: Verdict) -> None:
    counts[verdict.outcome] += 1
    counts["acknowledged rows compared"] += verdict.compared


def test_files_were_rebuilt(counts: Counter[str]) -> None:
    """Damage on the disk was met, and answered: else the images above prove little."""
    assert any("rebuilt" in outcome for outcome in counts)
