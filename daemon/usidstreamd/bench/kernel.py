"""What Linux counts of a process: CPU by thread, and peak memory.

Elsewhere everything is None, and the report says that it was not measured. Threads are told apart
by the names that they show (`usidstreamd.threads`, and libzmq's own). A thread that ends takes its
count along, so a running process is looked at often; what ended between two looks is in ``other``.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from .figures import DAEMON_STAGES

_STAGE_OF_NAME = {
    "codec": "codec",
    "storage": "storage",
    "journal": "sync",
    "ZMQbg": "zmq",
}
"""What the names of a daemon's threads begin with."""


def stage_of(name: str, *, is_main: bool) -> str:
    """Return the stage that a daemon's thread belongs to."""
    if is_main:
        return "ingest"
    for beginning, stage in _STAGE_OF_NAME.items():
        if name.startswith(beginning):
            return stage
    return "other"


def parse_stat(text: str) -> tuple[str, float]:
    """Return name and CPU seconds from ``/proc/.../stat`` (proc(5), fields 2, 14 and 15)."""
    head, _, rest = text.rpartition(")")
    fields = rest.split()
    ticks = int(fields[11]) + int(fields[12])
    return head.partition("(")[2], ticks / os.sysconf("SC_CLK_TCK")


def parse_schedstat(text: str) -> float | None:
    """Return CPU seconds from ``/proc/.../schedstat``; None where the kernel does not count."""
    on_processor_ns = int(text.split(maxsplit=1)[0])
    return on_processor_ns / 1e9 if on_processor_ns else None


def machine_cpu_s() -> float | None:
    """Return the CPU seconds of all programs since the machine was started (proc(5), /proc/stat).

    User, nice, system, irq, softirq and steal time of all cores; idle and waiting are not in it.
    """
    try:
        fields = Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    except OSError:
        return None
    user, nice, system, _idle, _waiting, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def peak_memory_bytes(pid: int) -> int | None:
    """Return the largest resident memory of a process so far (VmHWM)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    kib = next((line.split()[1] for line in lines if line.startswith("VmHWM")), None)
    return int(kib) * 1024 if kib else None


class CpuTracker:
    """Follows a daemon's threads.

    Parameters
    ----------
    pid
        Of the daemon.
    """

    def __init__(self, pid: int) -> None:
        self._process = Path(f"/proc/{pid}")
        self._pid = pid
        self._before: dict[int, tuple[str, float]] = {}
        self._now: dict[int, tuple[str, float]] = {}
        self._total_before: float | None = None
        self.start()

    def start(self) -> None:
        """Count from here."""
        self._now = {}
        self._total_before = self._total()
        self.look()
        self._before = dict(self._now)

    def look(self) -> None:
        """Note what each thread has used by now."""
        with contextlib.suppress(OSError):
            for task in (self._process / "task").iterdir():
                self._look_at(task)

    def _look_at(self, task: Path) -> None:
        # A thread may end while it is being looked at.
        with contextlib.suppress(OSError):
            name, seconds = parse_stat((task / "stat").read_text())
            exact = parse_schedstat((task / "schedstat").read_text())
            stage = stage_of(name, is_main=task.name == str(self._pid))
            self._now[int(task.name)] = (stage, seconds if exact is None else exact)

    def spent(self) -> dict[str, float]:
        """Return the CPU seconds of each stage since `start`; empty where nothing is counted."""
        self.look()
        total = self._total()
        if total is None or self._total_before is None:
            return {}
        stages = dict.fromkeys(DAEMON_STAGES, 0.0)
        for thread, (stage, seconds) in self._now.items():
            stages[stage] += seconds - self._before.get(thread, ("", 0.0))[1]
        unseen = total - self._total_before - sum(stages.values())
        stages["other"] += max(0.0, unseen)
        return stages

    def _total(self) -> float | None:
        try:
            return parse_stat((self._process / "stat").read_text())[1]
        except (OSError, AttributeError):  # no /proc, or no sysconf
            return None
